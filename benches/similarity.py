"""Time and memory of the search for nearest neighbours and near-duplicates among many photos.

Usage: similarity.py PHOTOS DIM

The features are synthetic: one cluster for each of 141 classes, and for each photo one
near-duplicate, its twin, which the search must find.
"""

from __future__ import annotations

import json
import sys
from statistics import median
from time import perf_counter
from typing import Iterator

import numpy as np
from common import status_mb

from pomona.results import Vectors
from pomona.results.vectors import BLOCK_ROWS
from pomona.similar import Index, duplicates

CLASSES = 141
K = 10
QUERIES = 50
# Far below the distances within a cluster.
TWIN = 0.01
TWIN_DISTANCE = 0.001


def main() -> None:
    photos, dim = map(int, sys.argv[1:])
    result = search(photos, dim)
    result["index_mb"] = status_mb("VmHWM")
    result["duplicates"], twins = timed(
        lambda: duplicates(blocks(photos, dim), threshold=TWIN_DISTANCE)
    )
    if twins.found != photos // 2:
        sys.exit(f"{twins.found} pairs of twins, not {photos // 2}")
    print(json.dumps(result))


def search(photos: int, dim: int) -> dict[str, float]:
    index = Index(blocks(photos, dim))
    queries = []
    for row in range(0, photos, max(1, photos // QUERIES)):
        seconds, found = timed(lambda row=row: index.nearest(index.units[row], K))
        queries.append(seconds)
        if {found[0].path, found[1].path} != {str(row), str(row ^ 1)}:
            sys.exit(f"photo {row} finds {found[:2]} and not its twin")
    return {"query": median(queries), "slowest_query": max(queries)}


def blocks(photos: int, dim: int) -> Iterator[Vectors]:
    """Generate photos block by block. Photo 2n + 1 is the twin of photo 2n."""
    centres = np.abs(np.random.default_rng(0).standard_normal((CLASSES, dim), np.float32))
    for start in range(0, photos, BLOCK_ROWS):
        random = np.random.default_rng(start + 1)
        number = np.arange(start, min(start + BLOCK_ROWS, photos))
        noise = random.standard_normal((len(number) // 2 + 1, dim), np.float32)
        matrix = centres[number // 2 % CLASSES] + 0.5 * noise[(number - start) // 2]
        matrix += TWIN * random.standard_normal(matrix.shape, np.float32)
        yield Vectors([str(each) for each in number], [""] * len(number), matrix)


def timed(action):
    start = perf_counter()
    result = action()
    return perf_counter() - start, result


if __name__ == "__main__":
    main()
