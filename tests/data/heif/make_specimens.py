"""Writes the photos beside it, and the pixels that Pillow and pillow-heif read from them.

Needs Pillow 12 with AVIF, and pillow-heif: python make_specimens.py PHOTO
"""

import io
import sys
from pathlib import Path

import numpy as np
import pillow_heif
from PIL import Image

FOLDER = Path(__file__).parent
sys.path.insert(0, str(FOLDER.parents[1] / "support"))

from heif import grid  # noqa: E402

ORIENTATION = 0x112
TILE = 64


def main() -> None:
    pillow_heif.register_heif_opener()
    photo = Image.open(sys.argv[1]).convert("RGB")
    small = photo.resize((56, 44), Image.Resampling.BICUBIC)
    odd = photo.resize((57, 43), Image.Resampling.BICUBIC)
    large = photo.resize((2 * TILE, 2 * TILE), Image.Resampling.BICUBIC)
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    for ending, name in (("heic", "HEIF"), ("avif", "AVIF")):
        write(f"plain.{ending}", saved(small, name))
        write(f"turned.{ending}", saved(odd, name, exif=exif.tobytes()))
        tiles = [
            saved(large.crop((x, y, x + TILE, y + TILE)), name)
            for y in (0, TILE)
            for x in (0, TILE)
        ]
        write(f"grid.{ending}", grid(tiles, 2, 2, width=90, height=70))
    write("grey.heic", saved(small.convert("L"), "HEIF"))
    write("grey.avif", saved(small, "AVIF", subsampling="4:0:0"))
    wide = np.asarray(small).astype("uint16") * 257
    deep = pillow_heif.from_bytes(mode="RGB;16", size=small.size, data=wide.tobytes())
    file = io.BytesIO()
    deep.save(file, quality=60)
    write("ten_bits.heic", file.getvalue())


def saved(image: Image.Image, name: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, name, quality=60, **options)
    return file.getvalue()


def write(name: str, photo: bytes) -> None:
    (FOLDER / name).write_bytes(photo)
    Image.open(io.BytesIO(photo)).convert("RGB").save(FOLDER / f"{name}.png", optimize=True)


if __name__ == "__main__":
    main()
