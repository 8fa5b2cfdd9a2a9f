"""Pomona on Spark: photos in, features out, on every executor.

Needs the cluster's own PySpark (3.1 or later), and pandas and pyarrow beside it on every node:
``pip install 'pomona[spark]'``. The public names are imported on first use: a Python worker of an
executor loads no more than it needs.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

    from pomona.spark.classification.prediction import predict
    from pomona.spark.classification.training import train
    from pomona.spark.features import read_features, write_features
    from pomona.spark.images import read_images, sample_images
    from pomona.spark.pca import fit_pca
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
    "featurize_paths_struct_udf",
    "featurize_paths_udf",
    "featurize_struct_udf",
    "featurize_udf",
    "fit_pca",
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
    "featurize_paths_struct_udf": "udf",
    "featurize_paths_udf": "udf",
    "featurize_struct_udf": "udf",
    "featurize_udf": "udf",
    "fit_pca": "pca",
    "predict": "classification.prediction",
    "read_features": "features",
    "read_images": "images",
    "register": "udf",
    "sample_images": "images",
    "show_photos": "show",
    "train": "classification.training",
    "write_features": "features",
}
_SPARK = (
    "run this with the cluster's own PySpark (spark-submit, pyspark, a PySpark kernel) or, on a "
    "machine without Spark, pip install pyspark"
)
_EXTRA = "pip install 'pomona[spark]', on every node"
_REMEDIES = {"py4j": _SPARK, "pyspark": _SPARK, "pandas": _EXTRA, "pyarrow": _EXTRA}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
    except ImportError as error:
        missing = (error.name or "").split(".")[0]
        if missing not in _REMEDIES:
            raise
        raise ImportError(
            f"pomona.spark cannot import {missing}, which it needs: {_REMEDIES[missing]}",
            name=error.name,
        ) from error


def __dir__() -> list[str]:
    return sorted(__all__)
