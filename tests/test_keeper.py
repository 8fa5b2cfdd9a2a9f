"""Processes that a test starts end with the test run, however it ends."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from services import any_runs, wait_until

# A program with a child in a new session, like YARN's containers.
PROGRAM = "setsid sleep 1000 & echo $! $$ > {pids}.new; mv {pids}.new {pids}; wait"
TESTS = """
import os, pathlib, sys
sys.path.insert(0, sys.argv[1])
from keeper import Kept
service = Kept(["bash", "-c", sys.argv[2]], pathlib.Path(os.devnull), dict(os.environ))
sys.stdin.read()
service.kill()
"""


@pytest.fixture
def tests(tmp_path: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", TESTS, str(Path(__file__).with_name("support"))]
    command += [PROGRAM.format(pids=tmp_path / "pids")]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        yield process
        process.kill()


def test_a_program_ends_with_all_that_it_has_started(
    tests: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    started = pids(tmp_path)
    tests.communicate()
    assert tests.returncode == 0
    assert not any_runs(started)


def test_a_program_ends_when_its_tests_are_killed(
    tests: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    started = pids(tmp_path)
    tests.send_signal(signal.SIGKILL)
    wait_until(lambda: not any_runs(started), "the program to end")


def pids(folder: Path) -> list[int]:
    wait_until((folder / "pids").exists, "the program to start")
    found = [int(pid) for pid in (folder / "pids").read_text().split()]
    assert all(any_runs([pid]) for pid in found)
    return found
