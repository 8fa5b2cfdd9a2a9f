"""Reads model files and describes them."""

from __future__ import annotations

import os
import pathlib
from typing import TYPE_CHECKING

import numpy as np
import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from pomona._errors import ModelError
from pomona.models import contract
from pomona.models.store import resolve, sha256_of

if TYPE_CHECKING:
    from typing import Any

    from pomona._typing import PathLike


def info(model: PathLike) -> dict[str, Any]:
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
        ``precision`` (``float32`` or ``int8``), all of types that ``json.dumps`` accepts. A model
        whose conversion assumed something also has ``notes``, and an int8 model made by Pomona
        ``calibration`` and ``quantized_from``.

    Raises
    ------
    ModelError
        If there is no such model or it breaks the model contract.
    """
    path = pathlib.Path(resolve(model))
    proto = load_onnx(path)
    try:
        height, width, dim = contract.sizes_of(proto)
    except ModelError as error:
        raise ModelError(f"{path} does not keep Pomona's model contract: {error}") from error
    metadata = contract.metadata_of(proto)
    return {
        "name": metadata.get(contract.NAME, path.stem),
        "path": str(path),
        "sha256": sha256_of(path),
        "input_size": [height, width],
        "dim": dim,
        "resize": metadata.get(contract.RESIZE, "unknown"),
        "source": metadata.get(contract.SOURCE, "unknown"),
        "license": metadata.get(contract.LICENSE, "unknown"),
        "parameters": int(metadata.get(contract.PARAMETERS, 0)) or _parameters(proto.graph),
        "file_size": path.stat().st_size,
        "precision": metadata.get(contract.PRECISION, contract.FLOAT32),
        **{
            key.rpartition(".")[-1]: metadata[key]
            for key in (contract.NOTES, contract.CALIBRATION, contract.QUANTIZED_FROM)
            if key in metadata
        },
    }


def load_onnx(path: PathLike) -> onnx.ModelProto:
    """Read an ONNX file; raises a ModelError if it, or a file it refers to, is not complete."""
    try:
        model = onnx.load(os.fspath(path))
    except (DecodeError, onnx.checker.ValidationError, FileNotFoundError, ValueError) as error:
        raise ModelError(f"{os.fspath(path)} {_incomplete(pathlib.Path(path), error)}") from error
    if not model.graph.node:
        raise ModelError(f"{os.fspath(path)} is not an ONNX file: it holds no graph")
    return model


def _incomplete(path: pathlib.Path, error: Exception) -> str:
    """Say what an ONNX file lacks."""
    if isinstance(error, DecodeError):
        return (
            "is not a complete ONNX file: it is damaged, or its download broke off. Compare its "
            f"size with the original's and download it again ({error})"
        )
    graph = onnx.load(str(path), load_external_data=False).graph
    entries = [entry for tensor in graph.initializer for entry in tensor.external_data]
    names = dict.fromkeys(entry.value for entry in entries if entry.key == "location")
    for name in names:
        if not (path.parent / name).is_file():
            return (
                f"keeps its weights in another file, {name}, which is not beside it: copy or "
                "download that file into the same folder, under this name"
            )
    hint = f" (its weights are in {', '.join(names)})" if names else ""
    return f"is not a complete ONNX file: {error}{hint}"


def _parameters(graph: onnx.GraphProto) -> int:
    """Count the learnt parameters: tensors of weights, not bounds, indices or shapes."""
    kinds = onnx.TensorProto
    weights = (kinds.FLOAT, kinds.FLOAT16, kinds.DOUBLE, kinds.INT8, kinds.UINT8)
    counts = [
        int(np.prod(tensor.dims)) for tensor in graph.initializer if tensor.data_type in weights
    ]
    return sum(count for count in counts if count > 1)
