"""Pomona on Spark: photos in, a Parquet of features out.

Usage: spark_featurize.py MODEL PHOTOS WAY [COUNT SETTINGS]

WAY is `content`, where Spark reads the photos, or `paths`, where the UDF does. Photos on S3 need
their number and, as JSON, the settings of Spark that lead there.
"""

import json
import sys

from common import paths_in
from spark_common import application, measure

import pomona.spark


def main():
    model, photos, way, *remote = sys.argv[1:]
    count = int(remote[0]) if remote else len(paths_in(photos))
    spark = application(json.loads(remote[1]) if remote else {})

    def write(output):
        featurize = pomona.spark.featurize_udf(model)("path" if way == "paths" else "content")
        rows = pomona.spark.read_images(spark, photos, content=way == "content")
        rows.select("path", "label", featurize.alias("features")).write.parquet(output)

    measure(spark, count, write)


if __name__ == "__main__":
    main()
