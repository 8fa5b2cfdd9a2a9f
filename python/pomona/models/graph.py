"""Reads and edits ONNX graphs of any origin."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import helper, numpy_helper

from pomona._errors import ModelError

if TYPE_CHECKING:
    from typing import Any, Callable, Dict, Iterable, Iterator, List, Optional, Tuple

    from numpy.typing import NDArray

    Shape = List[Optional[int]]
    """The sizes of a tensor; None for those that are open."""

    Step = Tuple[str, List[str], Dict[str, Any]]
    """An operator, its inputs after the first, and its attributes."""

FLOATS = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE)


class Constants:
    """The constants of a graph under construction; equal ones are stored once.

    The names of constants that have no name of their own begin with `prefix`.
    """

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._tensors: dict[tuple[Any, ...], onnx.TensorProto] = {}

    @property
    def tensors(self) -> list[onnx.TensorProto]:
        """The constants, in the order in which they were added."""
        return list(self._tensors.values())

    def add(self, values: NDArray[Any], name: str = "") -> str:
        """Add a constant and return its name; a constant with its own name is never shared."""
        key = (values.dtype.str, values.shape, values.tobytes(), name)
        if key not in self._tensors:
            name = name or f"{self._prefix}_{len(self._tensors)}"
            self._tensors[key] = numpy_helper.from_array(values, name)
        return self._tensors[key].name


def opset_of(model: onnx.ModelProto) -> int:
    """Return the version of ONNX's own operators that a model is written in."""
    versions = [entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")]
    # Files without the field predate opset 2.
    return max(versions, default=1)


def tensor_shape(value: onnx.ValueInfoProto) -> Shape | None:
    """Return the shape of a tensor; None if not even its rank is known."""
    if not value.type.tensor_type.HasField("shape"):
        return None
    sizes = value.type.tensor_type.shape.dim
    return [size.dim_value if size.HasField("dim_value") else None for size in sizes]


def type_name(element: int) -> str:
    """Return the name of an element type, such as ``float``."""
    return str(onnx.TensorProto.DataType.Name(element)).lower()


def inferred_shapes(model: onnx.ModelProto) -> dict[str, Shape]:
    """Return the shape of each tensor for which ONNX can infer one."""
    graph = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    shapes: dict[str, Shape] = {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        shape = tensor_shape(value)
        if shape is not None:
            shapes[value.name] = shape
    return shapes


def producers(graph: onnx.GraphProto) -> dict[str, onnx.NodeProto]:
    """Return the node that produces each tensor."""
    return {name: node for node in graph.node for name in node.output if name}


def consumers(graph: onnx.GraphProto) -> dict[str, list[onnx.NodeProto]]:
    """Return the nodes that read each tensor; an output of the graph counts as one more."""
    nodes: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in dict.fromkeys(node.input):
            nodes.setdefault(name, []).append(node)
    for value in graph.output:
        nodes.setdefault(value.name, []).append(onnx.NodeProto())
    return nodes


def attribute(node: onnx.NodeProto, name: str, default: Any) -> Any:
    """Return the value of a node's attribute, or `default` if the node does not have it."""
    for candidate in node.attribute:
        if candidate.name == name:
            return helper.get_attribute_value(candidate)
    return default


def subgraphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """Yield the subgraphs of a node, such as the branches of an ``If``."""
    for candidate in node.attribute:
        if candidate.HasField("g"):
            yield candidate.g
        yield from candidate.graphs


def _inputs(node: onnx.NodeProto) -> Iterator[str]:
    """Yield the tensors that a node reads, including those that its subgraphs capture."""
    yield from (name for name in node.input if name)
    for subgraph in subgraphs(node):
        own = set(producers(subgraph)) | {value.name for value in subgraph.input}
        own |= {tensor.name for tensor in subgraph.initializer}
        names = [name for inner in subgraph.node for name in _inputs(inner)]
        names += [value.name for value in subgraph.output]
        yield from (name for name in names if name not in own)


def prune(graph: onnx.GraphProto, output: str) -> None:
    """Remove everything that a tensor does not depend on."""
    producer = producers(graph)
    needed: set[str] = set()
    waiting = [output]
    while waiting:
        name = waiting.pop()
        if name not in needed:
            needed.add(name)
            waiting.extend(_inputs(producer[name]) if name in producer else ())
    _keep(graph.node, lambda node: any(name in needed for name in node.output))
    _keep(graph.initializer, lambda tensor: tensor.name in needed)
    _keep(graph.sparse_initializer, lambda tensor: tensor.values.name in needed)
    _keep(graph.input, lambda value: value.name in needed)
    _keep(graph.quantization_annotation, lambda entry: entry.tensor_name in needed)
    # The shapes that the exporter noted may hold its batch size; all are inferred again.
    del graph.value_info[:]


def _keep(items: Any, condition: Callable[[Any], bool]) -> None:
    replace(items, [item for item in items if condition(item)])


def to_float32(graph: onnx.GraphProto) -> None:
    """Turn all float64 tensors of a graph into float32.

    Raises a ModelError for a constant that is too large for float32.
    """
    for tensor in graph.initializer:
        _narrow(tensor)
    for value in (*graph.input, *graph.output, *graph.value_info):
        if value.type.tensor_type.elem_type == onnx.TensorProto.DOUBLE:
            value.type.tensor_type.elem_type = onnx.TensorProto.FLOAT
    for node in graph.node:
        for item in node.attribute:
            if item.HasField("t"):
                _narrow(item.t)
            if item.name in ("to", "dtype") and item.i == onnx.TensorProto.DOUBLE:
                item.i = onnx.TensorProto.FLOAT
        for subgraph in subgraphs(node):
            to_float32(subgraph)


def _narrow(tensor: onnx.TensorProto) -> None:
    if tensor.data_type != onnx.TensorProto.DOUBLE:
        return
    numbers = numpy_helper.to_array(tensor)
    finite = numbers[np.isfinite(numbers)]
    # Bounds such as the lowest float64 have no other meaning than the lowest float32.
    largest = float(np.finfo(np.float32).max)
    bounds = np.abs(finite) == np.finfo(np.float64).max
    if (np.abs(finite[~bounds]) > largest).any():
        raise ModelError(f"the float64 constant {tensor.name!r} is too large for float32")
    narrowed = np.where(np.isfinite(numbers), np.clip(numbers, -largest, largest), numbers)
    tensor.CopyFrom(numpy_helper.from_array(narrowed.astype(np.float32), tensor.name))


def chain(source: str, steps: list[Step], target: str, prefix: str) -> list[onnx.NodeProto]:
    """Return nodes that lead from one tensor to another; the names between begin with `prefix`."""
    nodes = []
    for index, (operator, constants, attributes) in enumerate(steps):
        output = target if index == len(steps) - 1 else f"{prefix}_{index}"
        node = helper.make_node(operator, [source, *constants], [output], output, **attributes)
        nodes.append(node)
        source = output
    return nodes


def replace(items: Any, others: Iterable[Any]) -> None:
    """Replace the items of a repeated protobuf field."""
    others = list(others)
    del items[:]
    items.extend(others)
