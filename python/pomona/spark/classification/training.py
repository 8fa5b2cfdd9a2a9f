"""Train a classifier on the results of a run, test it on two hold-outs, and save it, on Spark.

`train` writes what `pomona.classification.training` documents. scikit-learn fits on the driver, if
it is there and the features fit into memory, because the jobs of Spark's own classifiers take
longer than their work: on two cores, a forest of 708 photos of 141 classes took a quarter of an
hour.
"""

from __future__ import annotations

import io
import os
import platform
from collections import Counter
from dataclasses import asdict
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, Callable, Sequence

import numpy as np
from pyspark.ml import PipelineModel

import pomona
from pomona import ModelError
from pomona._deprecated import renamed_arguments
from pomona._progress import timed
from pomona.classification.classifiers import require_scikit_learn
from pomona.classification.fingerprints import FILE, fingerprints
from pomona.classification.training import (
    COMPARED_NUMBERS,
    TAKEN_COLUMNS,
    Groups,
    check_arguments,
    check_classes,
    check_model,
    column_of,
    fit_and_test,
    labelled,
    no_model,
    versions,
)
from pomona.results import spark_ml
from pomona.results.metrics import DEFAULT_HOLDOUT, Training
from pomona.spark._hadoop import Folder
from pomona.spark._session import described
from pomona.spark._shipping import ship, shipped_path
from pomona.spark._stages import save_stages
from pomona.spark.classification import executors
from pomona.spark.classification.prediction import check_loadable
from pomona.spark.classification.svm import DRIVER_NUMBERS
from pomona.spark.pca import takes_vectors
from pomona.spark.results import SparkResults
from pomona.spark.transformer import ImageFeaturizer, decode_params

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pyspark.sql import SparkSession

    from pomona._typing import PathLike


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

    training = Training(
        classifier=classifier,
        features=features,
        dimensions=summary["k"] if features == "pca" else summary["dim"],
        photos=0,
        left_out=0,
        holdout=holdout_share,
        group=group,
        seed=seed,
        model=target.uri,
        image_model=summary["model"],
        versions={
            "pomona": pomona.__version__,
            "spark": spark.version,
            "python": platform.python_version(),
        },
    )
    on_driver = _fits_on_driver(training, summary)
    if on_driver:
        stages, prints = _fit_on_driver(ran, training, progress)
        training.versions.update(versions())
    else:
        stages, prints = executors.fit_and_test(
            spark, home, summary, training, _groups(ran, None), progress
        )

    progress("saving the classifier")
    metrics = own_folder / "metrics.json"
    metrics.delete()
    with timed(training.seconds, "save"), described(context, "save the classifier"):
        # New photos are decoded as those that the classifier was trained on.
        if on_driver:
            first = spark_ml.Photos(network, summary["model"]["sha256"], ran.decode)
            save_stages(target, [first, *stages])
        else:
            featurizer = ImageFeaturizer(
                model=network, handleInvalid="skip", **decode_params(ran.decode)
            )
            PipelineModel([featurizer, *stages]).write().overwrite().save(target.uri)
        file = io.BytesIO()
        np.save(file, prints, allow_pickle=False)
        (target / FILE).write_bytes(file.getvalue())
    training.finished = datetime.now(timezone.utc).isoformat(timespec="seconds")
    metrics.write_json(asdict(training))
    return training


def _fits_on_driver(training: Training, summary: dict[str, Any]) -> bool:
    """Whether scikit-learn is there, and memory for all features and for what it fits."""
    photos = summary["photos"]
    if photos * summary["dim"] > COMPARED_NUMBERS:
        return False
    if photos * training.dimensions > DRIVER_NUMBERS:
        return False
    try:
        require_scikit_learn(training.classifier)
    except ImportError:
        return False
    return True


def _fit_on_driver(
    ran: SparkResults, training: Training, progress: Callable[[str], None]
) -> tuple[list[Any], NDArray[np.uint8]]:
    """Fit and test with scikit-learn; return the stages, and the fingerprints of all photos."""
    summary = ran.summary
    progress("reading the features")
    with timed(training.seconds, "read"):
        total = sum(each.photos for each in ran.classes())
        photos = labelled(ran.vectors("features"))
    check_classes(ran.uri, dict(sorted(Counter(photos.labels).items())), total)
    training.photos = len(photos.paths)
    training.left_out = total - training.photos

    def saved_pca() -> list[spark_ml.Stage]:
        scaler, projection = takes_vectors(PipelineModel.load((ran.home / "pca_model").uri))
        return [
            spark_ml.Scaler(
                scaler.mean.toArray(), scaler.std.toArray(), scaler.getWithStd(), "features"
            ),
            spark_ml.Projection(projection.pc.toArray().T, projection.explainedVariance.toArray()),
        ]

    stages = fit_and_test(
        training,
        photos,
        _groups(ran, photos.matrix),
        saved_pca,
        summary["standardize"],
        progress,
    )
    return stages, fingerprints(photos.matrix)


def _check_replaceable(target: Folder) -> None:
    """Refuse to replace anything but a Spark ML model."""
    foreign = [name for name in target.sizes() if name not in spark_ml.CONTENT]
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


def _groups(ran: SparkResults, matrix: NDArray[np.float32] | None) -> Groups:
    """Return what the photos can be grouped by; `matrix` has their features, if they are here."""

    def read_file(name: str) -> str | None:
        file = Folder(ran.spark, name)
        return file.read_bytes().decode("utf-8-sig") if file.exists() else None

    def features(paths: Sequence[str]) -> NDArray[np.float32] | None:
        if matrix is not None:
            return matrix
        if len(paths) * ran.summary["dim"] > COMPARED_NUMBERS:
            return None
        row_of = {path: row for row, path in enumerate(paths)}
        found = np.zeros((len(paths), ran.summary["dim"]), np.float32)
        for block in ran.vectors("features"):
            rows = [row_of.get(path, -1) for path in block.paths]
            known = np.flatnonzero(np.array(rows) >= 0)
            found[np.array(rows)[known]] = block.matrix[known]
        return found

    return Groups(
        columns=[name for name in ran.columns() if name not in TAKEN_COLUMNS],
        read_column=lambda name: column_of(ran, name),
        read_file=read_file,
        features=features,
    )
