"""The model contract: the input, output and metadata of every model file, and how one is written.

A model takes ``images``, uint8 ``[n, height, width, 3]``, and returns ``features``, float32
``[n, d]``. Height and width are fixed, and the batch is open. The metadata says how photos are
resized and where the weights come from.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx
from onnx import TensorProto, helper

from pomona._errors import ModelError
from pomona._output import atomic_file
from pomona.models.graph import tensor_shape, type_name
from pomona.models.multiply_adds import MULTIPLY_ADDS, multiply_adds

if TYPE_CHECKING:
    from typing import Mapping

    from pomona._typing import PathLike

INPUT = "images"
OUTPUT = "features"
BATCH = "n"

NAME = "pomona.name"
RESIZE = "pomona.resize"
SOURCE = "pomona.source"
LICENSE = "pomona.license"
#: What the conversion assumed, if anything.
NOTES = "pomona.notes"
#: Int8 models also state their precision, how they were calibrated, the float32 model they were
#: made from and its number of parameters: int8 adds scales and zero points to the weights.
PRECISION = "pomona.precision"
CALIBRATION = "pomona.calibration"
QUANTIZED_FROM = "pomona.quantized_from"
PARAMETERS = "pomona.parameters"
FLOAT32 = "float32"
INT8 = "int8"


def contract_metadata(name: str, source: str, license_name: str) -> dict[str, str]:
    """Return the metadata that every model carries."""
    return {NAME: name, RESIZE: "bicubic", SOURCE: source, LICENSE: license_name}


def metadata_of(model: onnx.ModelProto) -> dict[str, str]:
    """Return the metadata of a model."""
    return {entry.key: entry.value for entry in model.metadata_props}


def images_input(height: int, width: int) -> onnx.ValueInfoProto:
    """Return the contract's input: uint8 ``[n, height, width, 3]``."""
    return helper.make_tensor_value_info(INPUT, TensorProto.UINT8, [BATCH, height, width, 3])


def features_output(dim: int) -> onnx.ValueInfoProto:
    """Return the contract's output: float32 ``[n, dim]``."""
    return helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, [BATCH, dim])


def sizes_of(model: onnx.ModelProto) -> tuple[int, int, int]:
    """Return the height and width of a model's images and the number of its features.

    Raises a ModelError if its input or its output breaks the contract.
    """
    constants = {tensor.name for tensor in model.graph.initializer}
    images = [value for value in model.graph.input if value.name not in constants]
    _, height, width, _ = _sizes(images, INPUT, TensorProto.UINT8, 4)
    _, dim = _sizes(list(model.graph.output), OUTPUT, TensorProto.FLOAT, 2)
    return height, width, dim


def _sizes(values: list[onnx.ValueInfoProto], name: str, element: int, rank: int) -> list[int]:
    """Return the sizes of the only tensor that the contract allows; the open batch is 0."""
    names = [value.name for value in values]
    if names != [name]:
        raise ModelError(f"it has {', '.join(names) or 'nothing'} where {name!r} is expected")
    shape = tensor_shape(values[0])
    if values[0].type.tensor_type.elem_type != element or shape is None or len(shape) != rank:
        raise ModelError(f"{name!r} is not {type_name(element)} of rank {rank}")
    if shape[0] is not None or None in shape[1:]:
        raise ModelError(f"{name!r} has the shape {shape}; its first size, and no other, is open")
    return [size or 0 for size in shape]


def write_model(model: onnx.ModelProto, path: PathLike, metadata: Mapping[str, str]) -> None:
    """Check that a model is valid ONNX, add metadata and multiply-adds, and write it atomically.

    A number of multiply-adds that `metadata` states is kept: a network may do the same with
    other operators.
    """
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ModelError(f"the converted graph is not valid ONNX: {error}") from error
    count = None if MULTIPLY_ADDS in metadata else multiply_adds(model)
    counted = {} if count is None else {MULTIPLY_ADDS: str(count)}
    helper.set_model_props(model, {**metadata, **counted})
    with atomic_file(path) as file:
        file.write(model.SerializeToString(deterministic=True))
