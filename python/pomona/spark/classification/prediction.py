"""Label new photos with a saved classifier, on Spark.

`predict` writes a folder of Parquet files with the columns that `pomona.classification.prediction`
documents.
"""

from __future__ import annotations

import io
import os
from time import monotonic
from typing import TYPE_CHECKING, Callable, Sequence

import numpy as np
import pandas as pd
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
    pandas_udf,
    when,
)
from pyspark.sql.functions import sum as total
from pyspark.sql.utils import IllegalArgumentException

from pomona._arguments import list_of_paths
from pomona._decode import gather_options
from pomona._deprecated import renamed_arguments
from pomona._errors import ERROR_COLUMNS, NOTE_COLUMNS
from pomona.classification.fingerprints import FILE, are_among, as_set, fingerprints
from pomona.classification.prediction import Predictions, changed_options
from pomona.results.summary import LISTED_ERRORS
from pomona.spark._hadoop import Folder
from pomona.spark._s3 import storage_of, why_not_by_paths
from pomona.spark._session import described, session_of
from pomona.spark.classification.classifiers import PREDICTED, PROBABILITY, SCORES
from pomona.spark.images import read_images
from pomona.spark.transformer import ImageFeaturizer, decode_params

if TYPE_CHECKING:
    from pyspark.ml import Transformer
    from pyspark.sql import Column, DataFrame, SparkSession
    from typing_extensions import Unpack

    from pomona._decode import DecodeKeywords
    from pomona._typing import PathLike


@renamed_arguments(model="classifier")
def predict(
    spark: SparkSession,
    classifier: PathLike,
    images: PathLike | Sequence[PathLike],
    output: PathLike,
    *,
    overwrite: bool = False,
    progress: Callable[[str], None] = lambda _: None,
    **decode_options: Unpack[DecodeKeywords],
) -> Predictions:
    """Label photos in one pass and write the labels as Parquet.

    Parameters
    ----------
    spark
        The session to run on.
    classifier
        The folder of a pipeline saved by `pomona.spark.train`. The old name ``model`` is
        deprecated.
    images
        Folders of photos, as for `pomona.spark.read_images`.
    output
        The folder to write; `pomona.classification.prediction` documents its columns.
    overwrite
        Replace existing labels. They are deleted once the new ones are complete, so a job that
        fails leaves them intact. A crash between the two steps leaves both; run again to replace
        both.
    progress
        Called with a description of each step before it starts.
    **decode_options
        How photos are decoded: the fields of `pomona.DecodeOptions`. Those not given are as for the
        photos that the classifier was trained on.

    Raises
    ------
    FileNotFoundError
        The classifier does not exist, or there are no photos.
    FileExistsError
        `output` exists and `overwrite` is false.
    TypeError
        An option does not exist or has the wrong type.
    ValueError
        The classifier is another kind of Spark ML model, `output` overlaps with `images`, or an
        option is invalid.

    Warns
    -----
    UserWarning
        If ``apply_exif`` or ``decode`` differs from that of the photos that the classifier was
        trained on.

    Examples
    --------
    >>> labels = predict(  # doctest: +SKIP
    ...     spark, "s3://fruits/out/classifier/svm/model", "s3://fruits/new", "s3://fruits/labels"
    ... )
    >>> labels.photos, labels.errors, labels.predicted  # doctest: +SKIP
    """
    started = monotonic()
    gather_options("predict", decode_options)
    context = spark.sparkContext
    home = Folder(spark, os.fspath(output))
    folders = list_of_paths(images)
    sources = [Folder(spark, os.fspath(folder)) for folder in folders]
    for source in sources:
        if source.contains(home) or home.contains(source):
            raise ValueError(
                f"the output {home.uri} and the folder of photos {source.uri} overlap: choose "
                "another output"
            )
    existing = home.sizes()
    if existing and not overwrite:
        raise FileExistsError(f"{home.uri} exists already: overwrite it, or choose another output")
    foreign = [name for name in existing if not name.startswith(("part-", "_", "."))]
    if foreign:
        raise ValueError(
            f"{home.uri} contains {foreign[0]}, which `predict` did not write: choose another "
            "output"
        )
    progress("loading the classifier")
    with described(context, "load the classifier"):
        pipeline = load(spark, classifier)
        trained = trained_photos(spark, classifier)
    featurizer = pipeline.stages[0]
    options = changed_options(featurizer.decode_options(), decode_options)
    featurizer.setParams(**decode_params(options))
    progress("listing the photos")
    with described(context, "list the photos"):
        uris = [source.uri for source in sources]
        only_spark = why_not_by_paths(spark, uris, storage_of(spark))
        photos = read_images(spark, images, content=only_spark is not None)
    labelled = label_photos(pipeline, photos, trained)
    progress("labelling the photos")
    with described(context, "label the photos and write"):
        labelled.write.mode("append").parquet(home.uri)
    for name in existing:
        if name.startswith("part-"):
            (home / name).delete()
    progress("counting the labels")
    with described(context, "count the labels"):
        classes = pipeline.stages[-1].getLabels()
        return _count(spark, home, labelled, classes, trained is not None, started)


