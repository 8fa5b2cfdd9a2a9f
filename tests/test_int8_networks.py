"""int8 networks, which Pomona runs itself on CPUs without int8 instructions: as ONNX Runtime does.

On a CPU that has such instructions ONNX Runtime runs them, and these tests compare it with itself.
"""

from __future__ import annotations

from pathlib import Path
from typing import Callable

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

import pomona
from pomona import Featurizer, ModelError, models
from pomona.models.contract import contract_metadata, write_model
from pomona.models.graph_builder import GraphBuilder


def mobile_net(
    height: int, width: int, channels: int = 24, side: int = 3, stride: int = 1
) -> onnx.ModelProto:
    """Two blocks of depthwise, linear and residual layers with random weights."""
    net, random = GraphBuilder(height, width), np.random.RandomState(side)

    def weights(filters: int, inputs: int, side: int = 1) -> np.ndarray:
        deviation = np.sqrt(2 / (inputs * side * side))
        return random.normal(scale=deviation, size=(filters, inputs, side, side))

    wide = 2 * channels
    value = net.normalize(net.images(), 127.5, 127.5)
    bias = np.linspace(-0.2, 0.4, wide)
    value = net.convolve(value, weights(channels, 3, 3), bias[:channels], stride=(2, 2))
    value = net.relu(value, 6)
    for block in range(2):
        steps = (stride, stride) if block == 0 else (1, 1)
        expanded = net.relu(net.convolve(value, weights(wide, channels), bias), 6)
        kernels = weights(wide, 1, side)
        spread = net.relu(net.convolve(expanded, kernels, stride=steps, groups=wide), 6)
        narrow = net.convolve(spread, weights(channels, wide), bias[:channels])
        value = net.add(value, narrow) if block else narrow
    return net.features(net.relu(net.convolve(value, weights(72, channels), np.zeros(72)), 6))


def quantized(model: onnx.ModelProto, photos_folder: Path, folder: Path) -> Path:
    float32 = folder / "net.onnx"
    write_model(model, float32, contract_metadata("net", "made for a test", "Apache-2.0"))
    return Path(models.quantize(float32, photos_folder, folder / "net_int8.onnx").path)


def features_of_onnx_runtime(path: Path, photos: list[bytes]) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    # Without int8 instructions, sums saturate otherwise.
    options.add_session_config_entry("session.x64quantprecision", "1")
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    _, height, width, _ = session.get_inputs()[0].shape
    images = [pomona.load_image(photo, size=(height, width)) for photo in photos]
    return np.asarray(session.run(None, {"images": np.stack(images)})[0])


@pytest.fixture(scope="module")
def jpegs(photos_folder: Path) -> list[bytes]:
    return [path.read_bytes() for path in sorted(photos_folder.rglob("*.jpg"))]


@pytest.mark.parametrize(
    ("height", "width", "channels", "side", "stride"),
    [
        pytest.param(64, 64, 24, 3, 1, id="square"),
        pytest.param(64, 64, 16, 3, 2, id="stride of 2"),
        pytest.param(48, 64, 40, 5, 1, id="5 x 5"),
        pytest.param(96, 32, 32, 5, 2, id="5 x 5, stride of 2"),
        pytest.param(45, 31, 24, 3, 2, id="odd sizes"),
        pytest.param(7, 5, 56, 5, 1, id="smaller than the kernel"),
        pytest.param(64, 64, 6, 3, 1, id="fewer channels than a kernel computes at once"),
        pytest.param(64, 64, 24, 7, 1, id="a kernel of another size"),
    ],
)
def test_features_are_those_of_onnx_runtime(
    height: int,
    width: int,
    channels: int,
    side: int,
    stride: int,
    photos_folder: Path,
    jpegs: list[bytes],
    tmp_path: Path,
) -> None:
    path = quantized(mobile_net(height, width, channels, side, stride), photos_folder, tmp_path)
    expected = features_of_onnx_runtime(path, jpegs)
    assert np.abs(expected).max() > 0.01
    for batch_size, threads in ((1, 1), (2, 1), (7, 2)):
        found = Featurizer(path, batch_size=batch_size, threads=threads).featurize(jpegs)
        # The mean over the last map is rounded in another order.
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_a_batch_leaves_nothing_behind_for_the_next_one(
    photos_folder: Path, jpegs: list[bytes], tmp_path: Path
) -> None:
    path = quantized(mobile_net(32, 32), photos_folder, tmp_path)
    featurizer = Featurizer(path, batch_size=4)
    alone = [Featurizer(path).featurize([jpeg])[0] for jpeg in jpegs]
    for batch in ([0, 1, 2, 3], [5], [3, 2], [7, 0, 7, 1], [2]):
        found = featurizer.try_featurize([jpegs[at] for at in batch] + [None, b"text"])
        np.testing.assert_array_equal(found.features[: len(batch)], [alone[at] for at in batch])


Change = Callable[[onnx.GraphProto], None]


