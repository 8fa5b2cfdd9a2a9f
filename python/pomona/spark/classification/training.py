"""Train a classifier on the results of a run, test it on two hold-outs, and save its pipeline.

`train` writes this to the folder of results::

    classifier/<logistic, svm or forest>/
        model/          a Spark PipelineModel from photos to labels, unless saved elsewhere
        metrics.json    a `Training`, written last: if it exists, the model is complete

The ``holdouts`` of ``metrics.json`` are ``random`` and ``blocked``, each a `Metrics`; ``blocked``
is null for photos with neither a rotation index in their names nor groups::

    {"classifier": "svm", "features": "pca", "dimensions": 47, "photos": 295, "left_out": 0,
     "holdouts": {"random": {"how": "25% of each class, drawn at random", "notes": [],
                             "train": 218, "test": 77, "left_out": 0,
                             "accuracy": 1.0, "macro_f1": 1.0,
                             "classes": [{"label": "apple_6", "precision": 1.0, "recall": 1.0,
                                          "f1": 1.0, "support": 4, "trained": 11}, …],
                             "confusion": [[4, 0, …], …],
                             "mistakes": [["file:/…/r0_11.jpg", "apple_6", "pear_1"], …]},
                  "blocked": {…}},
     "notes": [], "model": "file:/…/classifier/svm/model", …}
"""

from __future__ import annotations

import os
import platform
from dataclasses import asdict
from datetime import datetime, timezone
from math import ceil
from typing import TYPE_CHECKING, Any, NamedTuple

from pyspark.ml import PipelineModel
from pyspark.ml.functions import array_to_vector
from pyspark.sql.functions import col, count, expr, lit, when

import pomona
from pomona import ModelError
from pomona._deprecated import renamed_arguments
from pomona._errors import ERROR_COLUMNS, NOTE_COLUMNS
from pomona._progress import timed
from pomona.results.metrics import (
    CLASSIFIERS,
    DEFAULT_HOLDOUT,
    FEATURES,
    LISTED_MISTAKES,
    Metrics,
    Mistake,
    Training,
    measure,
)
from pomona.spark._hadoop import Folder
from pomona.spark._session import described
from pomona.spark._shipping import ship, shipped_path
from pomona.spark.classification import classifiers, holdouts
from pomona.spark.classification.prediction import check_loadable
from pomona.spark.classification.svm import require_scikit_learn
from pomona.spark.features import read_features
from pomona.spark.pca import fit_pca, takes_vectors
from pomona.spark.results import SparkResults
from pomona.spark.transformer import ImageFeaturizer, decode_params

if TYPE_CHECKING:
    from pyspark.ml import Transformer
    from pyspark.sql import DataFrame, SparkSession

    from pomona._typing import PathLike

#: Bytes of features per task. Below that, the overhead of a task is larger than its work.
_TASK_BYTES = 32 * 1024 * 1024

#: Classes listed in an error message.
_LISTED = 5


class _Data(NamedTuple):
    """The labelled photos, and how to preprocess their features."""

    #: ``path``, ``label``, ``features`` (a vector).
    photos: DataFrame
    #: Photos per label.
    sizes: dict[str, int]
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
        ``logistic``, ``svm`` or ``forest``; see `pomona.spark.classification.classifiers.fit`.
    features
        ``pca``: the run's principal components. ``raw``: the features of the image model.
    holdout_share
        The share of photos to test on, greater than 0 and less than 1.
    group
        Photos with the same key are tested together. A column of the features, or a regular
        expression for paths whose first group is the key. None: ranges of the rotation index in the
        file names.
    seed
        Seed of the hold-outs and of the forest. A seed holds out the same photos everywhere.
    model
        The image model that the run used, if it is not available under the name in
        ``summary.json``. The old name ``image_model`` is deprecated.
    output
        The folder to save the pipeline in; an existing Spark ML model is replaced. None:
        ``classifier/<classifier>/model`` in `results`.

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
    if classifier not in CLASSIFIERS:
        raise ValueError(f"no classifier {classifier!r}: choose one of {', '.join(CLASSIFIERS)}")
    if features not in FEATURES:
        raise ValueError(f"no features {features!r}: choose one of {', '.join(FEATURES)}")
    if not 0.0 < holdout_share < 1.0:
        raise ValueError(f"the hold-out is {holdout_share}: it must be between 0 and 1")
    if classifier == "svm":
        require_scikit_learn()
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
    with timed(seconds, "read"), described(context, "read the features to train on"):
        data, left_out = _read(spark, home, summary, features, group)
    training = Training(
        classifier=classifier,
        features=features,
        dimensions=data.components or summary["dim"],
        photos=sum(data.sizes.values()),
        left_out=left_out,
        holdout=holdout_share,
        group=group,
        seed=seed,
        model=target.uri,
        image_model=summary["model"],
    )
    try:
        with timed(seconds, "split"), described(context, "hold out photos"):
            keys = data.photos.drop("features")
            splits: dict[str, holdouts.Holdout | None] = {
                "random": holdouts.stratified(keys, holdout_share, seed),
                "blocked": holdouts.blocked(keys, holdout_share, seed)
                if group is None
                else holdouts.grouped(keys, holdout_share, seed, group),
            }
        for name, split in splits.items():
            training.holdouts[name] = None
            if split is None:
                training.notes.append(
                    "no blocked hold-out: no file name has a rotation index, such as r0_115.jpg. "
                    "Near-duplicates may make the random hold-out look too good: group them with "
                    "--group"
                )
                continue
            with timed(seconds, name), described(context, f"{name} hold-out of {classifier}"):
                training.holdouts[name] = _test(data, split, classifier, seed)
        with timed(seconds, "train"), described(context, f"train {classifier} on all photos"):
            pca = []
            if data.components is not None:
                pca = takes_vectors(PipelineModel.load((home / "pca_model").uri))
            stages = _fit(data, data.photos, classifier, seed, pca)
    finally:
        data.photos.unpersist()

    metrics = own_folder / "metrics.json"
    metrics.delete()
    with timed(seconds, "save"), described(context, "save the classifier"):
        # New photos are decoded as those that the classifier was trained on.
        featurizer = ImageFeaturizer(
            model=network, handleInvalid="skip", **decode_params(ran.decode)
        )
        PipelineModel([featurizer, *stages]).write().overwrite().save(target.uri)
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
    foreign = [name for name in target.sizes() if name not in ("metadata", "stages")]
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
        hint = f"The features were computed with {name}: give its file with --model (model=)"
        if given is not None:
            hint = "The model is the image model; output is where the classifier is saved"
        raise ModelError(f"{str(error).rstrip('.')}. {hint}") from error
    if shipped.sha256 != sha256:
        raise ModelError(
            f"the features were computed with {name} (sha256 {sha256[:16]}…), and {given or name} "
            f"is another model ({shipped.sha256[:16]}…): give the right file with --model (model=)"
        )
    return str(shipped_path(spark.sparkContext, shipped))


