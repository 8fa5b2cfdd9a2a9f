"""HEIC and AVIF photos, for the development environment alone: older Pythons have no encoders.

Pillow and pillow-heif write them, except for grids of any size, which are assembled here.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any, Iterator

import numpy as np
import pillow_heif
from PIL import Image

from specimens import exif, picture

TILE = 64
MAKE_TAG = 0x010F
#: Code points of ITU-T H.273: BT.709, BT.601 and BT.2020.
MATRICES = (1, 6, 9)
SUBSAMPLINGS = ("4:2:0", "4:2:2", "4:4:4")
ORIENTATIONS = range(1, 9)

_PROPERTIES = (b"hvcC", b"av1C", b"ispe", b"colr", b"pixi")


@dataclass
class _Tile:
    kind: bytes
    data: bytes
    properties: list[bytes]


pillow_heif.register_heif_opener()


def scene(width: int = 160, height: int = 120) -> Image.Image:
    """Draw smooth colours, sharp edges and some noise."""
    y, x = np.mgrid[:height, :width]
    smooth = np.stack([x * 255 // width, y * 255 // height, (x + 2 * y) % 256], axis=-1)
    smooth[(x // 16 + y // 16) % 5 == 0] = (230, 30, 40)
    noise = np.random.default_rng(12).integers(-8, 9, smooth.shape)
    return Image.fromarray((smooth + noise).clip(0, 255).astype(np.uint8))


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    """Encode an image as `HEIF` or `AVIF`; both take `subsampling`."""
    subsampling = options.pop("subsampling", "4:2:0")
    if kind == "HEIF":
        options["chroma"] = int(subsampling.replace(":", ""))
    else:
        options["subsampling"] = subsampling
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def deep(image: Image.Image, **options: Any) -> bytes:
    """Encode an image as HEIC of 10 bits, or of the bits that pillow-heif is set to."""
    wide = np.asarray(image).astype(np.uint16) * 257
    photo = pillow_heif.from_bytes(mode="RGB;16", size=image.size, data=wide.tobytes())
    file = io.BytesIO()
    photo.save(file, **options)
    return file.getvalue()


def tiled(kind: str, width: int, height: int, **options: Any) -> bytes:
    """Encode a scene of at most 2 x 2 tiles as a grid of 2 x 2 tiles."""
    image = scene(2 * TILE, 2 * TILE)
    corners = [(x, y) for y in (0, TILE) for x in (0, TILE)]
    tiles = [saved(image.crop((x, y, x + TILE, y + TILE)), kind, **options) for x, y in corners]
    return grid(tiles, 2, 2, width, height)


def grid(tiles: list[bytes], rows: int, columns: int, width: int, height: int) -> bytes:
    """Make one file of a grid from files of single images, row by row.

    Parameters
    ----------
    tiles : list of bytes
        HEIC or AVIF files of the same size, without alpha.
    rows, columns : int
        The number of tiles in each direction.
    width, height : int
        The size of the image; the tiles may be larger.
    """
    images = [_parse(tile) for tile in tiles]
    kind = images[0].kind
    boxes: list[bytes] = []
    associations = b""
    for number, image in enumerate(images, 2):
        indices = b""
        for prop in image.properties:
            if prop not in boxes:
                boxes.append(prop)
            indices += bytes([boxes.index(prop) + 1])
        associations += number.to_bytes(2, "big") + bytes([len(indices)]) + indices
    boxes.append(_full(b"ispe", width.to_bytes(4, "big") + height.to_bytes(4, "big")))
    associations = b"\0\x01\x01" + bytes([len(boxes)]) + associations
    count = len(images) + 1
    description = bytes([0, 0, rows - 1, columns - 1])
    description += width.to_bytes(2, "big") + height.to_bytes(2, "big")
    parts = [description, *(image.data for image in images)]
    entries = [
        _full(b"infe", number.to_bytes(2, "big") + b"\0\0" + item + b"\0", version=2)
        for number, item in enumerate([b"grid"] + [kind] * len(images), 1)
    ]
    brand = b"heic" if kind == b"hvc1" else b"avif"
    ftyp = _box(b"ftyp", brand + b"\0\0\0\0mif1" + brand)

    def meta(start: int) -> bytes:
        locations, at = b"", start
        for number, part in enumerate(parts, 1):
            locations += number.to_bytes(2, "big") + b"\0\0\0\x01"
            locations += at.to_bytes(4, "big") + len(part).to_bytes(4, "big")
            at += len(part)
        numbers = b"".join(number.to_bytes(2, "big") for number in range(2, count + 1))
        references = b"\0\x01" + len(images).to_bytes(2, "big") + numbers
        listed = count.to_bytes(2, "big")
        return _full(
            b"meta",
            _full(b"hdlr", b"\0\0\0\0pict" + bytes(13))
            + _full(b"pitm", b"\0\x01")
            + _full(b"iinf", listed + b"".join(entries))
            + _full(b"iloc", b"\x44\0" + listed + locations)
            + _full(b"iref", _box(b"dimg", references))
            + _box(
                b"iprp",
                _box(b"ipco", b"".join(boxes))
                + _full(b"ipma", count.to_bytes(4, "big") + associations),
            ),
        )

    start = len(ftyp) + len(meta(0)) + 8
    return ftyp + meta(start) + _box(b"mdat", b"".join(parts))


def _box(kind: bytes, content: bytes) -> bytes:
    return (len(content) + 8).to_bytes(4, "big") + kind + content


def _full(kind: bytes, content: bytes, version: int = 0) -> bytes:
    return _box(kind, bytes([version, 0, 0, 0]) + content)


def _boxes(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    while content:
        length = int.from_bytes(content[:4], "big") or len(content)
        yield content[4:8], content[8:length]
        content = content[length:]


def _parse(file: bytes) -> _Tile:
    """Return the primary image of a file that has its data in one piece."""
    meta = dict(_boxes(dict(_boxes(file))[b"meta"][4:]))
    primary = meta[b"pitm"][4:6]
    kinds = {box[4:6]: box[8:12] for _, box in _boxes(meta[b"iinf"][6:])}
    iprp = dict(_boxes(meta[b"iprp"]))
    all_properties = [_box(kind, content) for kind, content in _boxes(iprp[b"ipco"])]
    properties: list[bytes] = []
    ipma, at = iprp[b"ipma"], 8
    while at < len(ipma):
        item, number = ipma[at : at + 2], ipma[at + 2]
        if item == primary:
            indices = [index & 0x7F for index in ipma[at + 3 : at + 3 + number]]
            properties = [all_properties[index - 1] for index in indices]
        at += 3 + number
    iloc, version = meta[b"iloc"], meta[b"iloc"][0]
    assert iloc[4:5] == b"\x44", "offsets and lengths of four bytes"
    base, at = iloc[5] >> 4, 8
    while iloc[at : at + 2] != primary:
        extents = at + (4 if version == 0 else 6) + base
        at = extents + 2 + 8 * int.from_bytes(iloc[extents : extents + 2], "big")
    at += 4 if version == 0 else 6
    start = int.from_bytes(iloc[at : at + base], "big")
    at += base + 2
    offset = start + int.from_bytes(iloc[at : at + 4], "big")
    length = int.from_bytes(iloc[at + 4 : at + 8], "big")
    data = file[offset : offset + length]
    kept = [prop for prop in properties if prop[4:8] in _PROPERTIES]
    return _Tile(kinds[primary], data, kept)


def _as_ten_bits(avif: bytes) -> bytes:
    """Declare the picture one of 10 bits: other pixels, since Pillow encodes only 8 bits."""
    patched = bytearray(avif)
    patched[patched.index(b"av1C") + 6] |= 0x40
    pixi = patched.index(b"pixi") + 9
    patched[pixi : pixi + patched[pixi - 1]] = [10] * patched[pixi - 1]
    # The sequence header follows a temporal delimiter. In it the depth follows 10 bits of profile
    # and level, 4 and 4 bits that give the lengths of width and height, these two, and 6 of tools.
    header = patched.index(b"mdat") + 8
    lengths = int.from_bytes(patched[header + 1 : header + 3], "big") >> 6 & 0xFF
    depth = 18 + (lengths >> 4) + (lengths & 0xF) + 2 + 6
    patched[header + depth // 8] |= 0x80 >> depth % 8
    return bytes(patched)


def _of_both(kind: str) -> Iterator[tuple[str, bytes]]:
    rgb = picture()
    for subsampling in SUBSAMPLINGS:
        yield subsampling, saved(rgb, kind, subsampling=subsampling)
    for quality in (5, 30, 95):
        yield f"at {quality}", saved(rgb, kind, quality=quality)
    for mode in ("L", "LA", "RGBA"):
        yield mode, saved(picture(mode), kind)
    tags = Image.Exif()
    tags[MAKE_TAG] = "Pomona"
    yield "EXIF", saved(rgb, kind, exif=tags.tobytes())
    for orientation in ORIENTATIONS[1:]:
        yield f"orientation {orientation}", saved(rgb, kind, exif=exif(orientation))
    several = [picture(seed=seed) for seed in (1, 2, 3)]
    yield "several", saved(several[0], kind, save_all=True, append_images=several[1:])
    yield "grid", tiled(kind, 122, 100)
    yield "grid of 4:4:4", tiled(kind, 121, 99, subsampling="4:4:4")


def _heics() -> Iterator[tuple[str, bytes]]:
    rgb = picture()
    yield from _of_both("HEIF")
    # The encoder pads others to blocks of 64 pixels, and has them cropped.
    yield "whole blocks", saved(picture(width=TILE, height=TILE), "HEIF")
    yield "lossless", saved(rgb, "HEIF", quality=-1, subsampling="4:4:4", matrix_coefficients=0)
    for subsampling in SUBSAMPLINGS:
        yield f"10 bits, {subsampling}", deep(rgb, subsampling=subsampling)
    for matrix in MATRICES:
        options = {"matrix_coefficients": matrix, "full_range_flag": 0}
        yield f"matrix {matrix}", saved(rgb, "HEIF", **options)
    yield "a thumbnail", saved(rgb, "HEIF", thumbnails=[16])
    tools = {"x265:scaling-list": "default", "x265:tskip": "1", "x265:amp": "1"}
    yield "other tools", saved(rgb, "HEIF", enc_params=tools)


def _avifs() -> Iterator[tuple[str, bytes]]:
    rgb = picture()
    yield from _of_both("AVIF")
    yield "lossless", saved(rgb, "AVIF", quality=100, subsampling="4:4:4")
    yield "4:0:0", saved(rgb, "AVIF", subsampling="4:0:0")
    for subsampling in ("4:0:0", "4:2:0", "4:4:4"):
        eight = saved(rgb, "AVIF", subsampling=subsampling)
        yield f"10 bits, {subsampling}", _as_ten_bits(eight)
    yield "limited range", saved(rgb, "AVIF", range="limited")
    yield "premultiplied", saved(picture("RGBA"), "AVIF", alpha_premultiplied=True)
    yield "film grain", saved(rgb, "AVIF", advanced={"film-grain-test": "1"})
    screen = rgb.quantize(8).convert("RGB")
    tools = {"tune-content": "screen", "enable-palette": "1", "enable-intrabc": "1"}
    yield "screen content", saved(screen, "AVIF", advanced=tools, speed=4)
    tools = {"enable-restoration": "1", "enable-cdef": "1", "sb-size": "128", "enable-qm": "1"}
    yield "other tools", saved(scene(), "AVIF", quality=30, advanced=tools, speed=4)


HEIF_SPECIMENS = {
    f"{kind}: {name}": data
    for kind, all_of_it in (("HEIC", _heics), ("AVIF", _avifs))
    for name, data in all_of_it()
}
