"""Converts the MobileNetV2 in a Keras file.

From a whole model, every layer between the images and the backbone's last feature map is converted
with its configuration in the file, including the model's own preprocessing, and then the model's
global pooling. Everything after that (dropout, classification) is left out. For bare weights, the
backbone is built as by ``keras.applications.MobileNetV2``.
"""

from __future__ import annotations

import pathlib
import re
from typing import TYPE_CHECKING

from pomona._errors import ModelError
from pomona.models.graph_builder import GraphBuilder
from pomona.models.keras.bare_weights import OTHER_NETWORKS, STRIDES, build
from pomona.models.keras.config import INPUT_LAYER, ModelCalls
from pomona.models.keras.file import open_keras_file
from pomona.models.keras.layers import (
    ACTIVATIONS,
    DEFAULT_MEAN,
    DEFAULT_STD,
    KEEP_PIXEL_VALUES,
    LayerConverter,
    function_of,
    target_size,
)
from pomona.models.keras.pooling import pooling_after

if TYPE_CHECKING:
    from typing import Sequence, Tuple

    import onnx

    from pomona._typing import PathLike
    from pomona.models.graph_builder import Value
    from pomona.models.keras.config import Call, LayerPath

    Size = Tuple[int, int]

DEFAULT_SIZE = (224, 224)

_OFFICIAL_FILE = re.compile(
    r"mobilenet_v2_weights_tf_dim_ordering_tf_kernels_[\d.]+_(?P<size>\d+)(_no_top)?\.h5"
)


def convert_keras(
    path: PathLike,
    *,
    input_size: Size | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    pooling: str | None = None,
    open_size: Size | None = None,
) -> tuple[onnx.ModelProto, list[str]]:
    """Read a Keras file that holds a MobileNetV2; see `pomona.models.convert` for the arguments.

    For a model with a Lambda layer before the backbone, `mean` and `std` state what that layer
    does. A ModelError for a layer that cannot be converted names the layer. `open_size` is the size
    of the images if it is known from elsewhere, for files that leave it open. Returns notes on what
    was assumed, too.
    """
    notes: list[str] = []
    with open_keras_file(path) as file:
        if file.config is None:
            size = input_size or _size_in_name(path) or open_size
            if size is None:
                size = DEFAULT_SIZE
                notes.append(_assumed_size("the file holds only weights"))
            builder = GraphBuilder(*size)
            images = builder.normalize(builder.images(), mean or DEFAULT_MEAN, std or DEFAULT_STD)
            last = build(builder, images, file.variables)
            return builder.features(last, pooling or "avg"), notes
        model = ModelCalls(file.config)
        calls = model.ancestors(_last_map(model))
        size = _size(calls, input_size) or open_size
        if size is None:
            size = DEFAULT_SIZE
            notes.append(_assumed_size("the model leaves height and width open"))
        builder = GraphBuilder(*size)
        images = builder.images()
        if not _normalizes(calls, given=mean is not None or std is not None):
            images = builder.normalize(images, mean or DEFAULT_MEAN, std or DEFAULT_STD)
        converter = LayerConverter(builder, images, file.variables, mean, std)
        values: dict[Call, Value] = {}
        for call in calls:
            values[call] = converter.convert(call, values)
        last = values[calls[-1]]
        if pooling is None:
            pooling, remark = pooling_after(model, calls[-1], (last.height, last.width))
            notes += [remark] if remark else []
        return builder.features(last, pooling), notes


def _assumed_size(reason: str) -> str:
    height, width = DEFAULT_SIZE
    return (
        f"{reason}: images of {height} x {width} pixels are assumed. Give the size that the "
        "network was trained with (--input-size) if that is another"
    )


def official_license(path: PathLike) -> str | None:
    """Return the licence of the weights if the file has the name of one that Keras publishes."""
    return "Apache-2.0" if _size_in_name(path) else None


def _size_in_name(path: PathLike) -> Size | None:
    match = _OFFICIAL_FILE.fullmatch(pathlib.PurePath(path).name)
    return (int(match["size"]), int(match["size"])) if match else None


def _last_map(model: ModelCalls) -> Call:
    """Find the backbone's last activation by structure, because names are the user's choice."""
    depthwise: dict[LayerPath, Call] = {}
    for call in model.calls:
        if call.kind == "DepthwiseConv2D":
            # A backbone that two inputs share is converted at its first use.
            depthwise.setdefault(call.path, call)
    if len(depthwise) != len(STRIDES):
        kinds = sorted({call.kind for call in model.calls})
        raise ModelError(
            f"the model has {len(depthwise)} depthwise convolutions, expected a MobileNetV2 "
            f"with {len(STRIDES)}. Its layers are: {', '.join(kinds) or 'none'}. {OTHER_NETWORKS}"
        )
    call, convolutions = list(depthwise.values())[-1], 0
    while not (convolutions == 2 and function_of(call) in ACTIVATIONS):
        following = [
            other
            for other in model.consumers(call)
            if function_of(other) in ACTIVATIONS | {"BatchNormalization", "Conv2D"}
        ]
        if not following or (convolutions == 2 and following[0].kind == "Conv2D"):
            raise ModelError(
                f"the backbone ends at layer {call.name!r}; expected MobileNetV2's last "
                "convolution, batch normalisation and activation after it"
            )
        call = following[0]
        convolutions += call.kind == "Conv2D"
    return call


def _size(calls: Sequence[Call], input_size: Size | None) -> Size | None:
    """Return the height and width of the model's images; None if they are open."""
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
        # A model that resizes photos to a size of its own gets photos of that size.
        resized = [target_size(call) for call in calls if call.kind == "Resizing"]
        return input_size or (resized[0] if resized else None)
    size = (int(shape[1]), int(shape[2]))
    if input_size not in (None, size):
        raise ModelError(
            f"the model was built for images of {size[0]} x {size[1]}; "
            f"the input size {input_size} does not fit"
        )
    return size


def _normalizes(calls: Sequence[Call], *, given: bool) -> bool:
    """Tell whether the model changes the values of pixels before its first convolution."""
    for call in calls:
        if call.kind == "Conv2D":
            return False
        if function_of(call) in KEEP_PIXEL_VALUES:
            continue
        if given and function_of(call) != "Lambda":
            raise ModelError(
                f"the model normalises its images itself (layer {call.name!r}); omit mean and std"
            )
        return True
    return False
