"""TIFF files of many kinds, most of which Pillow can read and cannot write."""

from __future__ import annotations

import io
import itertools
import struct
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    Pixels = NDArray[Any]

NONE, LZW, JPEG, DEFLATE, PACK_BITS = 1, 5, 7, 8, 32773
WIDTH, HEIGHT = 45, 37

_SIZES = {"H": 3, "I": 4, "Q": 16}


def tiff(tags: dict[int, Any], parts: list[bytes], *, order: str = "<", big: bool = False) -> bytes:
    """Return a TIFF of one image with the tags and the strips or tiles.

    The offsets and byte counts are those of tiles if the tags have a tile size. A tag with the
    value None is left out.
    """
    word, counter = ("Q", "Q") if big else ("I", "H")
    tiled = 322 in tags
    magic = struct.pack(order + "HHH", 43, 8, 0) if big else struct.pack(order + "H", 42)
    start = 2 + len(magic) + struct.calcsize("=" + word)
    offsets = list(itertools.accumulate((len(part) for part in parts[:-1]), initial=start))
    tags = {
        324 if tiled else 273: offsets,
        325 if tiled else 279: [len(part) for part in parts],
        **tags,
    }
    body = b"".join(parts)
    body += bytes(len(body) % 2)
    inline = struct.calcsize("=" + word)
    entries = b""
    for tag, value in sorted(tags.items()):
        if value is None:
            continue
        kind = 7 if isinstance(value, bytes) else _SIZES["H"]
        if isinstance(value, bytes):
            data, count = value, len(value)
        else:
            values = value if isinstance(value, (list, tuple)) else [value]
            letter = "H" if max(values) < 1 << 16 else "I"
            kind, count = _SIZES[letter], len(values)
            data = struct.pack(f"{order}{count}{letter}", *values)
        if len(data) > inline:
            place = start + len(body)
            body += data + bytes(len(data) % 2)
            data = struct.pack(order + word, place)
        entries += struct.pack(order + "HH" + word, tag, kind, count) + data.ljust(inline, b"\0")
    directory = struct.pack(order + counter, len(entries) // (4 + 2 * inline)) + entries
    header = (b"II" if order == "<" else b"MM") + magic
    end = struct.pack(order + word, 0)
    return header + struct.pack(order + word, start + len(body)) + body + directory + end


def compress(data: bytes, compression: int) -> bytes:
    """Compress a strip or tile."""
    if compression == DEFLATE:
        return zlib.compress(data)
    if compression == PACK_BITS:
        return _pack_bits(data)
    return data


def _pack_bits(data: bytes) -> bytes:
    packed = b""
    for value, run in itertools.groupby(data):
        length = len(list(run))
        while length:
            part = min(length, 128)
            packed += bytes([257 - part, value]) if part > 1 else bytes([0, value])
            length -= part
    return packed


def old_lzw(data: bytes) -> bytes:
    """Compress as libtiff before 3.6 did: the first bit of a code is the lowest of a byte."""
    codes: list[int] = []
    for start in range(0, len(data), 250):
        codes += [256, *data[start : start + 250]]
    bits = sum(code << 9 * index for index, code in enumerate([*codes, 257]))
    return bits.to_bytes((9 * len(codes) + 16) // 8, "little")


def photo(channels: int, dtype: str = "u1") -> Pixels:
    """Return smooth samples with some noise, over the whole range of integers."""
    rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH]
    planes = [
        (np.sin(rows / 9 + channel) + np.cos(columns / (7 + channel)) + 2) / 4
        for channel in range(channels)
    ]
    noise = np.random.default_rng(channels).random((HEIGHT, WIDTH, channels)) / 8
    values = np.clip(np.stack(planes, axis=-1) + noise, 0, 1)
    if dtype == "f4":
        return np.asarray(values * 300 - 20, np.float32)
    info = np.iinfo(dtype)
    return np.asarray(values * (float(info.max) - info.min) + info.min, np.float64).astype(dtype)


def cut(pixels: Pixels, tile: tuple[int, int] | None, planar: bool) -> list[Pixels]:
    """Cut an image of rows, columns and channels into strips of 10 rows or tiles, by plane."""
    planes = np.split(pixels, pixels.shape[2], axis=2) if planar else [pixels]
    if tile is None:
        return [plane[top : top + 10] for plane in planes for top in range(0, HEIGHT, 10)]
    width, height = tile
    parts = []
    for plane in planes:
        padded = np.pad(plane, ((0, -HEIGHT % height), (0, -WIDTH % width), (0, 0)), mode="edge")
        parts += [
            padded[top : top + height, left : left + width]
            for top in range(0, HEIGHT, height)
            for left in range(0, WIDTH, width)
        ]
    return parts


def samples(
    pixels: Pixels,
    photometric: int,
    *,
    compression: int = NONE,
    tile: tuple[int, int] | None = None,
    planar: bool = False,
    predictor: int = 1,
    order: str = "<",
    big: bool = False,
    **tags: Any,
) -> bytes:
    """Return a TIFF of whole samples. The tags that `tags` names are those of `NAMES`."""
    depth = 8 * pixels.dtype.itemsize
    parts = [
        compress(_predicted(part, predictor, order), compression)
        for part in cut(pixels, tile, planar)
    ]
    channels = pixels.shape[2]
    layout = {322: tile[0], 323: tile[1]} if tile else {278: 10}
    formats = {"u": 1, "i": 2, "f": 3}
    return tiff(
        {
            256: WIDTH,
            257: HEIGHT,
            258: [depth] * channels,
            259: compression,
            262: photometric,
            277: channels,
            284: 2 if planar else 1,
            317: predictor,
            339: [formats[pixels.dtype.kind]] * channels,
            **layout,
            **{NAMES[name]: value for name, value in tags.items()},
        },
        parts,
        order=order,
        big=big,
    )


NAMES = {
    "bits": 258,
    "fill": 266,
    "orientation": 274,
    "count": 277,
    "counts": 279,
    "colors": 320,
    "extra": 338,
    "subsampling": 530,
}


def _predicted(part: Pixels, predictor: int, order: str) -> bytes:
    if predictor == 2:
        part = part.copy()
        part[:, 1:] -= part[:, :-1].copy()
    if predictor == 3:
        data = np.ascontiguousarray(part.astype(">f4")).view("u1").reshape(len(part), -1, 4)
        data = data.transpose(0, 2, 1).reshape(len(part), -1).copy()
        data[:, 1:] -= data[:, :-1].copy()
        return bytes(data.tobytes())
    return bytes(part.astype(part.dtype.newbyteorder(order)).tobytes())


def bits(depth: int, photometric: int, *, compression: int = NONE, **tags: Any) -> bytes:
    """Return a TIFF of one sample of fewer than 8 bits, or of 12."""
    values = photo(1, "u2")[:, :, 0] >> (16 - depth)
    unpacked = (values[:, :, None] >> np.arange(depth)[::-1]) & 1
    rows = np.packbits(unpacked.reshape(HEIGHT, -1).astype("u1"), axis=1)
    data = rows.tobytes()
    if tags.get("fill") == 2:
        data = bytes(int(f"{byte:08b}"[::-1], 2) for byte in data)
    fixed = {256: WIDTH, 257: HEIGHT, 258: depth, 259: compression, 262: photometric}
    named = {NAMES[name]: value for name, value in tags.items()}
    return tiff({**fixed, **named}, [compress(data, compression)])


def colors(depth: int) -> list[int]:
    """Return a colour map."""
    entries = np.random.default_rng(depth).integers(0, 1 << 16, 3 << depth)
    return [int(entry) for entry in entries]


def written(image: Image.Image, **options: Any) -> bytes:
    """Return a TIFF that Pillow writes."""
    stream = io.BytesIO()
    image.save(stream, "TIFF", **options)
    return stream.getvalue()


def jpeg_parts(mode: str, tile: tuple[int, int] | None, **options: Any) -> bytes:
    """Return a TIFF of JPEG streams with their own tables."""
    channels = {"L": 1, "RGB": 3}[mode]
    parts = []
    for part in cut(photo(channels), tile, planar=False):
        stream = io.BytesIO()
        Image.fromarray(part.squeeze()).save(stream, "JPEG", **options)
        parts.append(stream.getvalue())
    layout = {322: tile[0], 323: tile[1]} if tile else {278: 10}
    fixed = {256: WIDTH, 257: HEIGHT, 259: JPEG, 258: [8] * channels, 277: channels}
    return tiff({**fixed, **layout, 262: 6 if channels == 3 else 1}, parts)


def blocks(across: int, down: int, compression: int) -> bytes:
    """Return a TIFF of YCbCr whose chrominance is shared by blocks of pixels."""
    luma = np.pad(photo(1)[:, :, 0], ((0, -HEIGHT % down), (0, -WIDTH % across)), mode="edge")
    rows, columns = luma.shape[0] // down, luma.shape[1] // across
    chroma = np.random.default_rng(1).integers(60, 200, (rows, columns, 2)).astype("u1")
    lumas = luma.reshape(rows, down, columns, across).transpose(0, 2, 1, 3)
    packed = np.concatenate([lumas.reshape(rows, columns, -1), chroma], axis=2)
    fixed = {256: WIDTH, 257: HEIGHT, 258: [8] * 3, 259: compression, 262: 6, 277: 3}
    return tiff({**fixed, 530: [across, down]}, [compress(packed.tobytes(), compression)])


def specimens() -> Iterator[tuple[str, bytes]]:
    """Yield the name and the bytes of each kind."""
    tiles = (16, 32)
    for depth, photometric in itertools.product((1, 2, 4), (0, 1)):
        yield f"grey {depth} bit, photometric {photometric}", bits(depth, photometric)
        deflated = bits(depth, photometric, compression=DEFLATE)
        yield f"grey {depth} bit, photometric {photometric}, deflate", deflated
        yield (
            f"grey {depth} bit, photometric {photometric}, reversed",
            bits(depth, photometric, fill=2),
        )
    for depth in (1, 2, 4):
        yield f"palette {depth} bit", bits(depth, 3, colors=colors(depth))
        yield (
            f"palette {depth} bit, reversed, packbits",
            bits(depth, 3, colors=colors(depth), compression=PACK_BITS, fill=2),
        )
    yield "grey 12 bit", bits(12, 1)
    yield "grey 12 bit, deflate", bits(12, 1, compression=DEFLATE)
    kinds: list[tuple[str, Pixels, int, dict[str, Any]]] = [
        ("white is zero", photo(1), 0, {}),
        ("grey", photo(1), 1, {}),
        ("grey signed", photo(1, "i1"), 1, {}),
        ("grey 16", photo(1, "u2"), 1, {}),
        ("dark grey 16", photo(1, "u2") >> 8, 1, {}),
        ("grey signed 16", photo(1, "i2"), 1, {}),
        ("grey 32", photo(1, "u4"), 1, {}),
        ("grey signed 32", photo(1, "i4"), 1, {}),
        ("float", photo(1, "f4"), 1, {}),
        ("palette", photo(1), 3, {"colors": colors(8)}),
        ("palette with alpha", photo(2), 3, {"colors": colors(8), "extra": 2}),
        ("palette with another sample", photo(2), 3, {"colors": colors(8), "extra": 0}),
        ("grey with alpha", photo(2), 1, {"extra": 2}),
        ("RGB", photo(3), 2, {}),
        ("RGB 16", photo(3, "u2"), 2, {}),
        ("RGBA", photo(4), 2, {"extra": 2}),
        ("RGBA premultiplied", photo(4), 2, {"extra": 1}),
        ("RGBX", photo(4), 2, {"extra": 0}),
        ("RGBA without extra samples", photo(4), 2, {}),
        ("RGBAX", photo(5), 2, {"extra": [2, 0]}),
        ("RGBA 16", photo(4, "u2"), 2, {"extra": 2}),
        ("RGBA 16 premultiplied", photo(4, "u2"), 2, {"extra": 1}),
        ("CMYK", photo(4), 5, {}),
        ("CMYK with another sample", photo(5), 5, {"extra": 0}),
        ("CMYK 16", photo(4, "u2"), 5, {}),
        ("L*a*b*", photo(3), 8, {}),
    ]
    layouts: list[dict[str, Any]] = [
        {},
        {"tile": tiles},
        {"planar": True},
        {"planar": True, "tile": tiles},
        {"big": True},
    ]
    for name, pixels, photometric, tags in kinds:
        for layout, order, compression in itertools.product(
            layouts, "<>", (NONE, DEFLATE, PACK_BITS)
        ):
            if layout.get("big") and order == ">":
                continue
            yield (
                f"{name}, {layout}, {order}, compression {compression}",
                samples(
                    pixels, photometric, compression=compression, order=order, **layout, **tags
                ),
            )
    for name, pixels in [
        ("grey", photo(1)),
        ("RGB", photo(3)),
        ("grey 16", photo(1, "u2")),
        ("RGB 16", photo(3, "u2")),
        ("grey signed 32", photo(1, "i4")),
    ]:
        for layout, order in itertools.product(layouts[:4], "<>"):
            photometric = 2 if pixels.shape[2] == 3 else 1
            yield (
                f"{name}, {layout}, {order}, predictor 2",
                samples(
                    pixels, photometric, compression=DEFLATE, predictor=2, order=order, **layout
                ),
            )
    for layout, order in itertools.product(layouts[:2], "<>"):
        yield (
            f"float, {layout}, {order}, predictor 3",
            samples(photo(1, "f4"), 1, compression=DEFLATE, predictor=3, order=order, **layout),
        )
    rgb = photo(3)
    for orientation in range(1, 9):
        yield f"orientation {orientation}", samples(rgb, 2, orientation=orientation)
    yield "no byte counts", samples(rgb, 2, counts=None)
    yield "no byte counts, deflate", samples(rgb, 2, counts=None, compression=DEFLATE)
    yield "slack", samples(rgb, 2) + bytes(1000)
    yield "one depth for three samples", samples(rgb, 2, bits=8)
    whole = {256: WIDTH, 257: HEIGHT, 258: [8] * 3, 262: 2, 277: 3}
    yield "old LZW", tiff({**whole, 259: LZW}, [old_lzw(rgb.tobytes())])
    yield "other magic number", b"II\0\x2a" + samples(rgb, 2)[4:]
    for across, down in [(1, 1), (2, 1), (2, 2), (4, 1), (4, 2), (4, 4), (1, 2)]:
        for compression in (DEFLATE, PACK_BITS):
            yield (
                f"YCbCr {across}x{down}, compression {compression}",
                blocks(across, down, compression),
            )
    yield (
        "YCbCr, planar, deflate",
        samples(rgb, 6, compression=DEFLATE, planar=True, subsampling=[1, 1]),
    )
    image = Image.fromarray(rgb)
    for compression_name in ("tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"):
        for mode in ("L", "RGB", "CMYK", "YCbCr"):
            yield (
                f"Pillow, {mode}, {compression_name}",
                written(image.convert(mode), compression=compression_name),
            )
    for subsampling in ("4:4:4", "4:2:2", "4:2:0"):
        yield f"JPEG strips, {subsampling}", jpeg_parts("RGB", None, subsampling=subsampling)
        yield f"JPEG tiles, {subsampling}", jpeg_parts("RGB", tiles, subsampling=subsampling)
    yield "JPEG tiles, grey", jpeg_parts("L", tiles)
    yield "JPEG tiles, progressive", jpeg_parts("RGB", tiles, progressive=True)
    for compression_name in ("tiff_ccitt", "group3", "group4", "tiff_raw_16"):
        for fill in (1, 2):
            for name, bilevel in [
                ("dithered", image.convert("1")),
                ("blank", Image.new("1", (100, 30), 1)),
                ("lines", Image.linear_gradient("L").point(lambda v: 255 * (v // 16 % 2), "1")),
            ]:
                tags = {266: fill}
                yield (
                    f"{name}, {compression_name}, fill order {fill}",
                    written(bilevel, compression=compression_name, tiffinfo=tags),
                )
    yield (
        "dithered, Group 3 in two dimensions",
        written(image.convert("1"), compression="group3", tiffinfo={292: 1}),
    )
    first, second = image, image.rotate(90)
    yield "two images", written(first, save_all=True, append_images=[second])
    yield "RGB, LZMA", written(image, compression="lzma")
