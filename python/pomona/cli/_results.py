"""Opens results and checks paths, on this machine or through Spark."""

from __future__ import annotations

import os
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Iterable, Iterator

from pomona._missing import check_exist
from pomona.cli._spark import spark_session
from pomona.results import LocalResults
from pomona.results.local import local_path

if TYPE_CHECKING:
    import argparse

    from pomona.results import Results

#: The choices of ``--engine``.
ENGINES = ("auto", "local", "spark")

#: Where Hadoop's settings are on the machines of a cluster.
_HADOOP = Path("/etc/hadoop/conf/core-site.xml")


def add_results(verb: argparse.ArgumentParser) -> None:
    """Add the argument RESULTS."""
    verb.add_argument(
        "results",
        metavar="RESULTS",
        help="the file or folder that `pomona featurize` wrote, or the folder that `pomona run` "
        "wrote",
    )


def add_engine(
    verb: argparse.ArgumentParser,
    auto: str = "local for the results of `pomona featurize` and Spark for those of `pomona run`",
) -> None:
    """Add ``--engine``; `auto` says what it does by default."""
    verb.add_argument(
        "--engine",
        choices=ENGINES,
        default=ENGINES[0],
        help="where to compute: on this machine with numpy, or on Spark (default: auto, which is "
        f"{auto})",
    )


@contextmanager
def open_results(
    uri: str, verb: str, unfinished: str, *, engine: str | None = None
) -> Iterator[Results]:
    """Open results, without Spark if they are on this machine.

    Spark opens all others, including paths without a scheme, which are HDFS paths on a cluster.
    With an `engine`, one of `ENGINES`, Spark opens local results too, if it is to do the work.
    """
    path = local_path(uri)
    check_local([uri])
    if path is not None and path.exists() and engine != "spark":
        results = LocalResults(uri)
        if engine in (None, "local") or results.engine == "local" or find_spec("pyspark") is None:
            yield results
            return
    elif engine == "local":
        # The error says why not.
        yield LocalResults(uri)
        return
    with spark_session(verb, unfinished) as spark:
        from pomona.spark.results import SparkResults

        yield SparkResults(spark, uri)


@contextmanager
def open_others(folder: str | None, verb: str, unfinished: str) -> Iterator[Results | None]:
    """Open the results to compare with, if there are any."""
    if folder is None:
        yield None
        return
    with open_results(folder, verb, unfinished) as results:
        yield results


def check_local(uris: Iterable[str]) -> None:
    """Refuse local paths that do not exist, before Java starts. Spark looks for globs itself."""
    local = [(uri, local_path(uri)) for uri in uris if not set(uri) & set("*?[{")]
    check_exist(
        path for uri, path in local if path and (uri.startswith("file:") or _default_is_local())
    )


def _default_is_local() -> bool:
    """Return whether Spark takes a path without a scheme for one on this machine."""
    on_cluster = ("HADOOP_CONF_DIR", "YARN_CONF_DIR", "SPARK_CONF_DIR", "PYSPARK_GATEWAY_PORT")
    if _HADOOP.exists() or any(name in os.environ for name in on_cluster):
        return False
    if find_spec("pyspark") is None:
        return True
    from pyspark import SparkContext

    # In a notebook, the running session has its own file system.
    return SparkContext._active_spark_context is None
