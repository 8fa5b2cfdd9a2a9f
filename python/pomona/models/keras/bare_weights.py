"""Builds a MobileNetV2 from bare weights, as ``keras.applications.MobileNetV2`` does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pomona._errors import ModelError
from pomona.models.keras.layers import BATCH_NORM, filters_first
from pomona.models.keras.variables import TreeVariables

if TYPE_CHECKING:
    from typing import Callable, Dict, Iterable, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from pomona.models.graph_builder import GraphBuilder, Value
    from pomona.models.keras.variables import NamedVariables, Variables

    Weights = Callable[[str, Sequence[str]], Dict[str, NDArray[np.float64]]]
    """Returns the named variables of a layer."""

#: The strides of the 17 blocks' depthwise convolutions (Sandler et al. 2018, table 2).
STRIDES = (1, 2, 1, 2, 1, 1, 2, 1, 1, 1, 1, 1, 1, 2, 1, 1, 1)
#: The epsilon of every batch normalisation in ``keras.applications.MobileNetV2``.
EPSILON = 1e-3

#: What to do with other networks, at the end of messages.
OTHER_NETWORKS = (
    "Export another network as an ONNX file, in Keras 3 with model.export('model.onnx', "
    "format='onnx') (pip install tf2onnx), and convert that"
)

_CONVOLUTION = ("kernel",)


def standard_layers() -> list[tuple[str, str, tuple[str, ...]]]:
    """Return name, class and variables of the backbone's layers with weights, in order."""
    layers = [("Conv1", "Conv2D", _CONVOLUTION), ("bn_Conv1", "BatchNormalization", BATCH_NORM)]
    for block in range(len(STRIDES)):
        prefix = f"block_{block}_" if block else "expanded_conv_"
        # The first block does not expand.
        for part in ("expand", "depthwise", "project") if block else ("depthwise", "project"):
            kind = "DepthwiseConv2D" if part == "depthwise" else "Conv2D"
            layers.append((prefix + part, kind, _CONVOLUTION))
            layers.append((f"{prefix}{part}_BN", "BatchNormalization", BATCH_NORM))
    layers.append(("Conv_1", "Conv2D", _CONVOLUTION))
    layers.append(("Conv_1_bn", "BatchNormalization", BATCH_NORM))
    return layers


def build(builder: GraphBuilder, images: Value, variables: Variables) -> Value:
    """Build the backbone, of any alpha, and return its last map."""
    if isinstance(variables, TreeVariables):
        weights = _weights_in_tree(variables)
    else:
        weights = _weights_by_name_or_order(variables)
    layers = standard_layers()
    pairs = zip(layers[::2], layers[1::2])

    def convolution(value: Value, stride: int = 1) -> Value:
        """Add the next convolution and its batch normalisation."""
        (name, kind, parts), (normalization, _, statistics) = next(pairs)
        depthwise = kind == "DepthwiseConv2D"
        kernel = filters_first(weights(name, parts)["kernel"], depthwise=depthwise)
        groups = value.channels if depthwise else 1
        value = builder.convolve(value, kernel, stride=(stride, stride), groups=groups)
        numbers = weights(normalization, statistics)
        return builder.batch_norm(value, *(numbers[part] for part in statistics), epsilon=EPSILON)

    value = builder.relu(convolution(images, stride=2), 6.0)
    for block, stride in enumerate(STRIDES):
        inner = builder.relu(convolution(value), 6.0) if block else value
        inner = convolution(builder.relu(convolution(inner, stride), 6.0))
        is_residual = stride == 1 and inner.channels == value.channels
        value = builder.add(value, inner) if is_residual else inner
    return builder.relu(convolution(value), 6.0)


def _weights_by_name_or_order(variables: NamedVariables) -> Weights:
    _refuse_normalization(variables.layers)
    names = [name for name, _, _ in standard_layers()]
    if names[0] in variables.layers and names[-1] in variables.layers:
        return lambda name, parts: variables.read((name,), parts)
    holder = variables.holder_of(names[0])
    if holder is not None:
        return lambda name, parts: variables.read((holder, name), parts)
    # Keras itself loads such files by order, and ignores the names.
    stored = variables.in_order()
    if len(stored) not in (len(names), len(names) + 1):
        raise ModelError(
            f"the file has weights of {len(stored)} layers "
            f"({', '.join(name for name, _ in stored[:4])}, …); expected the {len(names)} of "
            f"MobileNetV2, with or without its classification layer. {OTHER_NETWORKS}"
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
            f"expected the weights of a MobileNetV2. {OTHER_NETWORKS}"
        )
    _refuse_normalization(group)
    layers = [{"class_name": kind, "config": {"name": name}} for name, kind, _ in standard_layers()]
    tree = TreeVariables({"layers": group}, {"config": {"layers": layers}})
    return lambda name, parts: tree.read((name,), parts)


def _refuse_normalization(layers: Iterable[str]) -> None:
    for layer in layers:
        if layer.startswith("normalization"):
            raise ModelError(
                f"the weights include the layer {layer!r}, but a file of bare weights does not "
                "state its place in the model: save the whole model"
            )
