"""The Spark session of a verb."""

from __future__ import annotations

import logging
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Iterator

from pomona.cli._errors import CommandError, cause

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


@contextmanager
def spark_session(verb: str, unfinished: str) -> Iterator[SparkSession]:
    """Provide a Spark session for a block, and turn its failures into one-line errors.

    Under spark-submit and in a notebook, the session that runs is used with its own settings, and
    stays. A session that starts here stops with the block, and what its Java prints goes to a log
    file, which the message names if Spark fails. The session's name in Spark's UI is ``pomona`` and
    the verb. The message of a failure also has `unfinished`, the state of the results.
    """
    try:
        from pyspark import SparkContext
        from pyspark.sql.utils import CapturedException
    except ImportError as error:
        raise CommandError(
            f"pomona {verb} needs PySpark. On a cluster, start the command with spark-submit; on "
            "this machine, install Java and PySpark: pip install 'pyspark==3.5.*'"
        ) from error
    from py4j.protocol import Py4JError, Py4JJavaError

    from pomona.spark._hadoop import with_remedy
    from pomona.spark._start import forget, start

    # The active session would be that of the current thread only.
    running = SparkContext._active_spark_context is not None
    if not running:
        _quieten_py4j()
    # Spark's own progress bar would draw over ours.
    settings = {"spark.app.name": f"pomona {verb}", "spark.ui.showConsoleProgress": "false"}
    try:
        spark, log = start(settings)
    except (ImportError, RuntimeError) as error:
        raise CommandError(str(error)) from error
    failed = False
    try:
        yield spark
    except Exception as error:
        signal = _signal_behind(error)
        if signal is not None:
            raise signal from error
        # The gateway to Java raises the first two.
        if not isinstance(error, (Py4JError, ConnectionError, CapturedException)):
            raise
        failed = True
        if isinstance(error, (Py4JJavaError, CapturedException)):
            message = f"Spark failed: {with_remedy(cause(str(error)))}"
        else:
            message = "Spark's Java process died: it was killed or ran out of memory"
        where = f". Spark's log is {log}" if log is not None else ""
        raise CommandError(f"{message}; {unfinished}{where}") from error
    finally:
        if not running:
            # After a signal, the next answer from Java may belong to an earlier question.
            with suppress(Exception):
                spark.stop()
        if log is not None and not failed:
            forget(log)


def _quieten_py4j() -> None:
    """Silence py4j, which logs an error for every live object when Java is killed."""
    logging.getLogger("py4j").setLevel(logging.CRITICAL)
    # Some of its messages go to the root logger.
    logging.getLogger().addFilter(lambda record: "py4j" not in record.pathname)


def _signal_behind(error: BaseException | None) -> BaseException | None:
    """Find the signal that ended the work, if cleanup then failed because Java got it too."""
    while error is not None and isinstance(error, Exception):
        error = error.__context__
    return error
