"""MobileNetV2 as Keras builds and saves it, in Pomona's model contract.

From a whole model, every layer between the images and the backbone's last feature map is taken
over as the file describes it, the file's own preprocessing included; what comes after the map
(pooling, dropout, classification) is left out. From bare weights, the backbone is built as
``keras.applications.MobileNetV2`` builds it.
"""

from __future__ import annotations

import base64
import pathlib
import re
from typing import TYPE_CHECKING

import numpy as np

from pomona._errors import ModelError
from pomona.models.graph import GraphBuilder
from pomona.models.keras_file import NamedVariables, TreeVariables, open_keras_file
from pomona.models.keras_graph import INPUT_LAYER, Call, ModelCalls

if TYPE_CHECKING:
    import os
    from typing import Any, Callable, Dict, Sequence, Tuple

    import onnx
    from numpy.typing import NDArray

    from pomona.models.graph import Value
    from pomona.models.keras_file import KerasFile, Variables

    Weights = Callable[[str, Sequence[str]], Dict[str, NDArray[np.float64]]]
    Size = Tuple[int, int]

DEFAULT_SIZE = (224, 224)

# keras.applications.mobilenet_v2.preprocess_input: pixels from 0..255 to -1..1.
DEFAULT_MEAN = (127.5,)
DEFAULT_STD = (127.5,)

EPSILON = 1e-3
"""Of every batch normalisation in ``keras.applications.MobileNetV2``."""

STRIDES = (1, 2, 1, 2, 1, 1, 2, 1, 1, 1, 1, 1, 1, 2, 1, 1, 1)
"""Of the 17 blocks' depthwise convolutions (Sandler et al. 2018, table 2)."""

CONVOLUTION = ("kernel",)
BATCH_NORM = ("gamma", "beta", "moving_mean", "moving_variance")

_OFFICIAL_FILE = re.compile(
    r"mobilenet_v2_weights_tf_dim_ordering_tf_kernels_[\d.]+_(?P<size>\d+)(_no_top)?\.h5"
)

# Keras normalises by the deviation, but never by less than this (keras.config.epsilon).
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
_UNCHANGED_AT_INFERENCE = {
    "ActivityRegularization",
    "AlphaDropout",
    "AugMix",
    "AutoContrast",
    "CutMix",
    "Dropout",
    "GaussianDropout",
    "GaussianNoise",
    "Identity",
    "MixUp",
    "RandAugment",
    "RandomBrightness",
    "RandomColorDegeneration",
    "RandomColorJitter",
    "RandomContrast",
    "RandomElasticTransform",
    "RandomErasing",
    "RandomFlip",
    "RandomGaussianBlur",
    "RandomGrayscale",
    "RandomHeight",
    "RandomHue",
    "RandomInvert",
    "RandomPerspective",
    "RandomPosterization",
    "RandomRotation",
    "RandomSaturation",
    "RandomSharpness",
    "RandomShear",
    "RandomTranslation",
    "RandomWidth",
    "RandomZoom",
    "Solarization",
    "SpatialDropout2D",
    # type changes: all is float32 here
    "Cast",
    "cast",
}
_UNCHANGED_IF_SIZE_IS = {"CenterCrop", "RandomCrop"}
_LEAVES_PIXELS = {INPUT_LAYER, "Resizing", "ZeroPadding2D"}
_LEAVES_PIXELS |= _UNCHANGED_AT_INFERENCE | _UNCHANGED_IF_SIZE_IS
_WITH_ACTIVATION = {"Activation", "Conv2D", "DepthwiseConv2D"}
_ACTIVATIONS = {"Activation", "ReLU", "Relu", "Relu6", "nn.relu", "nn.relu6"}


