"""Pomona on Spark: photos in, a Parquet of features out.

Usage: spark_featurize.py MODEL PHOTOS
"""

import sys

from spark_common import application, measure

from pomona.spark import featurize_udf, read_images


def main():
    model, photos = sys.argv[1:]
    spark = application()

    def write(output):
        featurize = featurize_udf(model)
        rows = read_images(spark, photos)
        rows.select("path", "label", featurize("content").alias("features")).write.parquet(output)

    measure(spark, photos, write)


if __name__ == "__main__":
    main()
