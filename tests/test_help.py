"""Help where people ask for it: docstrings, wrong types and misspelled names."""

from __future__ import annotations

import argparse
import array
import inspect
import io
import json
import os
import pydoc
import re
import rlcompleter
import subprocess
import sys
from pathlib import Path
from subprocess import PIPE
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from PIL import Image

import extension_docs
import pomona
from pomona import Featurizer, ImageError, ModelError, _native, models
from pomona.cli import FAILED, USAGE, _parser, main
from specimens import picture, saved

PHOTO = saved(picture("RGB", 20, 30, 0), "JPEG")


@pytest.fixture(scope="module")
def featurizer(tiny_model: Path) -> Featurizer:
    return Featurizer(tiny_model)


# Docstrings


def test_the_extension_has_the_docstrings_of_its_stub() -> None:
    stub = dict(extension_docs.docstrings(extension_docs.read_stub()))
    extension = {}
    for name in _native.__all__:
        thing = getattr(_native, name)
        if callable(thing):
            extension[name] = thing.__doc__
        if inspect.isclass(thing):
            members = {f"{name}.{key}": value for key, value in vars(thing).items()}
            extension.update(
                (key, value.__doc__) for key, value in members.items() if "__" not in key
            )
    assert extension == stub


@pytest.mark.parametrize(
    ("thing", "told"),
    [
        (Featurizer, "Turns encoded images into feature vectors."),
        (Featurizer.featurize, "iterable of bytes"),
        (Featurizer.dim, "The number of features"),
        (pomona.load_image, "An encoded image"),
        (pomona.featurize, "Compute feature vectors"),
        (pomona, "featurize_folder(images"),
    ],
)
def test_help_documents_what_it_is_asked_about(thing: Any, told: str) -> None:
    text = pydoc.render_doc(thing, renderer=pydoc.plaintext)
    assert told in text


def test_signatures_can_be_inspected() -> None:
    assert str(inspect.signature(Featurizer)).startswith("(model, *, threads=1, batch_size=2")
    assert "unknown" not in str(inspect.signature(Featurizer))
    assert list(inspect.signature(pomona.load_image).parameters)[:2] == ["image", "size"]
    assert str(inspect.signature(_native.multiply_adds)) == "(threads, seconds)"


def test_tab_completes_the_lazy_names() -> None:
    complete = rlcompleter.Completer({"pomona": pomona}).complete
    assert complete("pomona.load_im", 0).startswith("pomona.load_image")
    assert complete("pomona.Feat", 0).startswith("pomona.Featurizer")


# Wrong types


@pytest.mark.parametrize(
    "image",
    [
        io.BytesIO(PHOTO),
        pa.scalar(PHOTO),
        pa.py_buffer(PHOTO),
        np.frombuffer(PHOTO, np.uint8),
        np.frombuffer(PHOTO, np.uint8).reshape(-1, 1),
        array.array("B", PHOTO),
    ],
    ids=lambda image: type(image).__name__,
)
def test_whatever_is_the_bytes_of_a_photo_is_accepted(featurizer: Featurizer, image: Any) -> None:
    expected = featurizer.featurize([PHOTO])
    np.testing.assert_array_equal(featurizer.featurize([image]), expected)
    np.testing.assert_array_equal(pomona.load_image(image), pomona.load_image(PHOTO))
    with pytest.raises(TypeError, match=r"a batch of images, not one: pass \[image\]"):
        featurizer.featurize(image)


@pytest.mark.parametrize(
    "images", [pd.Series([PHOTO, None]), pa.array([PHOTO, None]), [PHOTO, float("nan")]]
)
def test_a_missing_value_is_a_missing_image(featurizer: Featurizer, images: Any) -> None:
    first, second = featurizer.try_featurize(images).errors
    assert first is None
    assert isinstance(second, ImageError)
    assert second.kind == "missing"


