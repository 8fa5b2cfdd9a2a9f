"""Cuts an ONNX image classifier at its feature layer and adapts it to the model contract."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from pomona._errors import ModelError
from pomona.models.contract import INPUT, OUTPUT, features_output, images_input
from pomona.models.graph import (
    FLOATS,
    attribute,
    chain,
    inferred_shapes,
    opset_of,
    producers,
    prune,
    replace,
    subgraphs,
    tensor_shape,
    to_float32,
    type_name,
)
from pomona.models.graph_builder import GLOBAL_POOLS
from pomona.models.inspection import load_onnx
from pomona.models.shapes import check_domains, unknown, with_batch

if TYPE_CHECKING:
    from typing import Sequence, Tuple

    from pomona._typing import PathLike
    from pomona.models.graph import Shape, Step

    Size = Tuple[int, int]

# Elementwise operators take arrays of different shapes since opset 7.
OLDEST_OPSET = 7
# ONNX Runtime 1.18 and later read IR 10. Exporters write higher versions that they rarely need.
NEWEST_IR = 10
# From IR 4 on, initializers need not be graph inputs as well.
OLDEST_IR = 4
# ReduceMean and ReduceMax take their axes as an input since opset 18.
AXES_ARE_AN_INPUT = 18

# torchvision's ImageNet statistics for pixels from 0 to 255, the norm of PyTorch exports.
CHANNELS_FIRST_MEAN = (0.485 * 255, 0.456 * 255, 0.406 * 255)
CHANNELS_FIRST_STD = (0.229 * 255, 0.224 * 255, 0.225 * 255)
# Keras' preprocess_input for MobileNetV2, the norm of TensorFlow exports.
CHANNELS_LAST_MEAN = (127.5,)
CHANNELS_LAST_STD = (127.5,)

_PREFIX = "pomona/"
_ARITHMETIC = ("Add", "Sub", "Mul", "Div", "BatchNormalization")
_TRIAL_BATCHES = (2, 3)
_SHOWN_CANDIDATES = 12
_INFERENCE_FAILURES = (onnx.shape_inference.InferenceError, ValueError, RuntimeError)


def cut_classifier(
    path: PathLike,
    output_tensor: str | None,
    *,
    input_size: Size | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    pooling: str | None = None,
) -> tuple[onnx.ModelProto, list[str]]:
    """Cut an ONNX classifier at a tensor; the arguments are those of `pomona.models.convert`.

    A uint8 input takes the pixels unchanged, so `mean` and `std` are for float inputs only. A
    ModelError for a missing tensor lists the tensors that the file has. Returns notes on what was
    changed, too.
    """
    model = load_onnx(path)
    graph, opset = model.graph, opset_of(model)
    if opset < OLDEST_OPSET:
        raise ModelError(
            f"the file is written in ONNX opset {opset}, expected {OLDEST_OPSET} or later: "
            "rewrite it with onnx.version_converter.convert_version(model, 13)"
        )
    constants = {tensor.name for tensor in graph.initializer}
    if output_tensor is None or output_tensor not in producers(graph):
        request = "name the tensor that holds the features"
        if output_tensor is not None:
            request = f"there is no tensor {output_tensor!r}"
        raise ModelError(f"{request} (--output-tensor). Candidates: {_candidates(model)}")

    # An older onnx package does not check files whose version is newer than its own.
    newest = min(NEWEST_IR, onnx.IR_VERSION)
    model.ir_version = min(max(model.ir_version, OLDEST_IR), newest)
    prune(graph, output_tensor)
    check_domains(model)
    entry = _entry(graph, constants)
    notes = []
    if entry.type.tensor_type.elem_type == TensorProto.DOUBLE:
        to_float32(graph)
        notes.append("the network is float64, which ONNX Runtime does not run: it is now float32")
    layout, size = _layout(entry, input_size)
    _check_normalization(graph, entry, mean is not None or std is not None)

    first, output = _renamed(graph, entry.name, output_tensor)
    element = entry.type.tensor_type.elem_type
    _free_reshapes(graph, tensor_shape(entry))
    prune(graph, output)
    replace(graph.input, [images_input(*size)])
    _add_head(graph, first, element, layout, mean, std)
    shape, element = _shape_for_any_batch(model, output)
    dim = _add_tail(graph, output, shape, element, opset, pooling)
    del graph.value_info[:]
    replace(graph.output, [features_output(dim)])
    del model.metadata_props[:]
    return model, notes


def _candidates(model: onnx.ModelProto) -> str:
    """List the last tensors that look like features, those nearest to the classes first."""
    try:
        shapes = inferred_shapes(model)
    except _INFERENCE_FAILURES:
        shapes = {}
    lines = []
    for node in reversed(model.graph.node):
        for name in node.output:
            shape = shapes.get(name)
            if node.op_type == "Constant" or (shape is not None and len(shape) not in (2, 4)):
                continue
            sizes = "shape unknown"
            if shape is not None:
                sizes = "[" + ", ".join("n" if size is None else str(size) for size in shape) + "]"
            lines.append(f"{name} ({node.op_type}, {sizes})")
    shown = ", ".join(lines[:_SHOWN_CANDIDATES])
    hidden = len(lines) - _SHOWN_CANDIDATES
    return f"{shown}, and {hidden} before them" if hidden > 0 else shown


def _entry(graph: onnx.GraphProto, constants: set[str]) -> onnx.ValueInfoProto:
    inputs: list[onnx.ValueInfoProto] = [v for v in graph.input if v.name not in constants]
    if len(inputs) != 1:
        names = ", ".join(repr(value.name) for value in inputs) or "none"
        raise ModelError(f"the tensor depends on {len(inputs)} inputs ({names}), expected one")
    return inputs[0]


def _layout(entry: onnx.ValueInfoProto, input_size: Size | None) -> tuple[str, Size]:
    """Return ``NCHW`` or ``NHWC``, and the height and width."""
    shape = tensor_shape(entry)
    if shape is None or len(shape) != 4 or (shape[1] == 3) == (shape[3] == 3):
        raise ModelError(
            f"the input {entry.name!r} has the shape {shape}; "
            "expected [n, 3, height, width] or [n, height, width, 3]"
        )
    layout = "NCHW" if shape[1] == 3 else "NHWC"
    height, width = shape[2:4] if layout == "NCHW" else shape[1:3]
    if height is None or width is None:
        if input_size is None:
            raise ModelError(
                f"the input {entry.name!r} leaves height and width open: give them (--input-size)"
            )
        return layout, input_size
    if input_size not in (None, (height, width)):
        raise ModelError(
            f"the model takes images of {height} x {width}; "
            f"the input size {input_size} does not fit"
        )
    return layout, (height, width)


def _check_normalization(graph: onnx.GraphProto, entry: onnx.ValueInfoProto, given: bool) -> None:
    """Check that the range of pixels which the network expects is known."""
    element = entry.type.tensor_type.elem_type
    if element == TensorProto.UINT8:
        if given:
            raise ModelError("the input is uint8 and takes the pixels unchanged: omit mean and std")
        return
    if element not in FLOATS:
        raise ModelError(
            f"the input {entry.name!r} is {type_name(element)}, expected float or uint8: export "
            "the network in float32"
        )
    name = entry.name
    while not given:
        users = [node for node in graph.node if name in node.input]
        if len(users) == 1 and users[0].op_type in ("Cast", "Identity", "Transpose"):
            name = users[0].output[0]
            continue
        for node in users:
            if node.op_type in _ARITHMETIC:
                raise ModelError(
                    f"the network normalises its input itself ({node.op_type} {node.name!r}), and "
                    "Pomona does not know which range it expects: give mean 0 and std 1 for pixels "
                    "from 0 to 255, mean 0 and std 255 for 0 to 1"
                )
        return


def _renamed(graph: onnx.GraphProto, entry: str, output: str) -> tuple[str, str]:
    """Rename the network's tensors that have the contract's names; return its input and output."""
    names = {entry: _PREFIX + "input"}
    if output in (INPUT, OUTPUT):
        names[output] = _PREFIX + "output"
    for name in (INPUT, OUTPUT):
        names.setdefault(name, _PREFIX + name)
    _rename(graph, names)
    return names[entry], names.get(output, output)


def _rename(graph: onnx.GraphProto, names: dict[str, str]) -> None:
    for node in graph.node:
        for field in (node.input, node.output):
            field[:] = [names.get(name, name) for name in field]
        for subgraph in subgraphs(node):
            _rename(subgraph, names)
    for item in (*graph.initializer, *graph.input, *graph.output):
        item.name = names.get(item.name, item.name)


def _free_reshapes(graph: onnx.GraphProto, input_shape: Shape | None) -> None:
    """Let reshapes to the exporter's batch size keep any batch size.

    A target of ``[1, 1280]`` becomes ``[0, 1280]``: 0 copies the size of the tensor that is
    reshaped. Shape inference with other batch sizes shows later whether the batch is open.
    """
    batch = input_shape[0] if input_shape else None
    if batch is None:
        return
    constants = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and attribute(node, "value", None) is not None:
            constants.setdefault(node.output[0], attribute(node, "value", None))
    for node in graph.node:
        if node.op_type != "Reshape" or attribute(node, "allowzero", 0):
            continue
        target = constants.get(node.input[1])
        if target is None:
            continue
        sizes = numpy_helper.to_array(target)
        if sizes.size > 1 and sizes[0] == batch:
            name = f"{_PREFIX}shape_of_{node.output[0]}"
            freed = np.concatenate([[0], sizes[1:]]).astype(np.int64)
            graph.initializer.append(numpy_helper.from_array(freed, name))
            node.input[1] = name


def _add_head(
    graph: onnx.GraphProto,
    first: str,
    element: int,
    layout: str,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
) -> None:
    """Turn the contract's images into the network's input."""
    steps: list[Step] = []
    if element != TensorProto.UINT8:
        steps.append(("Cast", [], {"to": TensorProto.FLOAT}))
    if layout == "NCHW":
        steps.append(("Transpose", [], {"perm": [0, 3, 1, 2]}))
        mean, std = mean or CHANNELS_FIRST_MEAN, std or CHANNELS_FIRST_STD
    else:
        mean, std = mean or CHANNELS_LAST_MEAN, std or CHANNELS_LAST_STD
    if element != TensorProto.UINT8:
        shape = (1, -1, 1, 1) if layout == "NCHW" else (1, 1, 1, -1)
        for operator, name, numbers in (("Sub", "mean", mean), ("Div", "std", std)):
            array = np.asarray(numbers, np.float32).reshape(shape)
            graph.initializer.append(numpy_helper.from_array(array, _PREFIX + name))
            steps.append((operator, [_PREFIX + name], {}))
    if element not in (TensorProto.UINT8, TensorProto.FLOAT):
        steps.append(("Cast", [], {"to": element}))
    nodes = chain(INPUT, steps or [("Identity", [], {})], first, _PREFIX + "head")
    replace(graph.node, [*nodes, *graph.node])


def _shape_for_any_batch(model: onnx.ModelProto, output: str) -> tuple[list[int], int]:
    """Return shape and type of a tensor, after a check that its first size follows the batch's."""
    for batch in _TRIAL_BATCHES:
        try:
            value = with_batch(model, output, batch)
        except _INFERENCE_FAILURES as error:
            raise ModelError(
                f"the network does not take a batch of {batch} images; export it with an open "
                f"batch size. ONNX says: {error}"
            ) from error
        shape = tensor_shape(value)
        if shape is None or None in shape[1:]:
            raise ModelError(
                f"ONNX cannot infer the shape of the tensor {output!r} (it knows {shape})"
                + unknown(model, output)
            )
        if shape[0] != batch:
            raise ModelError(
                f"the tensor {output!r} has the shape {shape} for a batch of {batch} images: "
                "its first size does not follow the batch. Export the network with an open batch "
                "size"
            )
        sizes, element = [size or 0 for size in shape], value.type.tensor_type.elem_type
    if element not in FLOATS:
        raise ModelError(f"the tensor {output!r} is {type_name(element)}, expected float")
    return sizes, element


