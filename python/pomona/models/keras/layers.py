"""Converts the layers of a Keras model, one call at a time."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

import numpy as np

from pomona._errors import ModelError
from pomona.models.graph_builder import Value
from pomona.models.keras.config import INPUT_LAYER, Call

if TYPE_CHECKING:
    from typing import Any, Callable, Sequence, Tuple, Union

    from numpy.typing import NDArray

    from pomona.models.graph_builder import GraphBuilder
    from pomona.models.keras.config import Config
    from pomona.models.keras.variables import Variables

    Size = Tuple[int, int]
    Operand = Union[Value, NDArray[Any]]

# keras.applications.mobilenet_v2.preprocess_input: pixels from 0..255 to -1..1.
DEFAULT_MEAN = (127.5,)
DEFAULT_STD = (127.5,)

BATCH_NORM = ("gamma", "beta", "moving_mean", "moving_variance")

# Keras divides by the standard deviation, but never by less than this (keras.config.epsilon).
_NORMALIZATION_EPSILON = 1e-7

_ARITHMETIC = {
    # Keras 3 operations; the merging layers of the same names take two tensors
    "Add": "Add",
    "Subtract": "Sub",
    "Multiply": "Mul",
    "TrueDivide": "Div",
    "Divide": "Div",
    # Keras 2: the function of a TFOpLambda layer
    "math.add": "Add",
    "__operators__.add": "Add",
    "math.subtract": "Sub",
    "math.multiply": "Mul",
    "math.truediv": "Div",
    "math.divide": "Div",
    # TensorFlow 2.0 to 2.3: the operation of a TensorFlowOpLayer
    "AddV2": "Add",
    "Sub": "Sub",
    "Mul": "Mul",
    "RealDiv": "Div",
}
#: Layers that do nothing at inference, and casts: everything is float32 here.
IDENTITIES = {
    "ActivityRegularization", "AlphaDropout", "AugMix", "AutoContrast", "Cast", "CutMix", "Dropout",
    "GaussianDropout", "GaussianNoise", "Identity", "MixUp", "RandAugment", "RandomBrightness",
    "RandomColorDegeneration", "RandomColorJitter", "RandomContrast", "RandomElasticTransform",
    "RandomErasing", "RandomFlip", "RandomGaussianBlur", "RandomGrayscale", "RandomHeight",
    "RandomHue", "RandomInvert", "RandomPerspective", "RandomPosterization", "RandomRotation",
    "RandomSaturation", "RandomSharpness", "RandomShear", "RandomTranslation", "RandomWidth",
    "RandomZoom", "Solarization", "SpatialDropout2D", "cast",
}  # fmt: skip
_CROPS = {"CenterCrop", "RandomCrop"}
_WITH_ACTIVATION = {"Activation", "Conv2D", "DepthwiseConv2D"}
ACTIVATIONS = {"Activation", "ReLU", "Relu", "Relu6", "nn.relu", "nn.relu6"}
#: Layers that do not change the values of pixels.
KEEP_PIXEL_VALUES = {INPUT_LAYER, "Resizing", "ZeroPadding2D"} | IDENTITIES | _CROPS


class LayerConverter:
    """Adds the layers of a Keras model to an ONNX graph.

    ``images`` is the output of the model's input layer. ``mean`` and ``std`` state what a Lambda
    layer does to the pixels: ``(pixel - mean) / std``.
    """

    def __init__(
        self,
        builder: GraphBuilder,
        images: Value,
        variables: Variables,
        mean: Sequence[float] | None,
        std: Sequence[float] | None,
    ) -> None:
        self._builder = builder
        self._images = images
        self._variables = variables
        self._mean = mean
        self._std = std

    def convert(self, call: Call, values: dict[Call, Value]) -> Value:
        """Convert a layer call, given the values of the calls before it."""
        operands = [values[item] if isinstance(item, Call) else item for item in call.arguments]
        try:
            return self._layer(call, operands)
        except ModelError as error:
            raise ModelError(f"layer {call.name!r} ({call.kind}): {error}") from error

    def _layer(self, call: Call, operands: list[Operand]) -> Value:
        config, function = call.config, function_of(call)
        if function == INPUT_LAYER:
            return self._images
        inputs = [operand for operand in operands if isinstance(operand, Value)]
        if not inputs:
            raise ModelError("is called without a tensor")
        value = inputs[0]
        if config.get("data_format", "channels_last") != "channels_last":
            raise ModelError(f"has data_format {config['data_format']!r}, expected 'channels_last'")
        if function in IDENTITIES:
            return value
        if function in ACTIVATIONS:
            return self._activation(call, value)
        if function in _ARITHMETIC:
            return self._arithmetic(config, operands, _ARITHMETIC[function])
        if function == "preprocess_input":
            return self._builder.normalize(value, DEFAULT_MEAN, DEFAULT_STD)
        methods: dict[str, Callable[[Call, Value], Value]] = {
            "BatchNormalization": self._batch_norm,
            "CenterCrop": _uncropped,
            "Conv2D": self._convolution,
            "DepthwiseConv2D": self._convolution,
            "Lambda": self._lambda,
            "Normalization": self._normalization,
            "RandomCrop": _uncropped,
            "Rescaling": self._rescaling,
            "Resizing": self._resizing,
            "ZeroPadding2D": self._padding,
        }
        if function not in methods:
            raise ModelError(
                "cannot be converted. Only a MobileNetV2's own layers, augmentation, Rescaling, "
                "Normalization and arithmetic with constants may precede its features"
            )
        return methods[function](call, value)

    def _convolution(self, call: Call, value: Value) -> Value:
        config = call.config
        if config["padding"] not in ("same", "valid"):
            raise ModelError(f"has padding {config['padding']!r}, expected 'same' or 'valid'")
        depthwise = call.kind == "DepthwiseConv2D"
        names = ["kernel", "bias"] if config["use_bias"] else ["kernel"]
        variables = self._variables.read(call.path, names)
        result = self._builder.convolve(
            value,
            filters_first(variables["kernel"], depthwise=depthwise),
            variables.get("bias"),
            stride=_pair(config["strides"]),
            dilation=_pair(config.get("dilation_rate", (1, 1))),
            same=config["padding"] == "same",
            groups=value.channels if depthwise else config.get("groups", 1),
        )
        return self._activation(call, result)

    def _batch_norm(self, call: Call, value: Value) -> Value:
        config = call.config
        axis = config.get("axis", -1)
        if axis not in (-1, 3, [-1], [3]):
            raise ModelError(f"normalises axis {axis}, expected the channels (-1)")
        is_absent = {"gamma": not config["scale"], "beta": not config["center"]}
        names = [name for name in BATCH_NORM if not is_absent.get(name)]
        variables = self._variables.read(call.path, names)
        return self._builder.batch_norm(
            value,
            variables.get("gamma", np.ones(value.channels)),
            variables.get("beta", np.zeros(value.channels)),
            variables["moving_mean"],
            variables["moving_variance"],
            epsilon=config["epsilon"],
        )

    def _activation(self, call: Call, value: Value) -> Value:
        config = call.config
        if call.kind == "ReLU":
            slope = config.get("negative_slope") or 0
            threshold = config.get("threshold") or 0
            if np.any(np.asarray(_plain(slope))) or np.any(np.asarray(_plain(threshold))):
                raise ModelError(f"has slope {slope} and threshold {threshold}, expected 0 and 0")
            maximum = config.get("max_value")
            return self._builder.relu(value, None if maximum is None else float(_plain(maximum)))
        named = _activation_name(config) if call.kind in _WITH_ACTIVATION else function_of(call)
        name = named.split(".")[-1].lower()
        if name == "linear":
            return value
        if name in ("relu", "relu6"):
            return self._builder.relu(value, 6.0 if name == "relu6" else None)
        raise ModelError(f"has the activation {name!r}; expected relu, relu6 or linear")

    def _arithmetic(self, config: Config, operands: list[Operand], operation: str) -> Value:
        operands = list(operands)
        for position, constant in sorted((config.get("constants") or {}).items()):
            operands.insert(int(position), np.asarray(constant))
        if len(operands) != 2:
            raise ModelError(f"has {len(operands)} operands, expected two")
        left, right = operands
        if isinstance(left, Value) and isinstance(right, Value):
            if operation != "Add":
                raise ModelError(f"computes {operation} of two tensors, which cannot be converted")
            return self._builder.add(left, right)
        return self._builder.arithmetic(operation, left, right)

    def _padding(self, call: Call, value: Value) -> Value:
        (top, bottom), (left, right) = call.config["padding"]
        return self._builder.pad(value, (top, left, bottom, right))

    def _resizing(self, call: Call, value: Value) -> Value:
        height, width = target_size(call)
        if (height, width) == (value.height, value.width):
            return value
        options = ("antialias", "crop_to_aspect_ratio", "pad_to_aspect_ratio")
        plain = not any(call.config.get(option) for option in options)
        if not plain or call.config.get("interpolation", "bilinear") != "bilinear":
            raise ModelError(
                f"resizes {value.height} x {value.width} to {height} x {width}, but not by plain "
                "bilinear interpolation, which is all that can be converted"
            )
        return self._builder.resize_bilinear(value, height, width)

    def _rescaling(self, call: Call, value: Value) -> Value:
        scaled = self._builder.arithmetic("Mul", value, np.asarray(call.config["scale"]))
        return self._builder.arithmetic("Add", scaled, np.asarray(call.config.get("offset", 0.0)))

    def _normalization(self, call: Call, value: Value) -> Value:
        config = call.config
        if config.get("axis", -1) not in (-1, 3, [-1], [3], None, []):
            raise ModelError(f"normalises axis {config['axis']}, expected the channels (-1)")
        if config.get("invert"):
            raise ModelError("is inverted, which cannot be converted")
        names = ("mean", "variance")
        if config.get("mean") is not None:
            numbers = {name: np.asarray(_plain(config[name])) for name in names}
        else:
            numbers = dict(self._variables.read(call.path, names))
        deviation = np.maximum(np.sqrt(numbers["variance"]), _NORMALIZATION_EPSILON)
        return self._builder.normalize(value, numbers["mean"].reshape(-1), deviation.reshape(-1))

    def _lambda(self, _: Call, value: Value) -> Value:
        if self._mean is None and self._std is None:
            raise ModelError(
                "holds Python code, which Pomona does not run. State what it does to the pixels "
                "with mean and std: 127.5 and 127.5 for MobileNetV2's preprocess_input"
            )
        return self._builder.normalize(value, self._mean or (0.0,), self._std or (1.0,))


def function_of(call: Call) -> str:
    """Return what a call computes: the layer's class, or the function that it wraps."""
    config = call.config
    if call.kind == "TFOpLambda":
        return str(config["function"])
    if call.kind == "TensorFlowOpLayer":
        node = config["node_def"]
        return str(node["op"] if isinstance(node, dict) else node)
    if call.kind == "Activation":
        return "Identity" if _activation_name(config) == "linear" else call.kind
    if call.kind == "Lambda" and _wraps_preprocess_input(config):
        return "preprocess_input"
    return call.kind


