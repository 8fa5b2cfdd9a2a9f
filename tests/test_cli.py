"""The `pomona` command: help, summaries, errors, exit codes, interruptions."""

from __future__ import annotations

import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path
from types import SimpleNamespace

import pyarrow.parquet as pq
import pytest
from PIL import Image

import pomona
from pomona import cli, models
from pomona._decode import DECODE_MODES
from pomona.cli import main
from pomona.cli._errors import cause
from pomona.cli.run import describe
from pomona.local import Summary
from services import PATIENCE
from specimens import damaged, turned
from terminals import all_shown


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty model store."""
    path = tmp_path / "home"
    path.mkdir()
    monkeypatch.setenv("POMONA_HOME", str(path))
    return path


def pomona_command(*args: object) -> list[str]:
    return [sys.executable, "-m", "pomona", *map(str, args)]


def run(*args: object, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        pomona_command(*args), capture_output=True, text=True, check=False, **options
    )


def featurize(folder: Path, output: Path, tiny_model: Path, *more: str) -> int:
    return main(["featurize", str(folder), "-o", str(output), "--model", str(tiny_model), *more])


# Help and usage


def test_help_has_an_example_for_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    examples = text[text.index("examples:") : text.index("exit codes:")]
    for verb in ("model pull", "model convert", "model info", "featurize", "run", "bench", "plan"):
        assert f"\n  pomona {verb} " in examples


@pytest.mark.parametrize(
    "line",
    [
        line.split("  ")[1]
        for line in cli._EPILOG[: cli._EPILOG.index("exit codes")].splitlines()
        if line.startswith("  pomona")
    ],
)
def test_the_examples_of_the_help_are_command_lines_that_parse(line: str) -> None:
    args = cli._parser().parse_args(line.split()[1:])
    assert callable(args.command)


@pytest.mark.parametrize(
    "verb",
    [
        ["featurize"],
        ["run"],
        ["bench"],
        ["plan"],
        ["model"],
        ["model", "pull"],
        ["model", "convert"],
        ["model", "info"],
        ["model", "list"],
    ],
)
def test_every_verb_explains_itself(verb: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*verb, "--help"]) == 0
    assert f"usage: pomona {' '.join(verb)}" in capsys.readouterr().out


def test_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"pomona {pomona.__version__}\n"


@pytest.mark.parametrize("args", [[], ["model"]])
def test_a_command_that_is_not_complete_shows_help_and_is_a_usage_error(
    args: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(args) == cli.USAGE
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("usage: pomona")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["featurize", "x"], "-o"),
        (["featurize", "-o", "x"], "IMAGES"),
        (["featurize", "x", "-o", "y", "--threads", "0"], "whole number above 0"),
        (["featurize", "x", "-o", "y", "--max-pixels", "many"], "whole number above 0"),
        (["featurize", "x", "-o", "y", "--decode", "quick"], "choose from 'exact', 'fast'"),
        (["run", "--images", "x", "--output", "y", "--variance", "95"], "above 0 and at most 1"),
        (["run", "--images", "x", "--output", "y", "--variance", "nan"], "above 0 and at most 1"),
        (
            ["run", "--images", "x", "--output", "y", "--variance", "0.9", "--components", "3"],
            "not allowed with",
        ),
        (["model", "convert", "x", "-o", "y", "--input-size", "1x2x3"], "HEIGHTxWIDTH"),
        (["model", "convert", "x", "-o", "y", "--mean", "red"], "R,G,B"),
        (["featurise"], "invalid choice"),
    ],
)
def test_wrong_usage_is_exit_code_2_and_says_what_is_wrong(
    args: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(args) == cli.USAGE
    assert message in capsys.readouterr().err


# featurize


def test_featurize_ends_with_a_summary(
    folder: Path, output: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "notes.txt").write_text("hello")
    assert featurize(folder, output, tiny_model) == 0
    captured = capsys.readouterr()
    first, second, third = captured.out.splitlines()
    assert first == "left out: 1 .txt"
    assert captured.err.startswith("16 photos; left out: 1 .txt\n")
    assert re.fullmatch(r"16 photos, 2 labels, 0 errors: \d+\.\d s, [\d,]+\.\d images/s", second)
    assert third.startswith(f"{output}: 16 features per photo, ")
    assert "Featurizing 16/16 images 100%" in captured.err
    assert pq.read_metadata(output).num_rows == 16


def test_featurize_lists_the_first_failures_and_counts_the_rest(
    folder: Path, output: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for index in range(8):
        (folder / f"{index}\n.jpg").write_bytes(b"")
    assert featurize(folder, output, tiny_model) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "8 photos failed:"
    assert lines[1] == f"  {folder}/0\\n.jpg: empty: 0 bytes"
    assert lines[6] == "  and 3 more; all are in the column `error`"
    assert "24 photos, 3 labels, 8 errors" in lines[7]


@pytest.mark.parametrize("option", ["--fail-on-error", "--strict"])
def test_fail_on_error_writes_the_file_and_ends_with_3_when_a_photo_failed(
    option: str, folder: Path, output: Path, tiny_model: Path
) -> None:
    assert featurize(folder, output, tiny_model, option) == 0
    (folder / "empty.jpg").write_bytes(b"")
    assert featurize(folder, output, tiny_model, option, "--overwrite") == 3
    assert pq.read_metadata(output).num_rows == 17


@pytest.mark.parametrize("option", ["--fail-on-error", "--strict"])
def test_fail_on_error_counts_a_folder_that_could_not_be_listed(
    option: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    summary = Summary(output="out", photos=3, unreadable=[("a/b", "Permission denied")])
    monkeypatch.setattr("pomona.local.featurize_folder", lambda *_, **__: summary)
    assert main(["featurize", "a", "-o", "out"]) == 0
    assert main(["featurize", "a", "-o", "out", option]) == 3
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["1 folder could not be listed:", "  a/b: Permission denied"]


def test_an_existing_file_is_kept_unless_overwrite_is_given(
    folder: Path, output: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output.write_text("precious")
    assert featurize(folder, output, tiny_model) == 1
    assert capsys.readouterr().err == f"pomona: {output} exists already; --overwrite replaces it\n"
    assert output.read_text() == "precious"
    assert featurize(folder, output, tiny_model, "--overwrite") == 0


def test_options_reach_the_decoder(folder: Path, output: Path, tiny_model: Path) -> None:
    min(folder.rglob("*.jpg")).write_bytes(damaged())

    def errors(*options: str) -> int:
        assert featurize(folder, output, tiny_model, "--overwrite", *options) in (0, 3)
        return 16 - pq.read_table(output)["error"].null_count

    assert errors() == 0
    assert errors("--strict") == 1
    assert errors("--max-pixels", "10") == 16
    for mode in DECODE_MODES:
        assert errors("--apply-exif", "--decode", mode) == 0
        assert json.loads(pq.read_schema(output).metadata[b"pomona.decode"]) == {
            **pomona.DecodeOptions().keywords(),
            "apply_exif": True,
            "decode": mode,
        }


def test_featurize_lists_warnings_and_counts_turned_photos(
    folder: Path, output: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for index in range(7):
        (folder / f"{index}.jpg").write_bytes(damaged())
    (folder / "turned.jpg").write_bytes(turned("JPEG", 6))
    assert featurize(folder, output, tiny_model) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "7 photos have a warning:"
    assert re.fullmatch(rf"  {folder}/0.jpg: .*damaged or missing.*", lines[1])
    assert lines[6] == "  and 2 more; all are in the column `warning`"
    assert lines[7] == (
        "1 photo has an EXIF orientation that was not applied; --apply-exif applies it"
    )
    assert "24 photos, 3 labels, 0 errors" in lines[8]
    assert featurize(folder, output, tiny_model, "--overwrite", "--apply-exif") == 0
    assert "EXIF" not in capsys.readouterr().out


def test_allow_trailing_warns_and_does_nothing(
    folder: Path, output: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert featurize(folder, output, tiny_model, "--allow-trailing") == 0
    assert capsys.readouterr().err.startswith(
        "pomona: --allow-trailing is deprecated and ignored: bytes after a photo are accepted\n"
    )


@pytest.mark.parametrize("verb", ["run", "predict", "similar", "bench", "model quantize"])
def test_every_verb_that_decodes_photos_has_the_same_options(
    verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def decode_options(name: str) -> str:
        assert main([*name.split(), "--help"]) == 0
        sections = capsys.readouterr().out.split("\n\n")
        return next(each for each in sections if each.startswith("decode options:")).rstrip()

    assert decode_options(verb) == decode_options("featurize")
    assert all(
        option in decode_options(verb)
        for option in ("--apply-exif", "--strict", "--max-pixels N", "--decode {exact,fast}")
    )


@pytest.mark.parametrize(
    ("images", "output_name", "message"),
    [
        ("nowhere", "out.parquet", "nowhere: No such file or directory"),
        ("photos", "nowhere/out.parquet", "nowhere: folder does not exist"),
        ("photos", "photos", "photos is a folder with other files"),
        ("empty", "out.parquet", "no photos in "),
    ],
)
def test_errors_are_one_line_on_standard_error(
    folder: Path,
    tmp_path: Path,
    tiny_model: Path,
    images: str,
    output_name: str,
    message: str,
) -> None:
    (tmp_path / "empty").mkdir()
    done = run("featurize", tmp_path / images, "-o", tmp_path / output_name, "--model", tiny_model)
    assert done.returncode == 1
    assert done.stdout == ""
    assert re.fullmatch(rf"pomona: .*{re.escape(message)}.*\n", done.stderr)


@pytest.mark.parametrize(("args", "environment"), [(["--debug"], {}), ([], {"POMONA_DEBUG": "1"})])
def test_debug_shows_where_an_error_came_from(
    args: list[str], environment: dict[str, str], tmp_path: Path
) -> None:
    command = ["featurize", tmp_path, "-o", tmp_path / "out.parquet"]
    environment = {**os.environ, "POMONA_HOME": str(tmp_path), **environment}
    done = run(*args, *command, env=environment)
    assert "Traceback" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("pomona: there is no model named")
    assert run(*command, *args, env=environment).stderr == done.stderr


def test_an_error_that_nobody_foresaw_is_one_line_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError("first line\nsecond line")

    monkeypatch.setattr("pomona.local.featurize_folder", fail)
    monkeypatch.delenv("POMONA_DEBUG", raising=False)
    assert main(["featurize", "x", "-o", "y"]) == 1
    assert capsys.readouterr().err == (
        "pomona: ZeroDivisionError: first line second line (--debug shows the traceback)\n"
    )


def test_a_warning_for_the_user_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def warn(*_: object, **__: object) -> None:
        warnings.warn("trained with another option", stacklevel=2)
        warnings.warn("an old name", DeprecationWarning, stacklevel=2)
        raise FileNotFoundError("x does not exist")

    monkeypatch.setattr("pomona.local.featurize_folder", warn)
    with pytest.warns(DeprecationWarning, match="an old name"):
        assert main(["featurize", "x", "-o", "y"]) == 1
    assert capsys.readouterr().err == (
        "pomona: warning: trained with another option\npomona: x does not exist\n"
    )


def test_without_pyarrow_the_error_names_the_extra(
    folder: Path,
    output: Path,
    tiny_model: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    assert featurize(folder, output, tiny_model) == 1
    assert "pip install 'pomona[spark]'" in capsys.readouterr().err


# Interruptions


@pytest.mark.parametrize(
    ("number", "code", "word"),
    [
        (signal.SIGINT, 130, "interrupted"),
        (signal.SIGTERM, 143, "terminated"),
        (signal.SIGHUP, 129, "terminated"),
    ],
)
def test_an_interrupted_run_leaves_no_output_and_says_so(
    tmp_path: Path,
    tiny_model: Path,
    number: signal.Signals,
    code: int,
    word: str,
) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    photo = tmp_path / "large.png"
    Image.new("RGB", (3000, 3000)).save(photo)
    for index in range(10_000):  # minutes of work, on any machine
        os.link(photo, folder / f"{index}.png")
    results = tmp_path / "results"
    results.mkdir()
    process = subprocess.Popen(
        pomona_command("featurize", folder, "-o", results / "out", "--model", tiny_model),
        stderr=subprocess.PIPE,
        text=True,
        # Background jobs inherit ignored signals.
        preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),
    )
    while not list(results.iterdir()):  # the temporary file: the run has begun
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(number)
    _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == code
    assert errors.splitlines()[-1] == f"pomona: {word}: {results / 'out'} was not written"
    assert "Traceback" not in errors
    assert list(results.iterdir()) == []


def test_signal_handlers_are_put_back(tmp_path: Path) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)]
    assert main(["featurize", str(tmp_path), "-o", str(tmp_path / "nowhere" / "x")]) == 1
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)] == before


# Terminals and pipes


def test_a_reader_that_has_gone_is_no_error_message(home: Path) -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    done = subprocess.run(
        pomona_command("model", "list"), stdout=write_end, stderr=subprocess.PIPE, check=False
    )
    os.close(write_end)
    assert done.stderr == b""
    assert done.returncode == 128 + signal.SIGPIPE


def test_a_full_disk_under_standard_output_is_an_error(home: Path) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            pomona_command("model", "list"), stdout=full, stderr=subprocess.PIPE, check=False
        )
    assert done.stderr == b"pomona: [Errno 28] No space left on device\n"
    assert done.returncode == 1


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_names_beyond_the_terminal_s_letters_are_shown_as_escapes(
    tmp_path: Path, tiny_model: Path, encoding: str
) -> None:
    folder = tmp_path / "日本"
    folder.mkdir()
    (folder / "柿.jpg").write_bytes(b"")
    done = subprocess.run(
        pomona_command("featurize", folder, "-o", folder / "出力.parquet", "--model", tiny_model),
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": encoding},
        check=False,
    )
    assert done.returncode == 0
    shown = "柿.jpg: empty" if encoding == "utf-8" else r"\u67ff.jpg: empty"
    assert shown in done.stdout.decode(encoding)
    assert (folder / "出力.parquet").exists()


def test_a_locale_without_utf_8_featurizes_every_name(tmp_path: Path, tiny_model: Path) -> None:
    folder = tmp_path / "日本"
    folder.mkdir()
    (folder / "柿.jpg").write_bytes(b"")
    (folder / os.fsdecode(b"caf\xe9.jpg")).write_bytes(b"")
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = run(
        "featurize",
        folder,
        "-o",
        folder / "out.parquet",
        "--model",
        tiny_model,
        env={**os.environ, **plain},
    )
    assert (done.returncode, done.stderr.count("\n")) == (0, 1)
    rows = pq.read_table(folder / "out.parquet").to_pylist()
    assert [Path(row["path"]).name for row in rows] == [r"caf\xe9.jpg", "柿.jpg"]
    assert {row["label"] for row in rows} == {"日本"}


def test_on_a_terminal_one_line_is_redrawn(folder: Path, output: Path, tiny_model: Path) -> None:
    master, slave = pty.openpty()
    done = subprocess.run(
        pomona_command("featurize", folder, "-o", output, "--model", tiny_model),
        stdout=subprocess.PIPE,
        stderr=slave,
        check=True,
    )
    os.close(slave)
    shown = all_shown(master)
    assert b"16 photos" in done.stdout
    assert shown.startswith("\rFeaturizing [....................] 0/16 images 0%")
    assert shown.count("\n") == 1


# model


def test_model_info_tells_what_a_model_expects_and_gives(
    tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["model", "info", str(tiny_model)]) == 0
    text = capsys.readouterr().out
    assert "images      8 x 8 pixels, resized bicubic" in text
    assert "features    16 per photo" in text
    assert models.store.sha256_of(tiny_model) in text


def test_model_info_as_json_is_what_the_function_gives(
    tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["model", "info", "--json", str(tiny_model)]) == 0
    assert json.loads(capsys.readouterr().out) == models.info(tiny_model)


def test_model_list_tells_what_is_there_and_what_can_be_had(
    home: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["model", "list"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"models in {home}:",
        "  none yet",
        "available with `pomona model pull MODEL`:",
        "  mobilenet_v2",
        "  efficientnet_lite0",
    ]
    shutil.copy(tiny_model, home / "mobilenet_v2.onnx")
    assert main(["model", "list"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"models in {home}:",
        "  mobilenet_v2",
        "available with `pomona model pull MODEL`:",
        "  efficientnet_lite0",
    ]


def test_model_convert_passes_what_it_was_given(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given = []

    def convert(*args: object, **options: object) -> str:
        given.append((args, options))
        return str(tiny_model)

    monkeypatch.setattr(models, "convert", convert, raising=False)
    options = (
        "--input-size 96x128 --output-tensor pool --mean 1,2,3 --std 4 --pooling max --license MIT"
    )
    assert main(["model", "convert", "w.onnx", "-o", "m.onnx", *options.split()]) == 0
    assert given == [
        (
            ("w.onnx", "m.onnx"),
            {
                "name": None,
                "input_size": (96, 128),
                "output_tensor": "pool",
                "mean": [1.0, 2.0, 3.0],
                "std": [4.0],
                "pooling": "max",
                "license": "MIT",
            },
        )
    ]
    assert "name        tiny" in capsys.readouterr().out


def test_model_pull_passes_what_it_was_given(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = []

    def pull(*args: object, **options: object) -> str:
        given.append((args, options))
        return str(tiny_model)

    monkeypatch.setattr(models, "pull", pull, raising=False)
    assert main(["model", "pull"]) == 0
    assert main(["model", "pull", "efficientnet_lite0", "--weights", "w", "--force"]) == 0
    assert given == [
        (("mobilenet_v2",), {"weights": None, "force": False}),
        (("efficientnet_lite0",), {"weights": "w", "force": True}),
    ]


def test_a_model_of_that_name_is_missing_says_how_to_get_it(
    home: Path, folder: Path, output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["featurize", str(folder), "-o", str(output)]) == 1
    assert "pomona model pull mobilenet_v2" in capsys.readouterr().err


# run


def test_run_without_pyspark_says_where_it_comes_from(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "pyspark.sql", None)
    assert main(["run", "--images", str(tmp_path), "--output", "y"]) == 1
    message = capsys.readouterr().err
    assert "spark-submit" in message
    assert "pip install 'pyspark" in message


JAVA_STACK = "\tat org.apache.spark.Some.method(Some.scala:1)\n"


@pytest.mark.parametrize(
    ("message", "told"),
    [
        ("one\ntwo", "one two"),
        (
            "calling o1.parquet.\n: java.io.IOException: no space\n" + JAVA_STACK * 3,
            "calling o1.parquet. : java.io.IOException: no space",
        ),
        (
            f"Job aborted\n{JAVA_STACK}Caused by: a.B: outer\n{JAVA_STACK}"
            f"Caused by: a.B: the length is too much\n{JAVA_STACK}\t... 24 more\n",
            "a.B: the length is too much",
        ),
        (
            f"Job aborted\n{JAVA_STACK}Caused by: a.PythonException: "
            "Traceback (most recent call last):\n"
            f'  File "worker.py", line 1\n    code\nValueError: broken.jpg: cut\n\n{JAVA_STACK}',
            "ValueError: broken.jpg: cut",
        ),
        (
            "\n  An exception was thrown from the Python worker.\n"
            "Traceback (most recent call last):\n"
            '  File "worker.py", line 1\n    code\nTypeError: image 0 must be bytes\n',
            "TypeError: image 0 must be bytes",
        ),
    ],
)
def test_of_a_message_of_spark_s_only_the_cause_is_told(message: str, told: str) -> None:
    assert cause(message) == told


def test_a_run_on_spark_ends_with_a_summary() -> None:
    summary = SimpleNamespace(
        photos=6560,
        errors=2,
        first_errors=[("a.jpg", "empty: 0 bytes"), ("b.jpg", "cut")],
        warnings=1,
        first_warnings=[("c.jpg", "parts are missing")],
        turned=1_200,
        retried=14,
        recovered=12,
        caution="some features were made by Pomona 0.1.0",
        left_out={".txt": 3},
        decided={},
        vanished=1,
        reading={"way": "binaryFile", "reason": "only Spark reads hdfs://"},
        featurized=60,
        images_per_second=178.25,
        k=344,
        dim=1280,
        variance_explained=0.95012,
        seconds={"list": 1.26, "features": 36.0},
        output="s3://fruits/out",
    )
    assert describe(summary).splitlines() == [
        "2 photos failed:",
        "  a.jpg: empty: 0 bytes",
        "  b.jpg: cut",
        "1 photo has a warning:",
        "  c.jpg: parts are missing",
        "1,200 photos have an EXIF orientation that was not applied; --apply-exif applies it",
        "14 photos with an error in an earlier run retried: 12 now have features",
        "some features were made by Pomona 0.1.0",
        "left out: 3 .txt",
        "1 photo vanished before being read",
        "Spark read the photos one by one: only Spark reads hdfs://",
        "6,560 photos, 2 errors; 60 featurized now, 178.2 images/s",
        "PCA: 344 of 1,280 components explain 95.01% of the variance",
        "seconds: list 1.3, features 36.0",
        "s3://fruits/out: features, pca, pca_model, summary.json",
    ]
