"""ONNX classifiers, cut at their feature layer."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from pomona import Featurizer, ModelError, models

SIZE = 32
CHANNELS = 6
CLASSES = 4
OPSET = 13


@pytest.fixture
def pixels() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (3, SIZE, SIZE, 3), dtype=np.uint8)


def _features(path: str, pixels: np.ndarray) -> np.ndarray:
    encoded = []
    for image in pixels:
        file = io.BytesIO()
        Image.fromarray(image).save(file, "PNG")
        encoded.append(file.getvalue())
    return Featurizer(path).featurize(encoded)


class Network:
    """A small classifier: convolution, relu, pooling, flattening, classes."""

    def __init__(
        self,
        layout: str = "NCHW",
        *,
        batch: int | str = "batch",
        element: int = TensorProto.FLOAT,
        opset: int = OPSET,
        sizes: tuple[int | str, int | str] = (SIZE, SIZE),
        input_name: str = "input",
        before: tuple[str, ...] = (),
        reshape: list[int] | None = None,
    ) -> None:
        random = np.random.default_rng(0)
        self.weight = random.normal(0, 0.3, (CHANNELS, 3, 3, 3)).astype(np.float32)
        dense = random.normal(0, 1, (CHANNELS, CLASSES)).astype(np.float32)
        constants = {"weight": self.weight, "dense": dense, "one": np.float32([1.0])}
        nodes = []
        value = input_name
        for operator in before:
            nodes.append(helper.make_node(operator, [value, "one"], [operator], name=operator))
            value = operator
        if element == TensorProto.UINT8:
            nodes.append(helper.make_node("Cast", [value], ["as_float"], to=TensorProto.FLOAT))
            value = "as_float"
        if layout == "NHWC":
            nodes.append(helper.make_node("Transpose", [value], ["planes"], perm=[0, 3, 1, 2]))
            value = "planes"
        nodes += [
            helper.make_node("Conv", [value, "weight"], ["conv"], pads=[1, 1, 1, 1]),
            helper.make_node("Relu", ["conv"], ["map"]),
            helper.make_node("GlobalAveragePool", ["map"], ["pooled"]),
        ]
        if reshape:
            constants["target"] = np.array(reshape, np.int64)
            nodes.append(
                helper.make_node("Reshape", ["pooled", "target"], ["flat"], name="flatten")
            )
        else:
            nodes.append(helper.make_node("Flatten", ["pooled"], ["flat"]))
        nodes += [
            helper.make_node("Transpose", ["map"], ["map_last"], perm=[0, 2, 3, 1]),
            helper.make_node("MatMul", ["flat", "dense"], ["scores"]),
            helper.make_node("Softmax", ["scores"], ["classes"]),
        ]
        shape = [batch, 3, *sizes] if layout == "NCHW" else [batch, *sizes, 3]
        graph = helper.make_graph(
            nodes,
            "classifier",
            [helper.make_tensor_value_info(input_name, element, shape)],
            [helper.make_tensor_value_info("classes", TensorProto.FLOAT, [batch, CLASSES])],
            [numpy_helper.from_array(array, name) for name, array in constants.items()],
        )
        self.model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])

    def save(self, path: Path) -> Path:
        onnx.save(self.model, str(path))
        return path

    def expected(self, pixels: np.ndarray, mean: object, std: object) -> np.ndarray:
        """Compute the pooled features in numpy."""
        return self.maps(pixels, mean, std).mean(axis=(2, 3))

    def maps(self, pixels: np.ndarray, mean: object, std: object) -> np.ndarray:
        planes = ((pixels - np.asarray(mean)) / np.asarray(std)).transpose(0, 3, 1, 2)
        padded = np.pad(planes, ((0, 0), (0, 0), (1, 1), (1, 1)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))
        return np.einsum("nchwij,fcij->nfhw", windows, self.weight).clip(0)


IMAGENET_MEAN = np.array([0.485, 0.456, 0.406]) * 255
IMAGENET_STD = np.array([0.229, 0.224, 0.225]) * 255


@pytest.mark.parametrize("tensor", ["flat", "pooled", "map", "map_last"])
@pytest.mark.parametrize(
    ("layout", "mean", "std"),
    [("NCHW", IMAGENET_MEAN, IMAGENET_STD), ("NHWC", 127.5, 127.5)],
)
def test_features_are_those_of_the_tensor(
    tensor: str, layout: str, mean: object, std: object, pixels: np.ndarray, tmp_path: Path
) -> None:
    network = Network(layout)
    path = models.convert(
        network.save(tmp_path / "c.onnx"), tmp_path / "m.onnx", output_tensor=tensor
    )
    expected = network.expected(pixels, mean, std)
    np.testing.assert_allclose(_features(path, pixels), expected, rtol=1e-4, atol=1e-5)
    assert models.info(path)["dim"] == CHANNELS


@pytest.mark.parametrize("opset", [11, 13, 17, 18, 21])
def test_a_map_with_channels_last_is_averaged_in_every_opset(
    opset: int, pixels: np.ndarray, tmp_path: Path
) -> None:
    network = Network(opset=opset)
    source = network.save(tmp_path / "c.onnx")
    path = models.convert(source, tmp_path / "m.onnx", output_tensor="map_last", mean=0, std=255)
    expected = network.expected(pixels, 0, 255)
    np.testing.assert_allclose(_features(path, pixels), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("opset", [13, 18])
@pytest.mark.parametrize("tensor", ["map", "map_last"])
def test_a_map_is_pooled_by_its_maximum_if_wanted(
    tensor: str, opset: int, pixels: np.ndarray, tmp_path: Path
) -> None:
    network = Network(opset=opset)
    source = network.save(tmp_path / "c.onnx")
    options = {"mean": 0, "std": 255, "pooling": "max"}
    path = models.convert(source, tmp_path / "m.onnx", output_tensor=tensor, **options)
    expected = network.maps(pixels, 0, 255).max(axis=(2, 3))
    np.testing.assert_allclose(_features(path, pixels), expected, rtol=1e-4, atol=1e-5)
    with pytest.raises(ModelError, match="without pixels to pool"):
        models.convert(source, tmp_path / "m.onnx", output_tensor="flat", **options)


def test_mean_and_std_are_taken_by_channel(pixels: np.ndarray, tmp_path: Path) -> None:
    network = Network()
    mean, std = (100.0, 110.0, 120.0), (50.0, 60.0, 70.0)
    path = models.convert(
        network.save(tmp_path / "c.onnx"), tmp_path / "m.onnx",
        output_tensor="flat", mean=mean, std=std,
    )  # fmt: skip
    expected = network.expected(pixels, mean, std)
    np.testing.assert_allclose(_features(path, pixels), expected, rtol=1e-4, atol=1e-5)


def test_what_comes_after_the_features_is_gone(tmp_path: Path) -> None:
    source = Network().save(tmp_path / "c.onnx")
    path = models.convert(source, tmp_path / "m.onnx", output_tensor="flat", license="BSD-3-Clause")
    model = onnx.load(path)
    assert {node.op_type for node in model.graph.node}.isdisjoint({"MatMul", "Softmax"})
    assert "dense" not in [tensor.name for tensor in model.graph.initializer]
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    assert metadata["pomona.source"].startswith("c.onnx sha256:")
    assert metadata["pomona.license"] == "BSD-3-Clause"


def test_a_uint8_input_gets_the_pixels_as_they_are(pixels: np.ndarray, tmp_path: Path) -> None:
    for layout in ("NHWC", "NCHW"):
        network = Network(layout, element=TensorProto.UINT8)
        source = network.save(tmp_path / "c.onnx")
        path = models.convert(source, tmp_path / "m.onnx", output_tensor="flat")
        expected = network.expected(pixels, 0, 1)
        np.testing.assert_allclose(_features(path, pixels), expected, rtol=1e-4)
        with pytest.raises(ModelError, match="omit mean and std"):
            models.convert(source, tmp_path / "m.onnx", output_tensor="flat", mean=0)


@pytest.mark.parametrize("reshape", [[1, CHANNELS], [1, -1], [-1, CHANNELS], [0, -1]])
def test_a_fixed_batch_size_is_opened(
    reshape: list[int], pixels: np.ndarray, tmp_path: Path
) -> None:
    network = Network(batch=1, reshape=reshape)
    source = network.save(tmp_path / "c.onnx")
    path = models.convert(source, tmp_path / "m.onnx", output_tensor="flat", mean=0, std=255)
    expected = network.expected(pixels, 0, 255)
    np.testing.assert_allclose(_features(path, pixels), expected, rtol=1e-4, atol=1e-5)


def test_a_batch_size_that_cannot_be_opened_is_refused(tmp_path: Path) -> None:
    source = Network(batch=2, reshape=[CHANNELS, 2]).save(tmp_path / "c.onnx")
    with pytest.raises(ModelError, match=r"open batch size|follow the batch|batch of 3 images"):
        models.convert(source, tmp_path / "m.onnx", output_tensor="flat")


def test_tensors_that_have_the_contracts_names_make_way(pixels: np.ndarray, tmp_path: Path) -> None:
    network = Network(input_name="images")
    for node in network.model.graph.node:
        node.input[:] = ["features" if name == "map" else name for name in node.input]
        node.output[:] = ["features" if name == "map" else name for name in node.output]
    source = network.save(tmp_path / "c.onnx")
    for tensor in ("features", "flat"):
        path = models.convert(source, tmp_path / "m.onnx", output_tensor=tensor, mean=0, std=255)
        expected = network.expected(pixels, 0, 255)
        np.testing.assert_allclose(_features(path, pixels), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("tensor", [None, "flattened"])
def test_without_a_tensor_the_error_lists_candidates_with_shapes(
    tensor: str | None, tmp_path: Path
) -> None:
    source = Network().save(tmp_path / "c.onnx")
    with pytest.raises(ModelError, match="Candidates: ") as error:
        models.convert(source, tmp_path / "m.onnx", output_tensor=tensor)
    assert f"flat (Flatten, [n, {CHANNELS}])" in str(error.value)
    assert f"map (Relu, [n, {CHANNELS}, {SIZE}, {SIZE}])" in str(error.value)
    assert not (tmp_path / "m.onnx").exists()


def test_open_height_and_width_have_to_be_said(pixels: np.ndarray, tmp_path: Path) -> None:
    network = Network(sizes=("height", "width"))
    source = network.save(tmp_path / "c.onnx")
    with pytest.raises(ModelError, match="--input-size"):
        models.convert(source, tmp_path / "m.onnx", output_tensor="flat")
    path = models.convert(
        source, tmp_path / "m.onnx", output_tensor="flat", input_size=SIZE, mean=0, std=255
    )
    expected = network.expected(pixels, 0, 255)
    np.testing.assert_allclose(_features(path, pixels), expected, rtol=1e-4, atol=1e-5)


def test_an_input_size_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    source = Network().save(tmp_path / "c.onnx")
    with pytest.raises(ModelError, match="takes images of 32 x 32"):
        models.convert(source, tmp_path / "m.onnx", output_tensor="flat", input_size=(32, 64))


def test_a_network_that_normalises_itself_is_not_guessed_at(
    pixels: np.ndarray, tmp_path: Path
) -> None:
    source = Network(before=("Sub", "Mul")).save(tmp_path / "c.onnx")
    with pytest.raises(ModelError, match=r"normalises its input itself \(Sub 'Sub'\)"):
        models.convert(source, tmp_path / "m.onnx", output_tensor="flat")
    models.convert(source, tmp_path / "m.onnx", output_tensor="flat", mean=0, std=1)


def test_an_input_that_is_no_image_is_refused(tmp_path: Path) -> None:
    network = Network()
    network.model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 1
    source = network.save(tmp_path / "c.onnx")
    with pytest.raises(ModelError, match=r"expected \[n, 3, height, width\]"):
        models.convert(source, tmp_path / "m.onnx", output_tensor="flat")


def test_old_files_keep_initializers_out_of_the_inputs(pixels: np.ndarray, tmp_path: Path) -> None:
    network = Network()
    network.model.ir_version = 3
    for tensor in network.model.graph.initializer:
        value = helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
        network.model.graph.input.append(value)
    source = network.save(tmp_path / "c.onnx")
    path = models.convert(source, tmp_path / "m.onnx", output_tensor="flat", mean=0, std=255)
    assert [value.name for value in onnx.load(path).graph.input] == ["images"]
    expected = network.expected(pixels, 0, 255)
    np.testing.assert_allclose(_features(path, pixels), expected, rtol=1e-4, atol=1e-5)


def test_a_very_old_opset_is_refused(tmp_path: Path) -> None:
    source = Network(opset=6).save(tmp_path / "c.onnx")
    with pytest.raises(ModelError, match="opset 6, expected 7 or later"):
        models.convert(source, tmp_path / "m.onnx", output_tensor="flat")


def test_half_precision_gives_float32_features(pixels: np.ndarray, tmp_path: Path) -> None:
    network = Network(element=TensorProto.FLOAT16)
    for tensor in network.model.graph.initializer:
        half = numpy_helper.to_array(tensor).astype(np.float16)
        tensor.CopyFrom(numpy_helper.from_array(half, tensor.name))
    network.model.graph.output[0].type.tensor_type.elem_type = TensorProto.FLOAT16
    source = network.save(tmp_path / "c.onnx")
    path = models.convert(source, tmp_path / "m.onnx", output_tensor="flat", mean=0, std=255)
    expected = network.expected(pixels, 0, 255)
    np.testing.assert_allclose(_features(path, pixels), expected, atol=0.01)


def test_a_damaged_onnx_file_is_refused(tmp_path: Path) -> None:
    content = Network().save(tmp_path / "c.onnx").read_bytes()
    for damaged in (b"", b"garbage", content[:200], content[:-7]):
        (tmp_path / "d.onnx").write_bytes(damaged)
        with pytest.raises(ModelError, match=r"d\.onnx"):
            models.convert(tmp_path / "d.onnx", tmp_path / "m.onnx", output_tensor="flat")
    assert not (tmp_path / "m.onnx").exists()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"mean": (1, 2)}, "one number or three"),
        ({"std": 0}, "above 0"),
        ({"input_size": 8}, "out of range"),
        ({"pooling": "median"}, "must be one of avg, max"),
        ({"input_size": (224, 100_000)}, "out of range"),
    ],
)
def test_options_out_of_range_are_refused(
    options: dict[str, object], reason: str, tmp_path: Path
) -> None:
    source = Network().save(tmp_path / "c.onnx")
    with pytest.raises(ValueError, match=reason):
        models.convert(source, tmp_path / "m.onnx", output_tensor="flat", **options)


def test_a_classifier_is_never_replaced_by_its_own_features(tmp_path: Path) -> None:
    source = Network().save(tmp_path / "c.onnx")
    whole = source.read_bytes()
    (tmp_path / "link.onnx").symlink_to(source)
    for output in (source, tmp_path / "link.onnx"):
        with pytest.raises(ModelError, match="is the file to convert; choose another output"):
            models.convert(source, output, output_tensor="flat")
    assert source.read_bytes() == whole


def test_the_output_has_to_be_an_onnx_file(tmp_path: Path) -> None:
    source = Network().save(tmp_path / "c.onnx")
    with pytest.raises(ModelError, match=r"does not end in \.onnx"):
        models.convert(source, tmp_path / "m.h5", output_tensor="flat")
    with pytest.raises(ValueError, match="give an output file, or a name"):
        models.convert(source, output_tensor="flat")


def _constant(name: str, numbers: object) -> onnx.NodeProto:
    return helper.make_node(
        "Constant", [], [name], value=numpy_helper.from_array(np.array(numbers, np.int64))
    )


def _sizes(*axes: int) -> list[onnx.NodeProto]:
    """Return nodes that read sizes of the pooled map, as PyTorch traces ``x.size(axis)``."""
    nodes = [helper.make_node("Shape", ["pooled"], ["sizes"])]
    for axis in axes:
        nodes += [
            _constant(f"axis_{axis}", axis),
            helper.make_node("Gather", ["sizes", f"axis_{axis}"], [f"size_{axis}"], axis=0),
        ]
    return nodes


def _reshape(*parts: str) -> list[onnx.NodeProto]:
    return [
        helper.make_node("Concat", list(parts), ["target"], axis=0),
        helper.make_node("Reshape", ["pooled", "target"], ["flat"]),
    ]


_REST = _constant("rest", [-1])
_FIRST = _constant("first", [0])
# What PyTorch's exporter writes for different ways to flatten.
TRACED = {
    "x.view(x.size(0), -1)": (13, [
        *_sizes(0), _FIRST, helper.make_node("Unsqueeze", ["size_0", "first"], ["batch_size"]),
        _REST, *_reshape("batch_size", "rest"),
    ]),
    "x.view(x.size(0), -1) in opset 11": (11, [
        *_sizes(0), helper.make_node("Unsqueeze", ["size_0"], ["batch_size"], axes=[0]),
        _REST, *_reshape("batch_size", "rest"),
    ]),
    "x.view(-1, x.size(1) * x.size(2) * x.size(3))": (13, [
        *_sizes(1, 2, 3), helper.make_node("Mul", ["size_1", "size_2"], ["two"]),
        helper.make_node("Mul", ["two", "size_3"], ["three"]), _FIRST,
        helper.make_node("Unsqueeze", ["three", "first"], ["length"]), _REST,
        *_reshape("rest", "length"),
    ]),
    "x.reshape(*x.shape[:1], -1)": (13, [
        helper.make_node("Shape", ["pooled"], ["sizes"]), _FIRST, _constant("end", [1]),
        helper.make_node("Slice", ["sizes", "first", "end"], ["batch_size"]),
        _REST, *_reshape("batch_size", "rest"),
    ]),
}  # fmt: skip


def _with(network: Network, instead: str, nodes: list[onnx.NodeProto]) -> Network:
    """Put nodes in the place of the node that makes a tensor."""
    graph = network.model.graph
    position = next(i for i, node in enumerate(graph.node) if instead in node.output)
    rewritten = [*graph.node[:position], *nodes, *graph.node[position + 1 :]]
    del graph.node[:]
    graph.node.extend(rewritten)
    return network


@pytest.mark.parametrize("batch", ["batch", 1])
@pytest.mark.parametrize("traced", TRACED)
def test_a_traced_view_is_converted(
    traced: str, batch: int | str, pixels: np.ndarray, tmp_path: Path
) -> None:
    opset, nodes = TRACED[traced]
    network = _with(Network(batch=batch, opset=opset), "flat", nodes)
    source = network.save(tmp_path / "c.onnx")
    path = models.convert(source, tmp_path / "m.onnx", output_tensor="flat", mean=0, std=255)
    expected = network.expected(pixels, 0, 255)
    np.testing.assert_allclose(_features(path, pixels), expected, rtol=1e-4, atol=1e-5)


def test_a_shape_that_depends_on_the_pixels_is_refused_by_the_operators_name(
    tmp_path: Path,
) -> None:
    nodes = [
        helper.make_node("NonZero", ["pooled"], ["indices"], name="where_it_is"),
        helper.make_node("Cast", ["indices"], ["flat"], to=TensorProto.FLOAT),
    ]
    source = _with(Network(), "flat", nodes).save(tmp_path / "c.onnx")
    with pytest.raises(ModelError, match=r"operator NonZero \('where_it_is'\): simplify"):
        models.convert(source, tmp_path / "m.onnx", output_tensor="flat")


def _of(network: Network, element: int, kind: object) -> Network:
    """Give a network's numbers another type."""
    for tensor in network.model.graph.initializer:
        numbers = numpy_helper.to_array(tensor).astype(kind)
        tensor.CopyFrom(numpy_helper.from_array(numbers, tensor.name))
    network.model.graph.output[0].type.tensor_type.elem_type = element
    return network


