"""Runs a network over photos and notes what its layers hold, to set the ranges of int8.

The network is run by the code that will run it in int8 too, on the same pixels. Instead of features
it gives, for each photo, the extremes and the channel means of each tensor, so that memory holds a
few thousand numbers a photo and never an activation.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import helper, numpy_helper

from pomona._errors import ModelError
from pomona._native import Featurizer
from pomona.models.graph import OUTPUT, contract_metadata, features_output, write_model
from pomona.models.inspection import tensor_shape
from pomona.models.int8_graph import Statistics

if TYPE_CHECKING:
    from typing import Any, Callable, Sequence

    from numpy.typing import NDArray

    from pomona.models.int8_graph import Network

#: Photos in memory at once, for each thread.
CHUNK = 4
#: ReduceMin and ReduceMax take their axes as an input since opset 18, and so does ReduceMean.
_AXES_ARE_AN_INPUT = 18


def calibrate(
    network: Network,
    photos: Sequence[str],
    *,
    threads: int,
    failed: dict[str, str],
    done: Callable[[int], None],
) -> tuple[dict[str, Statistics], int]:
    """Run a network over photos.

    Parameters
    ----------
    network : Network
        The float32 network.
    photos : sequence of str
        Files. Those that can't be read are left out.
    threads : int
        Threads to use; the result does not depend on it.
    failed : dict of str to str
        Gets each photo that can't be read, with the reason.
    done : callable
        Called with the number of photos that were worked on since the last call.

    Returns
    -------
    statistics : dict of str to Statistics
        For each of the network's tensors. The extremes are the means over the photos of each
        photo's own, so that one odd photo does not coarsen the scale for all.
    count : int
        The photos that were used.

    Raises
    ------
    ModelError
        If the network gives numbers that are not finite.
    """
    model, sizes = _instrumented(network)
    width = sum(2 + size for size in sizes)
    total, count = np.zeros(width), 0
    with tempfile.TemporaryDirectory(prefix="pomona-") as folder:
        path = Path(folder, "calibration.onnx")
        write_model(model, path, contract_metadata("calibration", "calibration", "none"))
        featurizer = Featurizer(path, threads=threads)
        step = CHUNK * threads
        for start in range(0, len(photos), step):
            names = photos[start : start + step]
            rows = featurize_files(featurizer, names, failed)[1]
            for row in rows:
                total += row
            count += len(rows)
            done(len(names))
    if not np.isfinite(total).all():
        raise ModelError("the model gives numbers that are not finite for these photos")
    statistics = {}
    place = 0
    for tensor, size in zip(network.tensors, sizes):
        lowest, highest, *means = total[place : place + 2 + size] / max(count, 1)
        statistics[tensor] = Statistics(float(lowest), float(highest), np.array(means))
        place += 2 + size
    return statistics, count


def featurize_files(
    featurizer: Featurizer, names: Sequence[str], failed: dict[str, str]
) -> tuple[list[bytes | None], NDArray[np.float32]]:
    """Compute the features of files that may be broken.

    Parameters
    ----------
    featurizer : Featurizer
        The model.
    names : sequence of str
        The files.
    failed : dict of str to str
        Gets each file that can't be read, with the reason.

    Returns
    -------
    contents : list of bytes or None
        The files; None in place of those that can't be read.
    features : numpy.ndarray
        float32 ``[n, d]``: a row for each file that can be.
    """
    contents: list[bytes | None] = [_content(name, failed) for name in names]
    rows, errors = featurizer.try_featurize(contents)
    for place, error in enumerate(errors):
        if error is not None:
            contents[place] = None
            failed.setdefault(names[place], error.reason)
    return contents, rows[[content is not None for content in contents]]


def _content(name: str, failed: dict[str, str]) -> bytes | None:
    try:
        return Path(name).read_bytes()
    except OSError as error:
        failed[name] = error.strerror or str(error)
        return None


def _instrumented(network: Network) -> tuple[onnx.ModelProto, list[int]]:
    """Return a network that gives statistics for features, and each tensor's channels."""
    model = onnx.ModelProto()
    model.CopyFrom(network.model)
    graph = model.graph
    shapes = {
        value.name: tensor_shape(value)
        for value in onnx.shape_inference.infer_shapes(model, data_prop=True).graph.value_info
    }
    opset = max(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    graph.initializer.append(numpy_helper.from_array(np.array([1, 2, 3]), "pomona/all_axes"))
    as_input = opset >= _AXES_ARE_AN_INPUT
    axes: dict[str, Any] = {} if as_input else {"axes": [1, 2, 3]}
    parts, sizes = [], []
    for number, tensor in enumerate(network.tensors):
        channels = (shapes.get(tensor) or [None, None])[1]
        if not channels:
            raise ModelError(f"the number of channels of its tensor {tensor!r} is not known")
        inputs = [tensor, "pomona/all_axes"] if as_input else [tensor]
        for kind in ("Min", "Max"):
            name = f"pomona/{kind}_{number}"
            graph.node.append(helper.make_node(f"Reduce{kind}", inputs, [name], **axes))
            parts.append(name)
        name = f"pomona/Mean_{number}"
        graph.node.append(helper.make_node("GlobalAveragePool", [tensor], [name]))
        parts.append(name)
        sizes.append(channels)
    flat = [f"{part}/flat" for part in parts]
    for part, name in zip(parts, flat):
        graph.node.append(helper.make_node("Flatten", [part], [name], axis=1))
    for node in graph.node:
        for names in (node.input, node.output):
            names[:] = [f"{name}/unused" if name == OUTPUT else name for name in names]
    graph.node.append(helper.make_node("Concat", flat, [OUTPUT], axis=1))
    del graph.output[:], graph.value_info[:]
    graph.output.append(features_output(sum(2 + size for size in sizes)))
    return model, sizes
