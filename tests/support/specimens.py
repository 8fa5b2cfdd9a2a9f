"""Encoded images of every kind that cameras, phones and graphics programs write.

Pillow writes most of them; the others are assembled here according to the formats' specifications.
"""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any, Iterator

import numpy as np
from PIL import Image

WIDTH, HEIGHT = 61, 43
SEED = 20
ORIENTATION_TAG = 0x0112


def noise(width: int, height: int, channels: int = 3, seed: int = SEED) -> np.ndarray:
    """Generate pixels with smooth areas, edges and grain, to exercise every step of a codec."""
    random = np.random.RandomState(seed)
    down, across = np.mgrid[0:height, 0:width]
    waves = [
        128 + 100 * np.sin((across * (c + 1) + down * (3 - c)) / (11 + 5 * c))
        for c in range(channels)
    ]
    pixels = np.stack(waves, axis=-1)
    pixels[height // 3 : height // 2, width // 4 : width // 2] = random.randint(0, 256, channels)
    pixels += random.normal(0, 12, pixels.shape)
    return np.clip(pixels, 0, 255).astype(np.uint8)


def picture(
    mode: str = "RGB", width: int = WIDTH, height: int = HEIGHT, seed: int = SEED
) -> Image.Image:
    """Generate an image in any of Pillow's modes."""
    if mode == "I;16":
        grey = noise(width, height, 1, seed).astype("<u2") * 3
        return Image.frombytes(mode, (width, height), grey.tobytes())
    if mode in ("LA", "RGBA", "CMYK"):
        pixels = noise(width, height, len(mode), seed)
        return Image.frombytes(mode, (width, height), pixels.tobytes())
    return Image.fromarray(noise(width, height, 3, seed)).convert(mode)


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    """Encode an image in the format `kind`."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


# JPEG


def jpeg_segment(marker: int, payload: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(payload) + 2) + payload


def after_start(data: bytes, *segments: bytes) -> bytes:
    """Insert segments at the start of a JPEG."""
    return data[:2] + b"".join(segments) + data[2:]


def jpeg_frame(data: bytes) -> int:
    """Return the offset of a JPEG's frame header: precision, height, width, components."""
    at = 2
    while data[at + 1] not in (0xC0, 0xC1, 0xC2):
        at += 2 + struct.unpack_from(">H", data, at + 2)[0]
    return at + 4


def adobe(transform: int) -> bytes:
    return jpeg_segment(0xEE, b"Adobe" + struct.pack(">HHHB", 100, 0, 0, transform))


def jpeg_without_jfif(data: bytes, *segments: bytes) -> bytes:
    """Replace the JFIF segment of a JPEG with other segments."""
    length = struct.unpack_from(">H", data, 4)[0]
    assert data[2:4] == b"\xff\xe0"
    return data[:2] + b"".join(segments) + data[4 + length :]


def jpeg_named(data: bytes, names: bytes) -> bytes:
    """Change the ids of a JPEG's three components."""
    patched = bytearray(jpeg_without_jfif(data))
    frame = jpeg_frame(patched)
    scan = patched.index(b"\xff\xda\x00\x0c\x03") + 5
    for at, name in enumerate(names):
        patched[frame + 6 + 3 * at] = name
        patched[scan + 2 * at] = name
    return bytes(patched)


def jpeg_resampled(data: bytes, sampling: int, width: int, height: int) -> bytes:
    """Reinterpret a JPEG's blocks with another sampling that has as many blocks per unit."""
    patched = bytearray(data)
    frame = jpeg_frame(patched)
    struct.pack_into(">HH", patched, frame + 1, height, width)
    patched[frame + 7] = sampling
    return bytes(patched)


def jpegs() -> Iterator[tuple[str, bytes]]:
    rgb = picture()
    for sampling, name in enumerate(["444", "422", "420"]):
        yield name, saved(rgb, "JPEG", subsampling=sampling, quality=90)
        yield f"progressive {name}", saved(rgb, "JPEG", subsampling=sampling, progressive=True)
    sixteens = saved(picture(width=64, height=48), "JPEG", subsampling=2)
    yield "411", jpeg_resampled(sixteens, 0x41, 128, 24)
    eights = saved(picture(width=64, height=48), "JPEG", subsampling=1)
    yield "440", jpeg_resampled(eights, 0x12, 32, 96)
    yield "grey", saved(picture("L"), "JPEG")
    yield "progressive grey", saved(picture("L"), "JPEG", progressive=True)
    cmyk = saved(picture("CMYK"), "JPEG", quality=90)
    yield "cmyk", cmyk
    yield "progressive cmyk", saved(picture("CMYK"), "JPEG", progressive=True)
    yield "ycck", cmyk.replace(adobe(0), adobe(2))
    yield "cmyk without a marker", cmyk.replace(adobe(0), b"")
    whole = saved(rgb, "JPEG", subsampling=0, quality=90)
    yield "rgb by its Adobe marker", jpeg_without_jfif(whole, adobe(0))
    yield "ycc by its Adobe marker", jpeg_without_jfif(whole, adobe(1))
    yield "rgb by its component ids", jpeg_named(whole, b"RGB")
    yield "other component ids", jpeg_named(whole, b"\x05\x06\x07")
    yield "no marker at all", jpeg_without_jfif(whole)
    yield "jfif and adobe", after_start(whole, adobe(0))
    yield "optimized", saved(rgb, "JPEG", optimize=True, quality=40)
    yield "worst quality", saved(rgb, "JPEG", quality=1)
    yield "best quality", saved(rgb, "JPEG", quality=100)
    yield "comment", saved(rgb, "JPEG", comment=b"\xff\xd9 is not the end of it")
    yield "fill bytes", after_start(whole, b"\xff" * 9)
    yield "embedded thumbnail", after_start(whole, jpeg_segment(0xE1, b"Exif\0\0" + whole))
    yield "icc profile", saved(rgb, "JPEG", icc_profile=bytes(range(256)) * 700)


def jpegs_with_restarts() -> Iterator[tuple[str, bytes]]:
    """These need Pillow 10.2 or later."""
    for blocks in (1, 2, 7):
        yield f"restart {blocks}", saved(picture(), "JPEG", restart_marker_blocks=blocks)
    yield (
        "progressive restart",
        saved(picture(), "JPEG", restart_marker_rows=1, progressive=True),
    )


# PNG


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_file(
    width: int,
    height: int,
    depth: int,
    colour: int,
    data: bytes,
    *chunks: bytes,
    interlaced: bool = False,
) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlaced)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        [
            png_chunk(b"IHDR", header),
            *chunks,
            png_chunk(b"IDAT", zlib.compress(data)),
            png_chunk(b"IEND", b""),
        ]
    )


