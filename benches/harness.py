"""Paths, contender processes and wording that the parts of the benchmark share."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
BENCHES = ROOT / "benches"
WORK = ROOT / "target" / "bench"

REFERENCE_PYTHON = ROOT / ".venv/py37-keras/bin/python"
WEIGHTS = WORK / "mobilenet_v2.h5"
MODEL = WORK / "mobilenet_v2.onnx"
INT8_MODEL = WORK / "mobilenet_v2_int8.onnx"

# The benchmark uses the S3 server of the tests.
sys.path.insert(0, str(ROOT / "tests/support"))

BUSY = 0.9
"""Below this share of its cores' time, a contender that computes all the time was disturbed."""


def command(python: Path | str, script: str, *arguments: Path | str) -> list[str]:
    """Return the command that runs a contender, a file in this folder."""
    return [str(python), str(BENCHES / script), *map(str, arguments)]


def run(command: list[str], cores: int | None = None) -> dict[str, Any]:
    """Run a program on the last `cores` cores and return the JSON of its last line."""
    everywhere = os.sched_getaffinity(0)
    chosen = sorted(everywhere)[-cores:] if cores else everywhere
    if cores and len(chosen) < cores:
        sys.exit(f"the bench needs {cores} cores, this process has {len(chosen)}")
    # TensorFlow writes a lot to standard error, which matters only after a failure.
    with tempfile.TemporaryFile("w+") as chatter:
        os.sched_setaffinity(0, chosen)  # inherited by the child before its libraries count cores
        try:
            child = subprocess.Popen(
                command, cwd=ROOT, stdout=subprocess.PIPE, stderr=chatter, text=True
            )
        finally:
            os.sched_setaffinity(0, everywhere)
        line = ""
        for line in child.stdout:
            if not line.startswith("{"):
                print(line, end="", flush=True)
        if child.wait() != 0:
            chatter.seek(0)
            sys.exit(f"{chatter.read()}{' '.join(command)}: exit code {child.returncode}")
    return json.loads(line)


def processor() -> str:
    (name,) = set(re.findall(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.M))
    return name


def busy(share: float) -> list[str]:
    """Return a warning if Pomona got too small a share of its cores' time."""
    if share >= BUSY:
        return []
    return [
        f"The machine was busy: Pomona got {share:.0%} of its cores' time, so wall-clock times "
        "hold for a busy machine only."
    ]


def plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def verdict(holds: bool) -> str:
    return "met" if holds else "**missed**"
