"""Builds the ONNX graph of a float32 network that keeps the model contract.

A :class:`GraphBuilder` takes the layers one after another. It defers padding and convolutions until
their result is needed, so that a batch normalisation that follows is folded into the convolution's
weights, and explicit padding into its ``pads``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import TensorProto, helper

from pomona._errors import ModelError
from pomona.models.contract import INPUT, OUTPUT, features_output, images_input
from pomona.models.graph import Constants

if TYPE_CHECKING:
    from typing import Any, Sequence, Tuple

    from numpy.typing import ArrayLike, NDArray

    Pads = Tuple[int, int, int, int]
    """Top, left, bottom, right, in pixels: the order of ONNX."""

# Opset 13 and IR 7 are what ONNX 1.8 wrote (2020): every later ONNX Runtime reads them.
OPSET = 13
IR_VERSION = 7

NO_PADS: Pads = (0, 0, 0, 0)

#: The operators of global pooling, by Keras' names of it.
GLOBAL_POOLS = {"avg": "GlobalAveragePool", "max": "GlobalMaxPool"}


def same_pads(height: int, width: int, kernel: tuple[int, int], stride: tuple[int, int]) -> Pads:
    """Return TensorFlow's SAME padding: an odd pixel goes after, not before."""
    before, after = [], []
    for size, extent, step in zip((height, width), kernel, stride):
        total = max((-(-size // step) - 1) * step + extent - size, 0)
        before.append(total // 2)
        after.append(total - total // 2)
    return before[0], before[1], after[0], after[1]


def _sum(one: Pads, other: Pads) -> Pads:
    return one[0] + other[0], one[1] + other[1], one[2] + other[2], one[3] + other[3]


@dataclass(frozen=True)
class _Convolution:
    """A convolution that is deferred."""

    source: str
    weight: NDArray[np.float64]
    bias: NDArray[np.float64]
    stride: tuple[int, int]
    dilation: tuple[int, int]
    pads: Pads
    groups: int


@dataclass
class Value:
    """A tensor ``[n, channels, height, width]`` of the graph under construction.

    ``name`` is empty while ``convolution`` is deferred. The next layer still has to apply
    ``scale``, a factor for each channel, and then ``pads``, of zeros: a convolution does both at
    no cost.
    """

    name: str
    channels: int
    height: int
    width: int
    scale: NDArray[np.float64] | None = None
    pads: Pads = NO_PADS
    convolution: _Convolution | None = None


class GraphBuilder:
    """Builds the graph from the contract's ``images``, of the given size, to its ``features``."""

    def __init__(self, height: int, width: int) -> None:
        self._height = height
        self._width = width
        self._nodes: list[onnx.NodeProto] = []
        self._constants = Constants("constant")

    def images(self) -> Value:
        """Return the pixels as float32 ``[n, 3, height, width]``, 0 to 255, RGB."""
        # Transposing bytes is faster than transposing floats.
        planes = self._node("Transpose", [INPUT], perm=[0, 3, 1, 2])
        pixels = self._node("Cast", [planes], to=TensorProto.FLOAT)
        return Value(pixels, 3, self._height, self._width)

    def normalize(self, value: Value, mean: ArrayLike, std: ArrayLike) -> Value:
        """Return ``(value - mean) / std``, each one number or one per channel."""
        shifted = self.arithmetic("Sub", value, np.asarray(mean))
        divisor = np.asarray(std, np.float64).reshape(-1)
        return replace(shifted, scale=np.broadcast_to(1 / divisor, value.channels))

    def arithmetic(
        self, operation: str, left: Value | NDArray[Any], right: Value | NDArray[Any]
    ) -> Value:
        """Return ``left operation right``, where at most one side is constant.

        ``operation`` names an ONNX operator. A constant holds one number or one per channel.
        """
        values = [side for side in (left, right) if isinstance(side, Value)]
        first = values[0]
        operands = [
            self._settled(side) if isinstance(side, Value) else self._per_channel(side, first)
            for side in (left, right)
        ]
        return Value(self._node(operation, operands), first.channels, first.height, first.width)

    def pad(self, value: Value, pads: Pads) -> Value:
        """Return the value with a border of zeros."""
        return replace(
            value,
            name=self._written(value),
            convolution=None,
            pads=_sum(value.pads, pads),
            height=value.height + pads[0] + pads[2],
            width=value.width + pads[1] + pads[3],
        )

    def resize_bilinear(self, value: Value, height: int, width: int) -> Value:
        """Return the value resized as by ``tf.image.resize`` without antialiasing."""
        # Because the batch is open, Resize takes factors; it rounds the resulting sizes down.
        factors = np.array([1, 1, height / value.height, width / value.width], np.float32)
        for axis, sizes in ((2, (value.height, height)), (3, (value.width, width))):
            if np.floor(np.float32(sizes[0]) * factors[axis]) < sizes[1]:
                factors[axis] = np.nextafter(factors[axis], np.float32(np.inf))
        name = self._node(
            "Resize",
            [self._settled(value), "", self._constant(factors)],
            mode="linear",
            coordinate_transformation_mode="half_pixel",
        )
        return Value(name, value.channels, height, width)

    def convolve(
        self,
        value: Value,
        weight: NDArray[Any],
        bias: NDArray[Any] | None = None,
        *,
        stride: tuple[int, int] = (1, 1),
        dilation: tuple[int, int] = (1, 1),
        same: bool = True,
        groups: int = 1,
    ) -> Value:
        """Return a convolution, with TensorFlow's SAME padding or none (VALID).

        The weight is ``[filters, channels / groups, kernel height, kernel width]``.
        """
        filters, per_group = weight.shape[:2]
        if per_group * groups != value.channels or filters % groups:
            raise ModelError(
                f"a convolution of shape {weight.shape} in {groups} group(s) does not fit "
                f"its input of {value.channels} channels"
            )
        extent = tuple((k - 1) * d + 1 for k, d in zip(weight.shape[2:], dilation))
        extra = same_pads(value.height, value.width, (extent[0], extent[1]), stride)
        pads = extra if same else NO_PADS
        height = (value.height + pads[0] + pads[2] - extent[0]) // stride[0] + 1
        width = (value.width + pads[1] + pads[3] - extent[1]) // stride[1] + 1
        if height < 1 or width < 1:
            raise ModelError(
                f"images of {self._height} x {self._width} pixels are too small for this network"
            )
        if groups > 1:
            self._scaled(value)
        factor = 1.0 if value.scale is None else value.scale[:, None, None]
        convolution = _Convolution(
            source=self._written(value),
            weight=weight.astype(np.float64) * factor,
            bias=np.zeros(filters) if bias is None else bias.astype(np.float64),
            stride=stride,
            dilation=dilation,
            pads=_sum(pads, value.pads),
            groups=groups,
        )
        return Value("", filters, height, width, convolution=convolution)

    def batch_norm(
        self,
        value: Value,
        gamma: NDArray[Any],
        beta: NDArray[Any],
        mean: NDArray[Any],
        variance: NDArray[Any],
        *,
        epsilon: float,
    ) -> Value:
        """Return the value normalised by stored statistics, each ``[channels]``.

        If the layer before is a convolution, it is folded into that.
        """
        for part in (gamma, beta, mean, variance):
            if part.shape != (value.channels,):
                raise ModelError(
                    f"batch normalisation over {part.shape} does not fit its input of "
                    f"{value.channels} channels"
                )
        scale = gamma.astype(np.float64) / np.sqrt(variance.astype(np.float64) + epsilon)
        shift = beta.astype(np.float64) - mean.astype(np.float64) * scale
        if value.convolution is None:
            return self.arithmetic("Add", self.arithmetic("Mul", value, scale), shift)
        folded = replace(
            value.convolution,
            weight=value.convolution.weight * scale[:, None, None, None],
            bias=value.convolution.bias * scale + shift,
        )
        return Value("", value.channels, value.height, value.width, convolution=folded)

    def relu(self, value: Value, maximum: float | None = None) -> Value:
        """Return ``max(value, 0)``, and at most ``maximum`` if given."""
        source = self._settled(value)
        if maximum is None:
            name = self._node("Relu", [source])
        else:
            bounds = [self._constant(np.float32(0)), self._constant(np.float32(maximum))]
            name = self._node("Clip", [source, *bounds])
        return Value(name, value.channels, value.height, value.width)

    def add(self, left: Value, right: Value) -> Value:
        """Return the sum of two values of one shape."""
        shapes = [(side.channels, side.height, side.width) for side in (left, right)]
        if shapes[0] != shapes[1]:
            raise ModelError(
                f"a residual connection adds tensors of shapes {shapes[0]} and {shapes[1]}"
            )
        return self.arithmetic("Add", left, right)

    def features(self, value: Value, pooling: str = "avg") -> onnx.ModelProto:
        """Finish with global pooling, avg or max: ``features`` is float32 ``[n, channels]``."""
        pooled = self._node(GLOBAL_POOLS[pooling], [self._settled(value)])
        self._node("Flatten", [pooled], output=OUTPUT, axis=1)
        graph = helper.make_graph(
            self._nodes,
            "pomona",
            [images_input(self._height, self._width)],
            [features_output(value.channels)],
            self._constants.tensors,
        )
        return helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
            producer_name="pomona",
        )

    def _written(self, value: Value) -> str:
        """Write the deferred convolution, if there is one; return the tensor's name."""
        if value.convolution is not None:
            parts = value.convolution
            value.name = self._node(
                "Conv",
                [parts.source, self._constant(parts.weight), self._constant(parts.bias)],
                kernel_shape=list(parts.weight.shape[2:]),
                strides=list(parts.stride),
                dilations=list(parts.dilation),
                pads=list(parts.pads),
                group=parts.groups,
            )
            value.convolution = None
        return value.name

    def _scaled(self, value: Value) -> str:
        """Write the deferred scale, if there is one; return the tensor's name."""
        name = self._written(value)
        if value.scale is not None:
            value.name = name = self._node("Mul", [name, self._per_channel(value.scale, value)])
            value.scale = None
        return name

    def _settled(self, value: Value) -> str:
        """Write everything that is deferred; return the tensor's name."""
        name = self._scaled(value)
        if value.pads != NO_PADS:
            top, left, bottom, right = value.pads
            border = np.array([0, 0, top, left, 0, 0, bottom, right], np.int64)
            value.name = name = self._node("Pad", [name, self._constant(border)])
            value.pads = NO_PADS
        return name

    def _node(
        self, operator: str, inputs: Sequence[str], output: str = "", **attributes: Any
    ) -> str:
        name = f"{operator}_{len(self._nodes)}"
        produced = output or name
        self._nodes.append(
            helper.make_node(operator, list(inputs), [produced], name=name, **attributes)
        )
        return produced

    def _per_channel(self, numbers: NDArray[Any], value: Value) -> str:
        flat = np.asarray(numbers, np.float64).reshape(-1)
        if flat.size not in (1, value.channels):
            raise ModelError(
                f"a constant of shape {numbers.shape} does not fit {value.channels} channels"
            )
        return self._constant(flat.reshape(1, -1, 1, 1))

    def _constant(self, numbers: NDArray[Any] | np.generic) -> str:
        array = np.asarray(numbers)
        return self._constants.add(array.astype(np.float32) if array.dtype == np.float64 else array)