def load(spark: SparkSession, classifier: PathLike) -> PipelineModel:
    """Load a pipeline saved by `pomona.spark.train`, and refuse any other Spark ML model."""
    folder = Folder(spark, os.fspath(classifier))
    check_loadable(folder)
    if "metadata" not in folder.sizes():
        raise FileNotFoundError(
            f"{folder.uri} holds no classifier: give a folder saved by `pomona train`"
        )
    try:
        pipeline = PipelineModel.load(folder.uri)
        stages = pipeline.stages
    except (Py4JJavaError, IllegalArgumentException, AttributeError) as error:
        raise ValueError(
            f"{folder.uri} is not a complete pipeline saved by `pomona train`: {error}"
        ) from error
    if not isinstance(stages[0], ImageFeaturizer) or not isinstance(stages[-1], IndexToString):
        names = ", ".join(type(stage).__name__ for stage in stages)
        raise ValueError(f"{folder.uri} was not saved by `pomona train`: its stages are {names}")
    return pipeline


def trained_photos(spark: SparkSession, classifier: PathLike) -> frozenset[bytes] | None:
    """Read the fingerprints of a classifier's training photos; None if it has none."""
    file = Folder(spark, os.fspath(classifier)) / FILE
    return as_set(np.load(io.BytesIO(file.read_bytes()))) if file.exists() else None


def check_loadable(folder: Folder) -> None:
    """Refuse a folder that Spark ML cannot load from, because it takes the path for a glob."""
    if folder.pattern != folder.uri:
        raise ValueError(
            f"Spark ML cannot load a model from {folder.uri}, whose name has a glob character (one "
            "of { } [ ] * ? \\): rename the folder"
        )


def label_photos(
    pipeline: PipelineModel, photos: DataFrame, trained: frozenset[bytes] | None
) -> DataFrame:
    """Label photos, with or without their content, and keep a row for each that cannot be read.

    `trained` are the fingerprints of the training photos, if they are known. The result has the
    columns that `pomona.classification.prediction` documents.
    """
    featurizer, *others, names = pipeline.stages
    source = "content" if "content" in photos.columns else "path"
    keeping = featurizer.copy(
        {
            featurizer.inputCol: source,
            featurizer.handleInvalid: "keep",
            **featurizer.result_params(),
        }
    )
    table = keeping.transform(photos.select("label", *dict.fromkeys(["path", source])))
    # Later stages fail on null, and splitting off unreadable photos would featurize each photo
    # twice, so these get zeros until the end.
    features = featurizer.getOutputCol()
    zeros = array_to_vector(array_repeat(lit(0.0), _dimensions(others[0])))
    table = table.withColumn(features, coalesce(features, zeros))
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
    if trained is None:
        known = lit(None).cast("boolean")
    else:
        known = when(readable, _are_among(photos, trained)(vector_to_array(features, "float32")))
    return table.select(
        "path",
        "label",
        predicted,
        *columns,
        *ERROR_COLUMNS,
        *NOTE_COLUMNS,
        known.alias("trained"),
    )


def _are_among(photos: DataFrame, trained: frozenset[bytes]) -> Callable[[Column], Column]:
    shared = session_of(photos).sparkContext.broadcast(trained)

    def known(features: pd.Series) -> pd.Series:
        return pd.Series(are_among(fingerprints(np.stack(features.to_numpy())), shared.value))

    # Objects, because Spark 3.1 does not understand annotations that are text.
    known.__annotations__ = {"features": pd.Series, "return": pd.Series}
    return pandas_udf(known, "boolean")


def _map(labels: Sequence[str], numbers: Column) -> Column:
    return map_from_arrays(array(*map(lit, labels)), numbers)


def _dimensions(stage: Transformer) -> int:
    """Return the length of the vectors that a stage expects."""
    return stage.mean.size if isinstance(stage, StandardScalerModel) else int(stage.numFeatures)


def _count(
    spark: SparkSession,
    home: Folder,
    labelled: DataFrame,
    classes: Sequence[str],
    known: bool,
    started: float,
) -> Predictions:
    rows = spark.read.schema(labelled.schema).parquet(home.pattern)
    groups = rows.groupBy("label", PREDICTED).agg(
        count(lit(1)).alias("photos"),
        count("error").alias("errors"),
        count("warning").alias("warnings"),
        count("orientation").alias("turned"),
        total(col("trained").cast("int")).alias("trained"),
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
        warnings=sum(row.warnings for row in counts),
        turned=sum(row.turned for row in counts),
        predicted={label: photos for label, photos in predicted.items() if photos},
        named=sum(row.photos for row in named),
        agreeing=sum(row.photos for row in named if row.label == row.predicted),
        probabilities="probabilities" in rows.columns,
        seconds=round(monotonic() - started, 3),
        trained=sum(row.trained or 0 for row in counts) if known else None,
    )
