"""Classifiers on the features of photos, with numpy and scikit-learn.

`train` fits a classifier to the results of `pomona featurize` or `pomona run` and tests it on two
hold-outs; `predict` labels new photos with it. Both work on this machine. `pomona.spark.train` and
`pomona.spark.predict` do the same on Spark, with the same hold-outs and hyperparameters, and either
engine loads what the other has trained.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pomona._lazy import lazy_names

if TYPE_CHECKING:
    from pomona.classification.prediction import Predictions, predict
    from pomona.classification.training import train

__all__ = ["Predictions", "predict", "train"]

__getattr__, __dir__ = lazy_names(
    __name__, {"Predictions": "prediction", "predict": "prediction", "train": "training"}
)
