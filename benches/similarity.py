"""Search and near-duplicates over 100,000 photos: how long they take, and how much memory.

Usage: python benches/similarity.py [--photos N] [--dim N] [--queries N] [--skip-duplicates]

The features are invented: a cloud for each of 141 classes, each photo with one near-twin, so the
twins found tell whether the search is right. Loading is not counted; it is shown.
"""

from __future__ import annotations

import argparse
import resource
from statistics import median
from time import perf_counter, process_time
from typing import Iterator

import numpy as np

from pomona.results import BLOCK_ROWS, Vectors
from pomona.similar import Index, duplicates

CLASSES = 141
K = 10
# Far below the distances within a cloud.
TWIN = 0.01
TWIN_DISTANCE = 0.001

QUERY_SECONDS = 0.1
DUPLICATES_SECONDS = 300


def blocks(photos: int, dim: int) -> Iterator[Vectors]:
    """Invent photos, block by block; number 2n + 1 is the twin of number 2n."""
    middles = np.abs(np.random.default_rng(0).standard_normal((CLASSES, dim), np.float32))
    for start in range(0, photos, BLOCK_ROWS):
        random = np.random.default_rng(start + 1)
        number = np.arange(start, min(start + BLOCK_ROWS, photos))
        own = random.standard_normal((len(number) // 2 + 1, dim), np.float32)
        matrix = middles[number // 2 % CLASSES] + 0.5 * own[(number - start) // 2]
        matrix += TWIN * random.standard_normal(matrix.shape, np.float32)
        yield Vectors([str(each) for each in number], [""] * len(number), matrix)


def verdict(seconds: float, limit: float) -> str:
    return "holds" if seconds <= limit else "SHORT"


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure `pomona similar`.")
    parser.add_argument("--photos", type=int, default=100_000)
    parser.add_argument("--dim", type=int, default=1280)
    parser.add_argument("--queries", type=int, default=50)
    parser.add_argument("--skip-duplicates", action="store_true")
    options = parser.parse_args()

    started = perf_counter()
    index = Index(blocks(options.photos, options.dim))
    print(f"{len(index):,} x {options.dim:,} in memory: {perf_counter() - started:.1f} s")

    took = []
    for row in range(0, len(index) - 1, max(1, len(index) // options.queries)):
        started = perf_counter()
        found = index.nearest(index.units[row], K)
        took.append(perf_counter() - started)
        if {found[0].path, found[1].path} != {str(row), str(row ^ 1)}:
            raise AssertionError(f"photo {row} finds {found[:2]} and not its twin")
    print(
        f"one query: {1000 * median(took):.1f} ms, slowest {1000 * max(took):.1f} ms; "
        f"must be <= {1000 * QUERY_SECONDS:.0f} ms: {verdict(median(took), QUERY_SECONDS)}"
    )
    del index
    if options.skip_duplicates:
        return

    started, worked = perf_counter(), process_time()
    twins = duplicates(blocks(options.photos, options.dim), threshold=TWIN_DISTANCE)
    seconds = perf_counter() - started
    if twins.found != options.photos // 2:
        raise AssertionError(f"{twins.found} pairs of twins, not {options.photos // 2}")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(
        f"duplicates: {seconds:.1f} s; must be <= {DUPLICATES_SECONDS} s: "
        f"{verdict(seconds, DUPLICATES_SECONDS)}; {process_time() - worked:.1f} s of processors, "
        f"{twins.found:,} pairs, peak memory {peak:,} MiB "
        "with the index before it"
    )


if __name__ == "__main__":
    main()
