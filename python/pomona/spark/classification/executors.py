"""Train and test classifiers on the executors, for features too large for the driver."""

from __future__ import annotations

from collections import Counter
from math import ceil
from typing import TYPE_CHECKING, Any, Callable, Iterator, NamedTuple

import numpy as np
import pandas as pd
from pyspark.ml import PipelineModel
from pyspark.ml.functions import array_to_vector, vector_to_array
from pyspark.sql.functions import col, expr

from pomona._progress import timed
from pomona.classification import holdouts
from pomona.classification.fingerprints import WIDTH, fingerprints
from pomona.classification.training import (
    Groups,
    check_classes,
    check_trained_on,
    in_steps,
)
from pomona.results.metrics import LISTED_MISTAKES, Metrics, Mistake, Training, measure
from pomona.spark._hadoop import Folder
from pomona.spark._session import described
from pomona.spark.classification import classifiers
from pomona.spark.features import read_features
from pomona.spark.pca import fit_pca, takes_vectors

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pyspark.ml import Transformer
    from pyspark.sql import DataFrame, SparkSession

#: Bytes of features per task. Below that, the overhead of a task is larger than its work.
_TASK_BYTES = 32 * 1024 * 1024


class _Data(NamedTuple):
    """The labelled photos, and how to preprocess their features."""

    #: In the order of the paths.
    paths: list[str]
    labels: list[str]

    #: ``path``, ``label``, ``features`` (a vector).
    photos: DataFrame
    #: Principal components; None for raw features.
    components: int | None
    standardize: bool


def fit_and_test(
    spark: SparkSession,
    home: Folder,
    summary: dict[str, Any],
    training: Training,
    groups: Groups,
    progress: Callable[[str], None],
) -> tuple[list[Transformer], NDArray[np.uint8]]:
    """Fit and test on each hold-out, then fit to all photos.

    Parameters
    ----------
    home
        The results of a run.
    training
        What to train; gets the metrics, the notes, the numbers of photos and the seconds.

    Returns
    -------
    stages
        From a vector of features to the name of a class.
    prints
        The fingerprints of all photos, uint8 of shape (n, `WIDTH`).
    """
    context = spark.sparkContext
    classifier, seed = training.classifier, training.seed
    progress("reading the features")
    with timed(training.seconds, "read"), described(context, "read the features to train on"):
        data, training.left_out = _read(spark, home, summary, training.features)
    training.photos = len(data.paths)

    def test(split: holdouts.Holdout) -> Metrics:
        with described(context, f"{split.name} hold-out of {classifier}"):
            return _test(spark, data, split, classifier, seed)

    def fit() -> tuple[list[Transformer], NDArray[np.uint8]]:
        with described(context, f"train {classifier} on all photos"):
            pca = []
            if data.components is not None:
                pca = takes_vectors(PipelineModel.load((home / "pca_model").uri))
            return _fit(data, data.photos, classifier, seed, pca), _fingerprints(data.photos)

    try:
        return in_steps(training, data.paths, data.labels, groups, test, fit, progress)
    finally:
        data.photos.unpersist()


def _read(
    spark: SparkSession, home: Folder, summary: dict[str, Any], features: str
) -> tuple[_Data, int]:
    rows = read_features(spark, (home / "features").uri)
    # Spark sorts NaN after infinity. A single such number would spoil all weights.
    finite = expr("forall(features, x -> abs(x) < double('infinity'))")
    usable = col("error").isNull() & finite & (col("label") != "")
    total = rows.count()
    listed = rows.where(usable).select("path", "label").orderBy("path").toPandas()
    paths, labels = listed["path"].tolist(), listed["label"].tolist()
    check_classes(home.uri, dict(sorted(Counter(labels).items())), total)
    photos = len(paths)
    vectors = rows.where(usable).select(
        "path", "label", array_to_vector("features").alias("features")
    )
    # Vectors hold doubles.
    tasks = max(1, ceil(photos * summary["dim"] * 8 / _TASK_BYTES))
    if tasks < vectors.rdd.getNumPartitions():
        vectors = vectors.coalesce(tasks)
    components = summary["k"] if features == "pca" else None
    data = _Data(paths, labels, vectors.persist(), components, summary["standardize"])
    return data, total - photos


def _fingerprints(photos: DataFrame) -> NDArray[np.uint8]:
    """Compute the fingerprints of all photos on the executors."""

    def compute(frames: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        for frame in frames:
            if len(frame):
                prints = fingerprints(np.stack(frame["x"].to_numpy()))
                yield pd.DataFrame({"prints": [prints.tobytes()]})

    arrays = photos.select(vector_to_array("features", "float32").alias("x"))
    rows = arrays.mapInPandas(compute, "prints binary").collect()
    return np.frombuffer(b"".join(row.prints for row in rows), np.uint8).reshape(-1, WIDTH)


def _test(
    spark: SparkSession, data: _Data, split: holdouts.Holdout, classifier: str, seed: int
) -> Metrics:
    """Fit to the training part and predict the test part."""
    used = np.flatnonzero(split.parts != holdouts.LEFT_OUT).tolist()
    trained = Counter(data.labels[row] for row in used if split.parts[row] == holdouts.TRAIN)
    check_trained_on(split, trained, int((split.parts == holdouts.TEST).sum()))
    table = pd.DataFrame(
        {"path": [data.paths[row] for row in used], "part": split.parts[used].astype(int)}
    )
    parts = spark.createDataFrame(table, "path string, part int")
    rows = data.photos.join(parts, "path").select("path", "label", "features", "part")
    rows = rows.coalesce(data.photos.rdd.getNumPartitions()).persist()
    try:
        training = rows.where(col("part") == holdouts.TRAIN)
        table = rows.where(col("part") == holdouts.TEST)
        for stage in _fit(data, training, classifier, seed, None):
            table = stage.transform(table)
        predicted = table.select("path", "label", "predicted").persist()
        try:
            pairs = predicted.groupBy("label", "predicted").count().collect()
            wrong = predicted.where(col("label") != col("predicted")).orderBy("path")
            mistakes = [Mistake(*row) for row in wrong.take(LISTED_MISTAKES)]
        finally:
            predicted.unpersist()
    finally:
        rows.unpersist()
    counts = {(row.label, row.predicted): row["count"] for row in pairs}
    return measure(
        counts,
        trained,
        how=split.how,
        notes=split.notes,
        left_out=len(data.paths) - len(used),
        mistakes=mistakes,
    )


def _fit(
    data: _Data, photos: DataFrame, classifier: str, seed: int, pca: list[Transformer] | None
) -> list[Transformer]:
    """Fit the stages after the features, including the PCA unless it is given."""
    if pca is None:
        pca = []
        if data.components is not None:
            components = min(data.components, photos.count() - 1)
            fitted = fit_pca(
                photos.select("features"), components=components, standardize=data.standardize
            )
            pca = takes_vectors(fitted.model)
    table = photos.select("label", "features")
    for stage in pca:
        table = stage.transform(table)
    column = pca[-1].getOutputCol() if pca else "features"
    table = table.select("label", column).persist()
    try:
        classes = sorted(row.label for row in table.select("label").distinct().collect())
        return [*pca, *classifiers.fit(classifier, table, column, classes, seed)]
    finally:
        table.unpersist()
