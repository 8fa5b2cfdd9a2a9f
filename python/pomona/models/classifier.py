"""Cuts any ONNX image classifier at its feature layer and fits it to Pomona's model contract."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from pomona._errors import ModelError
from pomona.models.graph import INPUT, OUTPUT, features_output, images_input
from pomona.models.inspection import load_onnx, tensor_shape

if TYPE_CHECKING:
    import os
    from typing import Any, Callable, Iterator, Optional, Sequence, Tuple

    Size = Tuple[int, int]
    Shape = Optional[Sequence[Optional[int]]]

# Elementwise operators take arrays of different shapes since opset 7.
OLDEST_OPSET = 7
# ONNX Runtime 1.18 and later read IR 10; the files that newer exporters mark higher rarely need it.
NEWEST_IR = 10
# From IR 4 on, initializers need not be graph inputs as well.
OLDEST_IR = 4
# ReduceMean takes its axes as an input since opset 18.
AXES_ARE_AN_INPUT = 18

# torchvision's ImageNet statistics, for pixels from 0 to 255: what PyTorch exports are trained on.
CHANNELS_FIRST_MEAN = (0.485 * 255, 0.456 * 255, 0.406 * 255)
CHANNELS_FIRST_STD = (0.229 * 255, 0.224 * 255, 0.225 * 255)
# Keras' preprocess_input for MobileNetV2: what TensorFlow exports are trained on.
CHANNELS_LAST_MEAN = (127.5,)
CHANNELS_LAST_STD = (127.5,)

_FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE)
_PREFIX = "pomona/"
_ARITHMETIC = ("Add", "Sub", "Mul", "Div", "BatchNormalization")
_TRIAL_BATCHES = (2, 3)
_SHOWN_CANDIDATES = 12


def cut_classifier(
    path: str | os.PathLike[str],
    output_tensor: str | None,
    *,
    input_size: Size | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> onnx.ModelProto:
    """Cut an ONNX classifier at a tensor.

    Parameters
    ----------
    path : str or os.PathLike
        The ONNX file.
    output_tensor : str or None
        The tensor that holds the features: ``[n, d]``, or a map that is averaged over its pixels.
    input_size : (int, int), optional
        Height and width of the images, where the file leaves them open.
    mean, std : sequence of float, optional
        Normalisation of pixels from 0 to 255 before a float input: ``(pixel - mean) / std``, one
        number or one a channel. By default ImageNet's statistics for ``[n, 3, h, w]`` (PyTorch)
        and 127.5 and 127.5 for ``[n, h, w, 3]`` (TensorFlow). A uint8 input gets the pixels as
        they are.

    Returns
    -------
    onnx.ModelProto
        The network, without metadata.

    Raises
    ------
    ModelError
        If the file is no such classifier or has no such tensor; the message lists those it has.
    """
    model = load_onnx(path)
    graph = model.graph
    _check_opset(model)
    constants = {tensor.name for tensor in graph.initializer}
    if output_tensor is None or output_tensor not in _made_by(graph):
        asked = "say which tensor holds the features"
        if output_tensor is not None:
            asked = f"there is no tensor {output_tensor!r}"
        raise ModelError(f"{asked} (--output-tensor). Candidates: {_candidates(model)}")

    # An older onnx package checks no file that is marked as newer than itself.
    newest = min(NEWEST_IR, onnx.IR_VERSION)
    model.ir_version = min(max(model.ir_version, OLDEST_IR), newest)
    _prune(graph, output_tensor)
    entry = _entry(graph, constants)
    layout, size = _layout(entry, input_size)
    _check_normalization(graph, entry, mean is not None or std is not None)

    first, output = _renamed(graph, entry.name, output_tensor)
    element = entry.type.tensor_type.elem_type
    height, width = size
    _free_reshapes(graph, tensor_shape(entry))
    _prune(graph, output)
    head = _head(first, element, layout, mean, std)
    del graph.input[:]
    graph.input.append(images_input(height, width))
    _insert(graph, head)
    shape, element = _shape_for_any_batch(model, output)
    tail, dim = _tail(graph, output, shape, element, _opset(model))
    graph.node.extend(tail)
    del graph.output[:], graph.value_info[:]
    graph.output.append(features_output(dim))
    del model.metadata_props[:]
    return model


def _check_opset(model: onnx.ModelProto) -> None:
    if _opset(model) < OLDEST_OPSET:
        raise ModelError(
            f"the file is written in ONNX opset {_opset(model)}, expected {OLDEST_OPSET} or later: "
            "rewrite it with onnx.version_converter.convert_version(model, 13)"
        )


def _opset(model: onnx.ModelProto) -> int:
    return max(
        (entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")),
        default=OLDEST_OPSET,
    )


def _made_by(graph: onnx.GraphProto) -> dict[str, onnx.NodeProto]:
    """Return which node makes each tensor."""
    return {name: node for node in graph.node for name in node.output if name}


def _candidates(model: onnx.ModelProto) -> str:
    """List the last tensors that look like features, the nearest to the classes first."""
    try:
        graph = onnx.shape_inference.infer_shapes(model).graph
    except (onnx.shape_inference.InferenceError, ValueError, RuntimeError):
        graph = model.graph
    shapes = {value.name: tensor_shape(value) for value in (*graph.value_info, *graph.output)}
    lines = []
    for node in reversed(graph.node):
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


def _used(node: onnx.NodeProto) -> Iterator[str]:
    """Yield the tensors that a node takes, those that its subgraphs take from outside included."""
    yield from (name for name in node.input if name)
    for subgraph in _subgraphs(node):
        made = set(_made_by(subgraph)) | {value.name for value in subgraph.input}
        made |= {tensor.name for tensor in subgraph.initializer}
        taken = [name for inner in subgraph.node for name in _used(inner)]
        taken += [value.name for value in subgraph.output]
        yield from (name for name in taken if name not in made)


def _subgraphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def _prune(graph: onnx.GraphProto, output: str) -> None:
    """Drop all that the output does not depend on."""
    made = _made_by(graph)
    needed: set[str] = set()
    waiting = [output]
    while waiting:
        name = waiting.pop()
        if name in needed:
            continue
        needed.add(name)
        if name in made:
            waiting.extend(_used(made[name]))
    _keep(graph.node, lambda node: any(name in needed for name in node.output))
    _keep(graph.initializer, lambda tensor: tensor.name in needed)
    _keep(graph.sparse_initializer, lambda tensor: tensor.values.name in needed)
    _keep(graph.input, lambda value: value.name in needed)
    _keep(graph.quantization_annotation, lambda entry: entry.tensor_name in needed)
    # Shapes that the exporter noted may hold its batch size; all are inferred anew.
    del graph.value_info[:]


def _keep(items: Any, wanted: Callable[[Any], bool]) -> None:
    kept = [item for item in items if wanted(item)]
    del items[:]
    items.extend(kept)


def _entry(graph: onnx.GraphProto, constants: set[str]) -> onnx.ValueInfoProto:
    inputs = [value for value in graph.input if value.name not in constants]
    if len(inputs) != 1:
        names = ", ".join(repr(value.name) for value in inputs) or "none"
        raise ModelError(f"the tensor depends on {len(inputs)} inputs ({names}), expected one")
    entry: onnx.ValueInfoProto = inputs[0]
    return entry


def _layout(entry: onnx.ValueInfoProto, input_size: Size | None) -> tuple[str, Size]:
    """Return ``NCHW`` or ``NHWC``, and the height and width."""
    shape = tensor_shape(entry)
    if shape is None or len(shape) != 4 or (shape[1] == 3) == (shape[3] == 3):
        raise ModelError(
            f"the input {entry.name!r} has the shape {shape}; "
            "expected [n, 3, height, width] or [n, height, width, 3]"
        )
    layout = "NCHW" if shape[1] == 3 else "NHWC"
    own = tuple(shape[2:4] if layout == "NCHW" else shape[1:3])
    if None in own:
        if input_size is None:
            raise ModelError(
                f"the input {entry.name!r} leaves height and width open: say them (--input-size)"
            )
        return layout, input_size
    size = (own[0] or 0, own[1] or 0)
    if input_size not in (None, size):
        raise ModelError(
            f"the model takes images of {size[0]} x {size[1]}; "
            f"the input size {input_size} does not fit"
        )
    return layout, size


def _check_normalization(graph: onnx.GraphProto, entry: onnx.ValueInfoProto, given: bool) -> None:
    """Refuse to guess what a network that normalises its input itself expects."""
    element = entry.type.tensor_type.elem_type
    if element == TensorProto.UINT8:
        if given:
            raise ModelError(
                "the input is uint8 and gets the pixels as they are: leave out mean and std"
            )
        return
    if element not in _FLOATS:
        kind = TensorProto.DataType.Name(element).lower()
        raise ModelError(f"the input {entry.name!r} is {kind}, expected float or uint8")
    name = entry.name
    while not given:
        users = [node for node in graph.node if name in node.input]
        if len(users) == 1 and users[0].op_type in ("Cast", "Identity", "Transpose"):
            name = users[0].output[0]
            continue
        for node in users:
            if node.op_type in _ARITHMETIC:
                raise ModelError(
                    f"the network computes on its input itself ({node.op_type} {node.name!r}), "
                    "so that Pomona cannot tell which range it expects: give mean 0 and std 1 for "
                    "pixels from 0 to 255, mean 0 and std 255 for 0 to 1"
                )
        return


def _renamed(graph: onnx.GraphProto, entry: str, output: str) -> tuple[str, str]:
    """Move the network's own tensors out of the contract's names."""
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
        for subgraph in _subgraphs(node):
            _rename(subgraph, names)
    for tensor in graph.initializer:
        tensor.name = names.get(tensor.name, tensor.name)
    for value in (*graph.input, *graph.output):
        value.name = names.get(value.name, value.name)


def _free_reshapes(graph: onnx.GraphProto, input_shape: Shape) -> None:
    """Let reshapes to the exporter's batch size keep any batch size.

    A target of ``[1, 1280]`` becomes ``[0, 1280]``: 0 copies the size of the tensor that is
    reshaped. Whether this made the network free is seen by trying other batch sizes.
    """
    batch = input_shape[0] if input_shape else None
    if batch is None:
        return
    made = _made_by(graph)
    initializers = {tensor.name: tensor for tensor in graph.initializer}
    for node in list(graph.node):
        if node.op_type != "Reshape":
            continue
        target = initializers.get(node.input[1])
        if target is None and node.input[1] in made and made[node.input[1]].op_type == "Constant":
            values = [a.t for a in made[node.input[1]].attribute if a.name == "value"]
            target = values[0] if values else None
        if target is None or any(a.name == "allowzero" and a.i for a in node.attribute):
            continue
        sizes = numpy_helper.to_array(target)
        if sizes.size > 1 and sizes[0] == batch:
            name = f"{_PREFIX}shape_of_{node.output[0]}"
            freed = np.concatenate([[0], sizes[1:]]).astype(np.int64)
            graph.initializer.append(numpy_helper.from_array(freed, name))
            node.input[1] = name


def _head(
    first: str,
    element: int,
    layout: str,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    """Return what turns the contract's images into the network's input, and its constants."""
    steps: list[tuple[str, list[str], dict[str, Any]]] = []
    constants = []
    if element != TensorProto.UINT8:
        steps.append(("Cast", [], {"to": TensorProto.FLOAT}))
    if layout == "NCHW":
        steps.append(("Transpose", [], {"perm": [0, 3, 1, 2]}))
    if element != TensorProto.UINT8:
        default_mean, default_std = (
            (CHANNELS_FIRST_MEAN, CHANNELS_FIRST_STD)
            if layout == "NCHW"
            else (CHANNELS_LAST_MEAN, CHANNELS_LAST_STD)
        )
        shape = (1, -1, 1, 1) if layout == "NCHW" else (1, 1, 1, -1)
        for operator, name, numbers in (
            ("Sub", "mean", mean or default_mean),
            ("Div", "std", std or default_std),
        ):
            array = np.asarray(numbers, np.float32).reshape(shape)
            constants.append(numpy_helper.from_array(array, _PREFIX + name))
            steps.append((operator, [_PREFIX + name], {}))
    if element not in (TensorProto.UINT8, TensorProto.FLOAT):
        steps.append(("Cast", [], {"to": element}))
    if not steps:
        steps.append(("Identity", [], {}))
    nodes = []
    current = INPUT
    for index, (operator, extra, attributes) in enumerate(steps):
        made = first if index == len(steps) - 1 else f"{_PREFIX}head_{index}"
        nodes.append(helper.make_node(operator, [current, *extra], [made], name=made, **attributes))
        current = made
    return nodes, constants


def _insert(
    graph: onnx.GraphProto, head: tuple[list[onnx.NodeProto], list[onnx.TensorProto]]
) -> None:
    nodes, constants = head
    rest = list(graph.node)
    del graph.node[:]
    graph.node.extend([*nodes, *rest])
    graph.initializer.extend(constants)


def _shape_for_any_batch(model: onnx.ModelProto, output: str) -> tuple[list[int], int]:
    """Return sizes and type of a tensor, having tried that its first size follows the batch's."""
    found: list[int] = []
    element = TensorProto.UNDEFINED
    for batch in _TRIAL_BATCHES:
        trial = onnx.ModelProto()
        trial.CopyFrom(model)
        trial.graph.input[0].type.tensor_type.shape.dim[0].dim_value = batch
        del trial.graph.output[:]
        trial.graph.output.append(onnx.ValueInfoProto(name=output))
        try:
            inferred = onnx.shape_inference.infer_shapes(trial, strict_mode=True, data_prop=True)
        except (onnx.shape_inference.InferenceError, ValueError, RuntimeError) as error:
            raise ModelError(
                f"the network does not take a batch of {batch} images; export it with an open "
                f"batch size. ONNX says: {error}"
            ) from error
        value = inferred.graph.output[0]
        shape = tensor_shape(value)
        if shape is None or None in shape[1:]:
            raise ModelError(
                f"the shape of the tensor {output!r} cannot be inferred (found {shape}); "
                "simplify the file first, or choose another tensor"
            )
        if shape[0] != batch:
            raise ModelError(
                f"the tensor {output!r} has the shape {shape} for a batch of {batch} images: "
                "its first size does not follow the batch. Export the network with an open batch "
                "size"
            )
        found = [size or 0 for size in shape]
        element = value.type.tensor_type.elem_type
    if element not in _FLOATS:
        kind = TensorProto.DataType.Name(element).lower()
        raise ModelError(f"the tensor {output!r} is {kind}, expected float")
    return found, element