def png_rows(pixels: np.ndarray) -> bytes:
    """Return the unfiltered rows of an image."""
    return b"".join(b"\0" + row.tobytes() for row in pixels)


ADAM7 = [
    (0, 0, 8, 8),
    (0, 4, 8, 8),
    (4, 0, 8, 4),
    (0, 2, 4, 4),
    (2, 0, 4, 2),
    (0, 1, 2, 2),
    (1, 0, 2, 1),
]


def png_interlaced(pixels: np.ndarray, colour: int) -> bytes:
    height, width = pixels.shape[:2]
    passes = [pixels[y::down, x::across] for y, x, down, across in ADAM7]
    data = b"".join(png_rows(part) for part in passes if part.size)
    depth = 8 * pixels.dtype.itemsize
    return png_file(width, height, depth, colour, data, interlaced=True)


def pngs() -> Iterator[tuple[str, bytes]]:
    for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"):
        yield mode, saved(picture(mode), "PNG")
    for bits in (1, 2, 4):
        few = picture().quantize(2**bits)
        yield f"palette of {bits} bits", saved(few, "PNG", bits=bits)
    yield "palette with transparency", saved(picture("P"), "PNG", transparency=3)
    yield "rgb with a transparent colour", saved(picture(), "PNG", transparency=(0, 0, 0))
    yield "grey with a transparent level", saved(picture("L"), "PNG", transparency=9)
    for colour, channels in ((2, 3), (4, 2), (6, 4)):
        wide = noise(WIDTH, HEIGHT, channels).astype(">u2") * 257 - 100
        name = f"16 bits, {channels} channels"
        yield name, png_file(WIDTH, HEIGHT, 16, colour, png_rows(wide.astype(">u2")))
        yield f"interlaced {name}", png_interlaced(wide.astype(">u2"), colour)
    packed = np.random.RandomState(SEED).randint(0, 256, (HEIGHT, 16)).astype(np.uint8)
    yield "grey of 2 bits", png_file(WIDTH, HEIGHT, 2, 0, png_rows(packed))
    yield "grey of 4 bits", png_file(32, HEIGHT, 4, 0, png_rows(packed))
    for colour, channels in ((0, 1), (2, 3), (4, 2), (6, 4)):
        yield (
            f"interlaced, {channels} channels",
            png_interlaced(noise(WIDTH, HEIGHT, channels), colour),
        )
    for side in range(1, 9):
        yield f"interlaced, {side} wide", png_interlaced(noise(side, 9 - side), 2)
    rows = png_rows(noise(WIDTH, HEIGHT))
    gamma = png_chunk(b"gAMA", struct.pack(">I", 100000))
    text = png_chunk(b"tEXt", b"Comment\0IEND")
    yield "gamma and text", png_file(WIDTH, HEIGHT, 8, 2, rows, gamma, text)
    yield "icc profile", saved(picture(), "PNG", icc_profile=bytes(range(256)))
    frames = [picture(seed=seed) for seed in (1, 2, 3)]
    yield "animated", saved(frames[0], "PNG", save_all=True, append_images=frames[1:])


