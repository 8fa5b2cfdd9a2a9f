"""The Makefile, including recipes that do not run on this machine."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TARGETS = [
    "help",
    "setup",
    "wheel",
    "wheelhouse",
    "release",
    "lock",
    "lint",
    "docs",
    "hooks",
    "test",
    "bench",
    "demo",
]
AUTOMATION = [ROOT / ".pre-commit-config.yaml", *sorted((ROOT / ".github/workflows").glob("*.yml"))]


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


@pytest.mark.parametrize("file", AUTOMATION, ids=lambda file: file.name)
def test_hooks_and_workflows_call_targets_that_exist(file: Path) -> None:
    for targets in re.findall(
        r"(?:entry|run):.*\bmake ([a-z -]+)$", file.read_text(), re.MULTILINE
    ):
        make("--dry-run", *targets.split())


def test_workflows_use_actions_of_a_full_version() -> None:
    workflows = "".join(file.read_text() for file in AUTOMATION)
    actions = re.findall(r"uses: (?!\./)(\S+)", workflows)
    assert actions
    assert [name for name in actions if not re.search(r"@v\d+\.\d+\.\d+$", name)] == []
