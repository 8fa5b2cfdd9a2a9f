"""Search on one machine: the nearest photos of one, and the near-duplicates of a whole set."""

from __future__ import annotations

import sys

from harness import command, run, verdict

PHOTOS, DIM = 100_000, 1280
CORES = 2
QUERY_MS, DUPLICATES_SECONDS = 100, 300


def measure(photos: int) -> list[str]:
    """Measure everything and return it as lines of Markdown."""
    done = run(command(sys.executable, "similarity.py", str(photos), str(DIM)), CORES)
    query, slowest = 1000 * done["query"], 1000 * done["slowest_query"]
    duplicates = done["duplicates"]
    return [
        f"| `pomona similar`, {photos:,} x {DIM:,} features | must | measured | |",
        "| --- | --- | --- | --- |",
        f"| nearest photos of one: median (slowest) | <= {QUERY_MS} ms | {query:.0f} ms "
        f"({slowest:.0f} ms) | {verdict(query <= QUERY_MS)} |",
        f"| near-duplicates of all | <= {DUPLICATES_SECONDS} s | {duplicates:.0f} s | "
        f"{verdict(duplicates <= DUPLICATES_SECONDS)} |",
        "",
        f"Features in memory ({done['index_mb']:.0f} MB), invented, each with one near-twin that "
        f"must be found; {CORES} cores.",
    ]
