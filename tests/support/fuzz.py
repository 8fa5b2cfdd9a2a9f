"""Damages images at random and decodes them, in a process that may crash.

After some of them it decodes an image that is not damaged, which must have its usual pixels.

Usage: python tests/support/fuzz.py FORMAT [--count N] [--seed N]

Prints one line: the number of images that were decoded and refused, the time of the slowest in
seconds, the growth of memory in the second half in MiB, and panics of the decoder. The same
arguments give the same damage.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import struct
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np

import pomona
from heif import HEIF_SPECIMENS
from specimens import SPECIMENS, png_chunk

# Limits the time of a case whose damaged header declares a huge image.
MAX_PIXELS = 1 << 20
ALL_SPECIMENS = {**SPECIMENS, **HEIF_SPECIMENS}
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
#: The types of the boxes in a HEIC or AVIF that decoders read.
BOXES = re.compile(
    b"ftyp|meta|pitm|iloc|iinf|infe|iref|dimg|auxl|cdsc|iprp|ipco|ipma|ispe|pixi|colr|hvcC|av1C|"
    b"irot|imir|idat|mdat"
)
WORTHY = [0x00, 0x01, 0x7F, 0x80, 0xFE, 0xFF]


def damaged(data: bytes, chance: random.Random) -> bytes:
    """Damage a file as a bad disk, a bad transfer or an attacker would."""
    damaged = bytearray(data)
    # Damage to a header has more effect than damage to pixels.
    parts = [range(64), range(len(data))]
    if data[4:8] == b"ftyp":
        header = data.index(b"mdat")
        parts = [range(header), range(header, len(data))]
        if chance.random() < 0.1:
            change_extent(damaged, chance)
    part = chance.choice(parts)
    for _ in range(chance.choice([1, 1, 2, 4, 16])):
        at = chance.choice(part) % len(damaged)
        what = chance.randrange(6)
        if what == 0:
            damaged[at] ^= 1 << chance.randrange(8)
        elif what == 1:
            damaged[at] = chance.choice(WORTHY)
        elif what == 2:
            damaged[at] = chance.randrange(256)
        elif what == 3:
            del damaged[at : at + chance.randrange(1, 9)]
        elif what == 4:
            end = min(len(damaged), at + chance.randrange(1, 33))
            damaged[at:at] = damaged[at:end]
        else:
            damaged[at : at + 4] = chance.choice(WORTHY).to_bytes(1, "big") * 4
        if not damaged:
            return b""
    if chance.random() < 0.1:
        del damaged[chance.randrange(len(damaged)) :]
    if data.startswith(PNG_SIGNATURE) and chance.random() < 0.9:
        return with_checksums(bytes(damaged))
    return bytes(damaged)


def change_extent(heif: bytearray, chance: random.Random) -> None:
    """Change the length of a box, or the offset or the length of an item's data."""
    lengths = [box.start() - 4 for box in BOXES.finditer(heif)]
    locations = heif.index(b"iloc") - 4
    (size,) = struct.unpack_from(">I", heif, locations)
    # After the header and the number of items; an item's numbers have two or four bytes.
    extents = range(locations + 16, locations + size - 3, 2)
    at = chance.choice(chance.choice([lengths, extents]))
    (old,) = struct.unpack_from(">I", heif, at)
    near = old + chance.randrange(-16, 17)
    new = chance.choice([0, 1, 8, near, 2 * old, chance.randrange(len(heif)), 1 << 31, -1])
    struct.pack_into(">I", heif, at, new % (1 << 32))


def with_checksums(data: bytes) -> bytes:
    """Correct the checksums of a damaged PNG, so that they do not reveal the damage."""
    at = len(PNG_SIGNATURE)
    parts = [data[:at]]
    while at + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        parts.append(png_chunk(kind, data[at + 8 : at + 8 + length]))
        at += 12 + length
    return b"".join(parts)


def peak() -> int:
    """Return the peak memory of this process in KiB. That of getrusage is at least the parent's."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s*(\d+)", status).group(1))


def run(kind: str, count: int, seed: int) -> dict[str, Any]:
    chance = random.Random(seed)  # noqa: S311 - not for cryptography
    names = [name for name in ALL_SPECIMENS if name.startswith(f"{kind}:")]
    intact = {name: pomona.load_image(ALL_SPECIMENS[name]) for name in names}
    decoded, refused, slowest, panics, half = 0, 0, 0.0, [], 0
    for number in range(count):
        if number == count // 2:
            half = peak()
        name = chance.choice(names)
        data = damaged(ALL_SPECIMENS[name], chance)
        options = {
            "apply_exif": chance.random() < 0.5,
            "strict": chance.random() < 0.2,
            **chance.choice([{}, {"size": (32, 32)}, {"size": (16, 16), "decode": "fast"}]),
        }
        start = time.perf_counter()
        try:
            pixels = pomona.load_image(data, max_pixels=MAX_PIXELS, **options)
        except pomona.ImageError as error:
            refused += 1
            if "please report it" in error.reason:
                panics.append(f"{number} {name}: {error.reason}")
        else:
            decoded += 1
            height, width, _ = pixels.shape
            if "size" in options:
                assert (height, width) == options["size"]
            else:
                assert 0 < height * width <= MAX_PIXELS
        slowest = max(slowest, time.perf_counter() - start)
        if chance.random() < 0.2:
            name = chance.choice(names)
            assert np.array_equal(pomona.load_image(ALL_SPECIMENS[name]), intact[name]), name
    return {
        "decoded": decoded,
        "refused": refused,
        "slowest": round(slowest, 3),
        "grown_mib": (peak() - half) // 1024,
        "panics": panics,
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Decode images that were damaged at random.")
    parser.add_argument(
        "kind", choices=["JPEG", "PNG", "WebP", "GIF", "BMP", "TIFF", "HEIC", "AVIF"]
    )
    parser.add_argument("--count", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    warnings.simplefilter("ignore", pomona.ImageWarning)
    print(json.dumps(run(options.kind, options.count, options.seed)))
