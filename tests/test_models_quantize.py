"""int8 models: their arithmetic, their fidelity to float32, and the errors of quantization."""

from __future__ import annotations

import io
import json
import shutil
from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

import photos
from pomona import Featurizer, ModelError, bench, models
from pomona.cli import main
from pomona.models.contract import (
    contract_metadata,
    features_output,
    images_input,
    write_model,
)
from pomona.models.graph_builder import GraphBuilder
from pomona.models.int8.fidelity import compare
from pomona.models.int8.network import Network, Statistics
from pomona.models.int8.quantizer import Quantized
from pomona.models.int8.rounding import round_filters
from pomona.models.int8.writer import write_int8
from pomona.models.multiply_adds import MULTIPLY_ADDS
from pomona.processor import int8_instructions, processor
from specimens import damaged

SIZE = 32
CHANNELS = 32
OLD_OPSET = 11
#: A cosine that random weights reach; real weights come closer (test_models_efficientnet.py).
NEAR = 0.99


def write(model: onnx.ModelProto, path: Path, name: str = "net") -> Path:
    write_model(model, path, contract_metadata(name, "made for a test", "Apache-2.0"))
    return path


class Weights:
    """Random weights that keep activations in a natural range."""

    def __init__(self) -> None:
        self.random = np.random.RandomState(6)

    def __call__(self, filters: int, channels: int, side: int = 1) -> np.ndarray:
        deviation = np.sqrt(2 / (channels * side * side))
        return self.random.normal(scale=deviation, size=(filters, channels, side, side))


def mobile_net() -> onnx.ModelProto:
    """A MobileNetV2 of two blocks: depthwise, linear and residual layers, ReLU6."""
    net, weights = GraphBuilder(SIZE, SIZE), Weights()
    value = net.normalize(net.images(), 127.5, 127.5)
    bias = np.linspace(-0.2, 0.4, 2 * CHANNELS)
    value = net.relu(net.convolve(value, weights(16, 3, 3), bias[:16], stride=(2, 2)), 6)
    for number in range(2):
        wide = net.relu(net.convolve(value, weights(CHANNELS, 16), bias[:CHANNELS]), 6)
        kernels, side = weights(CHANNELS, 1, 3), (2, 2) if number == 0 else (1, 1)
        wide = net.relu(net.convolve(wide, kernels, stride=side, groups=CHANNELS), 6)
        narrow = net.convolve(wide, weights(16, CHANNELS), bias[:16])
        value = narrow if number == 0 else net.add(value, narrow)
    return net.features(net.relu(net.convolve(value, weights(64, 16), bias), 6))