def test_float64_becomes_float32_with_a_note(pixels: np.ndarray, tmp_path: Path) -> None:
    network = _of(Network(element=TensorProto.DOUBLE), TensorProto.DOUBLE, np.float64)
    source = network.save(tmp_path / "c.onnx")
    with pytest.warns(UserWarning, match=r"c\.onnx: the network is float64.*now float32"):
        path = models.convert(source, tmp_path / "m.onnx", output_tensor="flat", mean=0, std=255)
    expected = network.expected(pixels, 0, 255)
    np.testing.assert_allclose(_features(path, pixels), expected, rtol=1e-4, atol=1e-5)
    assert "float64" in models.info(path)["notes"]

    weight = network.model.graph.initializer[0]
    weight.CopyFrom(numpy_helper.from_array(1e300 * np.ones((6, 3, 3, 3)), "weight"))
    source = network.save(tmp_path / "c.onnx")
    with pytest.raises(ModelError, match="float64 constant 'weight' is too large for float32"):
        models.convert(source, tmp_path / "m.onnx", output_tensor="flat")


def test_what_onnx_runtime_cannot_run_is_refused_at_conversion(tmp_path: Path) -> None:
    inner = [
        helper.make_node("Cast", ["pooled"], ["brain"], to=TensorProto.BFLOAT16),
        helper.make_node("Relu", ["brain"], ["brain_relu"]),
        helper.make_node("Cast", ["brain_relu"], ["back"], to=TensorProto.FLOAT),
        helper.make_node("Flatten", ["back"], ["flat"]),
    ]
    source = _with(Network(), "flat", inner).save(tmp_path / "c.onnx")
    with pytest.raises(ModelError, match=r"does not run: .*Relu.*Export it again, in float32"):
        models.convert(source, tmp_path / "m.onnx", output_tensor="flat")
    network = Network(element=TensorProto.BFLOAT16)
    source = network.save(tmp_path / "c.onnx")
    with pytest.raises(ModelError, match=r"is bfloat16, .*: export the network in float32"):
        models.convert(source, tmp_path / "m.onnx", output_tensor="flat")
    assert not (tmp_path / "m.onnx").exists()


