"""Turns what people have (Keras files, ONNX classifiers) into models that keep the contract."""

from __future__ import annotations

import os
import pathlib
from typing import TYPE_CHECKING

from pomona._errors import ModelError
from pomona.models import store
from pomona.models.classifier import cut_classifier
from pomona.models.graph import contract_metadata, write_model
from pomona.models.keras_file import HDF5_MAGIC, ZIP_MAGIC
from pomona.models.mobilenet import convert_keras, official_license

if TYPE_CHECKING:
    from typing import Sequence, Tuple, Union

    Numbers = Union[float, Sequence[float]]
    Size = Union[int, Tuple[int, int]]

UNKNOWN_LICENSE = "unknown"
_SMALLEST_SIDE = 32
_LARGEST_SIDE = 4096


def convert(
    weights: str | os.PathLike[str],
    output: str | os.PathLike[str] | None = None,
    *,
    name: str | None = None,
    input_size: Size | None = None,
    output_tensor: str | None = None,
    mean: Numbers | None = None,
    std: Numbers | None = None,
    license: str | None = None,  # noqa: A002 - the name that the metadata has
) -> str:
    """Convert a Keras MobileNetV2 or an ONNX classifier to a model of Pomona's.

    Parameters
    ----------
    weights : str or os.PathLike
        A ``.h5``, ``.weights.h5`` or ``.keras`` file that holds a MobileNetV2 (alone or inside
        another model, any alpha, from Keras 2 or 3), or an ``.onnx`` file.
    output : str or os.PathLike, optional
        The file to write. Without it, the model goes to :func:`pomona.models.home`, where it is
        found by its name.
    name : str, optional
        The model's name; by default the stem of ``output``.
    input_size : int or (int, int), optional
        Side, or height and width, of the images in pixels, where the file leaves them open.
        By default 224.
    output_tensor : str, optional
        ONNX only: the tensor that holds the features. It is ``[n, d]``, or a map ``[n, d, h, w]``
        that is averaged over its pixels.
    mean, std : float or sequence of float, optional
        Normalisation of the pixels (0 to 255), one number or one a channel:
        ``(pixel - mean) / std``. A Keras file's own preprocessing layers are kept; without any,
        the default is 127.5 and 127.5 (Keras' ``preprocess_input``). For ONNX, the default is
        ImageNet's mean and deviation if the input is ``[n, 3, h, w]`` (PyTorch's habit), 127.5 and
        127.5 if it is ``[n, h, w, 3]``.
    license : str, optional
        What to note as the licence of the weights.

    Returns
    -------
    str
        The absolute path of the model. A file that was there is replaced, but never `weights`.

    Raises
    ------
    ModelError
        If the file cannot be converted; the message says what was found and what was expected.
    FileNotFoundError
        If there is no such file.
    """
    source = pathlib.Path(weights)
    if source.is_dir():
        raise ModelError(
            f"{source} is a folder; expected a .h5, .keras or .onnx file. A TensorFlow SavedModel "
            "can be loaded with Keras and saved as a .keras file"
        )
    if not source.is_file():
        raise FileNotFoundError(f"there is no weights file {str(source)!r}")
    target, name = _target(output, name)
    if target.exists() and target.samefile(source):
        raise ModelError(f"{source} is the file to convert: name another output")
    checksum = store.sha256_of(source)
    write_converted(
        source,
        target,
        contract_metadata(
            name,
            f"{source.name} sha256:{checksum}",
            license or official_license(source) or UNKNOWN_LICENSE,
        ),
        input_size=_size(input_size),
        output_tensor=output_tensor,
        mean=_numbers(mean, "mean"),
        std=_numbers(std, "std"),
    )
    return str(target)


def write_converted(
    source: pathlib.Path,
    target: pathlib.Path,
    metadata: dict[str, str],
    *,
    input_size: tuple[int, int] | None = None,
    output_tensor: str | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> None:
    """Convert one file to another, telling by its first bytes what it is."""
    with source.open("rb") as file:
        start = file.read(len(HDF5_MAGIC))
    is_keras = start == HDF5_MAGIC or start.startswith(ZIP_MAGIC)
    if not is_keras and source.suffix.lower() != store.MODEL_SUFFIX:
        found = "it is empty" if not start else f"it begins with {start!r}"
        raise ModelError(
            f"{source}: {found}; expected a .h5 or .keras file that holds a MobileNetV2, or an "
            f"{store.MODEL_SUFFIX} file"
        )
    try:
        if is_keras:
            if output_tensor is not None:
                raise ModelError(
                    "an output tensor is for ONNX files: the features of a Keras MobileNetV2 are "
                    "the average of its last map"
                )
            model = convert_keras(source, input_size=input_size, mean=mean, std=std)
        else:
            model = cut_classifier(source, output_tensor, input_size=input_size, mean=mean, std=std)
    except ModelError as error:
        raise ModelError(f"{source}: {error}") from error
    write_model(model, target, metadata)


def _target(output: str | os.PathLike[str] | None, name: str | None) -> tuple[pathlib.Path, str]:
    if output is None:
        if name is None:
            raise ValueError("give an output file, or a name for the model")
        path = store.path_of(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        return path, name
    path = pathlib.Path(output).expanduser().absolute()
    if path.suffix.lower() != store.MODEL_SUFFIX:
        raise ModelError(
            f"the model's file {str(output)!r} has to end in {store.MODEL_SUFFIX}; to keep a model "
            "by name, give the name and no file"
        )
    return path, name or path.stem


def _size(size: Size | None) -> tuple[int, int] | None:
    if size is None:
        return None
    height, width = (size, size) if isinstance(size, int) else size
    for side in (height, width):
        if not _SMALLEST_SIDE <= side <= _LARGEST_SIDE:
            raise ValueError(
                f"the input size {size} is out of range: "
                f"sides of {_SMALLEST_SIDE} to {_LARGEST_SIDE} pixels"
            )
    return height, width


def _numbers(numbers: Numbers | None, what: str) -> Sequence[float] | None:
    if numbers is None:
        return None
    found = [float(numbers)] if isinstance(numbers, (int, float)) else [float(n) for n in numbers]
    if len(found) not in (1, 3):
        raise ValueError(f"{what} takes one number or three, not {len(found)}")
    if what == "std" and not all(number > 0 for number in found):
        raise ValueError(f"std has to be above 0, not {found}")
    return found
