"""Finds what of a float32 network can be held in 8 bits."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import numpy_helper

from pomona._errors import ModelError
from pomona.models.contract import INPUT, OUTPUT
from pomona.models.graph import consumers, inferred_shapes, opset_of, producers, subgraphs
from pomona.models.int8.pixel_folding import fold_pixels

if TYPE_CHECKING:
    from typing import Any

    from numpy.typing import NDArray

#: The first opset whose DequantizeLinear takes a scale for each filter.
OPSET = 13

_BOUNDS = ("Clip", "Relu")
_QUANTIZED = ("Conv", "Add", "AveragePool", "Concat")
#: Their input is held in 8 bits but not their output: features are averages of many values, and
#: stay unrounded.
_READERS = ("GlobalAveragePool",)
_MAP_RANK = 4


@dataclass(frozen=True)
class Statistics:
    """Results of calibration for a tensor: its minimum, maximum, and mean in each channel."""

    lowest: float
    highest: float
    means: NDArray[np.float64]


class Network:
    """A float32 network that keeps the model contract, and the parts that 8 bits can hold.

    Raises a ModelError if the network is in int8 already or has nothing that int8 would speed up.

    Attributes
    ----------
    model : onnx.ModelProto
        The same network, its normalisation of pixels folded into the first convolution if possible.
    pixels_mean : int
        What is subtracted from the pixels before the first convolution, if it could be folded.
    bounded : dict of str to str
        The tensors whose bounds uint8 enforces, each with the tensor after the ReLU or Clip.
    tensors : list of str
        The maps ``[n, channels, height, width]`` that need :class:`Statistics`.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = _modern(model)
        graph = self.model.graph
        _check_convertible(graph)
        self.pixels_mean = fold_pixels(graph)
        self._constants = {tensor.name: tensor for tensor in graph.initializer}
        self._ranks = {name: len(shape) for name, shape in inferred_shapes(self.model).items()}
        self.bounded = self._find_bounded()
        self.tensors = self._find_tensors()
        if not any(node.op_type == "Conv" and self.is_quantized(node) for node in graph.node):
            raise ModelError("it has no convolution with fixed weights, which is what int8 is for")

    def array(self, name: str) -> NDArray[Any]:
        """Return a constant."""
        return np.asarray(numpy_helper.to_array(self._constants[name]))

    def is_quantized(self, node: onnx.NodeProto) -> bool:
        """Tell whether the output of a node is held in 8 bits."""
        if node.op_type == "Conv":
            return (
                all(name in self._constants for name in node.input[1:] if name)
                and len(self._constants[node.input[1]].dims) == _MAP_RANK
                and self._is_map(node.input[0])
            )
        if node.op_type not in _QUANTIZED:
            return False
        return all(self._is_map(name) for name in (*node.input, node.output[0]))

    def _is_map(self, name: str) -> bool:
        return name not in self._constants and self._ranks.get(name) == _MAP_RANK

    def _find_bounded(self) -> dict[str, str]:
        producer, users = producers(self.model.graph), consumers(self.model.graph)
        bounded = {}
        for node in self.model.graph.node:
            if node.op_type not in _BOUNDS or node.input[0] not in producer:
                continue
            is_only_user = len(users[node.input[0]]) == 1
            is_constant = all(name in self._constants for name in node.input[1:] if name)
            if self.is_quantized(producer[node.input[0]]) and is_only_user and is_constant:
                bounded[node.input[0]] = node.output[0]
        return bounded

    def _find_tensors(self) -> list[str]:
        needed: set[str] = set()
        for node in self.model.graph.node:
            names: list[str] = []
            if self.is_quantized(node):
                inputs = node.input[:1] if node.op_type == "Conv" else node.input
                names = [*inputs, node.output[0]]
            elif node.op_type in _READERS:
                names = [node.input[0]]
            needed.update(self.bounded.get(name, name) for name in names)
        needed.discard(OUTPUT)
        names = [INPUT, *(name for node in self.model.graph.node for name in node.output)]
        return [name for name in names if name in needed and self._is_map(name)]


def _modern(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy in an opset that int8 can be written in."""
    opset = opset_of(model)
    if opset >= OPSET:
        return deepcopy(model)
    try:
        return onnx.version_converter.convert_version(model, OPSET)
    except (RuntimeError, ValueError) as error:
        raise ModelError(
            f"it is written in ONNX opset {opset}, int8 needs {OPSET}, and the conversion failed: "
            f"{error}"
        ) from error


def _check_convertible(graph: onnx.GraphProto) -> None:
    for node in graph.node:
        if "Quantize" in node.op_type or "QLinear" in node.op_type or "Integer" in node.op_type:
            raise ModelError("it is in int8 already: quantize the float32 model it was made from")
        if any(subgraphs(node)):
            raise ModelError(f"it has a {node.op_type} with a subgraph, which cannot be int8")
