"""The output of a run that a verb looks at, on this machine or through Spark."""

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
def open_results(output: str, verb: str, unfinished: str) -> Iterator[Results]:
    """Open what a run left.

    A folder that is on this machine needs no Spark. Any other belongs to Spark's file systems: also
    a path without a scheme, which on a cluster is one of HDFS.
    """
    folder = local_path(output)
    if folder is not None and (folder.exists() or output.startswith("file:")):
        yield LocalResults(output)
        return
    if folder is not None and find_spec("pyspark") is None:
        raise CommandError(f"there is no folder {output}")
    with spark_session(verb, unfinished) as spark:
        from pomona.spark.results import SparkResults

        yield SparkResults(spark, output)
