"""Converted Keras files compute what Keras computes."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import warnings
import zipfile
from importlib.util import find_spec
from pathlib import Path

import h5py
import numpy as np
import onnx
import pytest

import photos
import pomona
from pomona import Featurizer, ModelError, models
from pomona.models.keras.bare_weights import standard_layers
from pomona.models.keras.config import ModelCalls
from pomona.models.keras.pooling import pooling_after

PHOTOS = 50
SIZES = [(96, 96), (97, 130), (128, 128), (160, 160), (224, 224)]
SIMILARITY = 0.99999
# For features up to 6. An AMD EPYC with AVX2 and no AVX-512 measured 0.0011 for two of the models.
DIFFERENCE = 2e-3

# Flavours of Keras, by the module that keras_models.py imports.
KERAS_3 = "keras"
KERAS_2 = "tf_keras"
TENSORFLOW_2_11 = "tensorflow.keras"

SAVED = [
    "alone.h5",
    "alone.keras",
    "alone.weights.h5",
    "nested.h5",
    "nested.keras",
    "nested_weights.weights.h5",
    "normalized.h5",
    "normalized.keras",
    "open_size.h5",
    "open_size.keras",
    "rectangular.h5",
    "rectangular.keras",
    "resized.h5",
    "resized.keras",
    "sequential.h5",
    "sequential.keras",
    "shared.h5",
    "shared.keras",
    "unfolded.h5",
    "unfolded.keras",
    "with_top.h5",
    "with_top.keras",
]
OFFICIAL = "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_0.35_96.h5"
KERAS_3_SAVED = [*SAVED, "with_top_weights.weights.h5"]
KERAS_2_SAVED = [*SAVED, OFFICIAL]


@pytest.fixture(scope="module")
def encoded() -> list[bytes]:
    """Fifty photos: real ones if there are any, else rendered ones."""
    return _real() or _rendered()


def _real() -> list[bytes]:
    folder = os.environ.get("POMONA_PHOTOS")
    found = sorted(Path(folder).rglob("*.jpg")) if folder else []
    return [path.read_bytes() for path in found[:: max(len(found) // PHOTOS, 1)][:PHOTOS]]


def _rendered() -> list[bytes]:
    import io

    contents = []
    fruits = list(photos.FRUITS.values())
    for index in range(PHOTOS):
        file = io.BytesIO()
        fruit = fruits[index % len(fruits)]
        photos.photo(fruit, index % 3, 7 * index, 100, index).save(file, "JPEG", quality=92)
        contents.append(file.getvalue())
    return contents


@pytest.fixture(scope="module")
def pixels(encoded: list[bytes], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pixels")
    for size in SIZES:
        batch = np.stack([pomona.load_image(image, size=size) for image in encoded])
        np.save(folder / "{}x{}.npy".format(*size), batch)
    return folder


class Saved:
    """The files that one flavour of Keras has saved."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.cases = {
            case["file"]: case for case in json.loads((folder / "cases.json").read_text())
        }


