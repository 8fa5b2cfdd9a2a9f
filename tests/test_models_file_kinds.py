"""What people give as a model and is none: the message says what it is, and what to do."""

from __future__ import annotations

import io
import os
import pickle
import shlex
import subprocess
import sys
import tarfile
import zipfile
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from pomona import Featurizer, ModelError, models

SAFETENSORS = b'{"weight":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'


def _zip(*names: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name in names:
            archive.writestr(name, "content")
    return file.getvalue()


def _tar() -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("model.onnx"))
    return file.getvalue()


@pytest.mark.parametrize("ending", [".onnx", ".h5", ".keras", ".pth"])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\n", "run `git lfs pull`"),
        (b"\n<!DOCTYPE html><html>", "is a web page"),
        (b'<?xml version="1.0"?><Error>', "error message of a server"),
        (b"", "is empty"),
        (b"\x1c\0\0\0TFL3", "TensorFlow Lite model.*tf2onnx"),
        (len(SAFETENSORS).to_bytes(8, "little") + SAFETENSORS, "safetensors.*onnx.export"),
        (pickle.dumps({"state_dict": 1}, protocol=2), "is a pickle.*onnx.export"),
        (_zip("net/data.pkl", "net/constants.pkl", "net/code/x.py"), "is a TorchScript module"),
        (_zip("net/data.pkl", "net/data/0"), "is a file of PyTorch's torch.save"),
        (_zip("a.txt"), r"holds a\.txt; expected a \.keras file"),
        (_tar(), "is an archive: unpack it"),
    ],
)
def test_a_file_of_another_kind_is_named(
    content: bytes, message: str, ending: str, tmp_path: Path
) -> None:
    path = tmp_path / f"model{ending}"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=message):
        models.convert(path, tmp_path / "out.onnx")
    if ending == ".onnx" and "expected" not in message:
        for use in (Featurizer, models.info):
            with pytest.raises(ModelError, match=message):
                use(path)


def test_weights_in_another_file_are_missed_by_name(tmp_path: Path) -> None:
    image = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["n", 3, 8, 8])
    result = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["n", 3, 8, 8])
    weights = numpy_helper.from_array(np.ones((1, 3, 8, 8), np.float32), "w")
    node = helper.make_node("Add", ["x", "w"], ["y"])
    model = helper.make_model(helper.make_graph([node], "g", [image], [result], [weights]))
    path = tmp_path / "big.onnx"
    onnx.save_model(
        model, str(path), save_as_external_data=True, location="weights.bin", size_threshold=0
    )
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(ModelError, match=r"another file, weights\.bin, which is not beside it"):
        models.convert(path, tmp_path / "out.onnx", output_tensor="y")


def test_a_download_that_broke_off_is_told(tiny_model: Path, tmp_path: Path) -> None:
    path = tmp_path / "cut.onnx"
    path.write_bytes(tiny_model.read_bytes()[:-9])
    with pytest.raises(ModelError, match="its download broke off"):
        models.convert(path, tmp_path / "out.onnx", output_tensor="features")


def test_folders_are_told_apart(tmp_path: Path) -> None:
    plain = tmp_path / "download"
    plain.mkdir()
    (plain / "model.onnx").touch()
    with pytest.raises(ModelError, match=r"is a folder.*give the file, such as .*model\.onnx"):
        models.convert(plain, tmp_path / "out.onnx")
    exported = tmp_path / "exported"
    exported.mkdir()
    (exported / "saved_model.pb").write_bytes(b"\x08\x01")
    for given in (exported, exported / "saved_model.pb"):
        with pytest.raises(ModelError, match=r"model\.save\('model\.keras'\).*tf2onnx"):
            models.convert(given, tmp_path / "out.onnx")
    (exported / "keras_metadata.pb").touch()
    with pytest.raises(ModelError, match=r"SavedModel of Keras 2.*tf_keras"):
        models.convert(exported, tmp_path / "out.onnx")


def test_the_advice_for_a_saved_model_runs_as_written(tmp_path: Path) -> None:
    if find_spec("tf_keras") is None:
        pytest.skip("needs tf_keras")
    saved = tmp_path / "saved"
    saved.mkdir()
    for name in ("saved_model.pb", "keras_metadata.pb"):
        (saved / name).touch()
    with pytest.raises(ModelError, match="SavedModel of Keras 2") as error:
        models.convert(saved, tmp_path / "out.onnx")
    python, option, code = shlex.split(str(error.value).split("`")[1])
    assert (python, option) == ("python", "-c")
    # One process for both, because TensorFlow takes seconds to start.
    made = "import tf_keras as k; k.Sequential([k.layers.Dense(2, input_shape=(3,))]).save('saved')"
    environment = dict(os.environ, TF_CPP_MIN_LOG_LEVEL="3", CUDA_VISIBLE_DEVICES="")
    subprocess.run(
        [sys.executable, "-c", f"{made}; {code}"], cwd=tmp_path, env=environment, check=True
    )
    with pytest.raises(ModelError, match=r"expected a MobileNetV2.*Its layers are: Dense"):
        models.convert(tmp_path / "model.keras", tmp_path / "out.onnx")