def convert_keras(
    path: str | os.PathLike[str],
    *,
    input_size: Size | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> onnx.ModelProto:
    """Read a Keras file that holds a MobileNetV2.

    Parameters
    ----------
    path : str or os.PathLike
        The file.
    input_size : (int, int), optional
        Height and width of the images, where the file leaves them open.
    mean, std : sequence of float, optional
        Normalisation of pixels from 0 to 255, for files without preprocessing of their own:
        ``(pixel - mean) / std``. By default 127.5 and 127.5, as Keras' ``preprocess_input``.
        In a model with a Lambda layer before the backbone, they say what that does.

    Returns
    -------
    onnx.ModelProto
        The network, without metadata.

    Raises
    ------
    ModelError
        If the file does not hold a MobileNetV2, or holds it with a layer that cannot be taken
        over; the message names the layer.
    """
    with open_keras_file(path) as file:
        if file.config is None:
            size = input_size or _size_in_name(path) or DEFAULT_SIZE
            builder = GraphBuilder(*size)
            images = builder.normalize(builder.images(), mean or DEFAULT_MEAN, std or DEFAULT_STD)
            return builder.features(_standard(builder, images, _bare_weights(file)))
        model = ModelCalls(file.config)
        return _Conversion(model, file.variables, input_size, mean, std).run()


def _size_in_name(path: str | os.PathLike[str]) -> Size | None:
    match = _OFFICIAL_FILE.fullmatch(pathlib.PurePath(path).name)
    return (int(match["size"]), int(match["size"])) if match else None


def official_license(path: str | os.PathLike[str]) -> str | None:
    """Return the licence of the weights if the file has the name of Keras' own."""
    return "Apache-2.0" if _size_in_name(path) else None


class _Conversion:
    """A whole model on its way from Keras to ONNX."""

    def __init__(
        self,
        model: ModelCalls,
        variables: Variables,
        input_size: Size | None,
        mean: Sequence[float] | None,
        std: Sequence[float] | None,
    ) -> None:
        self._model = model
        self._variables = variables
        self._input_size = input_size
        self._mean = mean
        self._std = std

    def run(self) -> onnx.ModelProto:
        calls = self._model.ancestors(self._last_map())
        size = self._size(calls)
        builder = GraphBuilder(*size)
        images = builder.images()
        if not self._normalizes(calls):
            images = builder.normalize(images, self._mean or DEFAULT_MEAN, self._std or DEFAULT_STD)
        values: dict[int, Value] = {}
        for call in calls:
            values[id(call)] = self._named_layer(builder, call, images, values)
        return builder.features(values[id(calls[-1])])

    @property
    def _given(self) -> bool:
        return self._mean is not None or self._std is not None

    def _last_map(self) -> Call:
        """Find the backbone's last activation, by structure: names are the user's to choose."""
        depthwise: list[Call] = []
        for call in self._model.calls:
            # A backbone that two inputs share is taken at its first use.
            if call.kind == "DepthwiseConv2D" and call.path not in [d.path for d in depthwise]:
                depthwise.append(call)
        if len(depthwise) != len(STRIDES):
            kinds = sorted({call.kind for call in self._model.calls})
            raise ModelError(
                f"the model has {len(depthwise)} depthwise convolutions, expected a MobileNetV2 "
                f"with {len(STRIDES)}. It is made of: {', '.join(kinds) or 'no layers'}"
            )
        call, convolutions = depthwise[-1], 0
        while not (convolutions == 2 and _function(call) in _ACTIVATIONS):
            following = [
                other
                for other in self._model.consumers(call)
                if _function(other) in _ACTIVATIONS | {"BatchNormalization", "Conv2D"}
            ]
            if not following or (convolutions == 2 and following[0].kind == "Conv2D"):
                raise ModelError(
                    f"the backbone ends at layer {call.name!r}; expected MobileNetV2's last "
                    "convolution, batch normalisation and activation after it"
                )
            call = following[0]
            convolutions += call.kind == "Conv2D"
        return call

    def _size(self, calls: Sequence[Call]) -> Size:
        inputs = [call for call in calls if call.kind == INPUT_LAYER]
        if len(inputs) != 1:
            names = ", ".join(repr(call.name) for call in inputs)
            raise ModelError(f"the backbone takes {len(inputs)} inputs ({names}), expected one")
        config = inputs[0].config
        shape = config.get("batch_shape") or config.get("batch_input_shape") or [None] * 4
        if len(shape) != 4 or shape[3] not in (3, None):
            raise ModelError(
                f"the input {inputs[0].name!r} has the shape {shape}; "
                "expected images [n, height, width, 3]"
            )
        if shape[1] is None or shape[2] is None:
            # A model that resizes any photo to its own size gets photos of that size.
            resized = [_target_size(call) for call in calls if call.kind == "Resizing"]
            return self._input_size or (resized[0] if resized else DEFAULT_SIZE)
        size = (int(shape[1]), int(shape[2]))
        if self._input_size not in (None, size):
            raise ModelError(
                f"the model was built for images of {size[0]} x {size[1]}; "
                f"the input size {self._input_size} does not fit"
            )
        return size

    def _normalizes(self, calls: Sequence[Call]) -> bool:
        """Tell whether the model computes on the pixels before its first convolution."""
        for call in calls:
            if call.kind == "Conv2D":
                return False
            if _function(call) in _LEAVES_PIXELS:
                continue
            if self._given and _function(call) != "Lambda":
                raise ModelError(
                    f"the model normalises its images itself (layer {call.name!r}); "
                    "leave mean and std out"
                )
            return True
        return False

    def _named_layer(
        self, builder: GraphBuilder, call: Call, images: Value, values: dict[int, Value]
    ) -> Value:
        try:
            return self._layer(builder, call, images, values)
        except ModelError as error:
            raise ModelError(f"layer {call.name!r} ({call.kind}): {error}") from error

    def _layer(
        self, builder: GraphBuilder, call: Call, images: Value, values: dict[int, Value]
    ) -> Value:
        config, kind = call.config, _function(call)
        if kind == INPUT_LAYER:
            return images
        inputs = [values[id(source)] for source in call.sources]
        if not inputs:
            raise ModelError("is called without a tensor")
        first = inputs[0]
        if config.get("data_format", "channels_last") != "channels_last":
            raise ModelError(f"has data_format {config['data_format']!r}, expected 'channels_last'")
        if kind in _UNCHANGED_AT_INFERENCE:
            return first
        if kind in _UNCHANGED_IF_SIZE_IS:
            if _target_size(call) != (first.height, first.width):
                raise ModelError(
                    f"cuts images of {first.height} x {first.width} to {_target_size(call)}; "
                    "save the model without this layer"
                )
            return first
        if kind == "Resizing":
            return _resized(builder, call, first)
        if kind == "Conv2D":
            return self._convolution(builder, call, first)
        if kind == "DepthwiseConv2D":
            return self._depthwise(builder, call, first)
        if kind == "BatchNormalization":
            return self._batch_norm(builder, call, first)
        if kind == "ZeroPadding2D":
            (top, bottom), (left, right) = config["padding"]
            return builder.pad(first, (top, left, bottom, right))
        if kind in _ACTIVATIONS:
            return _activation(builder, call, first)
        if kind == "Rescaling":
            scaled = builder.arithmetic("Mul", first, np.asarray(config["scale"]))
            return builder.arithmetic("Add", scaled, np.asarray(config.get("offset", 0.0)))
        if kind == "Normalization":
            return self._normalization(builder, call, first)
        if kind == "Lambda":
            if not self._given:
                raise ModelError(
                    "holds Python code, which is not run. Say what it does to the pixels by mean "
                    "and std: 127.5 and 127.5 if it is MobileNetV2's preprocess_input"
                )
            return builder.normalize(first, self._mean or (0.0,), self._std or (1.0,))
        if kind == "preprocess_input":
            return builder.normalize(first, DEFAULT_MEAN, DEFAULT_STD)
        if kind in _ARITHMETIC:
            return _arithmetic(builder, call, values, _ARITHMETIC[kind])
        raise ModelError(
            "cannot be converted. Before a MobileNetV2's features come only its own layers, "
            "augmentation, Rescaling, Normalization and arithmetic with constants"
        )

    def _convolution(self, builder: GraphBuilder, call: Call, value: Value) -> Value:
        return self._convolved(builder, call, value, _filters_first, call.config.get("groups", 1))

    def _depthwise(self, builder: GraphBuilder, call: Call, value: Value) -> Value:
        return self._convolved(builder, call, value, _depthwise_filters_first, value.channels)

    def _convolved(
        self,
        builder: GraphBuilder,
        call: Call,
        value: Value,
        filters_first: Callable[[NDArray[np.float64]], NDArray[np.float64]],
        groups: int,
    ) -> Value:
        config = call.config
        names = [*CONVOLUTION, "bias"] if config["use_bias"] else CONVOLUTION
        variables = self._variables.read(call.path, names)
        result = builder.convolve(
            value,
            filters_first(variables["kernel"]),
            variables.get("bias"),
            stride=_pair(config["strides"]),
            dilation=_pair(config.get("dilation_rate", (1, 1))),
            same=_is_same(config),
            groups=groups,
        )
        return _activation(builder, call, result)

    def _batch_norm(self, builder: GraphBuilder, call: Call, value: Value) -> Value:
        config = call.config
        axis = config.get("axis", -1)
        if axis not in (-1, 3, [-1], [3]):
            raise ModelError(f"normalises axis {axis}, expected the channels (-1)")
        absent = [
            name for name, flag in (("gamma", "scale"), ("beta", "center")) if not config[flag]
        ]
        variables = self._variables.read(
            call.path, [name for name in BATCH_NORM if name not in absent]
        )
        return builder.batch_norm(
            value,
            variables.get("gamma", np.ones(value.channels)),
            variables.get("beta", np.zeros(value.channels)),
            variables["moving_mean"],
            variables["moving_variance"],
            epsilon=config["epsilon"],
        )

    def _normalization(self, builder: GraphBuilder, call: Call, value: Value) -> Value:
        config = call.config
        if config.get("axis", -1) not in (-1, 3, [-1], [3], None, []):
            raise ModelError(f"normalises axis {config['axis']}, expected the channels (-1)")
        if config.get("invert"):
            raise ModelError("is inverted, which cannot be converted")
        if config.get("mean") is not None:
            numbers = {name: np.asarray(_plain(config[name])) for name in ("mean", "variance")}
        else:
            numbers = dict(self._variables.read(call.path, ("mean", "variance")))
        deviation = np.maximum(np.sqrt(numbers["variance"]), _NORMALIZATION_EPSILON)
        return builder.normalize(value, numbers["mean"].reshape(-1), deviation.reshape(-1))


def _function(call: Call) -> str:
    """Return what a call computes: the layer's class, or the function it wraps."""
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


def _wraps_preprocess_input(config: dict[str, Any]) -> bool:
    """Tell whether a Lambda layer wraps MobileNetV2's own ``preprocess_input``.

    Keras 2 saves the function's code and module, and the code is searched, never run. Other
    networks' functions have the same name, and Keras 3 saves no module: that is not enough.
    """
    function = config.get("function")
    if isinstance(function, list):
        named = b"preprocess_input" in base64.b64decode(str(function[0]))
    else:
        named = function == "preprocess_input"
    return named and str(config.get("module", "")).endswith("mobilenet_v2")


def _activation_name(config: dict[str, Any]) -> str:
    activation = config.get("activation") or "linear"
    if isinstance(activation, dict):
        activation = activation.get("config") or activation.get("class_name")
        if isinstance(activation, dict):
            activation = activation.get("name", "")
    return str(activation)


def _activation(builder: GraphBuilder, call: Call, value: Value) -> Value:
    config = call.config
    if call.kind == "ReLU":
        slope = config.get("negative_slope") or 0
        threshold = config.get("threshold") or 0
        if np.any(np.asarray(_plain(slope))) or np.any(np.asarray(_plain(threshold))):
            raise ModelError(f"has slope {slope} and threshold {threshold}, expected 0 and 0")
        maximum = config.get("max_value")
        return builder.relu(value, None if maximum is None else float(_plain(maximum)))
    named = _activation_name(config) if call.kind in _WITH_ACTIVATION else _function(call)
    name = named.split(".")[-1].lower()
    if name == "linear":
        return value
    if name in ("relu", "relu6"):
        return builder.relu(value, 6.0 if name == "relu6" else None)
    raise ModelError(f"has the activation {name!r}; expected relu, relu6 or linear")


def _arithmetic(
    builder: GraphBuilder, call: Call, values: dict[int, Value], operation: str
) -> Value:
    arguments = list(call.arguments)
    for position, constant in sorted((call.config.get("constants") or {}).items()):
        arguments.insert(int(position), np.asarray(constant))
    operands = [values[id(item)] if isinstance(item, Call) else item for item in arguments]
    if len(operands) != 2:
        raise ModelError(f"has {len(operands)} operands, expected two")
    left, right = operands
    if not isinstance(left, np.ndarray) and not isinstance(right, np.ndarray):
        if operation != "Add":
            raise ModelError(f"computes {operation} of two tensors, which cannot be converted")
        return builder.add(left, right)
    return builder.arithmetic(operation, left, right)


def _target_size(call: Call) -> Size:
    return int(call.config["height"]), int(call.config["width"])


def _resized(builder: GraphBuilder, call: Call, value: Value) -> Value:
    height, width = _target_size(call)
    if (height, width) == (value.height, value.width):
        return value
    config = call.config
    plain = not any(
        config.get(option)
        for option in ("antialias", "crop_to_aspect_ratio", "pad_to_aspect_ratio")
    )
    if not plain or config.get("interpolation", "bilinear") != "bilinear":
        raise ModelError(
            f"resizes {value.height} x {value.width} to {height} x {width} in a way other than "
            "plain bilinear, which cannot be converted"
        )
    return builder.resize_bilinear(value, height, width)


def _is_same(config: dict[str, Any]) -> bool:
    if config["padding"] not in ("same", "valid"):
        raise ModelError(f"has padding {config['padding']!r}, expected 'same' or 'valid'")
    return bool(config["padding"] == "same")


def _pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (int(value[0]), int(value[1]))


def _plain(value: Any) -> Any:
    """Return a number or list that Keras may have wrapped to say its type."""
    if isinstance(value, dict):
        inner = value.get("value")
        return value["config"]["value"] if inner is None else inner
    return value


def _filters_first(kernel: NDArray[np.float64]) -> NDArray[np.float64]:
    """Reorder Keras' [height, width, channels, filters] for ONNX."""
    filters_first: NDArray[np.float64] = kernel.transpose(3, 2, 0, 1)
    return filters_first


def _depthwise_filters_first(kernel: NDArray[np.float64]) -> NDArray[np.float64]:
    """Reorder Keras' [height, width, channels, multiplier] for ONNX."""
    height, width, channels, multiplier = kernel.shape
    filters_first: NDArray[np.float64] = kernel.transpose(2, 3, 0, 1).reshape(
        channels * multiplier, 1, height, width
    )
    return filters_first


def standard_layers() -> list[tuple[str, str, tuple[str, ...]]]:
    """Return name, class and variables of the backbone's layers with weights, in order."""
    layers = [("Conv1", "Conv2D", CONVOLUTION), ("bn_Conv1", "BatchNormalization", BATCH_NORM)]
    for block in range(len(STRIDES)):
        prefix = f"block_{block}_" if block else "expanded_conv_"
        # The first block does not expand.
        for part in ("expand", "depthwise", "project") if block else ("depthwise", "project"):
            kind = "DepthwiseConv2D" if part == "depthwise" else "Conv2D"
            layers.append((prefix + part, kind, CONVOLUTION))
            layers.append((f"{prefix}{part}_BN", "BatchNormalization", BATCH_NORM))
    layers.append(("Conv_1", "Conv2D", CONVOLUTION))
    layers.append(("Conv_1_bn", "BatchNormalization", BATCH_NORM))
    return layers


def _standard(builder: GraphBuilder, images: Value, weights: Weights) -> Value:
    """Build the backbone of ``keras.applications.MobileNetV2`` for any alpha."""

    def normalized(value: Value, name: str) -> Value:
        parts = weights(name, BATCH_NORM)
        return builder.batch_norm(value, *(parts[part] for part in BATCH_NORM), epsilon=EPSILON)

    def pointwise(value: Value, name: str, batch_norm: str) -> Value:
        kernel = weights(name, CONVOLUTION)["kernel"]
        return normalized(builder.convolve(value, _filters_first(kernel)), batch_norm)

    kernel = weights("Conv1", CONVOLUTION)["kernel"]
    value = builder.convolve(images, _filters_first(kernel), stride=(2, 2))
    value = builder.relu(normalized(value, "bn_Conv1"), 6.0)
    for block, stride in enumerate(STRIDES):
        prefix = f"block_{block}_" if block else "expanded_conv_"
        inner = value
        if block:
            inner = pointwise(value, prefix + "expand", prefix + "expand_BN")
            inner = builder.relu(inner, 6.0)
        kernel = weights(prefix + "depthwise", CONVOLUTION)["kernel"]
        inner = builder.convolve(
            inner,
            _depthwise_filters_first(kernel),
            stride=(stride, stride),
            groups=inner.channels,
        )
        inner = builder.relu(normalized(inner, prefix + "depthwise_BN"), 6.0)
        inner = pointwise(inner, prefix + "project", prefix + "project_BN")
        joined = stride == 1 and inner.channels == value.channels
        value = builder.add(value, inner) if joined else inner
    return builder.relu(pointwise(value, "Conv_1", "Conv_1_bn"), 6.0)


def _bare_weights(file: KerasFile) -> Weights:
    """Find the backbone's variables in a file without a configuration."""
    if isinstance(file.variables, TreeVariables):
        return _weights_in_tree(file.variables)
    if isinstance(file.variables, NamedVariables):
        return _weights_by_name_or_order(file.variables)
    raise TypeError(f"no bare weights in {type(file.variables).__name__}")


def _weights_by_name_or_order(variables: NamedVariables) -> Weights:
    _refuse_normalization(variables.layers)
    names = [name for name, _, _ in standard_layers()]
    if names[0] in variables.layers and names[-1] in variables.layers:
        return lambda name, parts: variables.read((name,), parts)
    holder = variables.holder_of(names[0])
    if holder is not None:
        return lambda name, parts: variables.read((holder, name), parts)
    # Keras itself loads such files by order, so that names do not matter.
    stored = variables.in_order()
    if len(stored) not in (len(names), len(names) + 1):
        raise ModelError(
            f"the file has weights of {len(stored)} layers "
            f"({', '.join(name for name, _ in stored[:4])}, …); expected the {len(names)} of "
            "MobileNetV2, with or without its classification layer"
        )
    in_order = {}
    for (name, _, parts), (layer, arrays) in zip(standard_layers(), stored):
        if len(arrays) != len(parts):
            raise ModelError(
                f"layer {layer!r} has {len(arrays)} variables where MobileNetV2's {name!r} "
                f"has {len(parts)}"
            )
        in_order[name] = dict(zip(parts, arrays))
    return lambda name, parts: in_order[name]


def _weights_in_tree(variables: TreeVariables) -> Weights:
    group = variables.backbone("depthwise_conv2d", len(STRIDES))
    if group is None:
        raise ModelError(
            f"the file has no model with {len(STRIDES)} depthwise convolutions; "
            "expected the weights of a MobileNetV2"
        )
    _refuse_normalization(list(group))
    layers = [{"class_name": kind, "config": {"name": name}} for name, kind, _ in standard_layers()]
    tree = TreeVariables({"layers": group}, {"config": {"layers": layers}})
    return lambda name, parts: tree.read((name,), parts)


def _refuse_normalization(layers: Sequence[str]) -> None:
    for layer in layers:
        if layer.startswith("normalization"):
            raise ModelError(
                f"the weights include the layer {layer!r}, whose place in the model a file of bare "
                "weights does not tell: save the whole model"
            )
