"""Slow tests of what no version of Spark changes run on one line of Spark, each on another."""

from __future__ import annotations

import os

import pyspark
import pytest

#: Set to run every test on every Spark.
VARIABLE = "POMONA_EVERY_SPARK"


def only_on(line: str) -> pytest.MarkDecorator:
    """Skip a test on other lines of Spark than, for example, ``3.5``."""
    here = pyspark.__version__.startswith(f"{line}.") or bool(os.environ.get(VARIABLE))
    return pytest.mark.skipif(not here, reason=f"runs on Spark {line}, and with {VARIABLE}=1 here")
