"""Pomona on Spark: photos in, features out, on every executor.

Needs the cluster's own PySpark (3.1 or later), and pandas and pyarrow beside it on every node:
``pip install 'pomona[spark]'``.
"""

from __future__ import annotations

from pomona.spark.images import read_images
from pomona.spark.transformer import ImageFeaturizer
from pomona.spark.udf import featurize_struct_udf, featurize_udf, register

__all__ = [
    "ImageFeaturizer",
    "featurize_struct_udf",
    "featurize_udf",
    "read_images",
    "register",
]
