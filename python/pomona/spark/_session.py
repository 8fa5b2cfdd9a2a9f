"""Spark sessions: finding them, changing their settings, and naming their jobs."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Iterator

from pyspark.sql import SparkSession

if TYPE_CHECKING:
    from pyspark import SparkContext
    from pyspark.sql import DataFrame

_DESCRIPTION = "spark.job.description"


def active_session() -> SparkSession:
    """Return the session of this thread, or else that of the running application."""
    return SparkSession.builder.getOrCreate()


def session_of(frame: DataFrame) -> SparkSession:
    """Return the session of a DataFrame, which has no attribute for it before Spark 3.3."""
    return frame.sparkSession if hasattr(frame, "sparkSession") else frame.sql_ctx.sparkSession


@contextmanager
def described(context: SparkContext, text: str) -> Iterator[None]:
    """Name the jobs of a block in Spark's UI."""
    before = context.getLocalProperty(_DESCRIPTION)
    context.setJobDescription(f"Pomona: {text}")
    try:
        yield
    finally:
        context.setLocalProperty(_DESCRIPTION, before)


@contextmanager
def settings(spark: SparkSession, **values: str) -> Iterator[None]:
    """Change settings of a session for a block; ``_`` in a name stands for a dot.

    Examples
    --------
    >>> with settings(spark, spark_sql_shuffle_partitions="4"):  # doctest: +SKIP
    ...     frame.groupBy("label").count().collect()
    """
    names = {name.replace("_", "."): value for name, value in values.items()}
    before = {name: spark.conf.get(name, None) for name in names}
    try:
        for name, value in names.items():
            spark.conf.set(name, value)
        yield
    finally:
        for name, value in before.items():
            if value is None:
                spark.conf.unset(name)
            else:
                spark.conf.set(name, value)
