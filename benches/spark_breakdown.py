"""The cost of a Spark job without the model's work, measured part by part.

Usage: spark_breakdown.py MODEL PHOTOS

Runs in one fresh application, in the order of a job. One-time costs are the difference between the
first run and the second.
"""

import json
import sys
import tempfile
import time
from typing import Iterator

import numpy as np
import pandas as pd
from common import cores, paths_in
from pyspark.sql.functions import lit, pandas_udf
from spark_common import application

import pomona
from pomona.spark import featurize_udf, read_images


def main():
    model, folder = sys.argv[1:]
    dim = pomona.Featurizer(model).dim
    spark = application()
    parts = {}

    parts["JVM: listing the photos"], photos = timed(lambda: read_images(spark, folder))
    first, reading = seconds_to_discard(photos), seconds_to_discard(photos)
    parts["JVM: its first job"] = first - reading
    parts["JVM: reading the photos"] = reading

    # One photo per worker, so that each starts but does little work.
    photo = paths_in(folder)[0].read_bytes()
    few = spark.range(cores(), numPartitions=cores()).select(lit(bytearray(photo)).alias("content"))
    random_features = random_udf(dim)
    parts["Python: starting the workers"] = cost_of_first(few.select(random_features("content")))
    shipping, featurize = timed(lambda: featurize_udf(model))
    sessions = cost_of_first(few.select(featurize("content")))
    parts["Python: shipping the model, starting its sessions"] = shipping + sessions

    features = photos.select("path", "label", random_features("content").alias("features"))
    through_python = seconds_to_discard(features)
    parts["Arrow and pandas: photos to Python, features back"] = through_python - reading
    with tempfile.TemporaryDirectory() as output:
        written, _ = timed(lambda: features.write.parquet(f"{output}/features"))
    parts["JVM: writing Parquet"] = written - through_python
    print(json.dumps(parts))


def random_udf(dim):
    """Return a UDF that does the same as Pomona's except for running the model."""

    def features(batches: Iterator[pd.Series]) -> Iterator[pd.Series]:
        random = np.random.default_rng()
        for photos in batches:
            contents = photos.tolist()
            yield pd.Series(list(random.random((len(contents), dim), dtype=np.float32)))

    return pandas_udf(features, "array<float>")


def cost_of_first(frame):
    return seconds_to_discard(frame) - seconds_to_discard(frame)


def seconds_to_discard(frame):
    """Return the seconds it takes to compute all rows, without writing them."""
    seconds, _ = timed(lambda: frame.write.format("noop").mode("overwrite").save())
    return seconds


def timed(action):
    start = time.perf_counter()
    result = action()
    return time.perf_counter() - start, result


if __name__ == "__main__":
    main()
