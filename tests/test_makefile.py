"""The Makefile: recipes that this machine would not run are tried as well."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TARGETS = ["help", "setup", "wheel", "wheelhouse", "lock", "lint", "test", "bench", "demo"]


def make(*arguments: str) -> str:
    command = ["env", "--unset=MAKEFLAGS", "make", *arguments]
    return subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout


def test_every_recipe_is_a_shell_script() -> None:
    recipes = make("--dry-run", "--always-make", *TARGETS)
    subprocess.run(["bash", "-n"], input=recipes, check=True, text=True)


@pytest.mark.parametrize("left_out", ["", "spark35", "py37 spark4"])
def test_a_spark_that_is_not_tested_is_named(left_out: str) -> None:
    said = make("test-spark", "MATRIX=", f"LEFT_OUT={left_out}")
    assert ("WARNING: not tested" in said) == bool(left_out)
    assert left_out in said
