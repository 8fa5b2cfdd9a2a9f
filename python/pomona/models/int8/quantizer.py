"""Makes the int8 version of a model: calibrates, writes and compares it."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pomona._decode import describe_changes, gather_options
from pomona._errors import ModelError
from pomona._images import find_images, label_of
from pomona._native import Featurizer
from pomona._output import check_writable
from pomona._progress import Progress
from pomona.models import contract, store
from pomona.models.inspection import info, load_onnx
from pomona.models.int8.calibration import CHUNK, calibrate, featurize_files
from pomona.models.int8.fidelity import Fidelity, compare
from pomona.models.int8.network import Network
from pomona.models.int8.writer import write_int8
from pomona.models.multiply_adds import MULTIPLY_ADDS, multiply_adds

if TYPE_CHECKING:
    from typing import Mapping, Sequence

    from numpy.typing import NDArray
    from typing_extensions import Unpack

    from pomona._decode import DecodeKeywords
    from pomona._typing import PathLike

#: Fewer photos than the first number are refused; fewer than the second cause a warning. On two
#: sets of photos of fruit, 2 photos set the ranges as well as 100, and those of one set suited the
#: other too, but other sets may vary more.
LEAST_PHOTOS = 8
ENOUGH_PHOTOS = 32

#: The most photos that are compared, which takes a few seconds, and the fewest.
_COMPARED = 500
_COMPARED_AT_LEAST = 16

_METHOD = (
    "static, uint8 activations (mean of the photos' extremes), int8 weights a filter "
    "(errors cancelled, biases corrected)"
)


@dataclass(frozen=True)
class Quantized:
    """A new int8 model and its fidelity."""

    #: Path of the int8 model.
    path: str
    #: Path of the float32 model.
    float32: str
    #: Number of photos that set the ranges.
    calibration_photos: int
    #: The photos that could not be read, with the reasons.
    failed: dict[str, str]
    fidelity: Fidelity


def quantize(
    model: PathLike,
    images: PathLike,
    output: PathLike | None = None,
    *,
    name: str | None = None,
    photos: int = store.DEFAULT_PHOTOS,
    threads: int | None = None,
    overwrite: bool = False,
    **decode_options: Unpack[DecodeKeywords],
) -> Quantized:
    """Make the int8 version of a model.

    Parameters
    ----------
    model : str or os.PathLike
        The float32 model: a name or a file.
    images : str or os.PathLike
        A folder of photos like those that the model will be used for. Some, from all over the
        folder, set the ranges of int8; others measure how close int8 is to float32.
    output : str or os.PathLike, optional
        The file to write. By default the model is stored in :func:`pomona.models.home` under its
        name.
    name : str, optional
        The model's name; by default that of the float32 model and ``_int8``.
    photos : int, default 100
        Photos that set the ranges. If the folder has fewer than twice as many, half are used.
    threads : int, optional
        By default one for each core that this process may use. The model does not depend on it.
    overwrite : bool, default False
        Whether an existing file is replaced.
    **decode_options
        How photos are decoded: the fields of `pomona.DecodeOptions`. Use those with which the
        model will be used.

    Returns
    -------
    Quantized
        The paths of both models and the fidelity.

    Raises
    ------
    ModelError
        If there is no such model, it is in int8 already, or nothing in it can be int8.
    ValueError
        If the folder holds too few photos that can be read.
    FileExistsError
        If the output exists and `overwrite` is false.
    TypeError, ValueError
        If a decode option does not exist or has an invalid value.
    """
    decode = gather_options("quantize", decode_options)
    source = Path(store.resolve(model))
    facts = info(source)
    float32 = load_onnx(source)
    try:
        network = Network(float32)
    except ModelError as error:
        raise ModelError(f"{source} cannot be quantized: {error}") from error
    name = name or facts["name"] + store.NAME_SUFFIX
    target = _target(output, name, source, overwrite)
    if photos < LEAST_PHOTOS:
        raise ValueError(f"calibration takes at least {LEAST_PHOTOS} photos, not {photos}")
    threads = threads or len(os.sched_getaffinity(0))
    chosen, others = _choose(images, photos)
    failed: dict[str, str] = {}
    with Progress("Calibrating", total=len(chosen)) as progress:
        statistics, count = calibrate(
            network, chosen, decode, threads=threads, failed=failed, progress=progress.update
        )
    if count < LEAST_PHOTOS:
        raise ValueError(_too_few(images, count, failed))
    changes = describe_changes(decode)
    metadata = {
        **contract.contract_metadata(name, facts["source"], facts["license"]),
        contract.PRECISION: contract.INT8,
        contract.CALIBRATION: f"{count} photos{changes and f' ({changes})'}; {_METHOD}",
        contract.QUANTIZED_FROM: f"{facts['name']} sha256:{facts['sha256']}",
        contract.PARAMETERS: str(facts["parameters"]),
    }
    operations = contract.metadata_of(float32).get(MULTIPLY_ADDS) or multiply_adds(float32)
    if operations:
        metadata[MULTIPLY_ADDS] = str(operations)
    contract.write_model(write_int8(network, statistics), target, metadata)
    models = [Featurizer(path, threads=threads, **decode.keywords()) for path in (source, target)]
    return Quantized(
        path=str(target),
        float32=str(source),
        calibration_photos=count,
        failed=failed,
        fidelity=_fidelity(models, chosen, others, failed),
    )


def _target(output: PathLike | None, name: str, source: Path, overwrite: bool) -> Path:
    target = store.output_path(output, name)
    check_writable(target)
    if target.exists():
        if target.samefile(source):
            raise ModelError(f"{target} is the float32 model; choose another output")
        if not overwrite:
            raise FileExistsError(errno.EEXIST, "exists already", str(target))
    return target


def _choose(images: PathLike, photos: int) -> tuple[list[str], list[str]]:
    """Choose the photos for calibration and for comparison, both from all over the folder."""
    paths = list(find_images(images))
    if len(paths) < LEAST_PHOTOS:
        raise ValueError(_too_few(images, len(paths), {}))
    half = max(len(paths) // 2, LEAST_PHOTOS)
    chosen = _spread(paths, min(photos, half))
    taken = set(chosen)
    return chosen, _spread([path for path in paths if path not in taken], _COMPARED)


def _spread(items: Sequence[str], number: int) -> list[str]:
    """Take `number` items at even distances."""
    number = min(number, len(items))
    return [items[index * len(items) // number] for index in range(number)]


def _too_few(images: PathLike, count: int, failed: Mapping[str, str]) -> str:
    message = (
        f"{os.fspath(images)} holds {count or 'no'} photo{'s'[: count != 1]} that can be read; "
        f"calibration takes at least {LEAST_PHOTOS}, and {ENOUGH_PHOTOS} or more are better"
    )
    if failed:
        path, reason = next(iter(failed.items()))
        message += f". {len(failed)} failed; the first is {path}: {reason}"
    return message


def _fidelity(
    models: Sequence[Featurizer],
    chosen: Sequence[str],
    others: Sequence[str],
    failed: dict[str, str],
) -> Fidelity:
    """Compare both models, on photos that calibration did not use if there are enough."""
    seen = len(others) < _COMPARED_AT_LEAST
    photos = sorted({*chosen, *others}) if seen else list(others)
    reference: list[NDArray[np.float32]] = []
    features: list[NDArray[np.float32]] = []
    labels: list[str] = []
    step = CHUNK * models[0].threads
    with Progress("Comparing", total=len(photos)) as progress:
        for start in range(0, len(photos), step):
            names = photos[start : start + step]
            contents, rows = featurize_files(models[0], names, failed)
            good = [content for content in contents if content is not None]
            reference.append(rows)
            features.append(models[1].try_featurize(good).features)
            labels += [
                label_of(name) for name, content in zip(names, contents) if content is not None
            ]
            progress.update(len(names))
    if not labels:  # none of the other photos can be read
        return _fidelity(models, chosen, (), failed)
    return compare(
        np.concatenate(reference), np.concatenate(features), labels, seen_in_calibration=seen
    )
