"""What `pomona.spark` loads, and what it says where something is missing."""

from __future__ import annotations

import doctest
import importlib
import subprocess
import sys

import pytest

import pomona.spark
from services import PATIENCE


def run(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, check=True, timeout=PATIENCE
    )
    return done.stdout.decode().strip()


@pytest.mark.parametrize(
    ("missing", "remedy"),
    [
        ("pyspark", "the cluster's own PySpark (spark-submit"),
        ("py4j", "the cluster's own PySpark (spark-submit"),
        ("pandas", "pip install 'pomona[spark]', on every node"),
    ],
)
def test_a_missing_package_is_named_with_its_remedy(missing: str, remedy: str) -> None:
    message = run(f"""
import sys
sys.modules[{missing!r}] = None
import pomona.spark
try:
    pomona.spark.featurize_udf
except ImportError as error:
    print(error)
""")
    assert message.startswith(f"pomona.spark needs {missing}: ")
    assert remedy in message


def test_a_worker_that_runs_a_udf_does_not_load_spark_ml() -> None:
    loaded = run("import sys, pomona.spark.udf; print('pyspark.ml' in sys.modules)")
    assert loaded == "False"


def test_every_public_name_is_there_and_documented() -> None:
    assert dir(pomona.spark) == sorted(pomona.spark.__all__)
    for name in pomona.spark.__all__:
        assert getattr(pomona.spark, name).__doc__
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = pomona.spark.nothing


@pytest.mark.parametrize("name", ["images", "transformer", "udf"])
def test_the_examples_that_need_no_cluster_hold(name: str) -> None:
    module = importlib.import_module(f"pomona.spark.{name}")
    assert doctest.testmod(module).failed == 0
