"""How images a second change with the number of photos: `write_features` in one warm application.

Usage: spark_growth.py MODEL ROUNDS FOLDER...

An application starts once, whatever it has to do: so a job beforehand, on the first folder, starts
Java's compiler, the workers and their sessions. What each job costs by itself (listing, planning,
publishing) stays in its time.
"""

import json
import sys
import tempfile

from common import paths_in
from spark_common import Clock, application, worker_peak_mb

from pomona.spark import read_images, write_features


def main():
    model, rounds, *folders = sys.argv[1:]
    spark = application()
    write(spark, model, folders[0])
    results = [[write(spark, model, folder) for folder in folders] for _ in range(int(rounds))]
    print(json.dumps({"rounds": results, "peak_mb": worker_peak_mb()}))


def write(spark, model, folder):
    """Return photos, and seconds by the clock and of processors."""
    count = len(paths_in(folder))
    with tempfile.TemporaryDirectory() as output, Clock() as clock:
        features = write_features(read_images(spark, folder), f"{output}/features", model=model)
    if features.photos - features.errors != count:
        sys.exit(f"{count} photos, but {features.photos - features.errors} rows with features")
    return {"photos": count, "seconds": clock.wall, "cpu_seconds": clock.cpu}


if __name__ == "__main__":
    main()
