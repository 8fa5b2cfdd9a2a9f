"""Search on one machine: the nearest neighbours of a photo, and near-duplicates in a large set."""

from __future__ import annotations

import sys

from harness import command, run, verdict

PHOTOS, DIM = 100_000, 1280
CORES = 2
QUERY_MS, DUPLICATES_SECONDS = 100, 300


def measure(photos: int) -> list[str]:
    """Measure everything and return it as lines of Markdown."""
    result = run(command(sys.executable, "similarity.py", str(photos), str(DIM)), CORES)
    query, slowest = 1000 * result["query"], 1000 * result["slowest_query"]
    duplicates = result["duplicates"]
    return [
        f"| `pomona similar`, {photos:,} x {DIM:,} features | target | measured | |",
        "| --- | --- | --- | --- |",
        f"| nearest neighbours of a photo: median (slowest) | <= {QUERY_MS} ms | {query:.0f} ms "
        f"({slowest:.0f} ms) | {verdict(query <= QUERY_MS)} |",
        f"| all near-duplicates | <= {DUPLICATES_SECONDS} s | {duplicates:.0f} s | "
        f"{verdict(duplicates <= DUPLICATES_SECONDS)} |",
        "",
        f"Synthetic features in memory ({result['index_mb']:.0f} MB), each with one near-duplicate "
        f"that the search must find; {CORES} cores.",
    ]