def _save(python: str, flavor: str, pixels: Path, folder: Path) -> Saved:
    script = Path(__file__).with_name("support") / "keras_models.py"
    environment = dict(os.environ, TF_CPP_MIN_LOG_LEVEL="3", CUDA_VISIBLE_DEVICES="")
    # The other interpreter has its own packages.
    environment.pop("PYTHONPATH", None)
    run = subprocess.run(
        [python, str(script), flavor, str(pixels), str(folder)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert run.returncode == 0, run.stdout[-3000:]
    return Saved(folder)


def _needs(module: str) -> None:
    if find_spec(module) is None:
        pytest.skip(f"needs {module}")


@pytest.fixture(scope="module")
def keras_3(pixels: Path, tmp_path_factory: pytest.TempPathFactory) -> Saved:
    _needs("keras")
    return _save(sys.executable, KERAS_3, pixels, tmp_path_factory.mktemp("keras_3"))


@pytest.fixture(scope="module")
def keras_2(pixels: Path, tmp_path_factory: pytest.TempPathFactory) -> Saved:
    _needs("tf_keras")
    return _save(sys.executable, KERAS_2, pixels, tmp_path_factory.mktemp("keras_2"))


@pytest.fixture(scope="module")
def tensorflow_2_11(pixels: Path, tmp_path_factory: pytest.TempPathFactory) -> Saved:
    python = os.environ.get("POMONA_KERAS2_PYTHON")
    if not python:
        pytest.skip("needs a Python with TensorFlow 2.11: set POMONA_KERAS2_PYTHON")
    folder = tmp_path_factory.mktemp("tensorflow_2_11")
    return _save(python, TENSORFLOW_2_11, pixels, folder)


def _check(saved: Saved, name: str, encoded: list[bytes], folder: Path) -> None:
    case = saved.cases[name]
    note = case["note"]
    if name == "alone.weights.h5":
        note = "images of 224 x 224 pixels are assumed"
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        path = models.convert(saved.folder / name, folder / "model.onnx", **case["convert"])
    assert len(told) == bool(note)
    if note:
        assert note in str(told[0].message)
        assert note in models.info(path)["notes"]
    featurizer = Featurizer(path)
    assert featurizer.image_size == tuple(case["size"])
    expected = np.load(saved.folder / case["features"])
    found = featurizer.featurize(encoded)
    assert found.shape == expected.shape
    assert np.abs(expected).mean() > 0.1, "the reference is too small to tell anything"
    norms = np.linalg.norm(found, axis=1) * np.linalg.norm(expected, axis=1)
    similarity = (found * expected).sum(axis=1) / norms
    assert similarity.min() >= SIMILARITY
    assert np.abs(found - expected).max() <= DIFFERENCE


@pytest.mark.parametrize("name", KERAS_3_SAVED)
def test_what_keras_3_saved_has_its_features(
    name: str, keras_3: Saved, encoded: list[bytes], tmp_path: Path
) -> None:
    _check(keras_3, name, encoded, tmp_path)


@pytest.mark.parametrize("name", KERAS_2_SAVED)
def test_what_keras_2_saved_has_its_features(
    name: str, keras_2: Saved, encoded: list[bytes], tmp_path: Path
) -> None:
    _check(keras_2, name, encoded, tmp_path)


@pytest.mark.parametrize("name", KERAS_2_SAVED)
def test_what_tensorflow_2_11_saved_has_its_features(
    name: str, tensorflow_2_11: Saved, encoded: list[bytes], tmp_path: Path
) -> None:
    _check(tensorflow_2_11, name, encoded, tmp_path)


def test_a_tree_without_noted_names_is_read_by_class_and_count(
    keras_3: Saved, encoded: list[bytes], tmp_path: Path
) -> None:
    """Keras before 3.10 does not store the names of layers with their variables."""
    source = keras_3.folder / "nested.keras"
    older = Saved(keras_3.folder)
    with zipfile.ZipFile(source) as archive:
        weights = tmp_path / "model.weights.h5"
        weights.write_bytes(archive.read("model.weights.h5"))
        with h5py.File(weights, "r+") as file:
            noted = []
            file.visititems(lambda path, item: noted.append(item) if item.attrs else None)
            for item in noted:
                item.attrs.pop("name", None)
        target = keras_3.folder / "older.keras"
        with zipfile.ZipFile(target, "w") as rewritten:
            rewritten.writestr("config.json", archive.read("config.json"))
            rewritten.write(weights, "model.weights.h5")
    older.cases["older.keras"] = dict(older.cases["nested.keras"], file="older.keras")
    _check(older, "older.keras", encoded, tmp_path)


def test_batch_norm_is_folded_and_the_contract_kept(keras_3: Saved, tmp_path: Path) -> None:
    path = models.convert(keras_3.folder / "alone.keras", tmp_path / "fruit.onnx", license="MIT")
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    operators = [node.op_type for node in model.graph.node]
    assert operators.count("Conv") == 52
    assert set(operators) <= {
        "Transpose", "Cast", "Sub", "Conv", "Clip", "Add", "GlobalAveragePool", "Flatten",
    }  # fmt: skip
    (images,) = model.graph.input
    (features,) = model.graph.output
    assert [d.dim_param or d.dim_value for d in images.type.tensor_type.shape.dim] == [
        "n", 224, 224, 3,
    ]  # fmt: skip
    assert images.name == "images"
    assert images.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert features.name == "features"
    assert [d.dim_param or d.dim_value for d in features.type.tensor_type.shape.dim] == ["n", 1280]
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    assert metadata.keys() == {
        "pomona.name", "pomona.resize", "pomona.source", "pomona.license", "pomona.multiply_adds",
    }  # fmt: skip
    assert metadata["pomona.name"] == "fruit"
    assert metadata["pomona.resize"] == "bicubic"
    assert metadata["pomona.license"] == "MIT"
    # The paper's 300 million include the classification layer, which has 1.3 million.
    assert metadata["pomona.multiply_adds"] == "299494272"
    assert metadata["pomona.source"].startswith("alone.keras sha256:")


def test_the_same_weights_give_the_same_file(keras_3: Saved, tmp_path: Path) -> None:
    first = models.convert(keras_3.folder / "nested.h5", tmp_path / "a.onnx", name="one")
    second = models.convert(keras_3.folder / "nested.h5", tmp_path / "b.onnx", name="one")
    assert Path(first).read_bytes() == Path(second).read_bytes()


def test_a_model_converted_by_name_is_found_by_it(
    keras_3: Saved, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POMONA_HOME", str(tmp_path / "home"))
    path = models.convert(keras_3.folder / "nested.h5", name="our-fruit")
    assert models.resolve("our-fruit") == path
    assert models.info("our-fruit")["name"] == "our-fruit"
    # Keras counts 410,208; folding leaves 1 of the 4 numbers of each of 7,040 channels.
    assert models.info("our-fruit")["parameters"] == 410_208 - 3 * 7_040


def test_an_input_size_that_does_not_fit_is_refused(keras_3: Saved, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="built for images of 96 x 96"):
        models.convert(keras_3.folder / "nested.h5", tmp_path / "m.onnx", input_size=224)


def test_a_normalisation_beside_the_models_own_is_refused(keras_3: Saved, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="normalises its images itself"):
        models.convert(keras_3.folder / "nested.h5", tmp_path / "m.onnx", mean=0, std=255)


def test_a_file_cut_short_is_refused_and_leaves_nothing(keras_3: Saved, tmp_path: Path) -> None:
    for name in ("nested.h5", "nested.keras", "alone.weights.h5"):
        content = (keras_3.folder / name).read_bytes()
        for share in (0.01, 0.5, 0.97):
            cut = tmp_path / name
            cut.write_bytes(content[: int(len(content) * share)])
            output = tmp_path / "output"
            output.mkdir(exist_ok=True)
            with pytest.raises(ModelError, match=r"damaged or cut short|no variable"):
                models.convert(cut, output / "m.onnx")
            assert list(output.iterdir()) == []


@pytest.mark.parametrize("name", ["photo.h5", "photo.keras", "photo.jpg"])
def test_a_file_that_keras_did_not_write_is_refused(name: str, tmp_path: Path) -> None:
    for content in (b"", b"\xff\xd8\xff\xe0 a photo", b"PK\x03\x04 not a zip"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ModelError, match=f"{name}(: .*(expected|damaged)| is empty)"):
            models.convert(tmp_path / name, tmp_path / "m.onnx")


def test_hdf5_and_zip_files_of_other_kinds_are_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "table.h5", "w") as file:
        file["temperatures"] = np.zeros(3)
    with pytest.raises(ModelError, match="holds temperatures; expected the layers of a Keras"):
        models.convert(tmp_path / "table.h5", tmp_path / "m.onnx")
    with zipfile.ZipFile(tmp_path / "book.keras", "w") as archive:
        archive.writestr("chapter.txt", "once")
    with pytest.raises(ModelError, match=r"holds chapter\.txt; expected .* config\.json"):
        models.convert(tmp_path / "book.keras", tmp_path / "m.onnx")


@pytest.mark.parametrize(
    "config",
    [
        "[]",
        "3",
        "{}",
        '{"class_name": "Functional", "config": null}',
        '{"class_name": "Sequential", "config": {"layers": [1, 2]}}',
        '{"class_name": "Functional", "config": {"layers": [], "input_layers": 5}}',
        "[" * 100_000 + "]" * 100_000,
    ],
)
def test_a_configuration_that_keras_did_not_write_is_refused(config: str, tmp_path: Path) -> None:
    weights = io.BytesIO()
    with h5py.File(weights, "w") as file:
        file.create_group("layers")
    with zipfile.ZipFile(tmp_path / "odd.keras", "w") as archive:
        archive.writestr("config.json", config)
        archive.writestr("model.weights.h5", weights.getvalue())
    with pytest.raises(ModelError, match=r"odd\.keras: .* not as Keras writes it"):
        models.convert(tmp_path / "odd.keras", tmp_path / "m.onnx")


def test_a_locked_archive_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "locked.keras"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", "{}")
    content = bytearray(path.read_bytes())
    # The flags of the entry in the archive's directory; the lowest bit means encryption.
    content[content.find(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(content)
    with pytest.raises(ModelError, match="encrypted"):
        models.convert(path, tmp_path / "m.onnx")


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="there is no weights file"):
        models.convert(tmp_path / "none.h5", tmp_path / "m.onnx")
    with pytest.raises(ModelError, match="is a folder"):
        models.convert(tmp_path, tmp_path / "m.onnx")


def _layer(kind: str, name: str, source: str | None, **config: object) -> dict[str, object]:
    inbound = [[[source, 0, 0, {}]]] if source else []
    return {
        "class_name": kind,
        "name": name,
        "config": {"name": name, **config},
        "inbound_nodes": inbound,
    }


def _whole_model(path: Path, layers: list[dict[str, object]]) -> Path:
    """Write a model file with a configuration and no variables."""
    names = [layer["name"] for layer in layers]
    config = {
        "class_name": "Functional",
        "config": {
            "name": "model",
            "layers": layers,
            "input_layers": [[names[0], 0, 0]],
            "output_layers": [[names[-1], 0, 0]],
        },
    }
    with h5py.File(path, "w") as file:
        file.attrs["model_config"] = json.dumps(config)
        group = file.create_group("model_weights")
        group.attrs["layer_names"] = [name.encode() for name in names]
        for name in names:
            group.create_group(name)
    return path


def test_another_network_is_told_by_its_layers(tmp_path: Path) -> None:
    layers = [
        _layer("InputLayer", "photo", None, batch_input_shape=[None, 32, 32, 3]),
        _layer("Flatten", "flat", "photo"),
    ]
    path = _whole_model(tmp_path / "dense.h5", layers)
    with pytest.raises(ModelError, match=r"0 depthwise convolutions, expected .* 17.* Flatten"):
        models.convert(path, tmp_path / "m.onnx")


def _mobilenet_like(before: list[dict[str, object]]) -> list[dict[str, object]]:
    """Return a chain of layers with MobileNetV2's shape, after the given layers."""
    layers = [_layer("InputLayer", "photo", None, batch_input_shape=[None, 64, 64, 3]), *before]
    for name, kind, _ in standard_layers():
        layers.append(_layer(kind, name, str(layers[-1]["name"])))
    layers.append(_layer("ReLU", "out_relu", "Conv_1_bn", max_value=6.0))
    return layers


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (_layer("Lambda", "secret", "photo", function=["4wEAAA==", None, None]), "Python code"),
        (_layer("CenterCrop", "crop", "photo", height=32, width=32), "crops images of 64 x 64"),
        (_layer("Resizing", "grow", "photo", height=96, width=96, interpolation="area"), "resizes"),
        (_layer("MelSpectrogram", "ears", "photo"), "cannot be converted"),
        (_layer("TFOpLambda", "sine", "photo", function="math.sin"), "cannot be converted"),
    ],
)
def test_a_layer_that_cannot_be_honoured_is_named(
    layer: dict[str, object], reason: str, tmp_path: Path
) -> None:
    path = _whole_model(tmp_path / "own.h5", _mobilenet_like([layer]))
    with pytest.raises(ModelError, match=f"layer '{layer['name']}'.*{reason}"):
        models.convert(path, tmp_path / "m.onnx")


def _pooling(*heads: dict[str, object], size: tuple[int, int] = (2, 2)) -> tuple[str, str | None]:
    layers = [*_mobilenet_like([]), *heads]
    config = {
        "layers": layers,
        "input_layers": [["photo", 0, 0]],
        "output_layers": [[heads[-1]["name"] if heads else "out_relu", 0, 0]],
    }
    model = ModelCalls({"class_name": "Functional", "config": config})
    last = next(call for call in model.calls if call.name == "out_relu")
    return pooling_after(model, last, size)


_DROPOUT = _layer("Dropout", "drop", "out_relu")
_AVERAGE = _layer("GlobalAveragePooling2D", "average", "out_relu")
_MAXIMUM = _layer("GlobalMaxPooling2D", "maximum", "drop")
_MEAN_CALL = {
    **_layer("TFOpLambda", "mean", None, function="math.reduce_mean"),
    "inbound_nodes": [["out_relu", 0, 0, {"axis": [1, 2]}]],
}


@pytest.mark.parametrize(
    ("heads", "pooling"),
    [
        ([], "avg"),
        ([_DROPOUT, _AVERAGE], "avg"),
        ([_DROPOUT, _MAXIMUM, _layer("Dense", "dense", "maximum")], "max"),
        ([_layer("AveragePooling2D", "whole", "out_relu", pool_size=[2, 2])], "avg"),
        ([_layer("MaxPooling2D", "whole", "out_relu", pool_size=[2, 2])], "max"),
        ([_layer("Max", "reduced", "out_relu", axis=[1, 2], keepdims=False)], "max"),
        ([_MEAN_CALL], "avg"),
    ],
)
def test_the_pooling_is_the_models_own(heads: list[dict[str, object]], pooling: str) -> None:
    assert _pooling(*heads) == (pooling, None)


def test_a_model_without_global_pooling_is_averaged_with_a_note() -> None:
    for kind, options in (("Flatten", {}), ("MaxPooling2D", {"pool_size": [2, 2]}), ("Dense", {})):
        pooling, note = _pooling(_layer(kind, "next", "out_relu", **options), size=(4, 4))
        assert pooling == "avg"
        assert f"layer 'next' ({kind}), without global pooling" in str(note)


def test_a_pooling_that_cannot_be_told_has_to_be_said() -> None:
    with pytest.raises(ModelError, match=r"layer 'gem' \(GeM\).*choose avg or max \(--pooling\)"):
        _pooling(_layer("GeM", "gem", "out_relu"))
    with pytest.raises(ModelError, match=r"average \(layer 'average'\) and .*maximum.*--pooling"):
        _pooling(_DROPOUT, _AVERAGE, _MAXIMUM)
    with pytest.raises(ModelError, match=r"layer 'reduced' \(Mean\).*--pooling"):
        _pooling(_layer("Mean", "reduced", "out_relu", axis=[3]))


def test_a_backbone_without_its_end_is_refused(tmp_path: Path) -> None:
    path = _whole_model(tmp_path / "cut.h5", _mobilenet_like([])[:-3])
    with pytest.raises(ModelError, match="the backbone ends at layer 'block_16_project_BN'"):
        models.convert(path, tmp_path / "m.onnx")


def test_bare_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "vgg.h5", "w") as file:
        file.attrs["layer_names"] = [b"block1_conv1"]
        group = file.create_group("block1_conv1")
        group.attrs["weight_names"] = [b"block1_conv1/kernel:0"]
        group["block1_conv1/kernel:0"] = np.zeros((3, 3, 3, 64), np.float32)
    with pytest.raises(ModelError, match=r"weights of 1 layers \(block1_conv1.*expected the 104"):
        models.convert(tmp_path / "vgg.h5", tmp_path / "m.onnx")