def _in_domain(network: Network, domain: str) -> Network:
    network.model.opset_import.append(helper.make_opsetid(domain, 1))
    return network


def test_onnx_runtimes_own_operators_are_converted(pixels: np.ndarray, tmp_path: Path) -> None:
    fused = helper.make_node(
        "FusedConv", ["input", "weight"], ["map"], domain="com.microsoft",
        pads=[1, 1, 1, 1], activation="Relu",
    )  # fmt: skip
    network = _in_domain(_with(Network(), "map", [fused]), "com.microsoft")
    source = network.save(tmp_path / "c.onnx")
    path = models.convert(source, tmp_path / "m.onnx", output_tensor="flat", mean=0, std=255)
    expected = network.expected(pixels, 0, 255)
    np.testing.assert_allclose(_features(path, pixels), expected, rtol=1e-4, atol=1e-5)
    for operator in ("Gelu", "FastGelu", "QuickGelu"):
        node = helper.make_node(operator, ["pooled"], ["act"], domain="com.microsoft")
        nodes = [node, helper.make_node("Flatten", ["act"], ["flat"])]
        network = _in_domain(_with(Network(), "flat", nodes), "com.microsoft")
        path = models.convert(
            network.save(tmp_path / "c.onnx"), tmp_path / "m.onnx", output_tensor="flat"
        )
        assert _features(path, pixels).shape == (3, CHANNELS)


@pytest.mark.parametrize(
    ("domain", "operator", "message"),
    [
        ("my.ops", "Wobble", r"Wobble of the domain my\.ops \('odd'\).*without custom operators"),
        ("org.pytorch.aten", "ATen", r"ATen of the domain org\.pytorch\.aten"),
        ("com.microsoft", "NhwcFusedConv", r"NhwcFusedConv of .*com\.microsoft \('odd'\).*before"),
    ],
)
def test_other_operators_are_named_with_their_domain(
    domain: str, operator: str, message: str, tmp_path: Path
) -> None:
    nodes = [
        helper.make_node(operator, ["pooled"], ["x"], name="odd", domain=domain),
        helper.make_node("Flatten", ["x"], ["flat"]),
    ]
    source = _in_domain(_with(Network(), "flat", nodes), domain).save(tmp_path / "c.onnx")
    with pytest.raises(ModelError, match=message):
        models.convert(source, tmp_path / "m.onnx", output_tensor="flat")
