"""Converts Keras files and ONNX classifiers to models that keep the contract."""

from __future__ import annotations

import pathlib
import tempfile
import warnings
from typing import TYPE_CHECKING

from pomona._errors import ModelError
from pomona._native import Featurizer
from pomona.bench import BUILT_IN_PHOTOS
from pomona.models import store
from pomona.models.contract import NOTES, contract_metadata, write_model
from pomona.models.file_kinds import check_kind, folder_error
from pomona.models.graph_builder import GLOBAL_POOLS
from pomona.models.keras.file import HDF5_MAGIC, ZIP_MAGIC
from pomona.models.keras.mobilenet import convert_keras, official_license
from pomona.models.onnx_classifier import cut_classifier

if TYPE_CHECKING:
    from typing import Literal, Mapping, Sequence, Tuple, Union

    import onnx

    from pomona._typing import PathLike

    Numbers = Union[float, Sequence[float]]
    Size = Union[int, Tuple[int, int]]

UNKNOWN_LICENSE = "unknown"
_SMALLEST_SIDE = 32
_LARGEST_SIDE = 4096


def convert(
    weights: PathLike,
    output: PathLike | None = None,
    *,
    name: str | None = None,
    input_size: Size | None = None,
    output_tensor: str | None = None,
    mean: Numbers | None = None,
    std: Numbers | None = None,
    pooling: Literal["avg", "max"] | None = None,
    license: str | None = None,  # noqa: A002 - the metadata's word
) -> str:
    """Convert a Keras MobileNetV2 or an ONNX classifier to a model that Pomona runs.

    Parameters
    ----------
    weights : str or os.PathLike
        A ``.h5``, ``.weights.h5`` or ``.keras`` file that holds a MobileNetV2 (alone or inside
        another model, with any alpha, from Keras 2 or 3), or an ``.onnx`` file.
    output : str or os.PathLike, optional
        The file to write. By default the model is stored in :func:`pomona.models.home` under its
        name.
    name : str, optional
        The model's name; by default the stem of ``output``.
    input_size : int or (int, int), optional
        Side, or height and width, of the images in pixels, if the file leaves them open.
        By default 224, with a warning unless the file's name says so.
    output_tensor : str, optional
        ONNX only: the tensor that holds the features. It is ``[n, d]``, or a map ``[n, d, h, w]``
        that is pooled over its pixels.
    mean, std : float or sequence of float, optional
        Normalisation of the pixels (0 to 255), one number or one per channel:
        ``(pixel - mean) / std``. Preprocessing layers in a Keras file are kept; if there are none,
        the default is 127.5 and 127.5 (Keras' ``preprocess_input``). For ONNX, the default is
        ImageNet's mean and standard deviation if the input is ``[n, 3, h, w]`` (PyTorch), and
        127.5 and 127.5 if it is ``[n, h, w, 3]`` (TensorFlow).
    pooling : {"avg", "max"}, optional
        Global pooling of the last map. By default that of a Keras model, else ``"avg"``, with a
        warning if a Keras model goes on from its last map without global pooling.
    license : str, optional
        Licence of the weights, for the metadata.

    Returns
    -------
    str
        The absolute path of the model. An existing file is replaced, but never `weights`.

    Warns
    -----
    UserWarning
        If something was assumed. The model's metadata ``pomona.notes`` says the same.

    Raises
    ------
    ModelError
        If the file cannot be converted; the message says what it holds and what was expected.
    FileNotFoundError
        If there is no such file.
    """
    source = pathlib.Path(weights)
    if source.is_dir():
        raise folder_error(source)
    if not source.is_file():
        raise FileNotFoundError(f"there is no weights file {str(source)!r}")
    target = store.output_path(output, name)
    if target.exists() and target.samefile(source):
        raise ModelError(f"{source} is the file to convert; choose another output")
    license_name = license or official_license(source) or UNKNOWN_LICENSE
    origin = f"{source.name} sha256:{store.sha256_of(source)}"
    write_converted(
        source,
        target,
        contract_metadata(name or target.stem, origin, license_name),
        input_size=_size(input_size),
        output_tensor=output_tensor,
        mean=_numbers(mean, "mean"),
        std=_numbers(std, "std"),
        pooling=_pooling(pooling),
    )
    return str(target)


def write_converted(
    source: pathlib.Path,
    target: pathlib.Path,
    metadata: Mapping[str, str],
    *,
    input_size: tuple[int, int] | None = None,
    output_tensor: str | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    pooling: str | None = None,
    open_size: tuple[int, int] | None = None,
) -> None:
    """Convert one file to another; its first bytes decide whether Keras wrote it."""
    check_kind(source)
    with source.open("rb") as file:
        start = file.read(len(HDF5_MAGIC))
    is_keras = start == HDF5_MAGIC or start.startswith(ZIP_MAGIC)
    if not is_keras and source.suffix.lower() != store.MODEL_SUFFIX:
        raise ModelError(
            f"{source}: it begins with {start!r}; expected a .h5 or .keras file that holds a "
            f"MobileNetV2, or an {store.MODEL_SUFFIX} file"
        )
    try:
        if is_keras:
            if output_tensor is not None:
                raise ModelError(
                    "an output tensor is for ONNX files: the features of a Keras MobileNetV2 are "
                    "its last map, pooled"
                )
            model, notes = convert_keras(
                source,
                input_size=input_size,
                mean=mean,
                std=std,
                pooling=pooling,
                open_size=open_size,
            )
        else:
            model, notes = cut_classifier(
                source, output_tensor, input_size=input_size, mean=mean, std=std, pooling=pooling
            )
            _check_runs(model, metadata)
    except ModelError as error:
        raise ModelError(f"{source}: {error}") from error
    write_model(model, target, {**metadata, NOTES: "; ".join(notes)} if notes else metadata)
    for note in notes:
        warnings.warn(f"{source.name}: {note}", stacklevel=3)


def _check_runs(model: onnx.ModelProto, metadata: Mapping[str, str]) -> None:
    """Raise a ModelError if ONNX Runtime does not run a network on two images.

    It lacks operators for some types, and refuses others only once it runs them.
    """
    photo = (BUILT_IN_PHOTOS / "kiwi.jpg").read_bytes()
    with tempfile.TemporaryDirectory(prefix="pomona-") as folder:
        trial = pathlib.Path(folder) / "trial.onnx"
        write_model(model, trial, metadata)
        try:
            Featurizer(trial).featurize([photo, photo])
        except ModelError as error:
            reason = str(error).replace(f" on {trial}", "")
            raise ModelError(
                f"the network was converted, but does not run: {reason}. Export it again, in "
                "float32 and without operators that only other programs have"
            ) from error


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


def _pooling(pooling: str | None) -> str | None:
    if pooling not in (None, *GLOBAL_POOLS):
        raise ValueError(f"pooling is {pooling!r}, it must be one of {', '.join(GLOBAL_POOLS)}")
    return pooling


def _numbers(numbers: Numbers | None, argument: str) -> Sequence[float] | None:
    if numbers is None:
        return None
    values = [float(n) for n in ([numbers] if isinstance(numbers, (int, float)) else numbers)]
    if len(values) not in (1, 3):
        raise ValueError(f"{argument} takes one number or three, not {len(values)}")
    if argument == "std" and not all(value > 0 for value in values):
        raise ValueError(f"std must be above 0, not {values}")
    return values