def _read(
    spark: SparkSession, home: Folder, summary: dict[str, Any], features: str, group: str | None
) -> tuple[_Data, int]:
    rows = read_features(spark, (home / "features").uri)
    # Spark sorts NaN after infinity. A single such number would spoil all weights.
    finite = expr("forall(features, x -> abs(x) < double('infinity'))")
    usable = col("error").isNull() & finite & (col("label") != "")
    counts = rows.groupBy("label").agg(
        count(lit(1)).alias("total"), count(when(usable, 1)).alias("usable")
    )
    counted = counts.collect()
    total = sum(row.total for row in counted)
    sizes = {
        row.label: row.usable
        for row in sorted(counted, key=lambda row: row.label or "")
        if row.usable
    }
    photos = sum(sizes.values())
    _check_classes(home, sizes, total)
    # Groups may be any other column; an error lists them all.
    taken = ("path", "label", "features", *ERROR_COLUMNS, *NOTE_COLUMNS)
    extra = [] if group is None else [name for name in rows.columns if name not in taken]
    vectors = rows.where(usable).select(
        "path", "label", *extra, array_to_vector("features").alias("features")
    )
    # Vectors hold doubles.
    tasks = max(1, ceil(photos * summary["dim"] * 8 / _TASK_BYTES))
    if tasks < vectors.rdd.getNumPartitions():
        vectors = vectors.coalesce(tasks)
    components = summary["k"] if features == "pca" else None
    return _Data(vectors.persist(), sizes, components, summary["standardize"]), total - photos


def _check_classes(home: Folder, sizes: dict[str, int], total: int) -> None:
    if not sizes:
        raise ValueError(
            f"none of the {total:,} photos of {home.uri} has both features and a label, which is "
            "the name of its folder"
        )
    if len(sizes) == 1:
        raise ValueError(
            f"all photos are of one class, {next(iter(sizes))}: there is nothing to classify. The "
            "label of a photo is the name of its folder"
        )
    single = [label for label, photos in sizes.items() if photos == 1]
    if single:
        raise ValueError(
            f"{_list(single)}: only one readable photo, but training and testing need one each; "
            "add photos, or repeat the run without these classes"
        )


def _list(names: list[str]) -> str:
    more = len(names) - _LISTED
    return ", ".join(names[:_LISTED]) + (f" and {more} more" if more > 0 else "")


def _test(data: _Data, split: holdouts.Holdout, classifier: str, seed: int) -> Metrics:
    """Fit to the training part and predict the test part."""
    parts = split.parts.where(col("part").isNotNull()).select("path", "part")
    rows = data.photos.join(parts, "path").select("path", "label", "features", "part")
    rows = rows.coalesce(data.photos.rdd.getNumPartitions()).persist()
    try:
        training = rows.where(col("part") == holdouts.TRAIN)
        trained = {row.label: row["count"] for row in training.groupBy("label").count().collect()}
        if len(trained) < 2:
            classes = _list(list(trained)) or "nothing"
            raise ValueError(
                f"the {split.name} hold-out ({split.how}) leaves {classes} to train on: hold out "
                "less, or choose other groups"
            )
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
    if not counts:
        raise ValueError(
            f"the {split.name} hold-out ({split.how}) has no photos to test on: hold out more"
        )
    used = sum(counts.values()) + sum(trained.values())
    return measure(
        counts,
        trained,
        how=split.how,
        notes=split.notes,
        left_out=sum(data.sizes.values()) - used,
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
