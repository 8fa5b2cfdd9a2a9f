"""Odd but readable files of PNG, WebP, GIF and BMP, in the manner of PngSuite and bmpsuite.

Each suite is a dictionary of names and files. A few files are damaged; Pillow decides whether they
are photos.
"""

from __future__ import annotations

import struct
import zlib
from itertools import product
from typing import Iterable, Iterator

import numpy as np

from specimens import ADAM7, noise, picture, png_chunk, saved

SIGNATURE = b"\x89PNG\r\n\x1a\n"
END = png_chunk(b"IEND", b"")
#: Depths of each colour type, and its samples per pixel.
PNG_KINDS = {
    0: ((1, 2, 4, 8, 16), 1),
    2: ((8, 16), 3),
    3: ((1, 2, 4, 8), 1),
    4: ((8, 16), 2),
    6: ((8, 16), 4),
}


def random(seed: int = 20) -> np.random.RandomState:
    return np.random.RandomState(seed)


# PNG


def packed_rows(samples: np.ndarray, depth: int) -> list[bytes]:
    """Pack each row of samples, the first in the upper bits."""
    rows = samples.reshape(samples.shape[0], -1)
    if depth == 16:
        return [row.astype(">u2").tobytes() for row in rows]
    bits = (rows[:, :, None] >> np.arange(depth)[::-1]) & 1
    return [np.packbits(row.astype(np.uint8)).tobytes() for row in bits]


def filtered(rows: list[bytes], step: int, filters: list[int]) -> bytes:
    """Filter rows whose pixels have `step` bytes, with each of the filters in turn."""
    above, data = bytes(len(rows[0]) if rows else 0), b""
    for number, row in enumerate(rows):
        kind = filters[number % len(filters)]
        left, corner = bytes(step) + row[:-step], bytes(step) + above[:-step]
        if len(row) < step:
            left = corner = bytes(len(row))
        predicted = [
            predict(kind, a, b, c) for a, b, c in zip(left[: len(row)], above, corner[: len(row)])
        ]
        data += bytes([kind]) + bytes((x - p) & 0xFF for x, p in zip(row, predicted))
        above = row
    return data