# WebP


def webps() -> Iterator[tuple[str, bytes]]:
    for mode in ("RGB", "RGBA", "L"):
        for quality in (5, 50, 100):
            yield f"{mode} at {quality}", saved(picture(mode), "WEBP", quality=quality)
        yield f"lossless {mode}", saved(picture(mode), "WEBP", lossless=True)
    yield "few colours", saved(picture("P").convert("RGB"), "WEBP", lossless=True)
    yield "exact alpha", saved(picture("RGBA"), "WEBP", lossless=True, exact=True)
    yield "exif and icc", saved(picture(), "WEBP", exif=exif(1), icc_profile=bytes(range(256)))
    frames = [picture(seed=seed) for seed in (1, 2, 3)]
    for lossless in (False, True):
        yield (
            f"animated, lossless={lossless}",
            saved(frames[0], "WEBP", save_all=True, append_images=frames[1:], lossless=lossless),
        )


# GIF


def gif_file(
    canvas: tuple[int, int],
    place: tuple[int, int, int, int],
    indices: bytes,
    *,
    background: int = 0,
    transparent: int | None = None,
    interlaced: bool = False,
    local: bool = False,
) -> bytes:
    """Build a GIF of 4 colours with one frame, uncompressed: a clear code before every pixel."""
    palette = bytes([10, 20, 30, 200, 40, 50, 60, 210, 70, 80, 90, 220])
    data = b"GIF89a" + struct.pack("<HHBBB", *canvas, 0x81, background, 0) + palette
    if transparent is not None:
        data += b"\x21\xf9\x04" + struct.pack("<BHB", 1, 0, transparent) + b"\0"
    left, top, width, height = place
    flags = (0x81 if local else 0) | (0x40 if interlaced else 0)
    data += b"\x2c" + struct.pack("<HHHHB", left, top, width, height, flags)
    if local:
        data += palette[::-1]
    clear, end, bits = 4, 5, 3
    codes = [code for index in indices for code in (clear, index)] + [end]
    number = sum(code << (bits * at) for at, code in enumerate(codes))
    packed = number.to_bytes((len(codes) * bits + 7) // 8, "little")
    blocks = [packed[at : at + 255] for at in range(0, len(packed), 255)]
    return data + b"\x02" + b"".join(bytes([len(b)]) + b for b in blocks) + b"\0;"


def gifs() -> Iterator[tuple[str, bytes]]:
    for mode in ("1", "L", "P", "RGB"):
        yield mode, saved(picture(mode), "GIF")
    yield "transparent", saved(picture("P"), "GIF", transparency=3)
    yield "not interlaced", saved(picture("P"), "GIF", interlace=0)
    frames = [picture("P", seed=seed) for seed in (1, 2, 3)]
    yield "animated", saved(frames[0], "GIF", save_all=True, append_images=frames[1:])
    indices = bytes(at % 4 for at in range(6 * 5))
    yield "whole canvas", gif_file((6, 5), (0, 0, 6, 5), indices)
    yield "local colours", gif_file((6, 5), (0, 0, 6, 5), indices, local=True)
    yield "interlaced", gif_file((6, 5), (0, 0, 6, 5), indices, interlaced=True)
    yield "transparent by hand", gif_file((6, 5), (0, 0, 6, 5), indices, transparent=2)


# BMP


def bmp_file(
    width: int,
    height: int,
    depth: int,
    data: bytes,
    *,
    compression: int = 0,
    masks: bytes = b"",
    palette: bytes = b"",
) -> bytes:
    start = 14 + 40 + len(masks) + len(palette)
    header = struct.pack(
        "<IiiHHIIiiII",
        *(40, width, height, 1, depth, compression, len(data), 2835, 2835),
        *(len(palette) // 4, 0),
    )
    file = b"BM" + struct.pack("<IHHI", start + len(data), 0, 0, start)
    return file + header + masks + palette + data


def bmps() -> Iterator[tuple[str, bytes]]:
    for mode in ("1", "L", "P", "RGB", "RGBA"):
        yield mode, saved(picture(mode), "BMP")
    random = np.random.RandomState(SEED)
    rows = random.randint(0, 256, (6, 8)).astype(np.uint8).tobytes()
    yield "16 bits", bmp_file(4, 6, 16, rows)
    rgb565 = struct.pack("<III", 0xF800, 0x07E0, 0x001F)
    yield "16 bits, 5-6-5", bmp_file(4, 6, 16, rows, compression=3, masks=rgb565)
    wide = random.randint(0, 256, (6, 20)).astype(np.uint8).tobytes()
    yield "32 bits", bmp_file(5, 6, 32, wide)
    bgr = struct.pack("<III", 0xFF0000, 0x00FF00, 0x0000FF)
    yield "32 bits with masks", bmp_file(5, 6, 32, wide, compression=3, masks=bgr)
    triples = random.randint(0, 256, (6, 16)).astype(np.uint8).tobytes()
    yield "bottom-up", bmp_file(5, 6, 24, triples)
    yield "top-down", bmp_file(5, -6, 24, triples)
    palette = random.randint(0, 256, (16, 4)).astype(np.uint8)
    palette[:, 3] = 0
    yield "4 bits", bmp_file(8, 6, 4, rows[:24], palette=palette.tobytes())
    runs = b"\x05\x01\x03\x02\0\0\0\x03\x01\x02\x03\0\x05\x04\0\0\x08\x07\0\0\0\x01"
    yield "RLE of 8 bits", bmp_file(8, 3, 8, runs, compression=1, palette=palette.tobytes())
    nibbles = b"\x08\x12\0\0\0\x04\x12\x34\x04\x56\0\0\x08\x77\0\0\0\x01"
    yield "RLE of 4 bits", bmp_file(8, 3, 4, nibbles, compression=2, palette=palette.tobytes())
    os2 = struct.pack("<IHHHH", 12, 5, 6, 1, 24)
    yield (
        "OS/2 header",
        b"BM" + struct.pack("<IHHI", 26 + len(triples), 0, 0, 26) + os2 + triples,
    )


# TIFF

TIFF_SHORT, TIFF_LONG = 3, 4
TIFF_WIDTH, TIFF_HEIGHT, TIFF_BITS, TIFF_COMPRESSION, TIFF_COLOUR = 256, 257, 258, 259, 262
TIFF_STRIPS, TIFF_SAMPLES, TIFF_STRIP_ROWS, TIFF_STRIP_BYTES = 273, 277, 278, 279
TIFF_PLANES, TIFF_PREDICTOR = 284, 317
TIFF_TILE_WIDTH, TIFF_TILE_HEIGHT, TIFF_TILES, TIFF_TILE_BYTES = 322, 323, 324, 325
TIFF_EXTRA = 338


def tiff_file(
    tags: dict[int, Any], parts: list[bytes], order: str = "<", tiled: bool = False
) -> bytes:
    """Build a TIFF with one directory, which follows the parts of the image."""
    at = 8
    offsets = []
    for part in parts:
        offsets.append(at)
        at += len(part)
    places, sizes = (TIFF_TILES, TIFF_TILE_BYTES) if tiled else (TIFF_STRIPS, TIFF_STRIP_BYTES)
    tags = {**tags, places: offsets, sizes: [len(part) for part in parts]}
    start = at + at % 2
    behind = start + 2 + 12 * len(tags) + 4
    directory, values = b"", b""
    for tag, value in sorted(tags.items()):
        numbers = value if isinstance(value, list) else [value]
        kind, letter = (TIFF_LONG, "I") if tag in (places, sizes) else (TIFF_SHORT, "H")
        packed = struct.pack(f"{order}{len(numbers)}{letter}", *numbers)
        if len(packed) > 4:
            packed, values = struct.pack(f"{order}I", behind + len(values)), values + packed
        directory += struct.pack(f"{order}HHI", tag, kind, len(numbers)) + packed.ljust(4, b"\0")
    head = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, start)
    body = b"".join(parts).ljust(start - 8, b"\0")
    count = struct.pack(f"{order}H", len(tags))
    return head + body + count + directory + b"\0\0\0\0" + values


def tiff_tags(pixels: np.ndarray, colour: int = 2) -> dict[int, Any]:
    height, width, channels = pixels.shape
    return {
        TIFF_WIDTH: width,
        TIFF_HEIGHT: height,
        TIFF_BITS: [8 * pixels.dtype.itemsize] * channels,
        TIFF_COMPRESSION: 1,
        TIFF_COLOUR: colour,
        TIFF_SAMPLES: channels,
    }


def tiff_strips(pixels: np.ndarray, rows: int = 7, order: str = "<", colour: int = 2) -> bytes:
    pixels = pixels.astype(pixels.dtype.newbyteorder(order))
    tags = {**tiff_tags(pixels, colour), TIFF_STRIP_ROWS: rows}
    parts = [pixels[at : at + rows].tobytes() for at in range(0, len(pixels), rows)]
    return tiff_file(tags, parts, order)


def tiff_tiles(pixels: np.ndarray, side: int = 16, compression: int = 1, order: str = "<") -> bytes:
    height, width, _ = pixels.shape
    whole = np.pad(pixels, ((0, -height % side), (0, -width % side), (0, 0)), "constant")
    whole = whole.astype(pixels.dtype.newbyteorder(order))
    tags = {**tiff_tags(pixels), TIFF_TILE_WIDTH: side, TIFF_TILE_HEIGHT: side}
    tags[TIFF_COMPRESSION] = compression
    pack = bytes if compression == 1 else zlib.compress
    parts = [
        pack(whole[y : y + side, x : x + side].tobytes())
        for y in range(0, height, side)
        for x in range(0, width, side)
    ]
    return tiff_file(tags, parts, order, tiled=True)


def tiffs() -> Iterator[tuple[str, bytes]]:
    for mode in ("1", "L", "RGB", "RGBA", "I;16", "CMYK"):
        yield mode, saved(picture(mode), "TIFF")
    for compression in ("tiff_lzw", "tiff_adobe_deflate", "tiff_deflate", "packbits"):
        for mode in ("L", "RGB", "RGBA"):
            yield f"{mode} by {compression}", saved(picture(mode), "TIFF", compression=compression)
    for order, name in (("<", "little-endian"), (">", "big-endian")):
        rgb = noise(WIDTH, HEIGHT)
        yield f"{name} strips", tiff_strips(rgb, order=order)
        yield f"{name} tiles", tiff_tiles(rgb, order=order)
        yield f"{name}, 16 bits", tiff_strips(rgb.astype(np.uint16) * 257, order=order)
    yield "compressed tiles", tiff_tiles(noise(WIDTH, HEIGHT), compression=8)
    pages = [picture(seed=seed) for seed in (1, 2, 3)]
    yield "several pages", saved(pages[0], "TIFF", save_all=True, append_images=pages[1:])


# EXIF


def exif(orientation: int) -> bytes:
    tags = Image.Exif()
    tags[ORIENTATION_TAG] = orientation
    return tags.tobytes()


def turned(kind: str, orientation: int) -> bytes:
    """Return a picture whose EXIF has this orientation."""
    if kind == "TIFF":
        return saved(picture(), kind, tiffinfo={ORIENTATION_TAG: orientation})
    return saved(picture(), kind, exif=exif(orientation))


# Damage


def damaged() -> bytes:
    """Return a JPEG that Pillow reads, although a part of its scan is missing: it has a warning."""
    whole = saved(picture(), "JPEG")
    return whole[: len(whole) * 2 // 3] + b"\xff\xd9"


SPECIMENS = {
    f"{kind}: {name}": data
    for kind, all_of_it in (
        ("JPEG", jpegs),
        ("PNG", pngs),
        ("WebP", webps),
        ("GIF", gifs),
        ("BMP", bmps),
        ("TIFF", tiffs),
    )
    for name, data in all_of_it()
}
