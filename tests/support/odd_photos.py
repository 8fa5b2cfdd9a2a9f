"""Odd photos to mix with others, and the outcome of featurizing each of them alone.

`POOL` has the odd photos of `data/odd`, JPEGs with systematically damaged headers, and intact
photos of every format and of several sizes.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Iterator

from outcomes import Outcome
from specimens import SPECIMENS, picture, saved

FOLDER = Path(__file__).parents[1] / "data/odd"
START_OF_SCAN = 0xDA

# A fresh process for each photo, forked from one that has imported Pomona but not used it.
ALONE = """
import json, os, sys
from pathlib import Path
import numpy  # before the forks, because this takes longer than everything else together
import pomona

model, folder = sys.argv[1:]
for path in sorted(Path(folder).iterdir()):
    if os.fork() == 0:
        batch = pomona.Featurizer(model).try_featurize([path.read_bytes()])
        (row,), (error,) = batch
        found = [row.tolist(), None, None] if error is None else [None, error.reason, error.kind]
        print(json.dumps([path.name, *found, *batch.warnings, *batch.orientations]), flush=True)
        os._exit(0)
    if os.wait()[1] != 0:
        sys.exit(f"{path}: the process ended with an error")
"""


def alone(model: Path, photos: dict[str, bytes], folder: Path) -> dict[str, Outcome]:
    """Featurize each photo in its own process, from files that are written to `folder`."""
    names = {f"{number:04}": name for number, name in enumerate(photos)}
    folder.mkdir(parents=True, exist_ok=True)
    for file, name in names.items():
        (folder / file).write_bytes(photos[name])
    done = subprocess.run(
        [sys.executable, "-c", ALONE, str(model), str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        check=True,
    )
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(lines) == len(photos)
    return {names[file]: Outcome(*found) for file, *found in lines}


def segments_of(jpeg: bytes) -> tuple[list[bytes], bytes]:
    """Split a JPEG into the segments of its header, up to its first scan, and the rest."""
    segments, at = [], 2
    while not segments or segments[-1][1] != START_OF_SCAN:
        end = at + 2 + int.from_bytes(jpeg[at + 2 : at + 4], "big")
        segments.append(jpeg[at:end])
        at = end
    return segments, jpeg[at:]


def with_damaged_headers(jpeg: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield a JPEG with each segment of its header missing, doubled, swapped, cut or mis-sized."""
    whole, rest = segments_of(jpeg)

    def joined(at: int, *segments: bytes) -> bytes:
        return jpeg[:2] + b"".join([*whole[:at], *segments, *whole[at + 1 :], rest])

    for at, segment in enumerate(whole):
        which = f"segment {at} ({segment[1]:02X})"
        yield f"{which} missing", joined(at)
        yield f"{which} doubled", joined(at, segment, segment)
        swapped = [*whole[:at], *whole[at + 1 : at + 2], segment, *whole[at + 2 :]]
        yield f"{which} swapped with the next", jpeg[:2] + b"".join(swapped) + rest
        for kept in (0, 1, (len(segment) - 4) // 2):
            cut = segment[:2] + (2 + kept).to_bytes(2, "big") + segment[4 : 4 + kept]
            yield f"{which} cut to {kept} bytes", joined(at, cut)
        for by in (-2, 1, 700):
            length = max(0, len(segment) - 2 + by).to_bytes(2, "big")
            yield (
                f"{which} length field off by {by}",
                joined(at, segment[:2] + length + segment[4:]),
            )


def pool() -> dict[str, bytes]:
    photos = {path.name: path.read_bytes() for path in sorted(FOLDER.iterdir())}
    for name in ("optimized.jpg", "prog.jpg", "ycck.jpg"):
        for damage, data in with_damaged_headers(photos[name]):
            photos[f"{name}, {damage}"] = data
    photos.update(SPECIMENS)
    for side in (1, 7, 8, 9, 31, 100):
        photos[f"{side} pixels"] = saved(picture("RGB", side, 2 * side, side), "JPEG")
    return photos


POOL = pool()
