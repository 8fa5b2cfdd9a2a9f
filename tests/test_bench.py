"""`pomona bench`: what it measures, what it prints, and how it refuses. Nothing here is timed."""

from __future__ import annotations

import importlib
import json
import os
import re
import sys
from pathlib import Path
from typing import Callable

import onnx
import pytest
from onnx import TensorProto, helper

from pomona import DecodeOptions, ModelError, _native, bench
from pomona.cli import main
from pomona.models.multiply_adds import multiply_adds
from specimens import damaged

ROOT = Path(__file__).resolve().parents[1]
QUICK = 0.01

# One convolution: 16 kernels of 3 x 3 x 3 over 4 x 4 places.
TINY_MULTIPLY_ADDS = 16 * 27 * 16


def quick(*models: object, **options: object) -> bench.Bench:
    return bench.measure(models, seconds=QUICK, **options)


# The peak


@pytest.mark.parametrize("threads", [1, 2])
def test_multiply_adds_are_done_in_whole_vectors(threads: int) -> None:
    assert _native.vectors() in ("AVX-512", "AVX2", "SSE2")
    assert _native.multiply_adds(threads, 0.001) % 120_000 == 0


@pytest.mark.parametrize(
    ("threads", "seconds", "message"),
    [
        (0, 0.1, "threads must be at least 1"),
        (1, -1.0, "seconds must be a time"),
        (1, float("nan"), "seconds must be a time"),
    ],
)
def test_a_peak_of_nothing_is_refused(threads: int, seconds: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _native.multiply_adds(threads, seconds)


# What a model computes


def one_node(operator: str, shapes: dict[str, list[int | str]], output: list, **attributes: object):
    values = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in shapes.items()
    ]
    node = helper.make_node(operator, list(shapes), ["out"], **attributes)
    out = helper.make_tensor_value_info("out", TensorProto.FLOAT, output)
    return helper.make_model(helper.make_graph([node], "one", values, [out]))


@pytest.mark.parametrize(
    ("model", "count"),
    [
        (
            one_node("Conv", {"x": ["n", 8, 5, 5], "w": [8, 1, 3, 3]}, ["n", 8, 3, 3], group=8),
            8 * 3 * 3 * 9,
        ),
        (
            one_node("ConvTranspose", {"x": ["n", 2, 3, 3], "w": [2, 5, 4, 4]}, ["n", 5, 6, 6]),
            2 * 3 * 3 * 5 * 16,
        ),
        (one_node("Gemm", {"x": ["n", 7], "w": [5, 7]}, ["n", 5], transB=1), 7 * 5),
        (one_node("MatMul", {"x": ["n", 4, 7], "w": [7, 5]}, ["n", 4, 5]), 4 * 7 * 5),
        (one_node("Relu", {"x": ["n", 7]}, ["n", 7]), 0),
        (one_node("Conv", {"x": ["n", 3, "h", 5], "w": [8, 3, 3, 3]}, ["n", 8, "h", 3]), None),
    ],
    ids=["depthwise", "transposed", "gemm", "matmul", "relu", "unknown"],
)
def test_multiply_adds_of_an_operator(model: onnx.ModelProto, count: int | None) -> None:
    assert multiply_adds(model) == count


def test_multiply_adds_of_a_model_file(tiny_model: Path) -> None:
    assert multiply_adds(onnx.load(tiny_model)) == TINY_MULTIPLY_ADDS


