"""Folds a network's normalisation of pixels into its first convolution."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from pomona.models.contract import INPUT
from pomona.models.graph import attribute, consumers, replace

if TYPE_CHECKING:
    import onnx
    from numpy.typing import NDArray

#: The input of the first convolution after folding: pixels minus a whole number.
SHIFTED = "pomona/shifted"
TO_PLANES = [0, 3, 1, 2]

_CHANNELS = 3
_UINT8_MAX = 255
#: A whole number this close to the mean of the pixels may replace it. At the border, where padding
#: stands for the mean, the error is less than the rounding of pixels.
_ROUNDED_MEAN = 0.5


def fold_pixels(graph: onnx.GraphProto) -> int:
    """Reduce the arithmetic before the first convolution to subtracting the number returned.

    If the arithmetic is more complex than a scale and an offset per channel, the graph is not
    changed, no tensor is named ``SHIFTED``, and the number is 0.
    """
    constants = {tensor.name: tensor for tensor in graph.initializer}
    nodes, first = _chain(graph)
    if first is None or first.op_type != "Conv" or not all(n in constants for n in first.input[1:]):
        return 0
    weights, *biases = (
        numpy_helper.to_array(constants[name]).astype(np.float64) for name in first.input[1:]
    )
    normalization = _normalization(nodes, constants)
    if normalization is None or weights.ndim != 4 or weights.shape[1] != _CHANNELS:
        return 0
    factor, mean = normalization
    shift = float(np.rint(mean.mean()))
    if np.abs(mean - shift).max() > _ROUNDED_MEAN or not 0 <= shift <= _UINT8_MAX:
        return 0
    weights = weights * factor[:, None, None]
    bias = sum(biases, weights.sum(axis=(2, 3)) @ (shift - mean))
    names = [f"{SHIFTED}/{part}" for part in ("planes", "pixels", "mean", "weight", "bias")]
    planes, pixels, mean_name, weight_name, bias_name = names
    graph.initializer.extend(
        numpy_helper.from_array(np.asarray(values, np.float32), name)
        for values, name in ((shift, mean_name), (weights, weight_name), (bias, bias_name))
    )
    head = [
        helper.make_node("Transpose", [INPUT], [planes], perm=TO_PLANES),
        helper.make_node("Cast", [planes], [pixels], to=TensorProto.FLOAT),
        helper.make_node("Sub", [pixels, mean_name], [SHIFTED]),
    ]
    rest = [node for node in graph.node if node not in nodes]
    first.input[:] = [SHIFTED, weight_name, bias_name]
    replace(graph.node, [*head, *rest])
    return int(shift)


def _chain(graph: onnx.GraphProto) -> tuple[list[onnx.NodeProto], onnx.NodeProto | None]:
    """Return the elementwise nodes after the input, and the first node of another kind."""
    users = consumers(graph)
    nodes: list[onnx.NodeProto] = []
    name = INPUT
    while len(users.get(name, ())) == 1:
        (node,) = users[name]
        if node.op_type not in ("Transpose", "Cast", "Sub", "Add", "Div", "Mul"):
            return nodes, node
        nodes.append(node)
        name = node.output[0]
    return nodes, None


def _normalization(
    nodes: list[onnx.NodeProto], constants: dict[str, onnx.TensorProto]
) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Return factor and mean per channel, if the nodes compute ``factor * (pixel - mean)``."""
    factor, mean = np.ones(_CHANNELS), np.zeros(_CHANNELS)
    orders = [attribute(node, "perm", []) for node in nodes if node.op_type == "Transpose"]
    types = [attribute(node, "to", 0) for node in nodes if node.op_type == "Cast"]
    if orders != [TO_PLANES] or types != [TensorProto.FLOAT]:
        return None
    for node in nodes:
        if node.op_type in ("Transpose", "Cast"):
            continue
        operands = [name for name in node.input if name in constants]
        if len(operands) != 1:
            return None
        numbers = numpy_helper.to_array(constants[operands[0]]).astype(np.float64).reshape(-1)
        if numbers.size not in (1, _CHANNELS):
            return None
        swapped = node.input[0] == operands[0]
        if node.op_type == "Mul" or (node.op_type == "Div" and not swapped):
            factor = factor * (numbers if node.op_type == "Mul" else 1 / numbers)
        elif node.op_type == "Add" or (node.op_type == "Sub" and not swapped):
            mean = mean - (numbers if node.op_type == "Add" else -numbers) / factor
        else:
            return None
    return (factor, mean) if np.isfinite(mean).all() and np.isfinite(factor).all() else None