def predict(kind: int, left: int, above: int, corner: int) -> int:
    if kind == 4:
        estimate = left + above - corner
        return min((left, above, corner), key=lambda near: abs(estimate - near))
    return (0, left, above, (left + above) // 2)[kind]


def png(
    colour: int,
    depth: int,
    width: int = 23,
    height: int = 17,
    *,
    interlaced: bool = False,
    filters: list[int] | None = None,
    before: Iterable[bytes] = (),
    after: Iterable[bytes] = (END,),
    parts: int = 1,
    level: int = 6,
    palette: int | None = None,
    rows: int | None = None,
) -> bytes:
    """Build a PNG of random samples; with `rows`, one that lacks the others."""
    channels = PNG_KINDS[colour][1]
    top = 2**depth if palette is None else palette
    samples = random(width).randint(0, top, (height, width, channels))
    step = max(1, channels * depth // 8)
    passes = [samples[y::down, x::across] for y, x, down, across in ADAM7]
    images = [part for part in passes if part.size] if interlaced else [samples[:rows]]
    raw = b"".join(filtered(packed_rows(part, depth), step, filters or [0]) for part in images)
    data = zlib.compress(raw, level)
    cut = -(-len(data) // parts)
    chunks = [png_chunk(b"IDAT", data[at : at + cut]) for at in range(0, len(data), cut)]
    if colour == 3:
        table = random(3).randint(0, 256, 3 * (palette or 2**depth)).astype(np.uint8)
        before = [png_chunk(b"PLTE", table.tobytes()), *before]
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlaced)
    return SIGNATURE + b"".join([png_chunk(b"IHDR", header), *before, *chunks, *after])


def transparency(colour: int, depth: int) -> bytes:
    values = {0: (1,), 2: (1, 2, 3)}.get(colour)
    data = struct.pack(f">{len(values)}H", *values) if values else bytes([0, 128, 255])
    return png_chunk(b"tRNS", data[: 2**depth])


def pngs() -> Iterator[tuple[str, bytes]]:
    for colour, (depths, _) in PNG_KINDS.items():
        for depth, interlaced in product(depths, (False, True)):
            name = f"colour {colour}, {depth} bits" + ", interlaced" * interlaced
            yield name, png(colour, depth, interlaced=interlaced, filters=[0, 1, 2, 3, 4])
            if colour in (0, 2, 3):
                before = [transparency(colour, depth)]
                yield f"{name}, tRNS", png(colour, depth, interlaced=interlaced, before=before)
        for kind in range(5):
            yield f"colour {colour}, filter {kind}", png(colour, depths[-1], filters=[kind])
    for side, interlaced in product(range(1, 41), (False, True)):
        name = f"{side} pixels" + ", interlaced" * interlaced
        yield name, png(3, 4, side, side, interlaced=interlaced)
        yield f"grey, {name}", png(0, 1, side, 41 - side, interlaced=interlaced, filters=[4, 3])
    for colors in (1, 2, 3, 5, 77, 200, 255, 256):
        yield f"palette of {colors}", png(3, 8, palette=colors)
    without_palette = png(3, 8)
    start = without_palette.index(b"PLTE") - 4
    yield "no palette", without_palette[:start] + without_palette[start + 12 + 768 :]
    yield (
        "indices beyond the palette",
        png(3, 8).replace(png(3, 8)[start : start + 780], png_chunk(b"PLTE", bytes(range(30)))),
    )
    for level in (0, 1, 9):
        yield f"compression level {level}", png(2, 8, level=level)
    for parts in (2, 3, 7, 100000):
        yield f"{parts} IDAT chunks", png(6, 8, parts=parts)
    ancillary = {
        "gAMA": struct.pack(">I", 45455),
        "cHRM": struct.pack(">8I", *range(31270, 31278)),
        "sRGB": b"\0",
        "pHYs": struct.pack(">IIB", 2835, 2835, 1),
        "tIME": struct.pack(">HBBBBB", 2026, 1, 2, 3, 4, 5),
        "sBIT": b"\x05\x06\x05",
        "bKGD": struct.pack(">HHH", 1, 2, 3),
        "tEXt": b"Comment\0IEND IDAT",
        "zTXt": b"Comment\0\0" + zlib.compress(b"text"),
        "iTXt": b"Comment\0\0\0en\0\0text",
        "iCCP": b"profile\0\0" + zlib.compress(bytes(range(256))),
        "prVt": b"private",
    }
    for kind, data in ancillary.items():
        chunk = png_chunk(kind.encode(), data)
        yield f"{kind} before", png(2, 8, before=[chunk])
        yield f"{kind} after", png(2, 8, after=[chunk, END])
        wrong = chunk[:-1] + bytes([chunk[-1] ^ 1])
        yield f"{kind} with a wrong checksum before", png(2, 8, before=[wrong])
        yield f"{kind} with a wrong checksum after", png(2, 8, after=[wrong, END])
    whole = png(2, 8)
    yield "no IEND", whole[:-12]
    yield "half an IEND", whole[:-6]
    yield "IEND with a wrong checksum", whole[:-1] + b"\0"
    yield "bytes after IEND", whole + b"\n<html>"
    yield "another PNG after IEND", whole + whole
    for depth in (1, 8):
        yield f"rows missing, {depth} bits", png(0, depth, rows=9)
    yield "rows missing, palette", png(3, 8, rows=9)
    for kept in (len(whole) // 2, len(whole) - 13, len(whole) - 17, len(whole) - 21):
        yield f"{kept} bytes of {len(whole)}", whole[:kept]
    for at in (16, len(whole) // 2, len(whole) - 17, len(whole) - 14):
        yield f"byte {at} wrong", whole[:at] + bytes([whole[at] ^ 0x55]) + whole[at + 1 :]
    frames = [picture("RGBA", seed=seed) for seed in (1, 2)]
    yield "animated", saved(frames[0], "PNG", save_all=True, append_images=frames[1:])
    yield (
        "animated, default image",
        saved(frames[0], "PNG", save_all=True, append_images=frames, default_image=True),
    )
    small = struct.pack(">IIIIIHHBB", 0, 23, 17, 4, 2, 1, 10, 0, 0)
    frame = png(2, 8, before=[png_chunk(b"fcTL", small)])
    canvas = png_chunk(b"IHDR", struct.pack(">IIBBBBB", 30, 20, 8, 2, 0, 0, 0))
    yield "animated, smaller first frame", SIGNATURE + canvas + frame[8 + 25 :]


# WebP


def webp_chunk(kind: bytes, data: bytes) -> bytes:
    return kind + struct.pack("<I", len(data)) + data + bytes(len(data) % 2)


def webp(*chunks: bytes) -> bytes:
    return b"RIFF" + struct.pack("<I", 4 + sum(map(len, chunks))) + b"WEBP" + b"".join(chunks)


def webp_extended(width: int, height: int, flags: int = 0) -> bytes:
    sides = [(side - 1).to_bytes(3, "little") for side in (width, height)]
    return webp_chunk(b"VP8X", bytes([flags, 0, 0, 0]) + b"".join(sides))


def webp_animated(width: int, height: int, left: int, top: int, frame: bytes) -> bytes:
    """Build an animation with one frame of 20 x 10 pixels on a larger canvas."""
    places = [left // 2, top // 2, 19, 9, 100]
    header = b"".join(number.to_bytes(3, "little") for number in places) + b"\0"
    return webp(
        webp_extended(width, height, 0x12),
        webp_chunk(b"ANIM", b"\x10\x20\x30\xff\0\0"),
        webp_chunk(b"ANMF", header + frame),
    )


def webps() -> Iterator[tuple[str, bytes]]:
    for quality, method in product((0, 10, 50, 90, 100), (0, 4, 6)):
        name = f"quality {quality}, method {method}"
        yield name, saved(picture(), "WEBP", quality=quality, method=method)
        lossless = saved(picture("RGBA"), "WEBP", quality=quality, method=method, lossless=True)
        yield f"lossless, {name}", lossless
    for side in range(1, 41):
        yield f"{side} pixels", saved(picture("RGB", side, 41 - side), "WEBP", quality=70)
        small = saved(picture("RGB", side, 41 - side), "WEBP", lossless=True)
        yield f"lossless, {side} pixels", small
    for quality in (1, 50, 100):
        alpha = saved(picture("RGBA"), "WEBP", quality=50, alpha_quality=quality)
        yield f"alpha of quality {quality}", alpha
    yield "exact alpha", saved(picture("RGBA"), "WEBP", lossless=True, exact=True)
    for colors in (1, 2, 3, 4, 5, 16, 17, 255):
        few = picture().quantize(colors).convert("RGB")
        yield f"{colors} colours", saved(few, "WEBP", lossless=True)
    yield "grey", saved(picture("L"), "WEBP")

    lossy = saved(picture("RGB", 20, 10), "WEBP")
    frames = {"lossy": lossy[12:]}
    frames["lossless"] = saved(picture("RGB", 20, 10), "WEBP", lossless=True)[12:]
    frames["with alpha"] = saved(picture("RGBA", 20, 10), "WEBP", lossless=True)[12:]
    frames["lossy with alpha"] = saved(picture("RGBA", 20, 10), "WEBP")[12 + 18 :]
    for name, frame in frames.items():
        yield f"extended, {name}", webp(webp_extended(20, 10, 0x10), frame)
        unknown = webp_chunk(b"odd ", b"odd")
        for flags, kind in ((0x20, b"ICCP"), (0x08, b"EXIF"), (0x04, b"XMP "), (0, b"ABCD")):
            about = webp_chunk(kind, b"odd length!")
            yield f"{kind!r} before, {name}", webp(webp_extended(20, 10, flags), about, frame)
            yield f"{kind!r} after, {name}", webp(webp_extended(20, 10, flags), frame, about)
            yield f"{kind!r} announced, {name}", webp(webp_extended(20, 10, flags), frame)
            yield f"{kind!r} not announced, {name}", webp(webp_extended(20, 10), frame, about)
        yield f"unknown chunk, {name}", webp(webp_extended(20, 10), unknown, frame, unknown)
        for canvas, place in (((20, 10), (0, 0)), ((31, 17), (10, 6)), ((20, 40), (0, 30))):
            yield f"frame at {place}, {name}", webp_animated(*canvas, *place, frame)
        yield f"frame outside, {name}", webp_animated(20, 10, 2, 0, frame)
        yield f"bytes after the end, {name}", webp_animated(20, 10, 0, 0, frame) + b"<html>"
    yield "bytes after the end", lossy + bytes(7)
    yield "bytes within the end", webp(lossy[12:], b"ABC")
    yield "another chunk", webp(lossy[12:], webp_chunk(b"ABCD", b"1"))
    yield "cut by one byte", lossy[:-1]
    yield "cut in half", lossy[: len(lossy) // 2]
    several = [picture("RGBA", seed=seed) for seed in (1, 2, 3)]
    for lossless in (False, True):
        animation = saved(
            several[0], "WEBP", save_all=True, append_images=several[1:], lossless=lossless
        )
        yield f"animated, lossless={lossless}", animation
    about = {"exif": b"Exif\0\0II*\0\x08\0\0\0\0\0", "xmp": b"<x/>", "icc_profile": bytes(9)}
    yield "metadata", saved(picture(), "WEBP", **about)


# GIF


def lzw(indices: bytes, bits: int, *, clear_every: int = 0, end: bool = True) -> bytes:
    """Compress indices; once the table is full, it is used as it is, or cleared before."""
    clear, codes, table, width = 1 << bits, [], {}, bits + 1

    def write(code: int) -> None:
        codes.append((code, width))

    write(clear)
    following, prefix = clear + 2, -1
    for number, index in enumerate(indices):
        if prefix < 0:
            prefix = index
        elif (prefix, index) in table:
            prefix = table[prefix, index]
        else:
            write(prefix)
            if following < 4096:
                table[prefix, index] = following
                if following == 1 << width and width < 12:
                    width += 1
                following += 1
            prefix = index
            if clear_every and number % clear_every == 0:
                write(prefix)
                write(clear)
                table, width, following, prefix = {}, bits + 1, clear + 2, -1
    if prefix >= 0:
        write(prefix)
        if following < 4096 and following == 1 << width and width < 12:
            width += 1
    if end:
        write(clear + 1)
    number, at = 0, 0
    for code, size in codes:
        number |= code << at
        at += size
    return number.to_bytes((at + 7) // 8, "little")


def sub_blocks(data: bytes, length: int = 255) -> bytes:
    blocks = [data[at : at + length] for at in range(0, len(data), length)]
    return b"".join(bytes([len(block)]) + block for block in blocks) + b"\0"


def gif_table(colors: int) -> bytes:
    return random(colors).randint(0, 256, 3 * colors).astype(np.uint8).tobytes()


def gif_frame(
    width: int,
    height: int,
    *,
    left: int = 0,
    top: int = 0,
    bits: int = 4,
    local: bytes = b"",
    interlaced: bool = False,
    block: int = 255,
    indices: int | None = None,
    clear_every: int = 0,
    end: bool = True,
) -> bytes:
    data = random(width).randint(0, 1 << min(bits, 8), width * height).astype(np.uint8)
    data[: data.size // 2] = data[: data.size // 2] // 3  # Runs, for longer strings.
    if interlaced:
        rows = data.reshape(height, width)
        data = np.concatenate([rows[y::step] for y, step in ((0, 8), (4, 8), (2, 4), (1, 2))])
    packed = lzw(data.tobytes()[:indices], bits, clear_every=clear_every, end=end)
    size = len(local).bit_length() - 3 if local else 0
    flags = (0x80 | size if local else 0) | (0x40 if interlaced else 0)
    place = struct.pack("<HHHHB", left, top, width, height, flags)
    return b"\x2c" + place + local + bytes([bits]) + sub_blocks(packed, block)


def gif(
    screen: tuple[int, int], *blocks: bytes, colors: int = 16, version: bytes = b"89a"
) -> bytes:
    """Build a GIF with a global table of so many colours, or none."""
    table = gif_table(colors) if colors else b""
    flags = 0x80 | (colors.bit_length() - 2) if colors else 0
    head = b"GIF" + version + struct.pack("<HHBBB", *screen, flags, 3, 0)
    return head + table + b"".join(blocks) + b";"


def control(index: int | None = None, disposal: int = 0) -> bytes:
    flags = (index is not None) | disposal << 2
    return b"\x21\xf9\x04" + struct.pack("<BHB", flags, 10, index or 0) + b"\0"


def gifs() -> Iterator[tuple[str, bytes]]:
    for version, interlaced in product((b"87a", b"89a"), (False, True)):
        name = version.decode() + ", interlaced" * interlaced
        for size in ((1, 1), (2, 3), (5, 7), (33, 20), (100, 75)):
            whole = gif_frame(*size, interlaced=interlaced)
            yield f"{size}, {name}", gif(size, whole, version=version)
    for bits in range(2, 9):
        frame = gif_frame(40, 30, bits=bits)
        yield f"{bits} bits", gif((40, 30), frame, colors=1 << bits)
        yield f"{bits} bits, no table", gif((40, 30), frame, colors=0)
        local = gif_frame(40, 30, bits=bits, local=gif_table(1 << bits))
        yield f"{bits} bits, local table", gif((40, 30), local, colors=0)
        yield f"{bits} bits, two tables", gif((40, 30), local, colors=4)
    yield (
        "table of grey levels",
        gif((9, 9), gif_frame(9, 9, bits=8)).replace(
            gif_table(16), bytes(level for level in range(16) for _ in range(3))
        ),
    )
    yield "indices beyond the table", gif((20, 20), gif_frame(20, 20, bits=8), colors=16)
    yield "full table", gif((200, 150), gif_frame(200, 150, bits=8), colors=256)
    for every in (1, 7, 500):
        frame = gif_frame(60, 50, bits=8, clear_every=every)
        yield f"cleared every {every}", gif((60, 50), frame, colors=256)
    for block in (1, 2, 254):
        yield f"blocks of {block}", gif((30, 30), gif_frame(30, 30, block=block))
    yield "no end code", gif((30, 30), gif_frame(30, 30, end=False))
    for indices in (0, 1, 450, 899):
        yield f"{indices} of 900 pixels", gif((30, 30), gif_frame(30, 30, indices=indices))
    frame = gif_frame(10, 8, left=3, top=2)
    for index in (None, 0, 5, 200):
        before = control(index) if index is not None else b""
        yield f"smaller frame, transparent {index}", gif((20, 15), before, frame)
        yield f"larger frame, transparent {index}", gif((5, 4), before, frame)
        yield f"whole frame, transparent {index}", gif((13, 10), before, gif_frame(13, 10))
        yield f"grey, transparent {index}", gif((20, 15), before, frame, colors=0)
    for disposal in range(4):
        blocks = [control(2, disposal), frame, control(4), gif_frame(20, 15)]
        yield f"disposal {disposal}", gif((20, 15), *blocks)
    comment = b"\x21\xfe" + sub_blocks(b"comment ,;!" * 50)
    loop = b"\x21\xff" + sub_blocks(b"NETSCAPE2.0", 11)[:-1] + sub_blocks(b"\x01\0\0")
    text = b"\x21\x01" + sub_blocks(bytes(12))
    yield "extensions before", gif((10, 8), comment, loop, text, gif_frame(10, 8))
    yield "extensions after", gif((10, 8), gif_frame(10, 8), comment, loop)
    yield "two controls", gif((20, 15), control(3), control(7), frame)
    yield "control and comment", gif((20, 15), control(3), comment, frame)
    yield "zero bytes between blocks", gif((20, 15), bytes(5), control(1), bytes(3), frame)
    whole = gif((20, 15), frame)
    yield "no screen", gif((0, 0), frame)
    yield "no frame", gif((20, 15))
    yield "no trailer", whole[:-1]
    yield "no trailer and no last block", whole[:-2]
    yield "bytes after the end", whole + b"<html>"
    yield "cut in half", whole[: len(whole) * 3 // 4]
    yield "code size 12", gif((4, 4), gif_frame(4, 4, bits=12))
    yield "code size 13", whole.replace(frame, frame[:10] + b"\x0d" + frame[11:])


# BMP

BMP_HEADERS = (12, 40, 52, 56, 64, 108, 124)
LAYOUTS = {
    "5-5-5": (16, (0x7C00, 0x3E0, 0x1F, 0)),
    "5-6-5": (16, (0xF800, 0x7E0, 0x1F, 0)),
    "4-4-4-4": (16, (0xF00, 0xF0, 0xF, 0xF000)),
    "BGR": (24, (0xFF0000, 0xFF00, 0xFF, 0)),
    "BGRX": (32, (0xFF0000, 0xFF00, 0xFF, 0)),
    "XBGR": (32, (0xFF000000, 0xFF0000, 0xFF00, 0)),
    "RGBA": (32, (0xFF, 0xFF00, 0xFF0000, 0xFF000000)),
    "BGRA": (32, (0xFF0000, 0xFF00, 0xFF, 0xFF000000)),
    "ABGR": (32, (0xFF000000, 0xFF0000, 0xFF00, 0xFF)),
    "none": (32, (0, 0, 0, 0)),
    "10-10-10": (32, (0x3FF00000, 0xFFC00, 0x3FF, 0)),
}


def bmp(
    width: int,
    height: int,
    bits: int,
    data: bytes | None = None,
    *,
    header: int = 40,
    compression: int = 0,
    masks: tuple[int, ...] = (),
    palette: bytes = b"",
    colors: int = 0,
    gap: int = 0,
    offset: int | None = None,
    length: int | None = None,
) -> bytes:
    """Build a BMP; without `data` its pixels are random."""
    if data is None:
        stride = (width * bits + 31) // 32 * 4
        data = random(bits).randint(0, 256, stride * abs(height)).astype(np.uint8).tobytes()
    if header == 12:
        info = struct.pack("<IHHHH", 12, width, height, 1, bits)
    else:
        layout = (header, width, height, 1, bits, compression, len(data), 2835, 2835, colors, 0)
        info = struct.pack("<IiiHHIIiiII", *layout)
        mask = struct.pack(f"<{len(masks)}I", *masks)
        info += mask.ljust(header - 40, b"\0")[: header - 40] if header > 40 else mask[:12]
    start = 14 + len(info) + len(palette) + gap
    size = start + len(data) if length is None else length
    place = start if offset is None else offset
    return b"BM" + struct.pack("<IHHI", size, 0, 0, place) + info + palette + bytes(gap) + data


def bmp_palette(colors: int, width: int = 4) -> bytes:
    table = random(colors).randint(0, 256, (colors, width)).astype(np.uint8)
    return table.tobytes()


RLE8 = b"\x05\x01\x03\x02\0\0\0\x03\x01\x02\x03\0\x05\x04\0\0\x08\x07\0\x01"
RLE4 = b"\x08\x12\0\0\0\x04\x12\x34\x04\x56\0\0\x08\x77\0\x01"


def bmps() -> Iterator[tuple[str, bytes]]:
    for bits, header in product((1, 4, 8), BMP_HEADERS):
        palette = bmp_palette(1 << bits, 3 if header == 12 else 4)
        yield f"{bits} bits, header {header}", bmp(13, 9, bits, header=header, palette=palette)
    for bits, header in product((16, 24, 32), BMP_HEADERS):
        yield f"{bits} bits, header {header}", bmp(13, 9, bits, header=header)
    for side, bits in product(range(1, 18), (1, 4, 8, 16, 24, 32)):
        palette = bmp_palette(1 << bits) if bits <= 8 else b""
        yield f"{side} pixels, {bits} bits", bmp(side, 18 - side, bits, palette=palette)
    for bits in (1, 4, 8, 16, 24, 32):
        palette = bmp_palette(1 << bits) if bits <= 8 else b""
        yield f"top-down, {bits} bits", bmp(13, -9, bits, palette=palette)
        yield f"gap, {bits} bits", bmp(13, 9, bits, palette=palette, gap=11)
        yield f"bytes after the end, {bits} bits", bmp(13, 9, bits, palette=palette) + bytes(99)
        yield f"wrong length, {bits} bits", bmp(13, 9, bits, palette=palette, length=77)
        yield f"no offset, {bits} bits", bmp(13, 9, bits, palette=palette, offset=0)
        yield f"cut, {bits} bits", bmp(13, 9, bits, palette=palette)[:-6]
        yield (
            f"no padding of the last row, {bits} bits",
            bmp(1, 5, bits, palette=palette[: 4 << bits])[: -(4 - max(1, bits // 8)) or None],
        )
    for (name, (bits, masks)), header in product(LAYOUTS.items(), BMP_HEADERS[1:]):
        yield (
            f"{name}, header {header}",
            bmp(13, 9, bits, header=header, compression=3, masks=masks),
        )
    for bits, colors in ((1, 1), (4, 3), (4, 5), (8, 2), (8, 100), (8, 255)):
        palette = bmp_palette(colors)
        yield f"{colors} colours in {bits} bits", bmp(13, 9, bits, palette=palette, colors=colors)
    yield "300 colours", bmp(13, 9, 8, palette=bmp_palette(300), colors=300)
    yield "no colours", bmp(13, 9, 8, colors=5)
    yield "offset without the palette", bmp(13, 9, 8, palette=bmp_palette(256), offset=54)
    grey = bytes(value for level in range(256) for value in (level, level, level, 0))
    yield "grey", bmp(13, 9, 8, palette=grey)
    for name, levels in (("black and white", (0, 255)), ("white and black", (255, 0))):
        two = bytes(value for level in levels for value in (level, level, level, 0))
        yield name, bmp(13, 9, 1, palette=two)
        yield f"{name} in 8 bits", bmp(13, 9, 8, palette=two, colors=2)
    table = bmp_palette(256)
    runs = {
        "runs": (1, RLE8),
        "a delta": (1, b"\x05\x01\0\x02\x02\x01\x04\x03\0\0\x08\x07\0\x01"),
        "deltas over rows": (1, b"\0\x02\x01\x02\x08\x07\0\x01"),
        "short lines": (1, b"\x05\x01\0\0\x02\x03\0\0\x08\x07\0\x01"),
        "no end": (1, b"\x08\x01\0\0\x08\x02\0\0\x08\x07"),
        "no ends of lines": (1, b"\x08\x01\x08\x02\x08\x03"),
        "long run": (1, b"\xff\x01\0\0\x08\x02\0\0\x08\x07"),
        "long literal": (1, b"\0\x0c" + bytes(range(12)) + b"\0\x0c" + bytes(range(12))),
        "an early end": (1, b"\x08\x01\0\0\x08\x02\0\x01"),
        "cut": (1, b"\x08\x01\0\0\x08\x02\0\x09\x01"),
        "runs of 4 bits": (2, RLE4),
        "a delta of 4 bits": (2, b"\x05\x12\0\x02\x02\x01\x04\x34\0\0\x08\x77\0\x01"),
        "an odd literal of 4 bits": (2, b"\0\x05\x12\x34\x50\0\x03\x67\0\0\x08\x11\x08\x77\0\x01"),
        "odd runs of 4 bits": (2, b"\x03\x12\x05\x34\0\0\x07\x56\x01\x70\0\0\x08\x77\0\x01"),
    }
    for name, (compression, data) in runs.items():
        bits = 8 if compression == 1 else 4
        for gap in (0, 1):
            yield (
                f"{name}, gap {gap}",
                bmp(8, 3, bits, data, compression=compression, palette=table[: 4 << bits], gap=gap),
            )
        upside = bmp(8, -3, bits, data, compression=compression, palette=table[: 4 << bits])
        yield f"{name}, top-down", upside
    pixels = noise(70, 50, 1)[:, :, 0] // 16
    for mode in ("1", "L", "P", "RGB", "RGBA"):
        yield f"Pillow's {mode}", saved(picture(mode), "BMP")
    rows = b"".join(bytes(v for p in row for v in (1, p)) + b"\0\0" for row in pixels[::-1])
    yield "a run for each pixel", bmp(70, 50, 8, rows + b"\0\x01", compression=1, palette=table)
    for compression in (2, 4, 5, 6, 11):
        yield f"compression {compression}", bmp(13, 9, 24, compression=compression)
    yield "2 bits", bmp(13, 9, 2, palette=bmp_palette(4))
    yield "64 bits", bmp(13, 9, 64)


SUITES = {"PNG": dict(pngs()), "WEBP": dict(webps()), "GIF": dict(gifs()), "BMP": dict(bmps())}
