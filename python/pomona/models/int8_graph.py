"""Rewrites a float32 network so that ONNX Runtime computes it in int8.

The file stays plain ONNX: pairs of QuantizeLinear and DequantizeLinear mark what is held in 8 bits,
and ONNX Runtime fuses them with the layers between them (QLinearConv and its like, channels last).
Activations are uint8, one scale a tensor; weights are int8, one scale a filter.

Two things are the layers': a ReLU or ReLU6 costs nothing, since its bounds are those of the uint8
that the layer before writes; and pixels, uint8 already, go into the first convolution as they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from pomona._errors import ModelError
from pomona.models.first_layer import OUTPUTS, Grouping, group_bytes
from pomona.models.graph import INPUT, OUTPUT
from pomona.models.inspection import tensor_shape
from pomona.models.rounding import filter_scales, mean_response, round_filters

if TYPE_CHECKING:
    from typing import Any, Mapping, Sequence

    from numpy.typing import NDArray

#: The first opset whose DequantizeLinear takes a scale for each filter.
OPSET = 13

_UINT8_MAX = 255
#: Of a tensor that is always 0.
_SMALLEST_SCALE = 1e-12
#: The pixels less their mean: what the first convolution takes.
_SHIFTED = "pomona/shifted"
_CHANNELS = 3
_TO_PLANES = [0, 3, 1, 2]
_TO_PIXELS = [0, 2, 3, 1]
#: A whole number this near to the pixels' mean may stand for it: what it errs at the border, where
#: the mean is the padding, is less than pixels are rounded by.
_ROUNDED_MEAN = 0.5

_BOUNDS = ("Clip", "Relu")
_QUANTIZED = ("Conv", "Add", "AveragePool", "Concat")
#: Only read in 8 bits: features are averages of many values, and come out unrounded.
_READERS = ("GlobalAveragePool",)
#: Their output is in the units of their input.
_PASSING = ("MaxPool",)
_MAP_RANK = 4


@dataclass(frozen=True)
class Statistics:
    """What calibration saw of a tensor: its extremes and its mean in each channel."""

    lowest: float
    highest: float
    means: NDArray[np.float64]


@dataclass(frozen=True)
class _Units:
    """How uint8 stands for real numbers: ``scale * (value - zero)``."""

    scale: np.float32
    zero: int


class Network:
    """A float32 network, and what of it can be held in 8 bits.

    Parameters
    ----------
    model : onnx.ModelProto
        A network that keeps the model contract. It is not changed.

    Attributes
    ----------
    model : onnx.ModelProto
        The same network, its arithmetic on pixels moved into the first convolution where possible.
    tensors : list of str
        The maps ``[n, channels, height, width]`` that need :class:`Statistics`.

    Raises
    ------
    ModelError
        If it is in int8 already, or there is nothing in it that int8 would speed up.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = _modern(model)
        _refuse(self.model.graph)
        self._constants = {t.name: t for t in self.model.graph.initializer}
        self._pixels_mean = self._fold_pixels()
        self._constants = {t.name: t for t in self.model.graph.initializer}
        self._users = _users(self.model.graph)
        self._ranks = _ranks(self.model)
        self._bounded = self._find_bounded()
        self.tensors = self._find_tensors()
        if not any(map(self._is_convolution, self.model.graph.node)):
            raise ModelError("it has no convolution with fixed weights, which is what int8 is for")

    def quantized(self, statistics: Mapping[str, Statistics]) -> onnx.ModelProto:
        """Return the network in int8.

        Parameters
        ----------
        statistics : mapping of str to Statistics
            What photos gave, for each of :attr:`tensors`.
        """
        return _Writer(self, statistics).write()

    @property
    def pixels_mean(self) -> int:
        """The whole number that pixels are shifted by, where that is all that is done to them."""
        return self._pixels_mean

    @property
    def bounded(self) -> dict[str, str]:
        """The tensors whose bounds uint8 takes over, each with the tensor behind the bounds."""
        return self._bounded

    def array(self, name: str) -> NDArray[Any]:
        """Return a constant."""
        return np.asarray(numpy_helper.to_array(self._constants[name]))

    def is_quantized(self, node: onnx.NodeProto) -> bool:
        """Tell whether a node's output is held in 8 bits."""
        if node.op_type == "Conv":
            return self._is_convolution(node)
        if node.op_type not in _QUANTIZED:
            return False
        return all(self._is_map(name) for name in (*node.input, node.output[0]))

    def _is_convolution(self, node: onnx.NodeProto) -> bool:
        if node.op_type != "Conv" or not all(n in self._constants for n in node.input[1:] if n):
            return False
        return len(self._constants[node.input[1]].dims) == _MAP_RANK and self._is_map(node.input[0])

    def _is_map(self, name: str) -> bool:
        return name not in self._constants and self._ranks.get(name) == _MAP_RANK

    def _find_bounded(self) -> dict[str, str]:
        found = {}
        made = {name: node for node in self.model.graph.node for name in node.output}
        for node in self.model.graph.node:
            if node.op_type not in _BOUNDS:
                continue
            source = made.get(node.input[0])
            alone = len(self._users.get(node.input[0], ())) == 1
            constant = all(name in self._constants for name in node.input[1:] if name)
            if source is not None and self.is_quantized(source) and alone and constant:
                found[node.input[0]] = node.output[0]
        return found

    def _find_tensors(self) -> list[str]:
        wanted: set[str] = set()
        for node in self.model.graph.node:
            names = []
            if node.op_type == "Conv":
                names = [node.input[0], node.output[0]] if self._is_convolution(node) else []
            elif self.is_quantized(node):
                names = [*node.input, node.output[0]]
            elif node.op_type in _READERS:
                names = [node.input[0]]
            wanted.update(self._bounded.get(name, name) for name in names)
        wanted.discard(OUTPUT)
        produced = [INPUT, *(name for node in self.model.graph.node for name in node.output)]
        return [name for name in produced if name in wanted and self._is_map(name)]

    def _fold_pixels(self) -> int:
        """Leave nothing before the first convolution but a whole number to subtract; return it.

        If there is more to it, the network stays as it is and nothing bears the name _SHIFTED.
        """
        graph = self.model.graph
        chain, first = _chain(graph)
        if first is None or first.op_type != "Conv" or len(first.input) < 2:
            return 0
        weight = self._constants.get(first.input[1])
        if weight is None or list(weight.dims[1:2]) != [_CHANNELS] or len(weight.dims) != _MAP_RANK:
            return 0
        if len(first.input) > 2 and first.input[2] not in self._constants:
            return 0
        affine = self._affine(chain)
        if affine is None:
            return 0
        factor, mean = affine
        whole = float(np.rint(mean.mean()))
        if np.abs(mean - whole).max() > _ROUNDED_MEAN or not 0 <= whole <= _UINT8_MAX:
            return 0
        weights = self.array(first.input[1]).astype(np.float64) * factor[:, None, None]
        bias = weights.sum(axis=(2, 3)) @ (whole - mean)
        if len(first.input) > 2:
            bias += self.array(first.input[2])
        names = [f"{_SHIFTED}/{part}" for part in ("planes", "pixels", "mean", "weight", "bias")]
        planes, pixels, mean_name, weight_name, bias_name = names
        graph.initializer.extend(
            numpy_helper.from_array(array, name)
            for array, name in (
                (np.array(whole, np.float32), mean_name),
                (weights.astype(np.float32), weight_name),
                (bias.astype(np.float32), bias_name),
            )
        )
        head = [
            helper.make_node("Transpose", [INPUT], [planes], perm=_TO_PLANES),
            helper.make_node("Cast", [planes], [pixels], to=TensorProto.FLOAT),
            helper.make_node("Sub", [pixels, mean_name], [_SHIFTED]),
        ]
        rest = [node for node in graph.node if node not in chain]
        first.input[:] = [_SHIFTED, weight_name, bias_name]
        _replace(graph.node, [*head, *rest])
        return int(whole)

    def _affine(
        self, chain: Sequence[onnx.NodeProto]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
        """Return the factor and the mean, one a channel: ``factor * (pixel - mean)``."""
        factor, mean = np.ones(_CHANNELS), np.zeros(_CHANNELS)
        kinds = [node.op_type for node in chain]
        if kinds.count("Transpose") != 1 or kinds.count("Cast") != 1:
            return None
        for node in chain:
            if node.op_type == "Transpose":
                if list(_attribute(node, "perm", [])) != _TO_PLANES:
                    return None
                continue
            if node.op_type == "Cast":
                if _attribute(node, "to", 0) != TensorProto.FLOAT:
                    return None
                continue
            constants = [name for name in node.input if name in self._constants]
            if len(constants) != 1:
                return None
            numbers = self.array(constants[0]).astype(np.float64).reshape(-1)
            if numbers.size not in (1, _CHANNELS):
                return None
            swapped = node.input[0] == constants[0]
            if node.op_type == "Mul" or (node.op_type == "Div" and not swapped):
                factor = factor * (numbers if node.op_type == "Mul" else 1 / numbers)
            elif node.op_type == "Add" or (node.op_type == "Sub" and not swapped):
                mean = mean - (numbers if node.op_type == "Add" else -numbers) / factor
            else:
                return None
        return (factor, mean) if np.isfinite(mean).all() and np.isfinite(factor).all() else None


class _Writer:
    """Writes the int8 network, node by node."""

    def __init__(self, network: Network, statistics: Mapping[str, Statistics]) -> None:
        self._network = network
        self._statistics = statistics
        self._units: dict[str, _Units] = {}
        self._dequantized: dict[str, str] = {}
        self._nodes: list[onnx.NodeProto] = []
        self._initializers: dict[tuple[Any, ...], onnx.TensorProto] = {}

    def write(self) -> onnx.ModelProto:
        network = self._network
        model = onnx.ModelProto()
        model.CopyFrom(network.model)
        graph = model.graph
        bounds = set(network.bounded.values())
        for number, node in enumerate(list(graph.node)):
            source, target = (node.input[0] if node.input else ""), node.output[0]
            if target in bounds and target in self._dequantized:
                continue  # what it would cut off was never written
            if target == _SHIFTED:
                continue  # the first convolution takes the pixels themselves
            if node.op_type == "Conv" and self._convolution(node, f"pomona/layer_{number}"):
                continue
            units = self._units.get(source) if node.op_type in _PASSING else None
            node.input[:] = [self._dequantized.get(name, name) for name in node.input]
            self._nodes.append(node)
            self._hold(target, units)
        _replace(graph.node, _needed(self._nodes, graph.output))
        used = {name for node in graph.node for name in node.input}
        kept = [t for t in graph.initializer if t.name in used]
        _replace(graph.initializer, [*kept, *self._initializers.values()])
        del graph.value_info[:]
        return model

    def _hold(self, tensor: str, units: _Units | None = None) -> str:
        """Hold a tensor in 8 bits, if it is to be; return the uint8 tensor or nothing."""
        behind = self._network.bounded.get(tensor, tensor)
        if units is None:
            if behind not in self._statistics:
                return ""
            units = _units(self._statistics[behind])
        held = f"{behind}/uint8"
        self._nodes.append(
            helper.make_node("QuantizeLinear", [tensor, *self._constants_of(units)], [held])
        )
        self._dequantize(held, behind, units)
        return held

    def _dequantize(self, held: str, tensor: str, units: _Units) -> None:
        real = f"{tensor}/real"
        self._nodes.append(
            helper.make_node("DequantizeLinear", [held, *self._constants_of(units)], [real])
        )
        self._units[tensor] = units
        self._dequantized[tensor] = real

    def _constants_of(self, units: _Units) -> list[str]:
        return [
            self._constant(np.array(units.scale)),
            self._constant(np.array(units.zero, np.uint8)),
        ]

    def _convolution(self, node: onnx.NodeProto, name: str) -> bool:
        """Write a convolution in int8; return False if it stays as it is."""
        network = self._network
        source = node.input[0]
        if not network.is_quantized(node) or source not in self._statistics:
            return False
        first = source == _SHIFTED
        units = _Units(np.float32(1), network.pixels_mean) if first else self._units[source]
        weight = network.array(node.input[1]).astype(np.float64)
        bias = np.zeros(len(weight))
        if len(node.input) > 2 and node.input[2]:
            bias = network.array(node.input[2]).astype(np.float64)
        scales = filter_scales(weight, bias, float(units.scale))
        rounded = round_filters(weight / scales[:, None, None, None].astype(np.float64))
        error = rounded * scales[:, None, None, None] - weight
        group = int(_attribute(node, "group", 1))
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
        for part, values, their_scales in (
            ("weight", integers, scales),
            ("bias", biases, bias_scales),
        ):
            real = f"{name}/{part}"
            # A constant of their own: ONNX Runtime makes uint8 of them, one layer after another,
            # on a processor whose int8 would saturate.
            zeros = self._constant(np.zeros(len(values), values.dtype), f"{real}/zeros")
            held = [self._constant(values, f"{real}/held"), self._constant(their_scales), zeros]
            self._nodes.append(helper.make_node("DequantizeLinear", held, [real], axis=0))
            inputs.append(real)
        node.input[:] = inputs
        target = node.output[0]
        if grouping is None:
            self._nodes.append(node)
            self._hold(target)
        else:
            self._write_grouped(node, target, name, grouping)
        return True

    def _take_pixels(self, source: str, units: _Units, grouping: Grouping | None) -> None:
        """Give the first convolution the pixels as they are."""
        images, planes = INPUT, f"{source}/uint8"
        if grouping is not None:
            images = f"{source}/grouped"
            shape = self._constant(np.array(grouping.input_shape, np.int64))
            self._nodes.append(helper.make_node("Reshape", [INPUT, shape], [images]))
        self._nodes.append(helper.make_node("Transpose", [images], [planes], perm=_TO_PLANES))
        self._dequantize(planes, source, units)

    def _grouping(self, node: onnx.NodeProto, weights: NDArray[np.int8]) -> Grouping | None:
        height, width = [
            size or 0 for size in (tensor_shape(self._network.model.graph.input[0]) or [])[1:3]
        ]
        if list(_attribute(node, "dilations", [1, 1])) != [1, 1]:
            return None
        if _attribute(node, "auto_pad", b"NOTSET") != b"NOTSET":
            return None
        behind = self._network.bounded.get(node.output[0], node.output[0])
        if behind not in self._statistics:
            return None
        strides = list(_attribute(node, "strides", [1, 1]))
        pads = list(_attribute(node, "pads", [0, 0, 0, 0]))
        return group_bytes(weights, height, width, strides, pads)

    def _write_grouped(
        self, node: onnx.NodeProto, target: str, name: str, grouping: Grouping
    ) -> None:
        """Write the first convolution on groups of bytes, and take its output apart."""
        grouped = f"{name}/grouped"
        convolution = helper.make_node(
            "Conv",
            list(node.input),
            [grouped],
            kernel_shape=list(grouping.weights.shape[2:]),
            strides=grouping.strides,
            pads=grouping.pads,
        )
        behind = self._network.bounded.get(target, target)
        units = _units(self._statistics[behind])
        steps = [f"{name}/{step}" for step in ("uint8", "rows", "pixels", "maps")]
        shape = self._constant(np.array(grouping.output_shape, np.int64))
        self._nodes += [
            convolution,
            helper.make_node("QuantizeLinear", [grouped, *self._constants_of(units)], steps[:1]),
            helper.make_node("Transpose", steps[:1], steps[1:2], perm=_TO_PIXELS),
            helper.make_node("Reshape", [steps[1], shape], steps[2:3]),
            helper.make_node("Transpose", steps[2:3], steps[3:4], perm=_TO_PLANES),
        ]
        self._dequantize(steps[3], behind, units)

    def _constant(self, values: NDArray[Any], name: str = "") -> str:
        """Return the name of a constant; without a name of its own it is shared."""
        key = (values.dtype.str, values.shape, values.tobytes(), name)
        if key not in self._initializers:
            name = name or f"pomona/constant_{len(self._initializers)}"
            self._initializers[key] = numpy_helper.from_array(values, name)
        return self._initializers[key].name


def _units(statistics: Statistics) -> _Units:
    lowest, highest = min(statistics.lowest, 0.0), max(statistics.highest, 0.0)
    scale = np.float32(max((highest - lowest) / _UINT8_MAX, _SMALLEST_SCALE))
    zero = int(np.clip(np.rint(-lowest / float(scale)), 0, _UINT8_MAX))
    return _Units(scale, zero)


def _modern(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy in an opset that has what is needed."""
    opsets = [entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")]
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    if max(opsets, default=OPSET) >= OPSET:
        return copy
    try:
        return onnx.version_converter.convert_version(copy, OPSET)
    except (RuntimeError, ValueError) as error:
        raise ModelError(
            f"it is written in ONNX opset {max(opsets)}, int8 needs {OPSET}, and it can't be "
            f"rewritten: {error}"
        ) from error


def _refuse(graph: onnx.GraphProto) -> None:
    for node in graph.node:
        if "Quantize" in node.op_type or "QLinear" in node.op_type or "Integer" in node.op_type:
            raise ModelError("it is in int8 already: quantize the float32 model that it came from")
        if any(attribute.HasField("g") or attribute.graphs for attribute in node.attribute):
            raise ModelError(f"it has a {node.op_type} with a graph inside, which can't be int8")


def _chain(graph: onnx.GraphProto) -> tuple[list[onnx.NodeProto], onnx.NodeProto | None]:
    """Return the elementwise nodes behind the input, and the first node that is none."""
    users = _users(graph)
    chain: list[onnx.NodeProto] = []
    name = INPUT
    while len(users.get(name, ())) == 1:
        (node,) = users[name]
        if node.op_type not in ("Transpose", "Cast", "Sub", "Add", "Div", "Mul"):
            return chain, node
        chain.append(node)
        name = node.output[0]
    return chain, None


def _users(graph: onnx.GraphProto) -> dict[str, list[onnx.NodeProto]]:
    """Return which nodes read each tensor; the graph's outputs count as read once more."""
    users: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in dict.fromkeys(node.input):
            users.setdefault(name, []).append(node)
    for value in graph.output:
        users.setdefault(value.name, []).append(onnx.NodeProto())
    return users


def _ranks(model: onnx.ModelProto) -> dict[str, int]:
    graph = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    shapes = {value.name: tensor_shape(value) for value in (*graph.input, *graph.value_info)}
    return {name: len(shape) for name, shape in shapes.items() if shape is not None}


def _needed(nodes: Sequence[onnx.NodeProto], outputs: Any) -> list[onnx.NodeProto]:
    """Leave out what no output depends on."""
    needed = {value.name for value in outputs}
    kept = []
    for node in reversed(nodes):
        if needed.intersection(node.output):
            needed.update(node.input)
            kept.append(node)
    return kept[::-1]


def _attribute(node: onnx.NodeProto, name: str, default: Any) -> Any:
    for attribute in node.attribute:
        if attribute.name == name:
            return helper.get_attribute_value(attribute)
    return default


def _replace(items: Any, others: Sequence[Any]) -> None:
    others = list(others)
    del items[:]
    items.extend(others)
