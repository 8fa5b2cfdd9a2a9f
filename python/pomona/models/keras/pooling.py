"""Finds the global pooling of a Keras model's last map."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pomona._errors import ModelError
from pomona.models.keras.layers import IDENTITIES, function_of

if TYPE_CHECKING:
    from typing import Tuple

    from pomona.models.keras.config import Call, ModelCalls

    Size = Tuple[int, int]

_GLOBAL = {
    "GlobalAveragePooling2D": "avg",
    "GlobalAvgPool2D": "avg",
    "GlobalMaxPooling2D": "max",
    "GlobalMaxPool2D": "max",
}
_REDUCTIONS = {
    "Mean": "avg",
    "math.reduce_mean": "avg",
    "Max": "max",
    "Amax": "max",
    "math.reduce_max": "max",
}
_WINDOWS = {"AveragePooling2D": "avg", "MaxPooling2D": "max"}
#: Keras' own layers that go on with a map, and with which heads of classifiers start.
_HEADS = {
    "Activation", "Add", "AveragePooling2D", "BatchNormalization", "Concatenate", "Conv2D", "Dense",
    "DepthwiseConv2D", "Flatten", "LayerNormalization", "MaxPooling2D", "Multiply", "Permute",
    "ReLU", "Reshape", "SeparableConv2D", "UpSampling2D",
}  # fmt: skip
_MEANING = {"avg": "average", "max": "maximum"}


def pooling_after(model: ModelCalls, last: Call, size: Size) -> tuple[str, str | None]:
    """Return how a model pools its last map, ``avg`` or ``max``, and a note if it does not.

    `size` is the height and width of the map. Raises a ModelError that names the layers if the
    model pools in another way, or in both.
    """
    found: dict[str, Call] = {}
    heads = []
    waiting = [last]
    while waiting:
        for call in model.consumers(waiting.pop()):
            kind = _pooling_of(call, size)
            if function_of(call) in IDENTITIES:
                waiting.append(call)
            elif kind is not None:
                found.setdefault(kind, call)
            elif function_of(call) in _HEADS:
                heads.append(call)
            else:
                raise ModelError(
                    f"layer {call.name!r} ({function_of(call)}) takes the last map, and Pomona "
                    "does not know how it pools it: choose avg or max (--pooling)"
                )
    if len(found) == 2:
        names = " and ".join(
            f"the {_MEANING[kind]} (layer {call.name!r})" for kind, call in sorted(found.items())
        )
        raise ModelError(f"the model takes {names} of its last map: choose avg or max (--pooling)")
    if found:
        return next(iter(found)), None
    if not heads:
        return "avg", None
    return "avg", (
        f"the model goes on from its last map with layer {heads[0].name!r} "
        f"({function_of(heads[0])}), without global pooling: the features are the average of that "
        "map (--pooling max: its maximum)"
    )


def _pooling_of(call: Call, size: Size) -> str | None:
    function = function_of(call)
    if function in _GLOBAL:
        return _GLOBAL[function]
    if function in _REDUCTIONS:
        axes = call.config.get("axis")
        given = [axes] if axes is not None else call.arguments
        pixels = any(
            isinstance(item, (list, tuple, np.ndarray)) and sorted(np.ravel(item)) == [1, 2]
            for item in given
        )
        return _REDUCTIONS[function] if pixels else None
    window = call.config.get("pool_size") if function in _WINDOWS else None
    if window is None:
        return None
    whole = (window, window) if isinstance(window, int) else tuple(window)
    return _WINDOWS[function] if whole == size else None