PIXELS = np.zeros((8, 8, 3), np.uint8)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (Image.fromarray(PIXELS), r"not Image: .* encode it: image\.save\(buffer, 'PNG'\)"),
        (PIXELS, r"not ndarray: .* encode it: PIL\.Image\.fromarray\(array\)\.save"),
        (Path("a/b.jpg"), r"not PosixPath: read the file, Path\('a/b\.jpg'\)\.read_bytes\(\)"),
        ("a/b.jpg", r"not str: read the file, Path\('a/b\.jpg'\)\.read_bytes\(\)"),
        (pa.scalar("a/b.jpg"), r"not StringScalar: read the file, Path\('a/b\.jpg'\)"),
        (io.BufferedReader(io.BytesIO(PHOTO)), r"not BufferedReader: pass file\.read\(\)"),
        ({"bytes": PHOTO, "path": "b.jpg"}, r"not dict: pass image\['bytes'\]"),
        ([PHOTO], "not list: pass one flat list of the contents of files"),
        (3, r"not int: pass the content of a file, path\.read_bytes\(\)"),
    ],
    ids=lambda value: "" if isinstance(value, str) else type(value).__name__,
)
def test_an_image_that_is_not_bytes_is_refused_with_the_remedy(
    featurizer: Featurizer, image: Any, message: str
) -> None:
    for featurize in (featurizer.featurize, featurizer.try_featurize):
        with pytest.raises(TypeError, match=f"^image 1 must be bytes or None, {message}"):
            featurize([PHOTO, image])
    with pytest.raises(TypeError, match=f"^image 0 must be bytes or None, {message}"):
        pomona.load_image(image)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (None, r"not None: pass a list of the contents of files, \[path\.read_bytes\(\), …\]"),
        ("fruits", r"not str: .* or give a folder to pomona\.featurize_folder"),
        (Path("fruits"), r"not PosixPath: read the files, \[Path\('fruits'\)\.read_bytes\(\)\]"),
        ({"a.jpg": PHOTO}, r"not dict: pass list\(images\.values\(\)\)"),
        (io.BufferedReader(io.BytesIO(PHOTO)), r"not BufferedReader: pass \[file\.read\(\)\]"),
        (pd.DataFrame({"content": [PHOTO]}), r"not DataFrame: pass the column .*\['content'\]"),
        (Image.fromarray(PIXELS), r"not Image: .* encode it"),
        (PIXELS[None], r"not ndarray: .* encode it"),
    ],
    ids=lambda value: "" if isinstance(value, str) else type(value).__name__,
)
def test_a_batch_of_something_else_is_refused_with_the_remedy(
    featurizer: Featurizer, images: Any, message: str
) -> None:
    with pytest.raises(TypeError, match=f"^featurize takes an iterable of bytes, {message}"):
        featurizer.featurize(images)


def test_paths_may_be_path_objects_and_must_be_paths(featurizer: Featurizer) -> None:
    reader = _native.PathFeaturizer(featurizer)
    reader.submit([Path("/nowhere/a.jpg"), None, float("nan")])
    assert [error.kind for error in reader.next().errors] == ["gone", "missing", "missing"]
    with pytest.raises(TypeError, match=r"path 1 must be str or None, not bytes: .* Featurizer"):
        reader.submit(["a.jpg", PHOTO])
    with pytest.raises(TypeError, match="an iterable of paths, not None"):
        reader.submit(None)


def test_photos_in_memory_are_no_folders(tmp_path: Path, tiny_model: Path) -> None:
    for images in ([PHOTO], PHOTO, None):
        with pytest.raises(TypeError, match=r"not (bytes|None): .* use pomona\.featurize"):
            pomona.featurize_folder(images, tmp_path / "x.parquet", model=tiny_model)


@pytest.mark.parametrize("size", [224, (224,), (8.0, 8), "8x8"])
def test_a_size_is_two_integers(size: Any) -> None:
    with pytest.raises(TypeError, match=r"size must be a pair of integers, \(height, width\), not"):
        pomona.load_image(PHOTO, size=size)


def test_photos_are_no_results(folder: Path) -> None:
    with pytest.raises(FileNotFoundError, match="is a folder of photos, not of results"):
        pomona.LocalResults(folder)


# Misspelled names


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Featurizer("x", apply_exfi=True), r"Featurizer\(\) .*'apply_exif'\?"),
        (lambda: pomona.load_image(PHOTO, sise=8), r"load_image\(\) .*'size'\?"),
        (lambda: pomona.featurize([], apply_exfi=True), r"featurize\(\) .*'apply_exif'\?"),
        (lambda: pomona.featurize([], treads=2), r"featurize\(\) .*'threads'\?"),
    ],
)
def test_an_unknown_argument_suggests_the_one_meant(call: Any, message: str) -> None:
    with pytest.raises(TypeError, match=r"unexpected keyword argument .*; did you mean") as error:
        call()
    error.match(message)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("mobilnet_v2", "'mobilenet_v2'[?] Get it with: pomona model pull mobilenet_v2"),
        ("efficientnet-lite0", "'efficientnet_lite0'[?] Get it with: pomona model pull"),
        ("mine_int_8", "'mine_int8'[?] Models in"),
    ],
)
def test_a_misspelled_model_suggests_the_one_meant(
    model: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POMONA_HOME", str(tmp_path))
    (tmp_path / "mine_int8.onnx").touch()
    with pytest.raises(ModelError, match=f"no model named {model!r} in .*; did you mean {message}"):
        Featurizer(model)


def test_a_misspelled_model_file_suggests_the_one_beside_it(tiny_model: Path) -> None:
    wrong = tiny_model.with_suffix(".onxx")
    with pytest.raises(ModelError, match=f"no model file '{wrong}'; did you mean '{tiny_model}'"):
        Featurizer(wrong)


def test_a_misspelled_model_to_pull_suggests_the_one_meant() -> None:
    with pytest.raises(ModelError, match=r"did you mean 'mobilenet_v2'\?"):
        models.pull("mobilenetv2")


def test_a_model_is_a_name_or_a_path() -> None:
    with pytest.raises(TypeError, match=r"name or the path of an \.onnx file, not NoneType"):
        models.resolve(None)
    with pytest.raises(TypeError, match="not list"):
        pomona.featurize([PHOTO], model=[])


# The command line


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("featurise photos -o out", "choose from .*; did you mean 'featurize'?"),
        ("pull mobilenet_v2", "choose from .*; did you mean 'model pull'?"),
        ("model qantize mine", "choose from .*; did you mean 'quantize'?"),
        ("featurize photos -o out --decode fats", "did you mean 'fast'?"),
        ("featurize photos -o out --treads 2", "arguments: --treads 2; did you mean '--threads'?"),
        (
            "run photos --outptu results",
            "required: -o/--output; --outptu is unknown; did you mean '--output'?",
        ),
        ("help", "choose from .*; did you mean '--help'?"),
        ("--verson", "unrecognized arguments: --verson; did you mean '--version'?"),
    ],
)
def test_a_misspelled_word_of_a_command_suggests_the_one_meant(
    line: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(line.split()) == USAGE
    last = capsys.readouterr().err.splitlines()[-1]
    assert re.search(f"{message[:-1]}[?]$", last), last


@pytest.mark.parametrize("verb", ["run", "featurize"])
@pytest.mark.parametrize(
    "line", ["a b -o out", "-o out a b", "--images a b -o out", "-o out --images a b"]
)
def test_photos_are_named_first_or_after_their_option(verb: str, line: str) -> None:
    args = _parser().parse_args([verb, *line.split()])
    assert (args.images, args.output) == (["a", "b"], "out")


def test_photos_are_required(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "-o", "results"]) == USAGE
    assert "IMAGES is required" in capsys.readouterr().err


