"""Pomona in a plain loop over files, on the cores that Spark gets: what Spark's job is held to.

Usage: loop.py MODEL PHOTOS

The clock has the start of the model's sessions and the reading of the files, as in Spark's job.
"""

import sys
import time

from common import CALL, cores, paths_in, report, status_mb

import pomona


def main():
    model, photos = sys.argv[1:]
    start, cpu_start = time.perf_counter(), time.process_time()
    featurizer = pomona.Featurizer(model, threads=cores())
    paths = paths_in(photos)
    for first in range(0, len(paths), CALL):
        featurizer.featurize([path.read_bytes() for path in paths[first : first + CALL]])
    wall, cpu = time.perf_counter() - start, time.process_time() - cpu_start
    report(len(paths), wall, cpu, status_mb("VmHWM"), seconds=wall)


if __name__ == "__main__":
    main()
