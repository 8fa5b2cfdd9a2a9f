"""Pomona on Spark: from photos to features in Parquet.

Usage: spark_featurize.py MODEL PHOTOS MODE [COUNT SETTINGS]

MODE is `content` if Spark reads the photos, or `paths` if the UDF does. Photos on S3 need their
number, and Spark's settings for S3 as JSON.
"""

import json
import sys

from common import paths_in
from spark_common import application, measure

import pomona.spark


def main():
    model, photos, mode, *remote = sys.argv[1:]
    count = int(remote[0]) if remote else len(paths_in(photos))
    spark = application(json.loads(remote[1]) if remote else {})

    def write(output):
        featurize = pomona.spark.featurize_udf(model)("path" if mode == "paths" else "content")
        rows = pomona.spark.read_images(spark, photos, content=mode == "content")
        rows.select("path", "label", featurize.alias("features")).write.parquet(output)

    measure(spark, count, write)


if __name__ == "__main__":
    main()
