"""Tells what a model file is."""

from __future__ import annotations

import os
import pathlib
from typing import TYPE_CHECKING

import numpy as np
import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from pomona._errors import ModelError
from pomona.models.graph import INPUT, OUTPUT
from pomona.models.store import resolve, sha256_of

if TYPE_CHECKING:
    from typing import Any

#: Where a model that is not float32 notes what it is, and how it came about.
PRECISION = "pomona.precision"
CALIBRATION = "pomona.calibration"
QUANTIZED_FROM = "pomona.quantized_from"
#: The parameters of the model it came from: int8 has scales besides, and zeros.
PARAMETERS = "pomona.parameters"
FLOAT32 = "float32"
INT8 = "int8"


def info(model: str | os.PathLike[str]) -> dict[str, Any]:
    """Describe a model.

    Parameters
    ----------
    model : str or os.PathLike
        A name or a path, as :func:`pomona.models.resolve` takes it.

    Returns
    -------
    dict
        ``name``, ``path``, ``sha256``, ``input_size`` (height, width), ``dim``, ``resize``,
        ``source``, ``license``, ``parameters`` (their number), ``file_size`` (bytes) and
        ``precision`` (``float32`` or ``int8``), of plain types, so that ``json.dumps`` takes it.
        An int8 model of Pomona's also has ``calibration`` and ``quantized_from``.

    Raises
    ------
    ModelError
        If there is no such model or it breaks the model contract.
    """
    path = pathlib.Path(resolve(model))
    graph_model = load_onnx(path)
    metadata = {entry.key: entry.value for entry in graph_model.metadata_props}
    graph = graph_model.graph
    constants = {tensor.name for tensor in graph.initializer}
    images = [value for value in graph.input if value.name not in constants]
    try:
        height, width = _sizes(images, INPUT, onnx.TensorProto.UINT8, 4)[1:3]
        dim = _sizes(list(graph.output), OUTPUT, onnx.TensorProto.FLOAT, 2)[1]
    except ModelError as error:
        raise ModelError(f"{path} is not a model of Pomona's: {error}") from error
    return {
        "name": metadata.get("pomona.name", path.stem),
        "path": str(path),
        "sha256": sha256_of(path),
        "input_size": [height, width],
        "dim": dim,
        "resize": metadata.get("pomona.resize", "unknown"),
        "source": metadata.get("pomona.source", "unknown"),
        "license": metadata.get("pomona.license", "unknown"),
        "parameters": int(metadata.get(PARAMETERS, 0)) or _parameters(graph),
        "file_size": path.stat().st_size,
        "precision": metadata.get(PRECISION, FLOAT32),
        **{
            key.rpartition(".")[-1]: metadata[key]
            for key in (CALIBRATION, QUANTIZED_FROM)
            if key in metadata
        },
    }


def load_onnx(path: str | os.PathLike[str]) -> onnx.ModelProto:
    """Read an ONNX file.

    Raises
    ------
    ModelError
        If it is not one, or a file that it refers to is missing.
    """
    try:
        model = onnx.load(os.fspath(path))
    except (DecodeError, onnx.checker.ValidationError, FileNotFoundError, ValueError) as error:
        raise ModelError(f"{os.fspath(path)} is not a complete ONNX file: {error}") from error
    if not model.graph.node:
        raise ModelError(f"{os.fspath(path)} is not an ONNX file: it holds no graph")
    return model


def tensor_shape(value: onnx.ValueInfoProto) -> list[int | None] | None:
    """Return a tensor's sizes, None for those that are open; None if the rank is unknown."""
    kind = value.type.tensor_type
    if not kind.HasField("shape"):
        return None
    return [dim.dim_value if dim.HasField("dim_value") else None for dim in kind.shape.dim]


def _sizes(values: list[onnx.ValueInfoProto], name: str, element: int, rank: int) -> list[int]:
    """Return the fixed sizes of the one tensor that the contract wants; 0 for the open first."""
    kind = onnx.TensorProto.DataType.Name(element).lower()
    found = [value.name for value in values]
    if found != [name]:
        raise ModelError(f"it has {', '.join(found) or 'nothing'} where {name!r} is expected")
    shape = tensor_shape(values[0])
    if values[0].type.tensor_type.elem_type != element or shape is None or len(shape) != rank:
        raise ModelError(f"{name!r} is not {kind} of rank {rank}")
    if shape[0] is not None or None in shape[1:]:
        raise ModelError(
            f"{name!r} has the shape {shape}; only its first size may and must be open"
        )
    return [size or 0 for size in shape]


def _parameters(graph: onnx.GraphProto) -> int:
    """Count what the layers have learnt: tensors of weights, not bounds, indices or shapes."""
    kinds = onnx.TensorProto
    weights = (kinds.FLOAT, kinds.FLOAT16, kinds.DOUBLE, kinds.INT8, kinds.UINT8)
    counts = [
        int(np.prod(tensor.dims)) for tensor in graph.initializer if tensor.data_type in weights
    ]
    return sum(count for count in counts if count > 1)
