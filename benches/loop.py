"""Pomona in a plain loop over files, on as many cores as Spark: the baseline of the job on Spark.

Usage: loop.py MODEL PHOTOS

The time includes starting the model's sessions and reading the files, as for the job on Spark.
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