def test_a_model_that_notes_its_multiply_adds_needs_no_onnx(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = onnx.load(tiny_model)
    noting = {entry.key: entry.value for entry in model.metadata_props}
    helper.set_model_props(model, {**noting, "pomona.multiply_adds": "1234"})
    onnx.save(model, tmp_path / "noting.onnx")
    monkeypatch.setitem(sys.modules, "pomona.models.inspection", None)
    silent, noted = quick(tiny_model, tmp_path / "noting.onnx", threads=[1]).results
    assert (silent.multiply_adds, silent.share_of_peak) == (None, None)
    assert noted.multiply_adds == 1234
    assert noted.share_of_peak is not None


# What is measured


def test_there_is_a_result_for_each_number_of_threads_and_model(tiny_model: Path) -> None:
    both = quick(tiny_model, tiny_model, threads=[1, 3])
    assert [(result.model, result.threads) for result in both.results] == [
        ("tiny", 1), ("tiny", 1), ("tiny", 3), ("tiny", 3),
    ]  # fmt: skip
    assert [peak.threads for peak in both.peaks] == [1, 3]
    for result in both.results:
        assert 0 < result.lowest <= result.images_per_second <= result.highest
        assert result.multiply_adds == TINY_MULTIPLY_ADDS
        assert 0 < result.share_of_peak < 1  # decoding is most of the work of this one
    assert both.results[0].times_first_model == both.results[2].times_first_model == 1
    assert 0 < both.processor_share <= 1


def test_threads_double_up_to_the_processors_of_this_process(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(6)))
    assert [peak.threads for peak in quick(tiny_model).peaks] == [1, 2, 4, 6]


def test_the_photos_of_the_package_are_used_unless_a_folder_is_named(
    tiny_model: Path, photos_folder: Path
) -> None:
    own = quick(tiny_model, threads=[1])
    assert (own.photos, own.photo_count) == (str(bench.BUILT_IN_PHOTOS), 8)
    named = quick(tiny_model, threads=[1], images=photos_folder)
    assert (named.photos, named.photo_count) == (str(photos_folder), 32)


