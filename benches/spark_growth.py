"""Throughput of `write_features` by number of photos, in one warm application.

Usage: spark_growth.py MODEL TINY FOLDER...

A first job, not measured, starts the workers and their sessions and warms up the JVM. After that,
jobs on the folders alternate with jobs on TINY, a folder with few photos, which measure the fixed
cost of a job: listing, planning and publishing.
"""

import json
import sys
import tempfile

from common import paths_in
from spark_common import Clock, application, worker_peak_mb

from pomona.spark import read_images, write_features


def main():
    model, tiny, *folders = sys.argv[1:]
    spark = application()
    write(spark, model, folders[0])
    pairs = [(write(spark, model, tiny), write(spark, model, folder)) for folder in folders]
    tiny_jobs, jobs = zip(*pairs)
    print(json.dumps({"tiny_jobs": tiny_jobs, "jobs": jobs, "peak_mb": worker_peak_mb()}))


def write(spark, model, folder):
    """Return the number of photos, the wall time and the CPU time."""
    count = len(paths_in(folder))
    with tempfile.TemporaryDirectory() as output, Clock() as clock:
        features = write_features(read_images(spark, folder), f"{output}/features", model=model)
    if features.photos - features.errors != count:
        sys.exit(f"{count} photos, but {features.photos - features.errors} rows with features")
    return {"photos": count, "seconds": clock.wall, "cpu_seconds": clock.cpu}


if __name__ == "__main__":
    main()
