"""Pomona on Spark: photos in, features out, on every executor.

Needs the cluster's own PySpark (3.1 or later), with pandas and pyarrow on every node:
``pip install 'pomona[spark]'``. The public names are imported on first use, so that a Python worker
on an executor loads no more than it needs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pomona._lazy import lazy_names
from pomona._optional import require

if TYPE_CHECKING:
    from typing import Any

    from pomona.spark._start import local_session
    from pomona.spark.classification.prediction import predict
    from pomona.spark.classification.training import train
    from pomona.spark.features import read_features, write_features
    from pomona.spark.images import read_images, sample_images
    from pomona.spark.pca import fit_pca
    from pomona.spark.results import SparkResults
    from pomona.spark.show import show_photos
    from pomona.spark.transformer import ImageFeaturizer
    from pomona.spark.udf import (
        featurize_paths_struct_udf,
        featurize_paths_udf,
        featurize_struct_udf,
        featurize_udf,
        register,
    )

__all__ = [
    "ImageFeaturizer",
    "SparkResults",
    "featurize_paths_struct_udf",
    "featurize_paths_udf",
    "featurize_struct_udf",
    "featurize_udf",
    "fit_pca",
    "local_session",
    "predict",
    "read_features",
    "read_images",
    "register",
    "sample_images",
    "show_photos",
    "train",
    "write_features",
]

_MODULES = {
    "ImageFeaturizer": "transformer",
    "SparkResults": "results",
    "featurize_paths_struct_udf": "udf",
    "featurize_paths_udf": "udf",
    "featurize_struct_udf": "udf",
    "featurize_udf": "udf",
    "fit_pca": "pca",
    "local_session": "_start",
    "predict": "classification.prediction",
    "read_features": "features",
    "read_images": "images",
    "register": "udf",
    "sample_images": "images",
    "show_photos": "show",
    "train": "classification.training",
    "write_features": "features",
}
_PYSPARK = (
    "run this with the cluster's own PySpark (spark-submit, pyspark, a PySpark kernel) or, on a "
    "machine without Spark, pip install pyspark"
)


def _load(module: str, _name: str) -> Any:
    try:
        return require(module, "spark", __name__, advice="on every node")
    except ImportError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in ("py4j", "pyspark"):
            raise
        raise ImportError(f"{__name__} needs {missing}: {_PYSPARK}", name=error.name) from error


if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy_names(__name__, _MODULES, _load)