def target_size(call: Call) -> Size:
    """Return the height and width that a layer crops or resizes to."""
    return int(call.config["height"]), int(call.config["width"])


def filters_first(kernel: NDArray[np.float64], *, depthwise: bool) -> NDArray[np.float64]:
    """Reorder a kernel, [height, width, channels, filters or channel multiplier], for ONNX."""
    if depthwise:
        height, width = kernel.shape[:2]
        return np.asarray(kernel.transpose(2, 3, 0, 1).reshape(-1, 1, height, width))
    return np.asarray(kernel.transpose(3, 2, 0, 1))


def _uncropped(call: Call, value: Value) -> Value:
    if target_size(call) != (value.height, value.width):
        raise ModelError(
            f"crops images of {value.height} x {value.width} to {target_size(call)}; "
            "save the model without this layer"
        )
    return value


def _wraps_preprocess_input(config: Config) -> bool:
    """Tell whether a Lambda layer wraps MobileNetV2's own ``preprocess_input``.

    Keras 2 saves the function's code and its module. The code is searched and never run. The name
    alone is not enough, because other networks have functions of that name. Keras 3 saves no
    module.
    """
    function = config.get("function")
    if isinstance(function, list):
        named = b"preprocess_input" in base64.b64decode(str(function[0]))
    else:
        named = function == "preprocess_input"
    return named and str(config.get("module", "")).endswith("mobilenet_v2")


def _activation_name(config: Config) -> str:
    activation = config.get("activation") or "linear"
    if isinstance(activation, dict):
        activation = activation.get("config") or activation.get("class_name")
        if isinstance(activation, dict):
            activation = activation.get("name", "")
    return str(activation)


def _pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (int(value[0]), int(value[1]))


def _plain(value: Any) -> Any:
    """Return a number or list that Keras may have wrapped to state its type."""
    if isinstance(value, dict):
        inner = value.get("value")
        return value["config"]["value"] if inner is None else inner
    return value
