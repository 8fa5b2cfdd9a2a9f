"""A classifier on what a run has written, tested twice, and saved with all that it needs.

What `train` leaves beside the output of `pomona.pipeline.run`::

    classifier/<logistic, svm or forest>/
        model/          a Spark PipelineModel: photos in, labels out; elsewhere if so asked
        metrics.json    `Training`; written last, so where it is, the model is finished

``metrics.json`` has the fields of `Training`. Its ``holdouts`` are ``random`` and ``blocked`` (null
where photos have neither the index of a rotation in their names nor groups), each with the fields
of `pomona.results.metrics.Metrics`::

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
from typing import TYPE_CHECKING, Any, Iterator, NamedTuple, Union

from pyspark.ml import PipelineModel
from pyspark.ml.functions import array_to_vector
from pyspark.sql.functions import col, count, expr, lit, when

import pomona
from pomona import ModelError
from pomona._errors import ERROR_COLUMNS
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
from pomona.spark._session import described, timed
from pomona.spark._shipping import ship, shipped_path
from pomona.spark.classification import classifiers, holdouts
from pomona.spark.classification.prediction import check_loadable
from pomona.spark.classification.svm import require_scikit_learn
from pomona.spark.features import read_features
from pomona.spark.pca import fit_pca
from pomona.spark.transformer import ImageFeaturizer

if TYPE_CHECKING:
    from pyspark.ml import Transformer
    from pyspark.sql import DataFrame, SparkSession

    PathLike = Union[str, "os.PathLike[str]"]

#: Bytes of features in a task: for less than that, a task costs more than it saves.
_TASK_BYTES = 32 * 1024 * 1024

#: Classes that an error or a note names.
_NAMED = 5


class _Set(NamedTuple):
    """The photos to learn from, and how to make of them what the classifier sees."""

    #: ``path``, ``label``, ``features`` (a vector).
    photos: DataFrame
    #: Photos of each label.
    sizes: dict[str, int]
    #: Components of the PCA; None for raw features.
    k: int | None
    standardize: bool


def train(
    spark: SparkSession,
    output: PathLike,
    *,
    classifier: str,
    features: str = "pca",
    holdout_share: float = DEFAULT_HOLDOUT,
    group: str | None = None,
    seed: int = 0,
    model: PathLike | None = None,
    image_model: PathLike | None = None,
) -> Training:
    """Train a classifier on a run's labelled photos, test it on two hold-outs, and save it.

    For each hold-out, the PCA and the classifier are fitted to the training part alone. What is
    saved is then fitted to all photos.

    Parameters
    ----------
    spark
        The session to run on.
    output
        What `pomona.pipeline.run` wrote.
    classifier
        ``logistic``, ``svm`` or ``forest``; see `pomona.spark.classification.classifiers.fit`.
    features
        ``pca``: the run's principal components. ``raw``: the network's features.
    holdout_share
        The share of photos to test with: above 0, below 1.
    group
        A column of the features, or a regular expression for paths whose first group is the key:
        photos with the same key are tested together. None: ranges of the rotation index in the
        file names.
    seed
        Of the hold-outs and of the forest. The same seed holds out the same photos everywhere.
    model
        The folder to save the pipeline in; a Spark ML model that is there is replaced. None:
        ``classifier/<classifier>/model`` in `output`.
    image_model
        The network that the run used, if it is not here under the name that the run knew it by.

    Returns
    -------
    Training
        What ``metrics.json`` says.

    Raises
    ------
    FileNotFoundError
        No run has finished there.
    FileExistsError
        `model` is a folder of something else.
    ImportError
        An SVM without scikit-learn on the driver.
    ModelError
        The network is not here, or not the one that made the features.
    ValueError
        An argument makes no sense, or the photos cannot be learned from: no labels, one class only,
        a class of one photo, groups that leave nothing to train on or to test.

    Examples
    --------
    >>> done = train(spark, "s3://fruits/out", classifier="svm")  # doctest: +SKIP
    >>> done.holdouts["random"].accuracy, done.holdouts["blocked"].accuracy  # doctest: +SKIP
    >>> from pyspark.ml import PipelineModel  # doctest: +SKIP
    >>> labelled = PipelineModel.load(done.model).transform(photos)  # doctest: +SKIP
    >>> labelled.select("path", "predicted")  # doctest: +SKIP
    """
    if classifier not in CLASSIFIERS:
        raise ValueError(
            f"there is no classifier {classifier!r}: choose one of {', '.join(CLASSIFIERS)}"
        )
    if features not in FEATURES:
        raise ValueError(f"there are no features {features!r}: choose one of {', '.join(FEATURES)}")
    if not 0.0 < holdout_share < 1.0:
        raise ValueError(f"the hold-out is {holdout_share}, it must be above 0 and below 1")
    if classifier == "svm":
        require_scikit_learn()
    context = spark.sparkContext
    home = Folder(spark, os.fspath(output))
    summary = _summary(home)
    target = home / "classifier" / classifier
    place = target / "model" if model is None else Folder(spark, os.fspath(model))
    for folder in (place, home / "pca_model") if features == "pca" else (place,):
        check_loadable(folder)
    _check_replaceable(place)
    network = _network(spark, summary, image_model)

    seconds: dict[str, float] = {}
    with timed(seconds, "read"), described(context, "read the features to train on"):
        found, left_out = _read(spark, home, summary, features, group)
    done = Training(
        classifier=classifier,
        features=features,
        dimensions=found.k or summary["dim"],
        photos=sum(found.sizes.values()),
        left_out=left_out,
        holdout=holdout_share,
        group=group,
        seed=seed,
        model=place.uri,
        image_model=summary["model"],
    )
    try:
        projection = _fitted_pca(home, found)
        with timed(seconds, "split"), described(context, "hold out photos"):
            splits = list(_splits(found.photos, holdout_share, group, seed))
        for name, split in splits:
            if split is None:
                done.holdouts[name] = None
                done.notes.append(
                    "no blocked hold-out: no file name has the index of a rotation, as r0_115.jpg "
                    "has. Photos that are near-twins may make the random one look too good: say "
                    "with --group which belong together"
                )
                continue
            with timed(seconds, name), described(context, f"{name} hold-out of {classifier}"):
                done.holdouts[name] = _test(found, split, classifier, seed)
        with timed(seconds, "train"), described(context, f"train {classifier} on all photos"):
            stages = _fit(found, found.photos, classifier, seed, projection)
    finally:
        found.photos.unpersist()

    metrics = target / "metrics.json"
    metrics.delete()
    with timed(seconds, "save"), described(context, "save the classifier"):
        featurizer = ImageFeaturizer(model=network, handleInvalid="skip")
        PipelineModel([featurizer, *stages]).write().overwrite().save(place.uri)
    done.seconds = seconds
    done.versions = {
        "pomona": pomona.__version__,
        "spark": spark.version,
        "python": platform.python_version(),
    }
    done.finished = datetime.now(timezone.utc).isoformat(timespec="seconds")
    metrics.write_json(asdict(done))
    return done


def _summary(home: Folder) -> dict[str, Any]:
    present = home.sizes()
    summary = (home / "summary.json").read_json() if "summary.json" in present else None
    if summary is None:
        raise FileNotFoundError(
            f"{home.uri} holds no finished run: make one with pomona run --output {home.uri}"
        )
    return dict(summary)


def _check_replaceable(place: Folder) -> None:
    """Refuse to replace what Spark ML has not written."""
    foreign = [name for name in place.sizes() if name not in ("metadata", "stages")]
    if foreign:
        raise FileExistsError(
            f"{place.uri} holds {foreign[0]}, which is no part of a Spark ML model: choose another "
            "folder for the model"
        )


def _network(spark: SparkSession, summary: dict[str, Any], given: PathLike | None) -> str:
    """Find the network of a run on the driver, and make sure that it is the same."""
    name, sha256 = summary["model"]["name"], summary["model"]["sha256"]
    try:
        shipped = ship(spark.sparkContext, name if given is None else given)
    except ModelError as error:
        if given is not None:
            raise
        raise ModelError(
            f"{error}. The features were made with it: give its file with --model"
        ) from error
    if shipped.sha256 != sha256:
        raise ModelError(
            f"the features were made with {name} (sha256 {sha256[:16]}…), and {given or name} is "
            f"another model ({shipped.sha256[:16]}…): give the file with --model"
        )
    return str(shipped_path(spark.sparkContext, shipped))


def _read(
    spark: SparkSession, home: Folder, summary: dict[str, Any], features: str, group: str | None
) -> tuple[_Set, int]:
    rows = read_features(spark, (home / "features").uri)
    # Spark orders NaN behind infinity. One such number would spoil every weight.
    finite = expr("forall(features, x -> abs(x) < double('infinity'))")
    usable = col("error").isNull() & finite & (col("label") != "")
    counts = rows.groupBy("label").agg(
        count(lit(1)).alias("there"), count(when(usable, 1)).alias("usable")
    )
    counted = counts.collect()
    there = sum(row.there for row in counted)
    sizes = {
        row.label: row.usable
        for row in sorted(counted, key=lambda row: row.label or "")
        if row.usable
    }
    photos = sum(sizes.values())
    _check_classes(home, sizes, there)
    # A hold-out by group may ask for any column, and names them all where there is no such.
    taken = ("path", "label", "features", *ERROR_COLUMNS)
    extra = [] if group is None else [name for name in rows.columns if name not in taken]
    vectors = rows.where(usable).select(
        "path", "label", *extra, array_to_vector("features").alias("features")
    )
    # A double for each feature of each photo.
    tasks = max(1, ceil(photos * summary["dim"] * 8 / _TASK_BYTES))
    if tasks < vectors.rdd.getNumPartitions():
        vectors = vectors.coalesce(tasks)
    k = summary["k"] if features == "pca" else None
    return _Set(vectors.persist(), sizes, k, summary["standardize"]), there - photos


def _check_classes(home: Folder, sizes: dict[str, int], there: int) -> None:
    if not sizes:
        raise ValueError(
            f"none of the {there:,} photos of {home.uri} has both features and a label: a photo's "
            "label is the name of its folder"
        )
    if len(sizes) == 1:
        raise ValueError(
            f"all photos are of one class, {next(iter(sizes))}: there is nothing to tell apart. A "
            "photo's label is the name of its folder"
        )
    single = [label for label, photos in sizes.items() if photos == 1]
    if single:
        raise ValueError(
            f"{_list(single)}: one readable photo only, which cannot be both learned from and "
            "tested with; add photos of it, or run without it"
        )


def _list(names: list[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def _splits(
    photos: DataFrame, share: float, group: str | None, seed: int
) -> Iterator[tuple[str, holdouts.Holdout | None]]:
    keys = photos.drop("features")
    yield "random", holdouts.stratified(keys, share, seed)
    if group is None:
        yield "blocked", holdouts.blocked(keys, share, seed)
    else:
        yield "blocked", holdouts.grouped(keys, share, seed, group)


def _test(found: _Set, split: holdouts.Holdout, classifier: str, seed: int) -> Metrics:
    """Fit to the one part, predict the other."""
    parts = split.parts.where(col("part").isNotNull()).select("path", "part")
    rows = found.photos.join(parts, "path").select("path", "label", "features", "part")
    rows = rows.coalesce(found.photos.rdd.getNumPartitions()).persist()
    try:
        training = rows.where(col("part") == holdouts.TRAIN)
        trained = {row.label: row["count"] for row in training.groupBy("label").count().collect()}
        if len(trained) < 2:
            what = _list(list(trained)) or "nothing"
            raise ValueError(
                f"the {split.name} hold-out ({split.how}) leaves {what} to train on: hold out "
                "less, or group otherwise"
            )
        table = rows.where(col("part") == holdouts.TEST)
        for stage in _fit(found, training, classifier, seed, None):
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
            f"the {split.name} hold-out ({split.how}) holds out no photo: hold out more"
        )
    used = sum(counts.values()) + sum(trained.values())
    return measure(
        counts,
        trained,
        how=split.how,
        notes=split.notes,
        left_out=sum(found.sizes.values()) - used,
        mistakes=mistakes,
    )


def _fitted_pca(home: Folder, found: _Set) -> list[Transformer]:
    """Load the PCA of the run."""
    return [] if found.k is None else PipelineModel.load((home / "pca_model").uri).stages


def _fit(
    found: _Set,
    photos: DataFrame,
    classifier: str,
    seed: int,
    projection: list[Transformer] | None,
) -> list[Transformer]:
    """Fit what follows the features; the PCA as well, if there is none."""
    if projection is None:
        projection = []
        if found.k is not None:
            k = min(found.k, photos.count() - 1)
            pca = fit_pca(photos.select("features"), components=k, standardize=found.standardize)
            projection = pca.model.stages
    table = photos.select("label", "features")
    for stage in projection:
        table = stage.transform(table)
    column = projection[-1].getOutputCol() if projection else "features"
    table = table.select("label", column).persist()
    try:
        classes = sorted(row.label for row in table.select("label").distinct().collect())
        return [*projection, *classifiers.fit(classifier, table, column, classes, seed)]
    finally:
        table.unpersist()
