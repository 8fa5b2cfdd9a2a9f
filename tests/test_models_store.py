"""Names, paths and the folder they stand for."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pomona import ModelError, models
from pomona.models import store


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "home"
    monkeypatch.setenv("POMONA_HOME", str(folder))
    return folder


@pytest.fixture
def stored(home: Path, tiny_model: Path) -> Path:
    home.mkdir()
    return Path(shutil.copy(tiny_model, home / "tiny.onnx"))


def test_home_is_what_pomona_home_says(home: Path) -> None:
    assert models.home() == home


def test_home_is_in_the_cache_folder_by_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("POMONA_HOME", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert models.home() == tmp_path / "pomona"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative/paths/are/invalid")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert models.home() == tmp_path / ".cache" / "pomona"


def test_a_name_resolves_to_the_file_in_home(stored: Path) -> None:
    assert models.resolve("tiny") == str(stored)
    assert models.resolve("tiny.onnx") == str(stored)


def test_a_path_resolves_to_itself_made_absolute(
    home: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert models.resolve(tiny_model) == str(tiny_model)
    monkeypatch.chdir(tiny_model.parent)
    assert models.resolve("tiny.onnx") == str(tiny_model)
    assert models.resolve("./tiny.onnx") == str(tiny_model)


def test_a_file_beside_you_wins_over_a_stored_one_when_named_with_its_ending(
    stored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Path(shutil.copy(stored, tmp_path / "tiny.onnx"))
    monkeypatch.chdir(tmp_path)
    assert models.resolve("tiny.onnx") == str(other)
    assert models.resolve("tiny") == str(stored)


def test_an_unknown_name_lists_what_is_there_and_how_to_get_more(stored: Path) -> None:
    with pytest.raises(ModelError, match="there is no model named 'plums'") as error:
        models.resolve("plums")
    assert f"Models in {stored.parent}: tiny." in str(error.value)
    assert "pomona model pull mobilenet_v2" in str(error.value)
    assert "pomona model convert" in str(error.value)


@pytest.mark.parametrize("name", store.BUILT_IN_NAMES)
def test_a_built_in_name_that_is_not_pulled_says_how_to_pull_it(home: Path, name: str) -> None:
    with pytest.raises(ModelError, match=f"Get it with: pomona model pull {name}") as error:
        models.resolve(name)
    assert "Models in" in str(error.value)
    assert "none" in str(error.value)


def test_a_path_that_is_not_there_is_called_a_file(home: Path) -> None:
    with pytest.raises(ModelError, match=r"there is no model file '/nowhere/fruit\.onnx'"):
        models.resolve("/nowhere/fruit.onnx")


def test_a_path_of_one_word_is_a_file_and_never_the_model_of_that_name(stored: Path) -> None:
    with pytest.raises(ModelError, match="there is no model file 'tiny'") as error:
        models.resolve(Path("tiny"))
    assert "to use the stored model, pass 'tiny'" in str(error.value)


def test_no_text_is_no_model(home: Path) -> None:
    with pytest.raises(ModelError, match="the model's name is empty"):
        models.resolve("")


def test_keras_weights_are_told_to_be_converted(home: Path, tmp_path: Path) -> None:
    weights = tmp_path / "fruit.h5"
    weights.write_bytes(b"\x89HDF\r\n\x1a\n")
    with pytest.raises(ModelError, match=r"pomona model convert .*fruit\.h5 -o fruit\.onnx"):
        models.resolve(weights)


def test_a_folder_and_a_uri_are_not_models(home: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is a folder"):
        models.resolve(str(tmp_path))
    with pytest.raises(ModelError, match="is a URI"):
        models.resolve("s3://bucket/fruit.onnx")


@pytest.mark.parametrize("name", ["", "..", "../x", "a/b", ".hidden", "-x", "spaced name"])
def test_a_name_cannot_lead_out_of_home(home: Path, name: str) -> None:
    with pytest.raises(ModelError, match="cannot be a model's name"):
        store.path_of(name)


def test_info_describes_a_model(stored: Path) -> None:
    info = models.info("tiny")
    assert info["path"] == str(stored)
    assert info["input_size"] == [8, 8]
    assert info["dim"] == 16
    assert info["sha256"] == store.sha256_of(stored)
    assert info["file_size"] == stored.stat().st_size
    assert info["parameters"] > 0
    assert set(info) >= {"name", "source", "license", "resize"}


def test_info_refuses_what_is_not_a_model(home: Path, tmp_path: Path, tiny_model: Path) -> None:
    garbage = tmp_path / "garbage.onnx"
    for content in (b"", b"not a model at all", tiny_model.read_bytes()[:100]):
        garbage.write_bytes(content)
        with pytest.raises(ModelError, match=r"garbage\.onnx"):
            models.info(garbage)


def test_finding_a_model_needs_neither_onnx_nor_h5py() -> None:
    code = (
        "import sys; sys.modules['onnx'] = sys.modules['h5py'] = None\n"
        "import pomona.models\n"
        "pomona.models.home()\n"
        "try: pomona.models.convert\n"
        "except ImportError as error: print(error)\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pip install 'pomona[models]'" in run.stdout


def test_the_package_lists_its_verbs() -> None:
    assert dir(models) == ["convert", "home", "info", "pull", "quantize", "resolve"]
    with pytest.raises(AttributeError, match="no attribute 'push'"):
        models.push  # noqa: B018