def test_bare_weights_with_other_names_are_taken_in_order(
    keras_2: Saved, encoded: list[bytes], tmp_path: Path
) -> None:
    """Keras loads such files by order; the official files are older than its names of layers."""
    renamed = keras_2.folder / "renamed.h5"
    with h5py.File(keras_2.folder / OFFICIAL, "r") as source, h5py.File(renamed, "w") as target:
        names = []
        for index, layer in enumerate(source.attrs["layer_names"]):
            variables = [source[layer][name][()] for name in source[layer].attrs["weight_names"]]
            group = target.create_group(f"layer_{index}")
            names.append(f"layer_{index}".encode())
            group.attrs["weight_names"] = [f"v{n}".encode() for n in range(len(variables))]
            for number, variable in enumerate(variables):
                group[f"v{number}"] = variable
        target.attrs["layer_names"] = names
    keras_2.cases["renamed.h5"] = dict(
        keras_2.cases[OFFICIAL], file="renamed.h5", convert={"input_size": 96}
    )
    _check(keras_2, "renamed.h5", encoded, tmp_path)


# From two public notebooks, which agree to 5e-7.
GOLDEN_PHOTO = "Test/Watermelon/r_87_100.jpg"
GOLDEN_START = [0.0295081, 0.0681635, 0.0, 0.0162271]


def test_the_official_weights_give_the_published_vector(real_photos: Path) -> None:
    photo = next(iter(real_photos.rglob(GOLDEN_PHOTO)), None)
    if photo is None:
        pytest.skip(f"needs the photo {GOLDEN_PHOTO} in POMONA_PHOTOS")
    try:
        path = models.resolve("mobilenet_v2")
    except ModelError:
        pytest.skip("needs the official weights: pomona model pull mobilenet_v2")
    features = Featurizer(path).featurize([photo.read_bytes()])
    np.testing.assert_allclose(features[0, :4], GOLDEN_START, atol=1e-5)
