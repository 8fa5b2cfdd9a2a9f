"""Train a classifier on the results of a run, test it on two hold-outs, and save it, on Spark.

`train` writes what `pomona.classification.training` documents.
"""

from __future__ import annotations

import io
import os
import platform
from collections import Counter
from dataclasses import asdict
from datetime import datetime, timezone
from math import ceil
from typing import TYPE_CHECKING, Any, Callable, Iterator, NamedTuple, Sequence

import numpy as np
import pandas as pd
from pyspark.ml import PipelineModel
from pyspark.ml.functions import array_to_vector, vector_to_array
from pyspark.sql.functions import col, expr

import pomona
from pomona import ModelError
from pomona._deprecated import renamed_arguments
from pomona._progress import timed
from pomona.classification import holdouts
from pomona.classification.classifiers import require_scikit_learn
from pomona.classification.fingerprints import FILE, WIDTH, fingerprints
from pomona.classification.training import (
    COMPARED_NUMBERS,
    TAKEN_COLUMNS,
    Groups,
    check_arguments,
    check_classes,
    check_model,
    check_trained_on,
    column_of,
    hold_out,
    no_model,
    step_of,
)
from pomona.results.metrics import (
    DEFAULT_HOLDOUT,
    LISTED_MISTAKES,
    Metrics,
    Mistake,
    Training,
    measure,
)
from pomona.results.spark_ml import CONTENT
from pomona.spark._hadoop import Folder
from pomona.spark._session import described
from pomona.spark._shipping import ship, shipped_path
from pomona.spark.classification import classifiers
from pomona.spark.classification.prediction import check_loadable
from pomona.spark.features import read_features
from pomona.spark.pca import fit_pca, takes_vectors
from pomona.spark.results import SparkResults
from pomona.spark.transformer import ImageFeaturizer, decode_params

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pyspark.ml import Transformer
    from pyspark.sql import DataFrame, SparkSession

    from pomona._typing import PathLike

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


