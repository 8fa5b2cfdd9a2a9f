"""Runs a network over photos and measures its tensors, to set the ranges of int8.

The network runs in the same engine and on the same pixels as its int8 version will. Instead of
features it returns, for each photo, the mean, maximum and minimum of each channel of each tensor:
memory holds a few thousand numbers per photo and never an activation.
"""

from __future__ import annotations

import tempfile
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from onnx import helper

from pomona._errors import ModelError
from pomona._native import Featurizer
from pomona.models.contract import OUTPUT, contract_metadata, features_output, write_model
from pomona.models.graph import inferred_shapes
from pomona.models.int8.network import Statistics

if TYPE_CHECKING:
    from typing import Callable, Sequence

    import onnx
    from numpy.typing import NDArray

    from pomona._decode import DecodeOptions
    from pomona.models.int8.network import Network

#: Photos in memory at once, for each thread.
CHUNK = 4


def calibrate(
    network: Network,
    photos: Sequence[str],
    decode: DecodeOptions,
    *,
    threads: int,
    failed: dict[str, str],
    progress: Callable[[int], None],
) -> tuple[dict[str, Statistics], int]:
    """Measure the tensors of a network over photo files; also return how many could be read.

    The extremes are the means over the photos of each photo's own extremes, so that one odd photo
    does not coarsen the scale for all. `failed` receives the photos that cannot be read, with the
    reasons, and `progress` the number of photos processed since the last call. Raises a ModelError
    if the network returns numbers that are not finite.
    """
    model, channels = _instrumented(network)
    totals = [np.zeros(2 + size) for size in channels]
    count = 0
    with tempfile.TemporaryDirectory(prefix="pomona-") as folder:
        path = Path(folder, "calibration.onnx")
        write_model(model, path, contract_metadata("calibration", "calibration", "none"))
        featurizer = Featurizer(path, threads=threads, **decode.keywords())
        step = CHUNK * threads
        for start in range(0, len(photos), step):
            names = photos[start : start + step]
            for row in featurize_files(featurizer, names, failed)[1]:
                parts = np.split(row, 3 * np.cumsum(channels)[:-1])
                for total, part in zip(totals, parts):
                    means, highest, negated = np.split(part, 3)
                    total += [-negated.max(), highest.max(), *means]
                count += 1
            progress(len(names))
    if not all(np.isfinite(total).all() for total in totals):
        raise ModelError("for these photos, the model computes numbers that are not finite")
    statistics = {}
    for tensor, total in zip(network.tensors, totals):
        mean = total / max(count, 1)
        statistics[tensor] = Statistics(float(mean[0]), float(mean[1]), mean[2:])
    return statistics, count


def featurize_files(
    featurizer: Featurizer, names: Sequence[str], failed: dict[str, str]
) -> tuple[list[bytes | None], NDArray[np.float32]]:
    """Return the content of each file, None for unreadable ones, and features of the readable ones.

    `failed` receives each file that cannot be read, with the reason.
    """
    contents: list[bytes | None] = [_content(name, failed) for name in names]
    rows, errors = featurizer.try_featurize(contents)
    for index, error in enumerate(errors):
        if error is not None:
            contents[index] = None
            failed.setdefault(names[index], error.reason)
    return contents, rows[[content is not None for content in contents]]


def _content(name: str, failed: dict[str, str]) -> bytes | None:
    try:
        return Path(name).read_bytes()
    except OSError as error:
        failed[name] = error.strerror or str(error)
        return None


def _instrumented(network: Network) -> tuple[onnx.ModelProto, list[int]]:
    """Return a network whose features are the statistics, and the channels of each tensor."""
    model = deepcopy(network.model)
    graph = model.graph
    for node in graph.node:
        for names in (node.input, node.output):
            names[:] = [f"{name}/unused" if name == OUTPUT else name for name in names]
    shapes = inferred_shapes(network.model)
    parts: list[str] = []
    channels: list[int] = []
    for number, tensor in enumerate(network.tensors):
        size = shapes[tensor][1]
        if not size:
            raise ModelError(f"the number of channels of its tensor {tensor!r} is unknown")
        channels.append(size)
        negated = f"pomona/negated_{number}"
        graph.node.append(helper.make_node("Neg", [tensor], [negated]))
        for operator, source in (
            ("GlobalAveragePool", tensor),
            ("GlobalMaxPool", tensor),
            ("GlobalMaxPool", negated),
        ):
            parts.append(f"pomona/statistics_{len(parts)}")
            graph.node.append(helper.make_node(operator, [source], [parts[-1]]))
    graph.node.append(helper.make_node("Concat", parts, ["pomona/statistics"], axis=1))
    graph.node.append(helper.make_node("Flatten", ["pomona/statistics"], [OUTPUT], axis=1))
    del graph.output[:], graph.value_info[:]
    graph.output.append(features_output(3 * sum(channels)))
    return model, channels
