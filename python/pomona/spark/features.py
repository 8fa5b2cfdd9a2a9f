"""Feature sets on disk: making one agree with a set of photos, and reading it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pyspark.sql.functions import coalesce, col, lit
from pyspark.sql.types import BinaryType

from pomona._decode import gather_options
from pomona.results.format import FIRST_VERSION, STATE_FOLDER
from pomona.spark._hadoop import Folder
from pomona.spark._session import session_of
from pomona.spark._shipping import ship
from pomona.spark._writer import KEY, SCHEMA, FeatureSet, FeatureWriter, finished_set_in, read_files

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame, SparkSession
    from typing_extensions import Unpack

    from pomona import DecodeOptions
    from pomona._decode import DecodeKeywords
    from pomona._typing import PathLike

#: Kinds of errors that are not the photo's fault: every run tries these photos again.
PASSING_KINDS = ["storage", "gone", "memory"]

#: Versions that refused photos which this version decodes: every run tries the photos again that
#: one of them refused. 0.1.0 could also refuse any JPEG that the same worker decoded after one with
#: a damaged header.
STRICTER_VERSIONS = ["0.1.0", "0.1.1"]


def write_features(
    photos: DataFrame,
    output: PathLike,
    *,
    model: PathLike = "mobilenet_v2",
    resume: bool = True,
    retry_errors: bool = False,
    chunk_photos: int | None = None,
    progress: bool = False,
    **decode_options: Unpack[DecodeKeywords],
) -> FeatureSet:
    """Make a folder of features agree with photos, featurizing only new and changed ones.

    Afterwards ``spark.read.parquet(output)`` has exactly one row for each photo of `photos`: rows
    of deleted photos are removed, and rows of photos that changed in length or modification time
    are replaced. A run that is killed and called again repeats at most the chunk in flight and ends
    with the same rows. Of two runs on one folder at the same time, the one that started last
    continues and the other one ends with an error.

    The columns ``warning`` and ``orientation`` are those of `featurize_udf`. A set that a version
    before 0.2.0 wrote gets them when a run rewrites it. Photos that the earlier version refused are
    tried again; the others keep their features bit for bit, and their ``warning`` and
    ``orientation`` are null, which then means unknown.

    Parameters
    ----------
    photos : DataFrame
        The result of `read_images`, or any rows of it. Other sources need the same columns and
        unique paths; labels of any type become strings. Without the column ``content``, tasks read
        the photos by their paths, as `featurize_udf` does.
    output : str or path
        A folder that holds nothing else, on any file system that Spark's Hadoop knows.
    model : str or path, default "mobilenet_v2"
        A name, a path on the driver or a URI, as for `featurize_udf`.
    resume : bool, default True
        False featurizes every photo again, also with another model or other options; a finished set
        stays until the new one is complete.
    retry_errors : bool, default False
        Try every photo again that has an error from an earlier run. Otherwise only photos whose
        error may have passed are tried again.
    chunk_photos : int, optional
        Approximate number of photos that a Spark job featurizes, the most that a kill can lose; a
        chunk is a whole number of Spark's tasks. By default 2,000 for each core.
    progress : bool, default False
        Show a progress line on standard error.
    **decode_options
        How photos are decoded: the fields of `pomona.DecodeOptions`. A set of a version before
        0.2.0 counts as made with the defaults.

    Returns
    -------
    FeatureSet
        Counts, model and files. Photos that cannot be featurized are rows with an error. A later
        run tries them again only if they changed or if their error may have passed: it was not the
        photo's fault (`PASSING_KINDS`), or an earlier version reported it (`STRICTER_VERSIONS`).

    Raises
    ------
    ModelError
        The model cannot be used, or the folder holds features of another model.
    FileExistsError
        The folder holds files that Pomona did not write.
    TypeError
        An option does not exist or has the wrong type.
    ValueError
        `photos` has no rows, a column is missing or has the wrong type, an option is invalid, or
        the folder holds features that were computed with other options.
    OSError
        The folder cannot be read or written, or another run has taken it over.

    Examples
    --------
    >>> photos = read_images(spark, "s3://fruits/Test")  # doctest: +SKIP
    >>> write_features(photos, "s3://fruits/out/features").photos  # doctest: +SKIP
    23619
    """
    decode = gather_options("write_features", decode_options)
    photos = _checked(photos)
    if chunk_photos is not None and chunk_photos < 1:
        raise ValueError(f"chunk_photos is {chunk_photos}, it must be at least 1")
    writer = prepare(
        photos, output, model=model, decode=decode, resume=resume, retry_errors=retry_errors
    )
    return writer.write(photos, chunk_photos=chunk_photos, progress=progress)


def prepare(
    photos: DataFrame,
    output: PathLike,
    *,
    model: PathLike,
    decode: DecodeOptions,
    resume: bool,
    retry_errors: bool = False,
) -> FeatureWriter:
    """Make the writer of a `write_features`, and refuse what can be refused in advance.

    Nothing in the folder changes until `FeatureWriter.write` is called.
    """
    spark = session_of(photos)
    home, shipped = Folder(spark, os.fspath(output)), ship(spark.sparkContext, model)
    writer = FeatureWriter(
        spark, home, shipped, decode, resume, _settled(retry_errors=retry_errors)
    )
    writer.check()
    return writer


def read_features(spark: SparkSession, uri: PathLike) -> DataFrame:
    """Read a feature set: exactly the finished one, even during a run or after a crash.

    Parameters
    ----------
    spark : SparkSession
        The session to read with.
    uri : str or path
        The output of `write_features`, or any other folder of Parquet files with a column
        ``features``.

    Raises
    ------
    FileNotFoundError
        The folder holds no finished set.
    """
    home = Folder(spark, os.fspath(uri))
    names = home.sizes()
    if not names:
        raise FileNotFoundError(f"there are no features in {home.uri}")
    if STATE_FOLDER not in names:
        return spark.read.parquet(home.pattern)
    finished = finished_set_in(home)
    if finished is None:
        raise FileNotFoundError(
            f"{home.uri} holds no finished feature set: run write_features again to finish it"
        )
    return read_files(spark, home, finished)


def _checked(photos: DataFrame) -> DataFrame:
    """Check the columns that a feature set needs, and drop all others."""
    types = {field.name: field.dataType for field in photos.schema}
    missing = [name for name in [*KEY, "label"] if name not in types]
    if missing:
        raise ValueError(
            f"photos has no column {', '.join(missing)}: read them with pomona.spark.read_images"
        )
    wanted = {name: SCHEMA[name].dataType for name in KEY}
    if "content" in types:
        wanted["content"] = BinaryType()
    for name, kind in wanted.items():
        if types[name] != kind:
            raise ValueError(
                f"column {name} is {types[name].simpleString()}, it must be {kind.simpleString()}"
            )
    return photos.select(*wanted, col("label").cast(SCHEMA["label"].dataType))


def _settled(*, retry_errors: bool) -> Column:
    """Return whether a row need not be computed again; never null."""
    featurized = col("error").isNull()
    if retry_errors:
        return featurized
    passing = coalesce(col("error_kind"), lit("")).isin(PASSING_KINDS)
    stricter = coalesce(col("error_version"), lit(FIRST_VERSION)).isin(STRICTER_VERSIONS)
    return featurized | ~(passing | stricter)
