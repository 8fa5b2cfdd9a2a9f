"""Small things around the jobs of a Spark session: its settings, their names, their seconds."""

from __future__ import annotations

from contextlib import contextmanager
from time import monotonic
from typing import TYPE_CHECKING, Iterator

from pyspark.sql import SparkSession

if TYPE_CHECKING:
    from pyspark import SparkContext
    from pyspark.sql import DataFrame

_DESCRIPTION = "spark.job.description"


def active_session() -> SparkSession:
    """Return the session of this thread, else the application's; there must be one."""
    return SparkSession.builder.getOrCreate()


def session_of(frame: DataFrame) -> SparkSession:
    """Return the session of a DataFrame; before Spark 3.3 there is no attribute for it."""
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
    """Change settings of a session for a block; ``_`` in a name stands for its dots.

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


@contextmanager
def timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    """Note the wall-clock seconds of a block that ends well, under the name of its stage."""
    started = monotonic()
    yield
    seconds[stage] = round(monotonic() - started, 3)
