"""Photos as phones write and name them. Each file of `data/phone` shows the same picture.

Usage: python tests/support/phone_photos.py

This writes `data/phone` again. It needs the development environment, for pillow-heif and a Pillow
with AVIF; the environments of Spark have neither.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

from PIL import Image

import pomona
from outcomes import Outcome, outcomes
from specimens import after_start, exif, jpeg_segment, picture, saved

FOLDER = Path(__file__).parents[1] / "data/phone"
WIDTH, HEIGHT = 80, 48

# What phones append.

MP4 = b"\0\0\0\x18ftypmp42\0\0\0\0isommp42\xff\xd8\xff\xe0\0\x04ab\xff\xd9" + bytes(300)
SEFT = (
    b"\0\0\x01\x0a\x0e\0\0\0Image_UTC_Data1600000000000SEFH\x6b\0\0\0\x01\0\0\0"
    b"\0\0\x01\x0a\x23\0\0\0\x23\0\0\0\x18\0\0\0SEFT"
)
#: The box in which HEIC photos of Samsung's phones have a video.
MPVD = struct.pack(">I", 8 + len(MP4)) + b"mpvd" + MP4


def xmp_segment(text: str) -> bytes:
    return jpeg_segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + text.encode())


def ultra_hdr(photo: bytes, gain_map: bytes) -> bytes:
    """Append a gain map to a JPEG. An MPF segment has its offset."""
    xmp = xmp_segment('<rdf:Description hdrgm:Version="1.0"/>')
    primary, second = after_start(photo, xmp), after_start(gain_map, xmp)

    def entry(attributes: int, size: int, offset: int) -> bytes:
        return struct.pack(">IIIHH", attributes, size, offset, 0, 0)

    def mpf(size: int, offset: int) -> bytes:
        tags = [
            (0xB000, 7, 4, b"0100"),
            (0xB001, 4, 1, struct.pack(">I", 2)),
            (0xB002, 7, 32, struct.pack(">I", 8 + 2 + 3 * 12 + 4)),
        ]
        directory = b"".join(struct.pack(">HHI", *tag[:3]) + tag[3] for tag in tags)
        entries = entry(0x030000, size, 0) + entry(0, len(second), offset)
        ifd = struct.pack(">H", len(tags)) + directory + bytes(4) + entries
        return jpeg_segment(0xE2, b"MPF\0MM\0*" + struct.pack(">I", 8) + ifd)

    size = len(primary) + len(mpf(0, 0))
    # Offsets count from the byte order mark of the MPF segment.
    return after_start(primary, mpf(size, size - (2 + 4 + 4))) + second


# The files.

#: How to store an upright picture, by the EXIF orientation that turns it back.
TURNS = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def stored(kind: str, orientation: int = 1, **options: Any) -> bytes:
    """Encode the picture as a camera that is held in this orientation does."""
    image = picture(width=WIDTH, height=HEIGHT)
    turn = TURNS[orientation]
    if turn is not None:
        image = image.transpose(turn)
    return saved(image, kind, exif=exif(orientation), **options)


def make_photos() -> dict[str, bytes]:
    """Make the files of `data/phone`, by their names."""
    import pillow_heif

    pillow_heif.register_heif_opener()
    jpeg, heic = stored("JPEG"), stored("HEIF", quality=70)
    gain_map = saved(picture("L", WIDTH // 4, HEIGHT // 4), "JPEG")
    other_eye = picture(width=WIDTH, height=HEIGHT, seed=1)
    return {
        **{f"IMG_000{number}.JPG": stored("JPEG", number) for number in TURNS},
        "20240101_120000.jpg": jpeg + SEFT,
        "20240101_120001.jpg": stored("JPEG", 6) + MP4 + SEFT,
        "20240101_120002.heic": heic + MPVD + SEFT,
        "DSC_0001.MPO": stored("MPO", save_all=True, append_images=[other_eye]),
        "IMG_0009.HEIC": heic,
        # pillow-heif stores the orientation as phones do, in the box `irot`.
        "IMG_0010.HEIC": stored("HEIF", 6, quality=70),
        "IMG_0011.Avif": stored("AVIF"),
        "IMG_0012.avif": stored("AVIF", 8),
        "IMG_0013.jpg": heic,
        "IMG_0014.heic": jpeg,
        "PXL_20240101_120000000.MP.jpg": jpeg + MP4,
        "PXL_20240101_120000001.jpg": ultra_hdr(jpeg, gain_map),
        "Screenshot_0001.PNG": stored("PNG"),
        "Screenshot_0006.png": stored("PNG", 6),
    }


def photos() -> dict[str, bytes]:
    """Return the files of `data/phone`, and among them downloads that were cut short."""
    kept = {path.name: path.read_bytes() for path in FOLDER.iterdir()}
    for name in ("DSC_0001.MPO", "IMG_0001.JPG", "IMG_0009.HEIC", "IMG_0011.Avif"):
        cut = kept[name][: len(kept[name]) // 3]
        kept[name.replace(".", " (1).")] = cut
    return dict(sorted(kept.items()))


def write_photos(folder: Path) -> None:
    for name, data in photos().items():
        (folder / name).write_bytes(data)


def expected(model: Path, **options: Any) -> dict[str, Outcome]:
    """Featurize each photo by its bytes, with a `Featurizer` of its own."""
    return {
        name: outcomes(pomona.Featurizer(model, **options).try_featurize([data]))[0]
        for name, data in photos().items()
    }


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, data in make_photos().items():
        (FOLDER / name).write_bytes(data)
