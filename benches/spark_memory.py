"""Memory of a Python worker that reads large photos concurrently.

Usage: spark_memory.py MODEL SMALL LARGE ROWS READS BYTES SETTINGS

A job on the photo SMALL starts the workers and their sessions; their memory after it is the
baseline. Then the workers read LARGE, ROWS times in total, with READS concurrent reads each and at
most BYTES in flight.
"""

import json
import sys
from pathlib import Path

from common import cores, status_mb
from spark_common import application, workers

from pomona.spark import featurize_udf

RESET_PEAK = "5"
"""Written to /proc/PID/clear_refs, resets VmHWM to the current resident memory."""


def main():
    model, small, large, rows, reads, size, settings = sys.argv[1:]
    spark = application(json.loads(settings))
    featurize = featurize_udf(model, concurrency=int(reads), max_bytes_in_flight=int(size))

    def job(path, count):
        paths = spark.createDataFrame([(path,)] * count, "path string").repartition(cores())
        features = paths.select(featurize("path").alias("features")).collect()
        if any(row.features is None for row in features):
            sys.exit(f"{path} has no features")

    job(small, cores())
    idle = {pid: status_mb("VmRSS", pid) for pid in workers()}
    for pid in idle:
        Path("/proc", str(pid), "clear_refs").write_text(RESET_PEAK)
    job(large, int(rows))
    peaks = {pid: status_mb("VmHWM", pid) for pid in workers()}
    grown = [peaks[pid] - resident for pid, resident in idle.items()]
    print(json.dumps({"idle_mb": max(idle.values()), "grown_mb": max(grown)}))


if __name__ == "__main__":
    main()
