"""Time until a fresh Python worker of Spark returns its first row, and what it is spent on.

Usage: spark_first_row.py MODEL PHOTOS ROUNDS

Each round starts two fresh workers. The first runs Pomona's own UDF and measures the time from its
first batch to its first row. The second runs the same steps one by one.
"""

import ctypes
import importlib
import json
import os
import sys
import time
from itertools import chain
from pathlib import Path

import pandas as pd
from common import paths_in
from pyspark.sql.functions import PandasUDFType, lit, pandas_udf
from spark_common import application

import pomona
from pomona.spark import featurize_udf


def main():
    model, photos, rounds = sys.argv[1:]
    spark = application({"spark.python.worker.reuse": "false"})
    photo = lit(bytearray(paths_in(photos)[0].read_bytes())).alias("content")
    batch = spark.range(1, numPartitions=1).select(photo)
    (runtime,) = Path(pomona.__file__).parent.glob("lib/libonnxruntime.so.*")
    whole, parts = timed_udf(featurize_udf(model).func), parts_udf(model, str(runtime))
    results = []
    for _ in range(int(rounds)):
        row, steps = (batch.select(udf("content")).head()[0] for udf in (whole, parts))
        results.append({"first_row": float(row), "parts": json.loads(steps)})
    print(json.dumps({"rounds": results}))


def timed_udf(featurize):
    def first_row(batches):
        batches = iter(batches)
        first = next(batches)
        start = time.perf_counter()
        next(iter(featurize(chain([first], batches))))
        yield pd.Series([str(time.perf_counter() - start)] * len(first))

    return pandas_udf(first_row, "string", PandasUDFType.SCALAR_ITER)


def parts_udf(model, runtime):
    def steps(batches):
        parts = {"PySpark: forking a worker, its imports": seconds_of_life()}
        for contents in batches:
            photos = contents.tolist()
            clock = Laps()
            pomona = importlib.import_module("pomona")
            importlib.import_module("pomona.spark.udf")
            parts["importing Pomona"] = clock.lap()
            ctypes.CDLL(runtime, os.RTLD_LOCAL | os.RTLD_NOW)
            parts["loading ONNX Runtime's library"] = clock.lap()
            featurizer = pomona.Featurizer(model)
            parts["checking the model file"] = clock.lap()
            featurizer.featurize(photos)
            first = clock.lap()
            featurizer.featurize(photos)
            parts["one photo"] = clock.lap()
            parts["starting the session"] = first - parts["one photo"]
            yield pd.Series([json.dumps(parts)] * len(contents))

    return pandas_udf(steps, "string", PandasUDFType.SCALAR_ITER)


class Laps:
    def __init__(self):
        self._start = time.perf_counter()

    def lap(self):
        """Return the seconds since the last lap."""
        now = time.perf_counter()
        self._start, seconds = now, now - self._start
        return seconds


def seconds_of_life():
    """Return the age of this process."""
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    began = int(fields[19]) / os.sysconf("SC_CLK_TCK")
    return time.clock_gettime(time.CLOCK_BOOTTIME) - began


if __name__ == "__main__":
    main()