@pytest.fixture(scope="module")
def float32(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(mobile_net(), tmp_path_factory.mktemp("float32") / "net.onnx")


@pytest.fixture(scope="module")
def made(float32: Path, photos_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Quantized:
    return models.quantize(float32, photos_folder, tmp_path_factory.mktemp("int8") / "net8.onnx")


def cosines(one: Path | str, other: Path | str, folder: Path) -> np.ndarray:
    photos = [path.read_bytes() for path in sorted(folder.rglob("*.jpg"))]
    left, right = (Featurizer(path).featurize(photos).astype(np.float64) for path in (one, other))
    return (left * right).sum(1) / np.linalg.norm(left, axis=1) / np.linalg.norm(right, axis=1)


def test_features_come_near_those_of_float32(
    float32: Path, made: Quantized, photos_folder: Path
) -> None:
    found = cosines(float32, made.path, photos_folder)
    assert found.min() > NEAR
    assert found.max() < 1  # int8 was used


def test_the_file_says_what_it_is_and_where_it_came_from(float32: Path, made: Quantized) -> None:
    before, after = models.info(float32), models.info(made.path)
    assert (before["precision"], after["precision"]) == ("float32", "int8")
    assert after["name"] == "net_int8"
    assert after["calibration"].startswith("16 photos; static, uint8 activations")
    assert after["quantized_from"] == f"net sha256:{before['sha256']}"
    same = ("dim", "input_size", "resize", "source", "license", "parameters")
    assert {key: after[key] for key in same} == {key: before[key] for key in same}
    noted = [Featurizer(path).metadata[MULTIPLY_ADDS] for path in (float32, made.path)]
    assert noted[0] == noted[1]


def test_onnx_runtime_computes_every_layer_in_int8(
    float32: Path, made: Quantized, tmp_path: Path
) -> None:
    runtime = pytest.importorskip("onnxruntime")
    options = runtime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    options.log_severity_level = 3  # it warns that the file is for this CPU
    runtime.InferenceSession(made.path, options, providers=["CPUExecutionProvider"])
    kinds = Counter(node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node)
    convolutions = sum(node.op_type == "Conv" for node in onnx.load(float32).graph.node)
    assert kinds == {
        "Reshape": 2,  # groups of four bytes, and back to pixels; neither moves data
        "QLinearConv": convolutions,
        "QLinearAdd": 1,
        "Transpose": 1,
        "DequantizeLinear": 1,
        "GlobalAveragePool": 1,
        "Flatten": 1,
    }


def test_photos_that_are_compared_were_not_calibrated_with(made: Quantized) -> None:
    assert made.calibration_photos == 16
    assert (made.fidelity.photos, made.fidelity.seen_in_calibration) == (16, False)


def test_the_model_depends_on_nothing_but_model_and_photos(
    float32: Path, made: Quantized, photos_folder: Path, tmp_path: Path
) -> None:
    again = models.quantize(float32, photos_folder, tmp_path / "net8.onnx", threads=1)
    assert Path(again.path).read_bytes() == Path(made.path).read_bytes()


@pytest.mark.parametrize(
    ("mean", "std"),
    [
        pytest.param(127.5, 127.5, id="Keras"),
        pytest.param(127, 128, id="whole mean"),
        pytest.param([123.675, 116.28, 103.53], [58.395, 57.12, 57.375], id="PyTorch"),
        pytest.param(0, 255, id="no mean"),
        pytest.param(-10, 255, id="mean below the pixels"),
    ],
)
def test_any_normalisation_of_pixels(
    mean: Any, std: Any, photos_folder: Path, tmp_path: Path
) -> None:
    net, weights = GraphBuilder(SIZE, SIZE), Weights()
    value = net.normalize(net.images(), mean, std)
    value = net.relu(net.convolve(value, weights(16, 3, 3), np.linspace(0, 1, 16), stride=(2, 2)))
    path = write(net.features(net.relu(net.convolve(value, weights(32, 16)))), tmp_path / "a.onnx")
    made = models.quantize(path, photos_folder, tmp_path / "b.onnx")
    assert cosines(path, made.path, photos_folder).min() > NEAR


@pytest.mark.parametrize("size", [(8, 8), (6, 6), (9, 12), (12, 7)])
@pytest.mark.parametrize("kernel", [1, 2, 3, 5])
@pytest.mark.parametrize("pads", [(0, 0, 0, 0), (0, 0, 1, 1), (1, 1, 1, 1), (2, 2, 0, 0)])
def test_the_first_layer_computes_the_same_however_it_takes_the_pixels(
    size: tuple[int, int], kernel: int, pads: tuple[int, int, int, int], tmp_path: Path
) -> None:
    net, random = GraphBuilder(*size), np.random.RandomState(kernel)
    weights = random.randint(-127, 128, (16, 3, kernel, kernel)).astype(np.float64)
    weights[:, 0, 0, 0] = 127  # so that int8 does not round the weights
    value = net.pad(net.arithmetic("Sub", net.images(), np.array(128.0)), pads)
    float32 = net.features(net.convolve(value, weights, stride=(2, 2), same=False))
    network = Network(float32)
    unit = 400 * kernel
    ranges = {
        name: Statistics(-128 * unit, 127 * unit, np.zeros(3 if "pomona" in name else 16))
        for name in network.tensors
    }
    photo = io.BytesIO()
    Image.fromarray(random.randint(0, 256, (*size, 3)).astype(np.uint8)).save(photo, "PNG")
    expected, found = (
        Featurizer(write(model, tmp_path / "net.onnx")).featurize([photo.getvalue()])
        for model in (float32, write_int8(network, ranges))
    )
    # A feature is the average of values that are rounded to one unit.
    np.testing.assert_allclose(found, expected, atol=0.51 * unit)
    assert np.abs(expected).max() > unit


def test_a_layer_errs_by_nothing_on_average(tmp_path: Path) -> None:
    colour = np.array([228, 108, 188])
    weights = np.random.RandomState(3).uniform(-1, 1, (16, 3, 1, 1))
    expected = np.linspace(0, 1, 16)
    net = GraphBuilder(SIZE, SIZE)
    value = net.arithmetic("Sub", net.images(), np.array(128.0))
    value = net.convolve(value, weights, expected - weights[:, :, 0, 0] @ (colour - 128))
    network = Network(net.features(value))
    shifted, result = network.tensors
    ranges = {
        shifted: Statistics(-128, 127, colour - 128.0),
        result: Statistics(0, 1, expected),
    }
    path = write(write_int8(network, ranges), tmp_path / "net.onnx")
    photo = io.BytesIO()
    Image.new("RGB", (SIZE, SIZE), tuple(colour)).save(photo, "PNG")
    # Half a unit of the bias and half a unit of the result; weights alone would err by 0.3.
    np.testing.assert_allclose(
        Featurizer(path).featurize([photo.getvalue()])[0], expected, atol=0.5 / 127 + 0.5 / 255
    )


def foreign() -> onnx.ModelProto:
    """Layers that Pomona's own models do not have, in an older opset."""
    weights = Weights()
    kernels = {
        "stem": weights(16, 3, 3),
        "left": weights(16, 16),
        "right": weights(16, 16, 3),
        "gate": weights(32, 32),
        "last": weights(32, 32),
    }
    constants = {
        "mean": np.array([120, 110, 100]).reshape(3, 1, 1),
        "factor": np.array(1 / 60),
        **kernels,
    }
    nodes = [
        helper.make_node("Transpose", ["images"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Cast", ["planes"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("Sub", ["pixels", "mean"], ["centred"]),
        helper.make_node("Mul", ["centred", "factor"], ["scaled"]),
        helper.make_node("Conv", ["scaled", "stem"], ["a"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("MaxPool", ["b"], ["c"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Conv", ["c", "left"], ["d"]),
        helper.make_node("Conv", ["c", "right"], ["e"], pads=[1, 1, 1, 1]),
        helper.make_node("LeakyRelu", ["e"], ["f"], alpha=0.1),
        helper.make_node("Concat", ["d", "f"], ["g"], axis=1),
        helper.make_node("AveragePool", ["g"], ["h"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("GlobalAveragePool", ["h"], ["i"]),
        helper.make_node("Conv", ["i", "gate"], ["j"]),
        helper.make_node("Sigmoid", ["j"], ["k"]),
        helper.make_node("Mul", ["h", "k"], ["l"]),
        helper.make_node("Conv", ["l", "last"], ["m"]),
        helper.make_node("Relu", ["m"], ["n"]),
        helper.make_node("ReduceMean", ["n"], ["features"], axes=[2, 3], keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "foreign",
        [images_input(SIZE, SIZE)],
        [features_output(32)],
        [numpy_helper.from_array(v.astype(np.float32), name) for name, v in constants.items()],
    )
    return helper.make_model(
        graph, ir_version=7, opset_imports=[helper.make_opsetid("", OLD_OPSET)]
    )


def test_a_network_of_somebody_elses_making(photos_folder: Path, tmp_path: Path) -> None:
    path = write(foreign(), tmp_path / "foreign.onnx")
    made = models.quantize(path, photos_folder, tmp_path / "int8.onnx")
    assert cosines(path, made.path, photos_folder).min() > NEAR


def test_rounding_keeps_the_sum_of_a_filter() -> None:
    weights = np.random.RandomState(0).uniform(-127, 127, (64, 24, 3, 3))
    error = round_filters(weights) - weights
    assert np.abs(error).max() < 1
    assert np.abs(error.sum(axis=(1, 2, 3))).max() <= 0.5
    assert (
        np.abs(error.sum(axis=(2, 3))).max()
        < np.abs((np.rint(weights) - weights).sum(axis=(2, 3))).max()
    )


def test_rounding_leaves_whole_numbers_alone() -> None:
    weights = np.random.RandomState(0).randint(-127, 128, (8, 4, 3, 3)).astype(np.float64)
    np.testing.assert_array_equal(round_filters(weights), weights)


def test_a_filter_of_zeros_gives_its_bias(photos_folder: Path, tmp_path: Path) -> None:
    net, weights = GraphBuilder(SIZE, SIZE), Weights()
    kernels = weights(16, 3, 3)
    kernels[:4] = 0
    kernels[4] *= 1e-30
    value = net.convolve(
        net.normalize(net.images(), 127, 128), kernels, np.linspace(0, 3, 16), stride=(2, 2)
    )
    path = write(net.features(net.relu(value)), tmp_path / "a.onnx")
    made = models.quantize(path, photos_folder, tmp_path / "b.onnx")
    photo = [next(photos_folder.rglob("*.jpg")).read_bytes()]
    before, after = (Featurizer(file).featurize(photo)[0] for file in (path, made.path))
    np.testing.assert_allclose(after[:5], before[:5], atol=0.03)


def test_a_broken_photo_is_named_and_left_out(float32: Path, folder: Path, tmp_path: Path) -> None:
    broken = photos.break_one(sorted(folder.rglob("*.jpg")))
    gone = folder / "gone.jpg"
    gone.symlink_to(folder / "nowhere")
    made = models.quantize(float32, folder, tmp_path / "int8.onnx", photos=8)
    assert set(made.failed) == {str(broken), str(gone)}
    assert "No such file" in made.failed[str(gone)]
    assert made.fidelity.photos + made.calibration_photos >= 16


def test_photos_are_decoded_with_the_options(float32: Path, folder: Path, tmp_path: Path) -> None:
    damaged_photo = folder / "damaged.jpg"
    damaged_photo.write_bytes(damaged())
    made = models.quantize(float32, folder, tmp_path / "one.onnx")
    assert made.failed == {}
    assert "(" not in models.info(made.path)["calibration"].partition(";")[0]
    made = models.quantize(float32, folder, tmp_path / "two.onnx", strict=True)
    assert set(made.failed) == {str(damaged_photo)}
    assert "photos (strict=True); " in models.info(made.path)["calibration"]
    with pytest.raises(TypeError, match=r"quantize\(\) .* 'exif'"):
        models.quantize(float32, folder, tmp_path / "three.onnx", exif=True)


def test_few_photos_are_all_compared_and_that_is_said(
    float32: Path, folder: Path, tmp_path: Path
) -> None:
    made = models.quantize(float32, folder, tmp_path / "int8.onnx")
    assert made.calibration_photos == 8
    assert (made.fidelity.photos, made.fidelity.seen_in_calibration) == (16, True)


def test_where_no_other_photo_can_be_read_those_of_the_calibration_are_compared(
    float32: Path, photos_folder: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "photos"
    shutil.copytree(photos_folder, folder)
    # Every second photo sets ranges.
    broken = sorted(folder.rglob("*.jpg"))[1::2]
    for path in broken:
        path.write_bytes(b"not a photo")
    made = models.quantize(float32, folder, tmp_path / "int8.onnx")
    assert made.calibration_photos == 16
    assert set(made.failed) == set(map(str, broken))
    assert (made.fidelity.photos, made.fidelity.seen_in_calibration) == (16, True)


def test_a_folder_without_photos_is_refused(float32: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no photo")
    with pytest.raises(ValueError, match="holds no photos that can be read"):
        models.quantize(float32, tmp_path, tmp_path / "int8.onnx")
    with pytest.raises(FileNotFoundError):
        models.quantize(float32, tmp_path / "nowhere", tmp_path / "int8.onnx")
    assert not (tmp_path / "int8.onnx").exists()


def test_too_few_photos_are_refused(float32: Path, folder: Path, tmp_path: Path) -> None:
    for path in sorted(folder.rglob("*.jpg"))[7:]:
        path.unlink()
    with pytest.raises(ValueError, match=r"holds 7 photos that can be read; .* at least 8"):
        models.quantize(float32, folder, tmp_path / "int8.onnx")
    with pytest.raises(ValueError, match="calibration takes at least 8 photos, not 7"):
        models.quantize(float32, folder, tmp_path / "int8.onnx", photos=7)


def test_photos_that_are_all_broken_are_refused_and_the_reason_is_told(
    float32: Path, folder: Path, tmp_path: Path
) -> None:
    for path in folder.rglob("*.jpg"):
        path.write_bytes(b"not a photo")
    with pytest.raises(ValueError, match=r"holds no photos that .* 8 failed; the first .*\.jpg: "):
        models.quantize(float32, folder, tmp_path / "int8.onnx")
    assert not (tmp_path / "int8.onnx").exists()


def test_an_int8_model_is_not_quantized_again(
    made: Quantized, photos_folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match=r"net8\.onnx cannot be quantized: it is in int8 already"):
        models.quantize(made.path, photos_folder, tmp_path / "again.onnx")


def test_a_network_without_convolutions_is_refused(photos_folder: Path, tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Cast", ["images"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["pixels"], ["features"], axes=[1, 2], keepdims=0),
    ]
    graph = helper.make_graph(nodes, "mean", [images_input(SIZE, SIZE)], [features_output(3)])
    model = helper.make_model(
        graph, ir_version=7, opset_imports=[helper.make_opsetid("", OLD_OPSET)]
    )
    path = write(model, tmp_path / "mean.onnx")
    with pytest.raises(ModelError, match="cannot be quantized: it has no convolution"):
        models.quantize(path, photos_folder, tmp_path / "int8.onnx")


def test_a_network_that_overflows_is_refused(photos_folder: Path, tmp_path: Path) -> None:
    net = GraphBuilder(SIZE, SIZE)
    value = net.convolve(net.images(), np.full((16, 3, 1, 1), 3e38))
    path = write(net.features(value), tmp_path / "huge.onnx")
    with pytest.raises(ModelError, match="numbers that are not finite"):
        models.quantize(path, photos_folder, tmp_path / "int8.onnx")
    assert not (tmp_path / "int8.onnx").exists()


def test_a_file_that_is_there_is_replaced_only_on_request(
    float32: Path, photos_folder: Path, tmp_path: Path
) -> None:
    output = tmp_path / "int8.onnx"
    output.write_text("precious")
    with pytest.raises(FileExistsError, match="exists already"):
        models.quantize(float32, photos_folder, output)
    assert output.read_text() == "precious"
    models.quantize(float32, photos_folder, output, overwrite=True)
    assert models.info(output)["precision"] == "int8"


def test_the_float32_model_is_never_replaced(
    float32: Path, photos_folder: Path, tmp_path: Path
) -> None:
    copy = Path(shutil.copy(float32, tmp_path / "copy.onnx"))
    with pytest.raises(ModelError, match="is the float32 model; choose another"):
        models.quantize(copy, photos_folder, copy, overwrite=True)
    with pytest.raises(ModelError, match=r"does not end in \.onnx"):
        models.quantize(copy, photos_folder, tmp_path / "int8.bin")


@pytest.fixture
def home(float32: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store that holds the test's network under the default model's name."""
    folder = tmp_path / "home"
    folder.mkdir()
    model = onnx.load(float32)
    write(model, folder / "mobilenet_v2.onnx", "mobilenet_v2")
    monkeypatch.setenv("POMONA_HOME", str(folder))
    # No test depends on the speed, so a short measurement is enough.
    monkeypatch.setattr("pomona.cli.model.measure", partial(bench.measure, seconds=0.1))
    return folder


def test_the_command_puts_it_beside_the_float32_model_for_the_bench(
    home: Path, photos_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["model", "quantize", "mobilenet_v2", "--images", str(photos_folder)]
    assert main(command) == 0
    shown = capsys.readouterr().out
    assert "name        mobilenet_v2_int8" in shown
    assert f"file        {home}/mobilenet_v2_int8.onnx" in shown
    assert "calibrated  16 photos; static" in shown
    for line in ("compared    16 photos in 4 folders", "cosine      ", "neighbour   the same"):
        assert f"\n{line}" in shown
    assert "one thread, by CPU time" in shown
    assert bench.default_models() == ["mobilenet_v2", "mobilenet_v2_int8"]
    assert main(command) == 1
    assert "exists already; --overwrite replaces it" in capsys.readouterr().err


def test_the_command_tells_programs_all_that_it_tells_people(
    home: Path, photos_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["model", "quantize", "mobilenet_v2", "--images", str(photos_folder), "--json"]
    assert main([*command, "--threads", "1"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["path"] == f"{home}/mobilenet_v2_int8.onnx"
    assert facts["fidelity"]["cosine_min"] > NEAR
    assert [result["model"] for result in facts["bench"]["results"]] == [
        "mobilenet_v2",
        "mobilenet_v2_int8",
    ]


@pytest.mark.parametrize("times", [0.79, 1.7])
def test_where_int8_is_slower_the_command_says_so(
    times: float,
    home: Path,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def measured(*args: Any, **options: Any) -> bench.Bench:
        found = bench.measure(*args, seconds=0.1, **options)
        found.results[1] = replace(found.results[1], times_first_model=times)
        return found

    monkeypatch.setattr("pomona.cli.model.measure", measured)
    assert main(["model", "quantize", "mobilenet_v2", "--images", str(folder)]) == 0
    warning = "int8 is slower than float32 on this machine, 0.79x; keep using mobilenet_v2 here"
    assert (warning in capsys.readouterr().err) is (times < 1)


@pytest.mark.parametrize("instructions", [None, "AVX-VNNI"])
def test_info_names_the_int8_instructions(
    instructions: str | None,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("pomona.cli.info.int8_instructions", lambda: instructions)
    assert main(["info"]) == 0
    shown = capsys.readouterr().out
    says = "none: this processor has no int8 instructions (VNNI)"
    assert ("AVX-VNNI: int8 models are about twice as fast" if instructions else says) in shown
    assert f"mobilenet_v2 (in {home})" in shown


def test_info_tells_programs(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["models"] == ["mobilenet_v2"]
    assert facts["int8_instructions"] in (None, "AVX-VNNI", "AVX-512 VNNI")


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("fpu avx2 avx512f avx512_vnni avx512_bitalg", "AVX-512 VNNI"),
        ("fpu avx2 avx_vnni", "AVX-VNNI"),
        ("fpu avx2 avx512f", None),
        ("fpu avx2 not_avx512_vnni_at_all", None),
    ],
)
def test_int8_instructions_are_read_from_what_linux_says(
    flags: str, expected: str | None, tmp_path: Path
) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(f"processor\t: 0\nmodel name\t: Fast One\nflags\t\t: {flags}\n\n")
    assert int8_instructions(cpuinfo) == expected
    assert processor(cpuinfo) == "Fast One"
    cpuinfo.write_text("nothing of the kind\n")
    assert (int8_instructions(cpuinfo), processor(cpuinfo)) == (None, "unknown processor")


def test_fidelity_of_one_photo_and_of_photos_without_a_choice_of_labels() -> None:
    features = np.random.RandomState(0).uniform(size=(3, 8)).astype(np.float32)
    one = compare(features[:1], features[:1], ["a"])
    assert (one.cosine_min, one.agreement, one.accuracy_int8) == (pytest.approx(1), None, None)
    alone = compare(features, features, ["a", "b", "c"])
    assert (alone.agreement, alone.accuracy_float32) == (1, None)


def test_fidelity_counts_neighbours_of_the_same_folder() -> None:
    angles = np.array([0.0, 0.1, 1.0, 1.12])
    reference = np.stack([np.cos(angles), np.sin(angles)], 1).astype(np.float32)
    labels = ["left", "left", "right", "right"]
    moved = np.array([0.0, 0.6, 1.0, 1.12])
    features = np.stack([np.cos(moved), np.sin(moved)], 1).astype(np.float32)
    found = compare(reference, features, labels)
    assert found.accuracy_float32 == 1
    assert found.accuracy_int8 == 0.75  # the second is closer to the third now
    assert found.agreement == 0.75
    assert found.cosine_min == pytest.approx(np.cos(0.5), abs=1e-6)
