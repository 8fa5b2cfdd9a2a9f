"""Labels for new photos, from a pipeline that `pomona.spark.train` saved.

What `predict` writes is a folder of Parquet files with a row for each photo:

``path``, ``label``
    As `pomona.spark.read_images` has them: ``label`` is the folder's name, whatever that says.
``predicted``
    The class that the photo is taken for; null if it cannot be read.
``probability``, ``probabilities``
    That class's probability as the model sees it, and each class's, a map. Those of a forest are
    shares of its trees' votes. **Not of an SVM**, which knows no probabilities:
``scores``
    of an SVM in their place: each class's signed distance from its boundary, a map. Above 0 the
    photo looks like the class, below it does not; the highest is predicted. They are no
    probabilities, and are not made to look like some.
``error``, ``error_kind``, ``error_version``
    Why a photo could not be read, as `pomona.spark.features` has it; null where it could.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING, Sequence, Union

from py4j.protocol import Py4JJavaError
from pyspark.ml import PipelineModel
from pyspark.ml.feature import IndexToString, StandardScalerModel
from pyspark.ml.functions import array_to_vector, vector_to_array
from pyspark.sql.functions import (
    array,
    array_max,
    array_repeat,
    coalesce,
    col,
    count,
    lit,
    map_from_arrays,
    when,
)
from pyspark.sql.utils import IllegalArgumentException

from pomona._errors import ERROR_COLUMNS
from pomona.spark._hadoop import Folder
from pomona.spark._s3 import storage_of, why_not_by_paths
from pomona.spark._session import described, session_of
from pomona.spark._shipping import ship
from pomona.spark.classification.classifiers import PREDICTED, PROBABILITY, SCORES
from pomona.spark.images import read_images
from pomona.spark.transformer import ImageFeaturizer
from pomona.spark.udf import featurized

if TYPE_CHECKING:
    from pyspark.ml import Transformer
    from pyspark.sql import Column, DataFrame, SparkSession

    PathLike = Union[str, "os.PathLike[str]"]

#: Photos that cannot be read which the result names; the rows have them all.
LISTED_ERRORS = 5


@dataclass(frozen=True)
class Predictions:
    """What `predict` wrote.

    Attributes
    ----------
    uri
        The folder.
    photos, errors
        Rows, and those of photos that cannot be read.
    first_errors
        The first of them: (path, reason).
    predicted
        Photos of each predicted class.
    named, agreeing
        Readable photos whose folder is named as one of the model's classes, and those of them that
        are taken for that class.
    probabilities
        Whether there are some; an SVM gives scores.
    seconds
        Wall-clock, for all of it.
    """

    uri: str
    photos: int
    errors: int
    first_errors: list[tuple[str, str]]
    predicted: dict[str, int]
    named: int
    agreeing: int
    probabilities: bool
    seconds: float


def predict(
    spark: SparkSession,
    model: PathLike,
    images: PathLike | Sequence[PathLike],
    output: PathLike,
    *,
    overwrite: bool = False,
) -> Predictions:
    """Label photos, in one pass over them, and write the labels as Parquet.

    Parameters
    ----------
    spark
        The session to run on.
    model
        The folder of a pipeline that `pomona.spark.train` saved.
    images
        Folders of photos, as for `pomona.spark.read_images`.
    output
        The folder to write; the module's docstring tells its columns.
    overwrite
        Replace labels that are there. They stay until the new ones are whole: a job that fails or
        dies leaves them as they were. Only one that dies in the moment between the two leaves both,
        and `overwrite` then removes both.

    Raises
    ------
    FileNotFoundError
        There is no model, or there are no photos.
    FileExistsError
        There is an output already.
    ValueError
        The model is a Spark ML model of another kind, or the output is in the folder of photos.

    Examples
    --------
    >>> done = predict(  # doctest: +SKIP
    ...     spark, "s3://fruits/out/classifier/svm/model", "s3://fruits/new", "s3://fruits/labels"
    ... )
    >>> done.photos, done.errors, done.predicted  # doctest: +SKIP
    """
    started = monotonic()
    context = spark.sparkContext
    home = Folder(spark, os.fspath(output))
    folders = [images] if isinstance(images, (str, os.PathLike)) else list(images)
    sources = [Folder(spark, os.fspath(folder)) for folder in folders]
    for source in sources:
        if source.contains(home) or home.contains(source):
            raise ValueError(
                f"the output {home.uri} and the folder of photos {source.uri} are one in the "
                "other: choose another output"
            )
    present = home.sizes()
    if present and not overwrite:
        raise FileExistsError(f"{home.uri} exists already: overwrite it, or choose another one")
    foreign = [name for name in present if not name.startswith(("part-", "_", "."))]
    if foreign:
        raise ValueError(
            f"{home.uri} holds {foreign[0]}, which is no part of predicted labels: choose another "
            "output"
        )
    with described(context, "load the classifier"):
        pipeline = load(spark, model)
    with described(context, "list the photos"):
        uris = [source.uri for source in sources]
        only_spark = why_not_by_paths(spark, uris, storage_of(spark))
        photos = read_images(spark, images, content=only_spark is not None)
    labelled = label_photos(pipeline, photos)
    with described(context, "label the photos and write"):
        labelled.write.mode("append").parquet(home.uri)
    for name in present:
        if name.startswith("part-"):
            (home / name).delete()
    with described(context, "count the labels"):
        return _count(spark, home, labelled, pipeline.stages[-1].getLabels(), started)


def load(spark: SparkSession, model: PathLike) -> PipelineModel:
    """Load a pipeline that `pomona.spark.train` saved.

    Raises
    ------
    FileNotFoundError
        There is no Spark ML model.
    ValueError
        It is none of `pomona train`'s.
    """
    folder = Folder(spark, os.fspath(model))
    check_loadable(folder)
    if "metadata" not in folder.sizes():
        raise FileNotFoundError(
            f"{folder.uri} holds no model: name the folder that pomona train saved one in"
        )
    try:
        pipeline = PipelineModel.load(folder.uri)
        stages = pipeline.stages
    except (Py4JJavaError, IllegalArgumentException, AttributeError) as error:
        raise ValueError(f"{folder.uri} is no whole pipeline of pomona train: {error}") from error
    if not isinstance(stages[0], ImageFeaturizer) or not isinstance(stages[-1], IndexToString):
        names = ", ".join(type(stage).__name__ for stage in stages)
        raise ValueError(f"{folder.uri} is a pipeline of {names}, and none of pomona train")
    return pipeline


def check_loadable(folder: Folder) -> None:
    """Refuse a place from which Spark ML loads no model: to it, the address is a glob.

    Raises
    ------
    ValueError
        It has such a character.
    """
    if folder.pattern != folder.uri:
        raise ValueError(
            f"{folder.uri} has a character of a glob in its name (one of {{ }} [ ] * ? \\), and "
            "Spark ML loads no model from there: rename the folder"
        )


def label_photos(pipeline: PipelineModel, photos: DataFrame) -> DataFrame:
    """Label photos without losing those that cannot be read.

    Parameters
    ----------
    pipeline
        What `load` returned.
    photos
        As `pomona.spark.read_images` reads them, or lists them.

    Returns
    -------
    DataFrame
        The columns that the module's docstring tells.
    """
    featurizer, *others, names = pipeline.stages
    context = session_of(photos).sparkContext
    result = featurized(photos, ship(context, featurizer.getModel()))
    table = photos.select("path", "label", result.alias("result"))
    # Spark's stages fail on null, and to part readable photos from others would featurize each
    # twice. So those that cannot be read have zeros for a moment.
    zeros = array_repeat(lit(0.0).cast("float"), _dimensions(others[0]))
    features = array_to_vector(coalesce(col("result.features"), zeros))
    errors = [f"result.{name}" for name in ERROR_COLUMNS]
    table = table.select("path", "label", features.alias(featurizer.getOutputCol()), *errors)
    for stage in (*others, names):
        table = stage.transform(table)

    labels = names.getLabels()
    readable = col("error").isNull()
    predicted = when(readable, col(PREDICTED)).alias(PREDICTED)
    if PROBABILITY in table.columns:
        numbers = vector_to_array(PROBABILITY)
        columns = [
            when(readable, array_max(numbers)).alias("probability"),
            when(readable, _map(labels, numbers)).alias("probabilities"),
        ]
    else:
        columns = [when(readable, _map(labels, vector_to_array(SCORES))).alias("scores")]
    return table.select("path", "label", predicted, *columns, *ERROR_COLUMNS)


def _map(labels: Sequence[str], numbers: Column) -> Column:
    return map_from_arrays(array(*map(lit, labels)), numbers)


def _dimensions(stage: Transformer) -> int:
    """How many features a stage takes."""
    return stage.mean.size if isinstance(stage, StandardScalerModel) else int(stage.numFeatures)


def _count(
    spark: SparkSession, home: Folder, labelled: DataFrame, classes: Sequence[str], started: float
) -> Predictions:
    rows = spark.read.schema(labelled.schema).parquet(home.pattern)
    groups = rows.groupBy("label", PREDICTED).agg(
        count(lit(1)).alias("photos"), count("error").alias("errors")
    )
    counts = groups.collect()
    predicted: dict[str, int] = dict.fromkeys(sorted(classes), 0)
    for row in counts:
        if row.predicted is not None:
            predicted[row.predicted] += row.photos
    errors = sum(row.errors for row in counts)
    broken = rows.where(col("error").isNotNull()).select("path", "error").orderBy("path")
    named = [row for row in counts if row.predicted is not None and row.label in predicted]
    return Predictions(
        uri=home.uri,
        photos=sum(row.photos for row in counts),
        errors=errors,
        first_errors=[tuple(row) for row in broken.take(LISTED_ERRORS)] if errors else [],
        predicted={label: photos for label, photos in predicted.items() if photos},
        named=sum(row.photos for row in named),
        agreeing=sum(row.photos for row in named if row.label == row.predicted),
        probabilities="probabilities" in rows.columns,
        seconds=round(monotonic() - started, 3),
    )