def _add_tail(
    graph: onnx.GraphProto,
    output: str,
    shape: list[int],
    element: int,
    opset: int,
    pooling: str | None,
) -> int:
    """Turn the tensor into ``features`` and return their number."""
    steps: list[Step] = []
    if element != TensorProto.FLOAT:
        steps.append(("Cast", [], {"to": TensorProto.FLOAT}))
    if len(shape) == 2:
        if pooling is not None:
            raise ModelError(
                f"the tensor {output!r} has the shape {['n', *shape[1:]]}, without pixels to pool: "
                "omit the pooling, or choose the map before it"
            )
        dim = shape[1]
        steps.append(("Identity", [], {}))
    elif len(shape) == 4:
        channels_last = _is_channels_last(graph, output)
        dim = shape[3 if channels_last else 1]
        if np.prod(shape[1:]) > dim:
            steps.append(_pooled(graph, opset, channels_last, pooling or "avg"))
        steps.append(("Flatten", [], {"axis": 1}))
    else:
        raise ModelError(
            f"the tensor {output!r} has the shape {['n', *shape[1:]]}; expected [n, d] or a map "
            "[n, d, h, w]"
        )
    graph.node.extend(chain(output, steps, OUTPUT, _PREFIX + "tail"))
    return dim


def _pooled(graph: onnx.GraphProto, opset: int, channels_last: bool, pooling: str) -> Step:
    """Return the operator that pools a map over its height and width."""
    if not channels_last:
        return GLOBAL_POOLS[pooling], [], {}
    reduction = {"avg": "ReduceMean", "max": "ReduceMax"}[pooling]
    if opset < AXES_ARE_AN_INPUT:
        return reduction, [], {"axes": [1, 2]}
    axes = numpy_helper.from_array(np.array([1, 2], np.int64), _PREFIX + "axes")
    graph.initializer.append(axes)
    return reduction, [axes.name], {}


def _is_channels_last(graph: onnx.GraphProto, tensor: str) -> bool:
    """Tell whether a map has its channels last: follow it back to the operator that decides it."""
    producer = producers(graph)
    while tensor in producer:
        node = producer[tensor]
        if node.op_type == "Transpose" and attribute(node, "perm", None) is not None:
            return list(attribute(node, "perm", [])) == [0, 2, 3, 1]
        if node.op_type in ("Conv", "GlobalAveragePool", "AveragePool", "MaxPool"):
            return False
        tensor = node.input[0] if node.input else ""
    return False
