"""Compares the pixels of photos with those of Pillow, format by format.

Usage: python tests/support/against_pillow.py FOLDER…

Walks the folders, prints a table, and below it the photos that are not read alike. The reference is
`Image.open(file).convert("RGB")` of Pillow 12, with warnings ignored and any exception counted as a
refusal.
"""

from __future__ import annotations

import argparse
import io
import warnings
from collections import Counter
from pathlib import Path
from typing import Iterable, NamedTuple

import numpy as np
from PIL import Image

import pomona

#: Largest difference of a channel that counts as equal.
TOLERANCE = 2

EQUAL, ONLY_PILLOW, ONLY_POMONA, DIFFERENT, NEITHER = COLUMNS = (
    "equal",
    "only Pillow",
    "only Pomona",
    "different",
    "neither",
)

SIGNATURES = {
    b"\xff\xd8": "JPEG",
    b"\x89PNG": "PNG",
    b"RIFF": "WEBP",
    b"GIF8": "GIF",
    b"BM": "BMP",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"II+\0": "TIFF",
    b"MM\0+": "TIFF",
}
#: Pillow's names for what is a JPEG with other pictures after it.
ALIASES = {"MPO": "JPEG"}


class Comparison(NamedTuple):
    """How a photo is read, next to Pillow."""

    name: str
    format: str
    outcome: str
    detail: str


def pillow(data: bytes) -> np.ndarray:
    """Return the reference pixels. Raises what Pillow raises."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def format_of(data: bytes) -> str:
    """Return the format that the first bytes announce, or that Pillow recognises."""
    for signature, name in SIGNATURES.items():
        if data.startswith(signature):
            return name
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            name = Image.open(io.BytesIO(data)).format or "other"
    except Exception:
        return "other"
    return ALIASES.get(name, name)


def compare(name: str, data: bytes) -> Comparison:
    """Read a photo with Pillow and with Pomona."""

    def result(outcome: str, detail: str = "") -> Comparison:
        return Comparison(name, format_of(data), outcome, detail)

    refusal = reason = ""
    try:
        theirs = pillow(data)
    except Exception as error:
        refusal = f"{type(error).__name__}: {error}"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", pomona.ImageWarning)
            ours = pomona.load_image(data)
    except pomona.ImageError as error:
        reason = error.reason
    if refusal or reason:
        if refusal and reason:
            return result(NEITHER, refusal)
        return result(ONLY_POMONA, refusal) if refusal else result(ONLY_PILLOW, reason)
    if ours.shape != theirs.shape:
        return result(DIFFERENT, f"shape {ours.shape}, Pillow's is {theirs.shape}")
    difference = np.abs(ours.astype(np.int16) - theirs)
    if difference.max() > TOLERANCE:
        pixels = (difference > TOLERANCE).any(axis=-1).mean()
        return result(DIFFERENT, f"{pixels:.1%} of the pixels, by at most {difference.max()}")
    return result(EQUAL)


def files(folders: Iterable[Path]) -> Iterable[Path]:
    for folder in folders:
        yield from sorted(path for path in folder.rglob("*") if path.is_file())


def table(comparisons: Iterable[Comparison]) -> str:
    """Format the counts as a table with a line for each format."""
    counts: Counter[tuple[str, str]] = Counter()
    for comparison in comparisons:
        counts[comparison.format, comparison.outcome] += 1
    kinds = sorted({kind for kind, _ in counts})
    lines = [f"{'format':10}" + "".join(f"{column:>13}" for column in COLUMNS)]
    lines += [
        f"{kind:10}" + "".join(f"{counts[kind, column]:13}" for column in COLUMNS) for kind in kinds
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER")
    arguments = parser.parse_args()
    compared = [compare(str(path), path.read_bytes()) for path in files(arguments.folders)]
    print(f"Pillow {Image.__version__}\n{table(compared)}\n")
    for found in compared:
        if found.outcome in (ONLY_PILLOW, ONLY_POMONA, DIFFERENT):
            print(f"{found.format:6} {found.outcome:12} {found.name}: {found.detail}")
