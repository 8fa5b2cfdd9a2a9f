"""Renders photos of fruit, for tests and for the demo.

Usage: python photos.py FOLDER [--classes N] [--per-class N] [--size PIXELS] [--broken | --faults]

Each class is a solid of revolution with its own profile, skin and gloss, lit from the upper left
in front of a white background, and rotated around its stem from photo to photo, as in Fruits-360.
`r0_115.jpg` is series 0 at 115 degrees; the folder is the label. The same arguments give the same
pixels.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Tuple

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter

Colour = Tuple[int, int, int]

OVERSAMPLING = 4
JPEG_QUALITY = 92
TURN = 360
# Tilt of the fruit in each series, in degrees.
SERIES_TILT = (8, -35, 70)
PHOTOS_PER_SERIES = 24
LIGHT = np.array([-0.45, -0.6, 0.66])
AMBIENT = 0.42


@dataclass(frozen=True)
class Fruit:
    """The appearance of a fruit. Lengths are relative to half the photo's width."""

    skin: Colour
    blush: Colour
    width: float = 0.86
    height: float = 0.86
    neck: float = 0.0  # how much narrower the stem end is, for pears
    tips: float = 0.0  # how pointed both ends are, for lemons
    stripes: int = 0  # dark bands from pole to pole
    speckle: float = 0.0  # contrast of the skin's grain
    gloss: float = 0.5
    stem: Colour | None = (96, 66, 38)


FRUITS: dict[str, Fruit] = {
    "Apple Red": Fruit((178, 24, 32), (222, 148, 60), width=0.9, height=0.82, speckle=0.05),
    "Apricot": Fruit((242, 166, 60), (226, 96, 48), width=0.78, height=0.8, gloss=0.15, stem=None),
    "Blueberry": Fruit(
        (52, 62, 110), (96, 110, 160), width=0.62, height=0.58, gloss=0.2, stem=None
    ),
    "Cherry": Fruit((120, 8, 26), (190, 30, 40), width=0.68, height=0.64, gloss=0.9),
    "Kiwi": Fruit(
        (120, 92, 52), (98, 74, 40), width=0.68, height=0.86, speckle=0.28, gloss=0.08, stem=None
    ),
    "Lemon": Fruit(
        (246, 212, 40), (226, 196, 30), width=0.66, height=0.94, tips=0.35, speckle=0.08, stem=None
    ),
    "Lime": Fruit(
        (96, 156, 38), (140, 184, 60), width=0.7, height=0.84, tips=0.18, speckle=0.1, stem=None
    ),
    "Orange": Fruit((244, 136, 20), (238, 116, 10), speckle=0.14, gloss=0.3, stem=(70, 110, 50)),
    "Peach": Fruit((244, 178, 104), (208, 66, 60), width=0.88, height=0.84, gloss=0.08),
    "Pear": Fruit((196, 200, 72), (182, 150, 60), width=0.72, height=0.96, neck=0.55, speckle=0.1),
    "Plum": Fruit((84, 34, 84), (130, 50, 90), width=0.66, height=0.82, gloss=0.25),
    "Watermelon": Fruit(
        (104, 160, 70), (120, 172, 80), width=0.92, height=0.96, stripes=9, gloss=0.35
    ),
}


def render(
    folder: Path, *, classes: int = 4, per_class: int = 8, size: int = 100, seed: int = 0
) -> list[Path]:
    """Write `classes` folders of `per_class` square JPEGs of `size` pixels; return their paths."""
    if not 0 < classes <= len(FRUITS):
        raise ValueError(f"classes must be between 1 and {len(FRUITS)}, not {classes}")
    if per_class > PHOTOS_PER_SERIES * len(SERIES_TILT):
        raise ValueError(
            f"per_class must be at most {PHOTOS_PER_SERIES * len(SERIES_TILT)}, not {per_class}"
        )
    paths = []
    for label in list(FRUITS)[:classes]:
        (folder / label).mkdir(parents=True, exist_ok=True)
        for number in range(per_class):
            series, step = divmod(number, PHOTOS_PER_SERIES)
            angle = step * TURN // min(per_class, PHOTOS_PER_SERIES)
            path = folder / label / f"r{series}_{angle}.jpg"
            photo(FRUITS[label], series, angle, size, seed).save(path, quality=JPEG_QUALITY)
            paths.append(path)
    return paths


