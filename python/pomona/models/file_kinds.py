"""Tells what a file or folder is that was given as a model and is none, and what to do about it."""

from __future__ import annotations

import pathlib
import zipfile
from typing import Callable

from pomona._errors import ModelError

_START = 512
_EXPORT = (
    "load it in the program that made it and export the network with torch.onnx.export(network, "
    "torch.zeros(1, 3, 224, 224), 'model.onnx'), then convert that"
)
_SAVED_MODEL = "saved_model.pb"
#: Keras 2 wrote this into its SavedModels; without it, only TensorFlow's graph is there.
_KERAS_2_METADATA = "keras_metadata.pb"

_KINDS: list[tuple[Callable[[bytes], bool], str]] = [
    (lambda start: not start, "is empty: download or copy it again"),
    (
        lambda start: start.startswith(b"version https://git-lfs.github.com/spec/"),
        "is a Git LFS pointer, which only names the file: run `git lfs pull` in its repository",
    ),
    (
        lambda start: start.lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml")),
        "is a web page, or the error message of a server: download the file itself (on GitHub and "
        "Hugging Face with the button for the raw file)",
    ),
    (
        lambda start: start[4:8] == b"TFL3",
        "is a TensorFlow Lite model, which Pomona does not read: take the Keras model that it was "
        "made from, or convert it to ONNX with `python -m tf2onnx.convert --tflite FILE --output "
        "model.onnx` (pip install tf2onnx)",
    ),
    (
        lambda start: start[8:9] == b"{" and int.from_bytes(start[:8], "little") < 1 << 30,
        f"is a safetensors file, which has weights and no network: {_EXPORT}",
    ),
    (
        lambda start: start[:1] == b"\x80" and start[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"),
        "is a pickle, as torch.save writes it, which Pomona does not run: " + _EXPORT,
    ),
    (
        lambda start: (
            start.startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0", b"7z\xbc\xaf"))
            or start[257:262] == b"ustar"
        ),
        "is an archive: unpack it and give the model in it",
    ),
]


def check_kind(path: pathlib.Path) -> None:
    """Raise a ModelError for a file that is known to be none of Keras' and no ONNX file."""
    with path.open("rb") as file:
        start = file.read(_START)
    for matches, message in _KINDS:
        if matches(start):
            raise ModelError(f"{path} {message}")
    if start.startswith(b"PK\x03\x04") and zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
        if any(name.endswith("/data.pkl") for name in names):
            torchscript = any(name.endswith("/constants.pkl") for name in names)
            kind = "a TorchScript module" if torchscript else "a file of PyTorch's torch.save"
            raise ModelError(f"{path} is {kind}, which Pomona does not run: {_EXPORT}")
    if path.name == _SAVED_MODEL:
        raise ModelError(_saved_model(path.parent))


def folder_error(folder: pathlib.Path) -> ModelError:
    """Return the error of a folder that was given as a file."""
    if (folder / _SAVED_MODEL).is_file():
        return ModelError(_saved_model(folder))
    found = sorted(path for path in folder.glob("*") if path.suffix in (".onnx", ".keras", ".h5"))
    hint = f": give the file, such as {found[0]}" if found else ""
    return ModelError(f"{folder} is a folder; expected a .h5, .keras or .onnx file{hint}")


def _saved_model(folder: pathlib.Path) -> str:
    if (folder / _KERAS_2_METADATA).is_file():
        return (
            f"{folder} is a TensorFlow SavedModel of Keras 2, which Keras 3 does not load. Save it "
            f"as one file: {keras_2_advice(folder)} (pip install tf_keras; before TensorFlow 2.16, "
            "tensorflow.keras instead of tf_keras), and convert that"
        )
    return (
        f"{folder} is a TensorFlow SavedModel that has no Keras model in it, as Keras 3's "
        "model.export writes it. Save the model with model.save('model.keras') where it was made, "
        "and convert that; or make an ONNX file of the graph: "
        f"`python -m tf2onnx.convert --saved-model {folder} --output model.onnx` (pip install "
        "tf2onnx)"
    )


def keras_2_advice(folder: pathlib.Path) -> str:
    """Return the command that saves a SavedModel of Keras 2 as one file."""
    code = f"import tf_keras; tf_keras.models.load_model('{folder}').save('model.keras')"
    return f'`python -c "{code}"`'
