"""Makes the int8 version of a model, calibrated on the user's photos."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pomona._errors import ModelError
from pomona._images import find_images, label_of
from pomona._native import Featurizer
from pomona._output import check_writable
from pomona._progress import Progress
from pomona.models import store
from pomona.models.arithmetic import MULTIPLY_ADDS, multiply_adds
from pomona.models.calibration import CHUNK, calibrate, featurize_files
from pomona.models.fidelity import Fidelity, compare
from pomona.models.graph import contract_metadata, write_model
from pomona.models.inspection import (
    CALIBRATION,
    INT8,
    PARAMETERS,
    PRECISION,
    QUANTIZED_FROM,
    info,
    load_onnx,
)
from pomona.models.int8_graph import Network

if TYPE_CHECKING:
    from typing import Mapping, Sequence

    from numpy.typing import NDArray

#: Measured on two sets of fruit: two photos set ranges as well as a hundred, and those of one set
#: did for the other. Sets are not all so alike, so that fewer than the first are refused and fewer
#: than the second warned about.
LEAST_PHOTOS = 8
ENOUGH_PHOTOS = 32

#: Photos whose features are compared: the more, the surer; so many take a few seconds.
_COMPARED = 500
_COMPARED_AT_LEAST = 16

_METHOD = (
    "static, uint8 activations (mean of the photos' extremes), int8 weights a filter "
    "(errors cancelled, biases corrected)"
)


@dataclass(frozen=True)
class Quantized:
    """An int8 model that was made, and how good it is."""

    #: The file.
    path: str
    #: The file of the float32 model.
    float32: str
    #: Photos that set the ranges.
    calibration_photos: int
    #: Photos that could not be read, each with the reason.
    failed: dict[str, str]
    fidelity: Fidelity


def quantize(
    model: str | os.PathLike[str],
    images: str | os.PathLike[str],
    output: str | os.PathLike[str] | None = None,
    *,
    name: str | None = None,
    photos: int = store.DEFAULT_PHOTOS,
    threads: int | None = None,
    overwrite: bool = False,
) -> Quantized:
    """Make the int8 version of a model.

    Parameters
    ----------
    model : str or os.PathLike
        The float32 model: a name or a file.
    images : str or os.PathLike
        A folder of photos like those that the model will see. Some set the ranges of int8, spread
        over the whole folder; others tell how near int8 comes to float32.
    output : str or os.PathLike, optional
        The file to write. Without it, the model goes to :func:`pomona.models.home`, where it is
        found by its name.
    name : str, optional
        The model's name; by default the float32 model's and ``_int8``.
    photos : int, default 100
        Photos that set the ranges. Of a folder with fewer than twice as many, half are used.
    threads : int, optional
        Threads; by default one for each processor that this process may use. The model does not
        depend on it.
    overwrite : bool, default False
        Whether a file that is there may be replaced.

    Returns
    -------
    Quantized
        The file and its fidelity.

    Raises
    ------
    ModelError
        If there is no such model, it is in int8 already, or nothing in it can be.
    ValueError
        If the folder holds too few photos that can be read.
    FileExistsError
        If the output exists and is not to be replaced.
    """
    source = Path(store.resolve(model))
    facts = info(source)
    float32 = load_onnx(source)
    try:
        network = Network(float32)
    except ModelError as error:
        raise ModelError(f"{source} can't be quantized: {error}") from error
    name = name or facts["name"] + store.NAME_SUFFIX
    target = _target(output, name, source, overwrite)
    if photos < LEAST_PHOTOS:
        raise ValueError(f"calibration takes at least {LEAST_PHOTOS} photos, not {photos}")
    threads = threads or len(os.sched_getaffinity(0))
    chosen, others = _choose(images, photos)
    failed: dict[str, str] = {}
    with Progress("Calibrating", total=len(chosen)) as progress:
        statistics, count = calibrate(
            network,
            chosen,
            threads=threads,
            failed=failed,
            done=progress.update,
        )
    if count < LEAST_PHOTOS:
        raise ValueError(_too_few(images, count, failed))
    metadata = {
        **contract_metadata(name, facts["source"], facts["license"]),
        PRECISION: INT8,
        CALIBRATION: f"{count} photos; {_METHOD}",
        QUANTIZED_FROM: f"{facts['name']} sha256:{facts['sha256']}",
        PARAMETERS: str(facts["parameters"]),
    }
    known = {entry.key: entry.value for entry in float32.metadata_props}
    arithmetic = known.get(MULTIPLY_ADDS) or multiply_adds(float32)
    if arithmetic:
        metadata[MULTIPLY_ADDS] = str(arithmetic)
    write_model(network.quantized(statistics), target, metadata)
    return Quantized(
        path=str(target),
        float32=str(source),
        calibration_photos=count,
        failed=failed,
        fidelity=_fidelity(source, target, chosen, others, threads, failed),
    )


def _target(
    output: str | os.PathLike[str] | None, name: str, source: Path, overwrite: bool
) -> Path:
    if output is None:
        target = store.path_of(name)
        target.parent.mkdir(parents=True, exist_ok=True)
    else:
        target = Path(output).expanduser().absolute()
        if target.suffix.lower() != store.MODEL_SUFFIX:
            raise ModelError(
                f"the model's file {os.fspath(output)!r} has to end in {store.MODEL_SUFFIX}"
            )
    check_writable(target)
    if target.exists():
        if target.samefile(source):
            raise ModelError(f"{target} is the float32 model itself: give the int8 model another")
        if not overwrite:
            raise FileExistsError(errno.EEXIST, "exists already", str(target))
    return target


def _choose(images: str | os.PathLike[str], photos: int) -> tuple[list[str], list[str]]:
    """Choose the photos for calibration and those to compare, both from all over the folder."""
    found = list(find_images(images))
    if not found:
        raise ValueError(f"{os.fspath(images)} holds no photos to calibrate with")
    if len(found) < LEAST_PHOTOS:
        raise ValueError(_too_few(images, len(found), {}))
    half = max(len(found) // 2, LEAST_PHOTOS)
    chosen = _spread(found, min(photos, half))
    taken = set(chosen)
    return chosen, _spread([path for path in found if path not in taken], _COMPARED)


def _spread(items: Sequence[str], number: int) -> list[str]:
    """Take so many items, evenly from the first to the last."""
    number = min(number, len(items))
    return [items[place * len(items) // number] for place in range(number)]


def _too_few(images: str | os.PathLike[str], count: int, failed: Mapping[str, str]) -> str:
    message = (
        f"{os.fspath(images)} holds {count or 'no'} photo{'s'[: count != 1]} that can be read; "
        f"calibration takes at least {LEAST_PHOTOS}, better {ENOUGH_PHOTOS} or more"
    )
    if failed:
        path, reason = next(iter(failed.items()))
        message += f". {len(failed)} failed, the first of them {path}: {reason}"
    return message


def _fidelity(
    source: Path,
    target: Path,
    chosen: Sequence[str],
    others: Sequence[str],
    threads: int,
    failed: dict[str, str],
) -> Fidelity:
    """Compare both models, on photos that calibration has not seen if there are enough."""
    seen = len(others) < _COMPARED_AT_LEAST
    photos = sorted({*chosen, *others}) if seen else list(others)
    reference: list[NDArray[np.float32]] = []
    features: list[NDArray[np.float32]] = []
    labels: list[str] = []
    models = [Featurizer(path, threads=threads) for path in (source, target)]
    step = CHUNK * threads
    with Progress("Comparing", total=len(photos)) as progress:
        for start in range(0, len(photos), step):
            names = photos[start : start + step]
            contents, rows = featurize_files(models[0], names, failed)
            good = [content for content in contents if content is not None]
            reference.append(rows)
            features.append(models[1].featurize(good))
            labels += [
                label_of(name) for name, content in zip(names, contents) if content is not None
            ]
            progress.update(len(names))
    if not labels:  # none of the others can be read
        return _fidelity(source, target, chosen, (), threads, failed)
    return compare(
        np.concatenate(reference), np.concatenate(features), labels, seen_in_calibration=seen
    )
