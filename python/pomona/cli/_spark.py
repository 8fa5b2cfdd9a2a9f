"""The Spark that a verb runs on."""

from __future__ import annotations

import logging
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Iterator

from pomona.cli._errors import CommandError, cause

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


@contextmanager
def spark_session(verb: str, unfinished: str) -> Iterator[SparkSession]:
    """Start Spark for a block, or join the one that runs, and tell its failures in a sentence.

    Under spark-submit and in a notebook there is a Spark: its settings hold, and it goes on. One
    that was started here is stopped.

    Parameters
    ----------
    verb
        What the application is called in Spark's UI, behind ``pomona``.
    unfinished
        What is left if Spark fails, for the message.
    """
    try:
        from pyspark import SparkContext
        from pyspark.sql import SparkSession
    except ImportError as error:
        raise CommandError(
            f"pomona {verb} needs PySpark. A cluster has its own: start the command with "
            "spark-submit there. On this machine, install it and Java: "
            "pip install 'pyspark==3.5.*'"
        ) from error
    from py4j.protocol import Py4JError, Py4JJavaError

    from pomona.spark._hadoop import with_remedy

    # Not the active session, which each thread has its own of.
    running = SparkContext._active_spark_context is not None
    if not running:
        _quieten_py4j()
    # Spark's own progress bar would draw over ours.
    builder = SparkSession.builder.appName(f"pomona {verb}")
    builder = builder.config("spark.ui.showConsoleProgress", "false")
    try:
        spark = builder.getOrCreate()
    except Exception as error:
        raise CommandError(
            f"Spark did not start: {str(error).rstrip('.')}. It needs a Java runtime: set JAVA_HOME"
        ) from error
    try:
        yield spark
    except (Py4JError, ConnectionError) as error:  # the second is of Java's gateway as well
        signal = _signal_behind(error)
        if signal is not None:
            raise signal from error
        if isinstance(error, Py4JJavaError):
            message = f"Spark failed: {with_remedy(cause(str(error)))}"
        else:
            message = "Spark's Java process has ended: killed, or short of memory"
        raise CommandError(f"{message}; {unfinished}") from error
    finally:
        if not running:
            with suppress(Py4JError, OSError):
                spark.stop()


def _quieten_py4j() -> None:
    """Keep a hundred objects from logging, each by itself, that Java has been killed."""
    logging.getLogger("py4j").setLevel(logging.CRITICAL)
    # Some of its messages go to the logger of all programs.
    logging.getLogger().addFilter(lambda record: "py4j" not in record.pathname)


def _signal_behind(error: BaseException | None) -> BaseException | None:
    """Find the signal that ended the work, where cleaning up met that Java had got it as well."""
    while error is not None and isinstance(error, Exception):
        error = error.__context__
    return error