def node(graph: onnx.GraphProto, operator: str, number: int = 0) -> onnx.NodeProto:
    return [node for node in graph.node if node.op_type == operator][number]


def with_attribute(operator: str, name: str, value: object, number: int = 0) -> Change:
    def change(graph: onnx.GraphProto) -> None:
        chosen = node(graph, operator, number)
        kept = [attribute for attribute in chosen.attribute if attribute.name != name]
        del chosen.attribute[:]
        chosen.attribute.extend([*kept, helper.make_attribute(name, value)])

    return change


def with_constant(
    operator: str, place: int, value: Callable[[np.ndarray], np.ndarray], number: int = 0
) -> Change:
    def change(graph: onnx.GraphProto) -> None:
        name = node(graph, operator, number).input[place]
        for tensor in graph.initializer:
            if tensor.name == name:
                changed = value(numpy_helper.to_array(tensor))
                tensor.CopyFrom(numpy_helper.from_array(changed, name))

    return change


def without(operator: str, number: int = 0) -> Change:
    return lambda graph: graph.node.remove(node(graph, operator, number))


def with_input(operator: str, place: int, name: str, number: int = 0) -> Change:
    def change(graph: onnx.GraphProto) -> None:
        node(graph, operator, number).input[place] = name

    return change


def without_raw_data(graph: onnx.GraphProto) -> None:
    for tensor in graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT:
            values = numpy_helper.to_array(tensor).ravel()
            tensor.ClearField("raw_data")
            tensor.float_data.extend(values)


def with_other_zero_point(graph: onnx.GraphProto) -> None:
    """Read what a depthwise layer reads with another zero point than it was written with."""
    depthwise = node(graph, "Conv", 2)
    (reader,) = [one for one in graph.node if one.output[0] == depthwise.input[0]]
    zero = numpy_helper.from_array(np.array(9, np.uint8), "other zero")
    graph.initializer.append(zero)
    reader.input[2] = zero.name


CHANGES: dict[str, Change] = {
    "another zero point": with_other_zero_point,
    "negative stride": with_attribute("Conv", "strides", [-1, 1], 1),
    "one stride": with_attribute("Conv", "strides", [1], 1),
    "large pads": with_attribute("Conv", "pads", [20, 30, 20, 30], 2),
    "negative pads": with_attribute("Conv", "pads", [-1, 0, 0, 0], 2),
    "two pads": with_attribute("Conv", "pads", [1, 1], 2),
    "wrong groups": with_attribute("Conv", "group", 3, 2),
    "no groups": with_attribute("Conv", "group", 1, 2),
    "dilated": with_attribute("Conv", "dilations", [2, 2], 2),
    "auto_pad": with_attribute("Conv", "auto_pad", "SAME_UPPER", 1),
    "another axis": with_attribute("DequantizeLinear", "axis", 1, 1),
    "another order": with_attribute("Transpose", "perm", [0, 2, 1, 3]),
    "no transposition": without("Transpose"),
    "no quantization": without("QuantizeLinear", 1),
    "no pooling": without("GlobalAveragePool"),
    "fewer columns": with_constant("Reshape", 1, lambda shape: shape - [0, 0, 1, 0]),
    "negative columns": with_constant("Reshape", 1, lambda shape: -shape),
    "a scale for all filters": with_constant("DequantizeLinear", 1, lambda scale: scale[:1], 1),
    "too few scales": with_constant("DequantizeLinear", 1, lambda scale: scale[:-1], 1),
    "zero points": with_constant("DequantizeLinear", 2, lambda zeros: zeros + 1, 1),
    "fewer filters": with_constant("DequantizeLinear", 0, lambda weights: weights[:-1], 1),
    "flat weights": with_constant("DequantizeLinear", 0, lambda weights: weights.ravel(), 1),
    "large biases": with_constant(
        "DequantizeLinear", 0, lambda bias: np.full_like(bias, 2**31 - 1), 2
    ),
    "a sum of two sizes": with_input("Add", 0, "pomona/shifted/real"),
    "a layer that does not exist": with_input("Conv", 0, "nothing", 1),
    "scales in another field": without_raw_data,
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_changed_network_is_refused_or_does_what_onnx_runtime_does(
    name: str, photos_folder: Path, jpegs: list[bytes], tmp_path: Path
) -> None:
    path = quantized(mobile_net(32, 32), photos_folder, tmp_path)
    before = path.read_bytes()
    model = onnx.load(path)
    CHANGES[name](model.graph)
    onnx.save(model, path)
    assert path.read_bytes() != before
    try:
        expected = features_of_onnx_runtime(path, jpegs[:3])
    except Exception:
        expected = None
    try:
        found = Featurizer(path).featurize(jpegs[:3])
    except ModelError:
        found = None
    if expected is not None and expected.shape != (3, 72):
        expected = None  # breaks the contract
    assert (found is None) == (expected is None)
    if found is not None:
        # ONNX Runtime adds up the last map in float32.
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
