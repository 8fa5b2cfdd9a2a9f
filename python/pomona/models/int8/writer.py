"""Writes the int8 version of a network as ONNX.

The file is plain ONNX: pairs of QuantizeLinear and DequantizeLinear mark the tensors that are held
in 8 bits, and ONNX Runtime fuses them with the layers between them (QLinearConv and similar
operators, channels last). Activations are uint8 with one scale per tensor, weights are int8 with
one scale per filter.

A ReLU or ReLU6 costs nothing, because the layer before it writes uint8 that has the same bounds.
The first convolution takes the pixels, which are uint8, without a conversion.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import helper

from pomona.models.contract import INPUT, OUTPUT
from pomona.models.graph import Constants, attribute, prune, replace, tensor_shape
from pomona.models.int8.byte_grouping import OUTPUTS, Grouping, group_bytes
from pomona.models.int8.pixel_folding import SHIFTED, TO_PLANES
from pomona.models.int8.rounding import filter_scales, mean_response, round_filters

if TYPE_CHECKING:
    from typing import Any, Mapping

    from numpy.typing import NDArray

    from pomona.models.int8.network import Network, Statistics

_UINT8_MAX = 255
#: The scale of a tensor that is always 0.
_SMALLEST_SCALE = 1e-12
_TO_PIXELS = [0, 2, 3, 1]
#: Operators whose output has the scale and zero point of their input.
_PASSING = ("MaxPool",)


@dataclass(frozen=True)
class _Units:
    """How uint8 represents real numbers: ``scale * (value - zero)``."""

    scale: np.float32
    zero: int


def write_int8(network: Network, statistics: Mapping[str, Statistics]) -> onnx.ModelProto:
    """Return the int8 version of a network, given statistics of each of its ``tensors``."""
    return _Writer(network, statistics).write()


class _Writer:
    def __init__(self, network: Network, statistics: Mapping[str, Statistics]) -> None:
        self._network = network
        self._statistics = statistics
        self._units: dict[str, _Units] = {}
        self._dequantized: dict[str, str] = {}
        self._nodes: list[onnx.NodeProto] = []
        self._constants = Constants("pomona/constant")

    def write(self) -> onnx.ModelProto:
        model = deepcopy(self._network.model)
        graph = model.graph
        bounds = set(self._network.bounded.values())
        for number, node in enumerate(graph.node):
            source, target = (node.input[0] if node.input else ""), node.output[0]
            if target in bounds and target in self._dequantized:
                continue  # uint8 enforces these bounds
            if target == SHIFTED:
                continue  # the first convolution takes the pixels themselves
            if node.op_type == "Conv" and self._convolution(node, f"pomona/layer_{number}"):
                continue
            units = self._units.get(source) if node.op_type in _PASSING else None
            node.input[:] = [self._dequantized.get(name, name) for name in node.input]
            self._nodes.append(node)
            self._hold(target, units)
        replace(graph.node, self._nodes)
        graph.initializer.extend(self._constants.tensors)
        prune(graph, OUTPUT)
        return model

    def _add(self, operator: str, inputs: list[str], output: str, **attributes: Any) -> None:
        self._nodes.append(helper.make_node(operator, inputs, [output], **attributes))

    def _hold(self, tensor: str, units: _Units | None = None) -> None:
        """Hold a tensor in 8 bits if its units are given or calibration has measured it."""
        behind = self._network.bounded.get(tensor, tensor)
        if units is None:
            if behind not in self._statistics:
                return
            units = _units(self._statistics[behind])
        held = f"{behind}/uint8"
        self._add("QuantizeLinear", [tensor, *self._constants_of(units)], held)
        self._dequantize(held, behind, units)

    def _dequantize(self, held: str, tensor: str, units: _Units) -> None:
        real = f"{tensor}/real"
        self._add("DequantizeLinear", [held, *self._constants_of(units)], real)
        self._units[tensor] = units
        self._dequantized[tensor] = real

    def _constants_of(self, units: _Units) -> list[str]:
        values = np.array(units.scale), np.array(units.zero, np.uint8)
        return [self._constants.add(value) for value in values]

    def _convolution(self, node: onnx.NodeProto, name: str) -> bool:
        """Write a convolution in int8; return False if it has to stay in float32."""
        network = self._network
        source = node.input[0]
        if not network.is_quantized(node) or source not in self._statistics:
            return False
        first = source == SHIFTED
        units = _Units(np.float32(1), network.pixels_mean) if first else self._units[source]
        weight = network.array(node.input[1]).astype(np.float64)
        bias = np.zeros(len(weight))
        if len(node.input) > 2 and node.input[2]:
            bias = network.array(node.input[2]).astype(np.float64)
        scales = filter_scales(weight, bias, float(units.scale))
        rounded = round_filters(weight / scales[:, None, None, None].astype(np.float64))
        error = rounded * scales[:, None, None, None] - weight
        group = int(attribute(node, "group", 1))
        bias = bias - mean_response(error, self._statistics[source].means, group)
        integers = rounded.astype(np.int8)
        grouping = self._grouping(node, integers) if first else None
        if first:
            self._take_pixels(source, units, grouping)
        if grouping is not None:
            integers = grouping.weights
            scales, bias = np.tile(scales, OUTPUTS), np.tile(bias, OUTPUTS)
        bias_scales = (units.scale * scales).astype(np.float32)
        biases = np.rint(bias / bias_scales).astype(np.int32)
        inputs = [self._dequantized[source]]
        for part, values, value_scales in (
            ("weight", integers, scales),
            ("bias", biases, bias_scales),
        ):
            real = f"{name}/{part}"
            # Not shared: where int8 would saturate, ONNX Runtime turns these constants into uint8,
            # layer by layer.
            zeros = self._constants.add(np.zeros(len(values), values.dtype), f"{real}/zeros")
            held = self._constants.add(values, f"{real}/held")
            scale = self._constants.add(value_scales)
            self._add("DequantizeLinear", [held, scale, zeros], real, axis=0)
            inputs.append(real)
        node.input[:] = inputs
        target = node.output[0]
        if grouping is None:
            self._nodes.append(node)
            self._hold(target)
        else:
            self._write_grouped(inputs, target, name, grouping)
        return True

    def _take_pixels(self, source: str, units: _Units, grouping: Grouping | None) -> None:
        """Feed the pixels to the first convolution, unchanged."""
        images, planes = INPUT, f"{source}/uint8"
        if grouping is not None:
            images = f"{source}/grouped"
            shape = self._constants.add(np.array(grouping.input_shape, np.int64))
            self._add("Reshape", [INPUT, shape], images)
        self._add("Transpose", [images], planes, perm=TO_PLANES)
        self._dequantize(planes, source, units)

    def _grouping(self, node: onnx.NodeProto, weights: NDArray[np.int8]) -> Grouping | None:
        if list(attribute(node, "dilations", [1, 1])) != [1, 1]:
            return None
        if attribute(node, "auto_pad", b"NOTSET") != b"NOTSET":
            return None
        if self._network.bounded.get(node.output[0], node.output[0]) not in self._statistics:
            return None
        shape = tensor_shape(self._network.model.graph.input[0]) or []
        height, width = (size or 0 for size in shape[1:3])
        strides = list(attribute(node, "strides", [1, 1]))
        pads = list(attribute(node, "pads", [0, 0, 0, 0]))
        return group_bytes(weights, height, width, strides, pads)

    def _write_grouped(self, inputs: list[str], target: str, name: str, grouping: Grouping) -> None:
        """Write the first convolution on groups of bytes, and split its output into pixels."""
        grouped = f"{name}/grouped"
        kernel = list(grouping.weights.shape[2:])
        strides, pads = grouping.strides, grouping.pads
        self._add("Conv", inputs, grouped, kernel_shape=kernel, strides=strides, pads=pads)
        behind = self._network.bounded.get(target, target)
        units = _units(self._statistics[behind])
        held, rows, pixels, maps = (f"{name}/{p}" for p in ("uint8", "rows", "pixels", "maps"))
        shape = self._constants.add(np.array(grouping.output_shape, np.int64))
        self._add("QuantizeLinear", [grouped, *self._constants_of(units)], held)
        self._add("Transpose", [held], rows, perm=_TO_PIXELS)
        self._add("Reshape", [rows, shape], pixels)
        self._add("Transpose", [pixels], maps, perm=TO_PLANES)
        self._dequantize(maps, behind, units)


def _units(statistics: Statistics) -> _Units:
    lowest, highest = min(statistics.lowest, 0.0), max(statistics.highest, 0.0)
    scale = np.float32(max((highest - lowest) / _UINT8_MAX, _SMALLEST_SCALE))
    zero = int(np.clip(np.rint(-lowest / float(scale)), 0, _UINT8_MAX))
    return _Units(scale, zero)
