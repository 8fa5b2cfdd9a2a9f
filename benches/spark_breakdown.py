"""What a Spark job costs beside the model's work: its parts, each timed without the others.

Usage: spark_breakdown.py MODEL PHOTOS

All in one fresh application, and in the order in which a job pays for them. What is paid once is
the difference between a first time and a second one.
"""

import json
import sys
import tempfile
import time

import numpy as np
import pandas as pd
from common import cores, paths_in
from pyspark.sql.functions import PandasUDFType, lit, pandas_udf
from spark_common import application

import pomona
from pomona.spark import featurize_udf, read_images


def main():
    model, folder = sys.argv[1:]
    dim = pomona.Featurizer(model).dim
    spark = application()
    parts = {}

    parts["JVM: listing the photos"] = seconds(lambda: read_images(spark, folder))
    photos = read_images(spark, folder)
    first, reading = (seconds(lambda: discard(photos)) for _ in range(2))
    parts["JVM: its first job"] = first - reading
    parts["JVM: reading the photos"] = reading

    # As many photos as there are workers, so that each starts, and hardly works.
    photo = paths_in(folder)[0].read_bytes()
    few = spark.range(cores(), numPartitions=cores()).select(lit(bytearray(photo)).alias("content"))
    made_up = features_udf(dim)
    parts["Python: starting the workers"] = cost_of_first(few.select(made_up("content")))
    shipping = seconds(lambda: featurize_udf(model))
    featurize = featurize_udf(model)
    sessions = cost_of_first(few.select(featurize("content")))
    parts["Python: shipping the model, starting its sessions"] = shipping + sessions

    features = photos.select("path", "label", made_up("content").alias("features"))
    through_python = seconds(lambda: discard(features))
    parts["Arrow and pandas: photos to Python, features back"] = through_python - reading
    with tempfile.TemporaryDirectory() as output:
        written = seconds(lambda: features.write.parquet(f"{output}/features"))
    parts["JVM: writing Parquet"] = written - through_python
    print(json.dumps(parts))


def features_udf(dim):
    """Return a UDF that does all that Pomona's does but for the model."""

    def make_up(batches):
        random = np.random.default_rng()
        for photos in batches:
            contents = photos.tolist()
            yield pd.Series(list(random.random((len(contents), dim), dtype=np.float32)))

    return pandas_udf(make_up, "array<float>", PandasUDFType.SCALAR_ITER)


def cost_of_first(frame):
    first, second = (seconds(lambda: discard(frame)) for _ in range(2))
    return first - second


def discard(frame):
    """Compute all rows and write none."""
    frame.write.format("noop").mode("overwrite").save()


def seconds(action):
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