def _tail(
    graph: onnx.GraphProto, output: str, shape: list[int], element: int, opset: int
) -> tuple[list[onnx.NodeProto], int]:
    """Return what turns the tensor into ``features``, and their number."""
    steps: list[tuple[str, list[str], dict[str, Any]]] = []
    if element != TensorProto.FLOAT:
        steps.append(("Cast", [], {"to": TensorProto.FLOAT}))
    if len(shape) == 4:
        if _is_channels_last(graph, output):
            dim = shape[3]
            if shape[1] * shape[2] > 1:
                axes = np.array([1, 2], np.int64)
                if opset >= AXES_ARE_AN_INPUT:
                    graph.initializer.append(numpy_helper.from_array(axes, _PREFIX + "axes"))
                    steps.append(("ReduceMean", [_PREFIX + "axes"], {}))
                else:
                    steps.append(("ReduceMean", [], {"axes": axes.tolist()}))
        else:
            dim = shape[1]
            if shape[2] * shape[3] > 1:
                steps.append(("GlobalAveragePool", [], {}))
        steps.append(("Flatten", [], {"axis": 1}))
    elif len(shape) == 2:
        dim = shape[1]
        steps.append(("Identity", [], {}))
    else:
        raise ModelError(
            f"the tensor {output!r} has the shape {['n', *shape[1:]]}; "
            "expected [n, d] or a map of 4 sizes"
        )
    nodes = []
    current = output
    for index, (operator, extra, attributes) in enumerate(steps):
        made = OUTPUT if index == len(steps) - 1 else f"{_PREFIX}tail_{index}"
        nodes.append(helper.make_node(operator, [current, *extra], [made], name=made, **attributes))
        current = made
    return nodes, dim


def _is_channels_last(graph: onnx.GraphProto, tensor: str) -> bool:
    """Tell where a map's channels are: follow it back to the operator that decides it."""
    made = _made_by(graph)
    while tensor in made:
        node = made[tensor]
        if node.op_type == "Transpose":
            for attribute in node.attribute:
                if attribute.name == "perm":
                    return list(attribute.ints) == [0, 2, 3, 1]
        if node.op_type in ("Conv", "GlobalAveragePool", "AveragePool", "MaxPool"):
            return False
        tensor = node.input[0] if node.input else ""
    return False
