"""Opens the results of a run, on this machine or through Spark."""

from __future__ import annotations

from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Iterator

from pomona.cli._errors import CommandError
from pomona.cli._spark import spark_session
from pomona.results import LocalResults
from pomona.results.local import local_path

if TYPE_CHECKING:
    from pomona.results import Results


@contextmanager
def open_results(folder: str, verb: str, unfinished: str) -> Iterator[Results]:
    """Open the folder that a run wrote.

    A folder on this machine needs no Spark. Spark opens all others, including paths without a
    scheme, which are HDFS paths on a cluster.
    """
    path = local_path(folder)
    if path is not None and (path.exists() or folder.startswith("file:")):
        yield LocalResults(folder)
        return
    if path is not None and find_spec("pyspark") is None:
        raise CommandError(f"no folder {folder}")
    with spark_session(verb, unfinished) as spark:
        from pomona.spark.results import SparkResults

        yield SparkResults(spark, folder)
