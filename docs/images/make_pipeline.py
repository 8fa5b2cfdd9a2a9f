"""Draw `pipeline.svg`, the picture of docs/spark.md, from rendered photos and their real features.

Usage: python docs/images/make_pipeline.py [MODEL]
"""

from __future__ import annotations

import base64
import io
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

import pomona

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))

import photos

CLASSES = 12
PER_CLASS = 12
THUMBNAIL = 56
COLUMNS = 3
STRIP_CELLS = 80
# The first two set the berries apart from all else; these spread the other classes as well.
COMPONENTS = [2, 3]
PANEL = 236
HEIGHT = 330
TOP = 54
LEFTS = (20, 362, 704)
WIDTH = LEFTS[-1] + PANEL + 20
FONT = "font-family='system-ui, sans-serif'"


def main() -> None:
    """Render, featurise, project and draw."""
    model = sys.argv[1] if len(sys.argv) > 1 else "efficientnet_lite0"
    with tempfile.TemporaryDirectory() as folder:
        paths = photos.render(Path(folder), classes=CLASSES, per_class=PER_CLASS)
        features = pomona.featurize([path.read_bytes() for path in paths], model=model)
        views = [Image.open(path).convert("RGB") for path in paths]
    centred = features - features.mean(axis=0)
    _, _, axes = np.linalg.svd(centred, full_matrices=False)
    shown = [PER_CLASS * label + 2 for label in range(CLASSES)]
    parts = [
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {WIDTH} {HEIGHT}' width='{WIDTH}'>",
        f"<rect width='{WIDTH}' height='{HEIGHT}' rx='14' fill='#fff'/>",
        *grid([views[index] for index in shown]),
        *strips(features[shown]),
        *scatter(centred @ axes[COMPONENTS].T, [views[index] for index in shown]),
        *arrow(LEFTS[0] + PANEL, "featurize", "Rust, every core"),
        *arrow(LEFTS[1] + PANEL, "fit_pca", "Spark"),
        caption(LEFTS[0], "photos", "a folder or a bucket"),
        caption(LEFTS[1], f"{features.shape[1]:,} features a photo", "features/*.parquet"),
        caption(LEFTS[2], "components", "pca/*.parquet"),
        "</svg>",
    ]
    target = Path(__file__).with_name("pipeline.svg")
    target.write_text("\n".join(parts) + "\n")
    print(f"{target}: {target.stat().st_size:,} bytes")


def grid(views: list[Image.Image]) -> list[str]:
    """Lay out one photo of each class."""
    step = PANEL / (CLASSES / COLUMNS)
    return [
        picture(view, LEFTS[0] + index % 4 * step, TOP + 26 + index // 4 * step)
        for index, view in enumerate(views)
    ]


def strips(features: np.ndarray) -> list[str]:
    """Draw a strip per photo: the largest value in each run of features, light to dark."""
    width = features.shape[1] // STRIP_CELLS
    cells = (
        features[:, : width * STRIP_CELLS].reshape(len(features), STRIP_CELLS, width).max(axis=2)
    )
    share = cells / cells.max()
    low, high = np.array([255, 244, 229]), np.array([160, 28, 40])
    colours = low + share[..., None] ** 0.8 * (high - low)
    spaced = np.full((len(features) * 3, STRIP_CELLS, 3), 255.0)
    spaced[0::3] = spaced[1::3] = colours
    png = io.BytesIO()
    Image.fromarray(spaced.astype(np.uint8)).save(png, "PNG", optimize=True)
    return [
        f"<image x='{LEFTS[1]}' y='{TOP + 6}' width='{PANEL}' height='{PANEL - 20}' "
        "preserveAspectRatio='none' style='image-rendering:pixelated' "
        f"href='data:image/png;base64,{encoded(png)}'/>"
    ]


def scatter(points: np.ndarray, views: list[Image.Image]) -> list[str]:
    """Put every photo at its components 3 and 4, and one photo of each class in its middle."""
    points = (points - points.min(axis=0)) / np.ptp(points, axis=0)
    at = np.array([LEFTS[2] + 22, TOP + 18]) + points * (PANEL - 50)
    marks = []
    for label, name in enumerate(list(photos.FRUITS)[:CLASSES]):
        colour = "#{:02x}{:02x}{:02x}".format(*photos.FRUITS[name].skin)
        group = at[label * PER_CLASS : (label + 1) * PER_CLASS]
        marks += [
            f"<circle cx='{x:.1f}' cy='{y:.1f}' r='3.4' fill='{colour}' fill-opacity='.75'/>"
            for x, y in group
        ]
    for label, view in enumerate(views):
        middle = at[label * PER_CLASS : (label + 1) * PER_CLASS].mean(axis=0)
        marks.append(picture(view, *(middle - 13), size=26, clip=True))
    return marks


def picture(
    view: Image.Image, x: float, y: float, size: int = THUMBNAIL, clip: bool = False
) -> str:
    """Put one photo into the drawing, as a JPEG."""
    jpeg = io.BytesIO()
    view.resize((size * 3 // 2, size * 3 // 2), Image.Resampling.LANCZOS).save(
        jpeg, "JPEG", quality=82
    )
    blend = " style='mix-blend-mode:multiply'" if clip else ""
    return (
        f"<image x='{x:.1f}' y='{y:.1f}' width='{size}' height='{size}'{blend} "
        f"href='data:image/jpeg;base64,{encoded(jpeg)}'/>"
    )


def arrow(left: float, verb: str, where: str) -> list[str]:
    """Point from one panel to the next, with what does it above."""
    middle, y = left + 53, TOP + PANEL / 2 - 10
    return [
        f"<path d='M{left + 12} {y}h74m-9 -8l9 8l-9 8' fill='none' stroke='#a01c28' "
        "stroke-width='2.4' stroke-linecap='round' stroke-linejoin='round'/>",
        text(middle, y - 16, verb, size=14, colour="#a01c28", weight=600),
        text(middle, y + 26, where, size=11.5, colour="#666"),
    ]


def caption(left: float, title: str, detail: str) -> str:
    """Write what a panel holds, and where it lies."""
    middle = left + PANEL / 2
    return text(middle, 32, title, size=17, colour="#222", weight=600) + text(
        middle, HEIGHT - 24, detail, size=13, colour="#666"
    )


def text(x: float, y: float, words: str, *, size: float, colour: str, weight: int = 400) -> str:
    """Centre words on `x`."""
    return (
        f"<text x='{x}' y='{y}' {FONT} font-size='{size}' font-weight='{weight}' fill='{colour}' "
        f"text-anchor='middle'>{words}</text>"
    )


def encoded(file: io.BytesIO) -> str:
    """Return the file's bytes in base64."""
    return base64.b64encode(file.getvalue()).decode("ascii")


if __name__ == "__main__":
    main()