def break_one(photos: list[Path]) -> Path:
    """Add a truncated photo next to the first of `photos`."""
    data = photos[0].read_bytes()
    broken = photos[0].with_name("r0_cut.jpg")
    broken.write_bytes(data[: len(data) // 3])
    return broken


def spoil(photos: list[Path]) -> list[Path]:
    """Give a set of at least two classes the faults of real ones; return the photos.

    The first photo of either of the first two classes is in the other's folder, and the third one
    has a truncated, a blurred and a dark copy.
    """
    first, third = photos[0], photos[2]
    second = next(path for path in photos if path.parent != first.parent)
    swapped = [
        one.rename(other.with_name(f"r0_{name}.jpg"))
        for one, other, name in ((first, second, "moved"), (second, first, "moved"))
    ]
    image = Image.open(third)
    blurred, dark = (third.with_name(f"r0_{name}.jpg") for name in ("blurred", "dark"))
    image.filter(ImageFilter.GaussianBlur(4)).save(blurred, quality=JPEG_QUALITY)
    ImageEnhance.Brightness(image).enhance(0.1).save(dark, quality=JPEG_QUALITY)
    kept = [path for path in photos if path not in (first, second)]
    return [*kept, *swapped, break_one([third]), blurred, dark]


def photo(fruit: Fruit, series: int, angle: int, size: int, seed: int) -> Image.Image:
    """Render one view of a fruit, as an RGB image of `size` x `size` pixels."""
    canvas = size * OVERSAMPLING
    axis = np.linspace(-1, 1, canvas)
    across, down = np.meshgrid(axis, axis)
    tilt = np.deg2rad(SERIES_TILT[series])
    x = np.cos(tilt) * across + np.sin(tilt) * down
    y = (np.cos(tilt) * down - np.sin(tilt) * across) / fruit.height

    profile = radius(fruit, axis)
    inside_length = np.abs(y) < 1
    r = np.where(inside_length, np.interp(y, axis, profile), 0)
    slope = np.interp(y, axis, np.gradient(profile, axis)) / fruit.height
    body = inside_length & (np.abs(x) < r)
    z = np.sqrt(np.maximum(r**2 - x**2, 0))

    normal = np.stack([x, -r * slope, z], axis=-1)
    normal /= np.maximum(np.linalg.norm(normal, axis=-1, keepdims=True), 1e-9)
    # The light does not move when the fruit tilts.
    light = np.array(
        [
            np.cos(tilt) * LIGHT[0] + np.sin(tilt) * LIGHT[1],
            np.cos(tilt) * LIGHT[1] - np.sin(tilt) * LIGHT[0],
            LIGHT[2],
        ]
    )
    light /= np.linalg.norm(light)
    facing = normal @ light
    shade = AMBIENT + (1 - AMBIENT) * np.maximum(facing, 0)
    mirrored = 2 * facing * normal[..., 2] - light[2]
    highlight = fruit.gloss * np.maximum(mirrored, 0) ** 40

    longitude = np.arctan2(x, z) + np.deg2rad(angle)
    colour = skin(fruit, longitude, y, np.random.RandomState(seed))
    lit = colour * shade[..., None] + 255 * highlight[..., None]
    pixels = np.where(body[..., None], lit, 255.0)
    if fruit.stem is not None:
        pixels = np.where(stem(fruit, x, y, angle)[..., None], np.array(fruit.stem) * 0.9, pixels)
    large = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
    return large.resize((size, size), Image.LANCZOS)


def radius(fruit: Fruit, y: np.ndarray) -> np.ndarray:
    """Return the fruit's radius at each height, from pole to pole."""
    ball = np.sqrt(np.maximum(1 - y**2, 0))
    pear = 1 - fruit.neck / (1 + np.exp(9 * (y + 0.15)))
    pointed = (1 - fruit.tips) + fruit.tips * ball
    return fruit.width * ball * pear * pointed


def skin(
    fruit: Fruit, longitude: np.ndarray, y: np.ndarray, random: np.random.RandomState
) -> np.ndarray:
    """Return the skin's unlit colour. Blush, bands and grain rotate with the fruit."""
    side = 0.5 + 0.5 * np.cos(longitude - 1.0 + 0.6 * y)
    blush = np.clip(side**2 * (0.8 - 0.4 * y), 0, 1)[..., None]
    colour = (1 - blush) * np.array(fruit.skin) + blush * np.array(fruit.blush)
    if fruit.stripes:
        wave = np.cos(fruit.stripes * longitude + 1.5 * np.sin(5 * y))
        colour = colour * (1 - 0.55 / (1 + np.exp(-6 * wave)))[..., None]
    grain = random.normal(size=(90, 180))
    row = np.clip((y + 1) * 45, 0, 89).astype(int)
    column = (np.rad2deg(longitude) / 2).astype(int) % 180
    return np.asarray(colour * (1 + fruit.speckle * grain[row, column])[..., None])


def stem(fruit: Fruit, x: np.ndarray, y: np.ndarray, angle: int) -> np.ndarray:
    """Return the mask of the stem, a short stroke at the upper pole that leans as it rotates."""
    lean = 0.12 * np.sin(np.deg2rad(angle))
    above = -y - 0.93
    return (above > 0) & (above < 0.25) & (np.abs(x - lean * above * 4) < 0.035)


def main() -> None:
    parser = argparse.ArgumentParser(description="Render photos of fruit.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--classes", type=int, default=6)
    parser.add_argument("--per-class", type=int, default=10)
    parser.add_argument(
        "--size", type=int, default=100, help="width and height in pixels (default: 100)"
    )
    faults = parser.add_mutually_exclusive_group()
    faults.add_argument("--broken", action="store_true", help="add a truncated photo")
    faults.add_argument(
        "--faults",
        action="store_true",
        help="put two photos into the wrong folder, and add a truncated, a blurred and a dark one",
    )
    options = parser.parse_args()
    photos = render(
        options.folder, classes=options.classes, per_class=options.per_class, size=options.size
    )
    if options.broken:
        photos.append(break_one(photos))
    if options.faults:
        photos = spoil(photos)
    print(f"{options.folder}: {len(photos)} photos in {options.classes} classes")


if __name__ == "__main__":
    main()