def test_the_default_is_the_built_in_model_that_is_there_and_its_int8_version(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POMONA_HOME", str(tmp_path))
    with pytest.raises(ModelError, match="pomona model pull mobilenet_v2"):
        bench.measure(seconds=QUICK)
    for name in ("efficientnet_lite0", "efficientnet_lite0_int8", "mine"):
        (tmp_path / f"{name}.onnx").write_bytes(tiny_model.read_bytes())
    measured = bench.measure(threads=[1], seconds=QUICK)
    assert [Path(result.path).stem for result in measured.results] == [
        "efficientnet_lite0", "efficientnet_lite0_int8",
    ]  # fmt: skip


def test_a_folder_without_photos_is_refused_by_name(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"^{tmp_path} has no photos$"):
        quick(tiny_model, images=tmp_path)


def test_a_photo_that_cannot_be_decoded_is_left_out_and_counted(
    tiny_model: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (broken,) = list(folder.rglob("*.jpg"))[3:4]
    content = broken.read_bytes()
    broken.write_bytes(content[: len(content) // 2])
    assert run("--model", tiny_model, "--threads", 1, "--images", folder) == 0
    lines = capsys.readouterr().out.splitlines()
    assert f"photos     15, {folder}" in lines
    (told,) = [line for line in lines if "could not be decoded" in line]
    assert told.startswith(
        f"1 photo could not be decoded and is left out; the first is {broken}: truncated JPEG"
    )


def test_photos_are_decoded_with_the_options(tiny_model: Path, tmp_path: Path) -> None:
    (tmp_path / "damaged.jpg").write_bytes(damaged())
    measured = quick(tiny_model, threads=[1], images=tmp_path, apply_exif=True)
    assert measured.decode == DecodeOptions(apply_exif=True).keywords()
    with pytest.raises(ValueError, match=r"damaged\.jpg: .*damaged or missing"):
        quick(tiny_model, images=tmp_path, strict=True)
    with pytest.raises(TypeError, match=r"measure\(\) .* 'exif'"):
        quick(tiny_model, exif=True)


# The command


def run(*args: object) -> int:
    return main(["bench", "--seconds", str(QUICK), *map(str, args)])


@pytest.mark.parametrize(
    ("instructions", "told"), [("AVX-512 VNNI", "AVX-512 VNNI"), (None, "none")]
)
def test_the_table_names_the_processor_the_peak_and_every_result(
    instructions: str | None,
    told: str,
    tiny_model: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bench, "int8_instructions", lambda: instructions)
    assert run("--model", tiny_model, "--threads", 1, 2) == 0
    text = capsys.readouterr().out
    assert f" available; int8 instructions: {told}\n" in text
    assert f"billion float32 multiply-adds per second, {_native.vectors()}\n" in text
    assert "photos     8, rendered, 100 x 100 pixels\n" in text
    rows = [line.split()[:2] for line in text.splitlines() if line.startswith("tiny ")]
    assert rows == [["tiny", "1"], ["tiny", "2"]]
    assert "times" not in text


def test_the_table_names_options_that_are_not_the_defaults(
    tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--decode", "fast", "--apply-exif", "--max-pixels", 90_000]
    assert run("--model", tiny_model, "--threads", 1, *options) == 0
    assert (
        "photos     8, rendered, 100 x 100 pixels; apply_exif=True, max_pixels=90000, "
        "decode='fast'\n" in capsys.readouterr().out
    )


def test_a_second_model_is_compared_with_the_first(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "other.onnx").write_bytes(tiny_model.read_bytes())
    models = ["--model", tiny_model, "--model", tmp_path / "other.onnx"]
    assert run(*models, "--threads", 1) == 0
    head, first, second = [
        line for line in capsys.readouterr().out.splitlines() if line.startswith(("model", "tiny"))
    ]
    assert head.endswith("times")
    assert first.endswith("1.00x")
    assert second.endswith("x")


def test_json_has_these_keys_and_no_others(
    tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("--model", tiny_model, "--threads", 1, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert list(found) == [
        "processor", "processors", "vectors", "int8_instructions", "photos", "photo_count",
        "failed", "decode", "rounds", "seconds", "processor_share", "peaks", "results",
    ]  # fmt: skip
    assert list(found["peaks"][0]) == ["threads", "multiply_adds_per_second"]
    assert list(found["results"][0]) == [
        "model", "path", "threads", "images_per_second", "lowest", "highest",
        "images_per_second_undisturbed", "times_first_model", "multiply_adds", "share_of_peak",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (["--threads", "0"], 2, "'0' is not a whole number above 0"),
        (["--seconds", "0"], 2, "'0' is not a number above 0"),
        (["--seconds", "inf"], 2, "'inf' is not a number above 0"),
        (["--model", "nowhere.onnx"], 1, "there is no model file 'nowhere.onnx'"),
        (["--images", "nowhere"], 1, "nowhere: No such file or directory"),
    ],
)
def test_a_mistake_is_one_sentence(
    args: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", *args]) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert message in captured.err.splitlines()[-1]


# What `make bench` writes


@pytest.fixture
def speed_summary(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], list[str]]:
    monkeypatch.syspath_prepend(ROOT / "benches")
    return importlib.import_module("speed_summary").speed_summary


def tables(page: str) -> str:
    markers = "<!-- bench:start -->\n(.*?)\n<!-- bench:end -->"
    return re.search(markers, (ROOT / page).read_text(encoding="utf-8"), re.DOTALL)[1]


def test_the_readme_has_the_summary_of_the_tables_in_the_docs(
    speed_summary: Callable[[str, str], list[str]],
) -> None:
    page = "docs/benchmarks.md"
    summary = speed_summary(tables(page), page)
    assert "\n".join(summary) == tables("README.md")
    assert len([line for line in summary if line.startswith("|")]) == 2 + 6


@pytest.mark.parametrize(
    ("left_out", "message"),
    [
        ("## One process", "no section 'One process'"),
        ("images/s, 1 core", "'One process' has no table with the row 'Pomona' and the column"),
        ("| `mobilenet_v2`, int8 |", "'int8' has no table with the row '`mobilenet_v2`, int8'"),
    ],
)
def test_a_summary_of_a_report_that_lacks_something_is_refused(
    left_out: str, message: str, speed_summary: Callable[[str, str], list[str]]
) -> None:
    report = tables("docs/benchmarks.md").replace(left_out, "")
    with pytest.raises(ValueError, match=message):
        speed_summary(report, "docs/benchmarks.md")
