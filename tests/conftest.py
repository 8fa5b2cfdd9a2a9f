"""Fixtures and hooks for all tests."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path
from typing import Callable

import pytest
from hypothesis import HealthCheck, settings

import photos
from services import FAST_JAVA

# Every run uses the same examples, so that results are reproducible, however slow the machine.
# --hypothesis-profile=default uses others.
settings.register_profile(
    "the same", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("the same")

# Background jobs inherit an ignored SIGINT, and would pass it on to the processes that tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Spark's scripts start the JVMs of commands, examples and notebooks with these.
for variable in "SPARK_LAUNCHER_OPTS", "SPARK_SUBMIT_OPTS":
    os.environ.setdefault(variable, FAST_JAVA)

LOUD = pytest.StashKey[list]()


@pytest.fixture(scope="session")
def photos_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of rendered photos, four classes of eight. Tests must not modify it."""
    folder = tmp_path_factory.mktemp("rendered")
    photos.render(folder, classes=4, per_class=8)
    return folder


@pytest.fixture
def folder(photos_folder: Path, tmp_path: Path) -> Path:
    """A folder of photos that a test may modify: two classes of eight."""
    copy = tmp_path / "photos"
    for label in sorted(photos_folder.iterdir())[:2]:
        shutil.copytree(label, copy / label.name)
    return copy


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """The path of a file of features to write."""
    return tmp_path / "features.parquet"


@pytest.fixture(scope="session")
def tiny_model() -> Path:
    """A minimal model that meets the contract: 8x8 pixels in, 16 features out."""
    return Path(__file__).with_name("data") / "tiny.onnx"


@pytest.fixture(scope="session")
def real_photos() -> Path:
    """The folder of real photos (`fruits` and `fruits-360-100x100`). Skips if there is none."""
    folder = os.environ.get("POMONA_PHOTOS")
    if not folder:
        pytest.skip("needs real photos: set POMONA_PHOTOS")
    return Path(folder)


@pytest.fixture(scope="session")
def say_loudly(pytestconfig: pytest.Config) -> Callable[[str], None]:
    """Print a line at the very end of the run, where it stands out."""
    return pytestconfig.stash.setdefault(LOUD, []).append


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    for line in config.stash.get(LOUD, []):
        terminalreporter.section(f"WARNING: {line}", sep="!", red=True, bold=True)