@renamed_arguments(image_model="model")
def train(
    spark: SparkSession,
    results: PathLike,
    *,
    classifier: str,
    features: str = "pca",
    holdout_share: float = DEFAULT_HOLDOUT,
    group: str | None = None,
    seed: int = 0,
    model: PathLike | None = None,
    output: PathLike | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> Training:
    """Train a classifier on a run's labelled photos, test it on two hold-outs, and save it.

    For each hold-out, the PCA and the classifier are fitted to the training part only. The saved
    pipeline is then fitted to all photos. It decodes photos with the options of the run.

    Parameters
    ----------
    spark
        The session to run on.
    results
        The folder that `pomona.pipeline.run` wrote.
    classifier
        ``logistic``, ``svm`` or ``forest``; see `pomona.classification.classifiers.fit`.
    features
        ``pca``: the run's principal components. ``raw``: the features of the image model.
    holdout_share
        The share of photos to test on, greater than 0 and less than 1.
    group
        As for `pomona.classification.train`.
    seed
        Seed of the hold-outs and of the forest. A seed holds out the same photos everywhere.
    model
        The image model that the run used, if it is not available under the name in
        ``summary.json``. The old name ``image_model`` is deprecated.
    output
        The folder to save the pipeline in; an existing Spark ML model is replaced. None:
        ``classifier/<classifier>/model`` in `results`.
    progress
        Called with a description of each step before it starts.

    Returns
    -------
    Training
        The content of ``metrics.json``.

    Raises
    ------
    FileNotFoundError
        `results` holds no finished run.
    FileExistsError
        `output` contains something else.
    ImportError
        An SVM needs scikit-learn on the driver.
    ModelError
        The image model is not available, or is not the one that computed the features.
    ValueError
        An argument is invalid, or there is nothing to learn: no labels, only one class, a class
        with one photo, or groups that leave nothing to train or test on.

    Examples
    --------
    >>> training = train(spark, "s3://fruits/out", classifier="svm")  # doctest: +SKIP
    >>> training.holdouts["random"].accuracy  # doctest: +SKIP
    >>> from pyspark.ml import PipelineModel  # doctest: +SKIP
    >>> labelled = PipelineModel.load(training.model).transform(photos)  # doctest: +SKIP
    >>> labelled.select("path", "predicted")  # doctest: +SKIP
    """
    check_arguments(classifier, features, holdout_share)
    if classifier == "svm":
        require_scikit_learn("svm", "on the driver, or choose another classifier")
    context = spark.sparkContext
    home = Folder(spark, os.fspath(results))
    ran = SparkResults(spark, home.uri)
    summary = ran.summary
    own_folder = home / "classifier" / classifier
    target = own_folder / "model" if output is None else Folder(spark, os.fspath(output))
    for folder in (target, home / "pca_model") if features == "pca" else (target,):
        check_loadable(folder)
    _check_replaceable(target)
    network = _network(spark, summary, model)

    seconds: dict[str, float] = {}
    progress("reading the features")
    with timed(seconds, "read"), described(context, "read the features to train on"):
        data, left_out = _read(spark, home, summary, features)
    training = Training(
        classifier=classifier,
        features=features,
        dimensions=data.components or summary["dim"],
        photos=len(data.paths),
        left_out=left_out,
        holdout=holdout_share,
        group=group,
        seed=seed,
        model=target.uri,
        image_model=summary["model"],
    )
    try:
        progress("choosing the hold-outs")
        with timed(seconds, "split"), described(context, "hold out photos"):
            splits, training.notes = hold_out(
                data.paths, data.labels, holdout_share, seed, group, _groups(spark, ran)
            )
        steps = [*(name for name, split in splits.items() if split), "all photos"]
        for name, split in splits.items():
            training.holdouts[name] = None
            if split is None:
                continue
            progress(step_of(steps, name, classifier))
            with timed(seconds, name), described(context, f"{name} hold-out of {classifier}"):
                training.holdouts[name] = _test(spark, data, split, classifier, seed)
        progress(step_of(steps, "all photos", classifier))
        with timed(seconds, "train"), described(context, f"train {classifier} on all photos"):
            pca = []
            if data.components is not None:
                pca = takes_vectors(PipelineModel.load((home / "pca_model").uri))
            stages = _fit(data, data.photos, classifier, seed, pca)
            prints = _fingerprints(data.photos)
    finally:
        data.photos.unpersist()

    progress("saving the classifier")
    metrics = own_folder / "metrics.json"
    metrics.delete()
    with timed(seconds, "save"), described(context, "save the classifier"):
        # New photos are decoded as those that the classifier was trained on.
        featurizer = ImageFeaturizer(
            model=network, handleInvalid="skip", **decode_params(ran.decode)
        )
        PipelineModel([featurizer, *stages]).write().overwrite().save(target.uri)
        file = io.BytesIO()
        np.save(file, prints, allow_pickle=False)
        (target / FILE).write_bytes(file.getvalue())
    training.seconds = seconds
    training.versions = {
        "pomona": pomona.__version__,
        "spark": spark.version,
        "python": platform.python_version(),
    }
    training.finished = datetime.now(timezone.utc).isoformat(timespec="seconds")
    metrics.write_json(asdict(training))
    return training


def _check_replaceable(target: Folder) -> None:
    """Refuse to replace anything but a Spark ML model."""
    foreign = [name for name in target.sizes() if name not in CONTENT]
    if foreign:
        raise FileExistsError(
            f"{target.uri} contains {foreign[0]}, which is not part of a Spark ML model: choose "
            "another output"
        )


def _network(spark: SparkSession, summary: dict[str, Any], given: PathLike | None) -> str:
    """Return the driver's path of the image model that a run used."""
    name, sha256 = summary["model"]["name"], summary["model"]["sha256"]
    try:
        shipped = ship(spark.sparkContext, name if given is None else given)
    except ModelError as error:
        raise no_model(name, given, error) from error
    check_model(name, sha256, given, shipped.sha256)
    return str(shipped_path(spark.sparkContext, shipped))


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


def _groups(spark: SparkSession, ran: SparkResults) -> Groups:
    def read_file(name: str) -> str | None:
        file = Folder(spark, name)
        return file.read_bytes().decode("utf-8-sig") if file.exists() else None

    def features(paths: Sequence[str]) -> NDArray[np.float32] | None:
        if len(paths) * ran.summary["dim"] > COMPARED_NUMBERS:
            return None
        row_of = {path: row for row, path in enumerate(paths)}
        matrix = np.zeros((len(paths), ran.summary["dim"]), np.float32)
        for block in ran.vectors("features"):
            rows = [row_of.get(path, -1) for path in block.paths]
            known = np.flatnonzero(np.array(rows) >= 0)
            matrix[np.array(rows)[known]] = block.matrix[known]
        return matrix

    return Groups(
        columns=[name for name in ran.columns() if name not in TAKEN_COLUMNS],
        read_column=lambda name: column_of(ran, name),
        read_file=read_file,
        features=features,
    )


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