def test_the_old_name_of_overwrite_warns(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given = []

    def pull(name: str, **options: Any) -> str:
        given.append(options)
        return str(tiny_model)

    monkeypatch.setattr(models, "pull", pull, raising=False)
    assert main(["model", "pull", "--force"]) == 0
    assert capsys.readouterr().err == "pomona: --force is deprecated: use --overwrite\n"
    assert main(["model", "pull", "--overwrite"]) == 0
    assert [options["force"] for options in given] == [True, True]


def test_every_command_that_prints_a_result_prints_it_as_json() -> None:
    without = {"model", "completion"}
    parsers = {**commands(_parser()), **commands(commands(_parser())["model"])}
    for name, parser in parsers.items():
        if name not in without:
            assert "--json" in parser._option_string_actions, name


def commands(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    (found,) = [each for each in parser._actions if isinstance(each, argparse._SubParsersAction)]
    return dict(found.choices)


@pytest.mark.parametrize(
    "line", ["model list --json", "info --json", "model info --json {model}", "model pull --json"]
)
def test_json_is_one_object_and_nothing_else(
    line: str,
    tiny_model: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(models, "pull", lambda *_, **__: str(tiny_model), raising=False)
    assert main(line.format(model=tiny_model).split()) == 0
    assert isinstance(json.loads(capsys.readouterr().out), dict)


def test_a_failure_with_json_is_one_line_on_standard_error(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["model", "info", "--json", "nowhere.onnx"]) == FAILED
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1


# Shell completion


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What completes the command line in bash."""
    path = tmp_path_factory.mktemp("completion") / "pomona"
    done = subprocess.run(
        [sys.executable, "-m", "pomona", "completion", "bash"], stdout=PIPE, check=True
    )
    path.write_bytes(done.stdout)
    return path


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("fea", {"featurize"}),
        ("model q", {"quantize"}),
        ("featurize --ov", {"--overwrite"}),
        ("featurize --decode ", {"exact", "fast"}),
        ("completion ", {"bash", "zsh", "fish"}),
        ("run --model m", {"mine", "mobilenet_v2"}),
        ("model info e", {"efficientnet_lite0"}),
        ("featurize ph", {"photos"}),
        ("bench --images ", {"photos"}),
        ("bench --model th", {"this.onnx"}),
        ("model convert w", {"weights.h5"}),
    ],
)
def test_tab_completes_commands_options_choices_models_and_files(
    script: Path, tmp_path: Path, line: str, offered: set[str]
) -> None:
    home = tmp_path / "home" / "pomona"
    home.mkdir(parents=True)
    (home / "mine.onnx").touch()
    here = tmp_path / "here"
    (here / "photos").mkdir(parents=True)
    (here / "weights.h5").touch()
    (here / "this.onnx").touch()
    press_tab = (
        'source "$1"; function=$(complete -p pomona | grep -o "_[a-z]*_pomona"); '
        'COMP_WORDS=(pomona "${@:2}"); COMP_CWORD=$(($# - 1)); '
        '"$function" pomona; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    done = subprocess.run(
        ["bash", "--norc", "-c", press_tab, "bash", script, *line.split(" ")],
        cwd=here,
        env={"PATH": os.environ["PATH"], "XDG_CACHE_HOME": str(home.parent)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert set(done.stdout.split()) == offered
