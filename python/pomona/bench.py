"""Throughput of models on this machine, compared with its peak arithmetic rate.

The peak is measured with float32 multiply-adds on registers, on the same number of threads. Other
load on the machine lowers rates by wall time but hardly affects rates by CPU time, so results have
both.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Callable, Sequence

from pomona._images import find_images
from pomona.models.store import BUILT_IN_NAMES, names
from pomona.processor import int8_instructions, processor

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from pomona import Featurizer
    from pomona._decode import DecodeKeywords
    from pomona._typing import PathLike

DEFAULT_SECONDS = 2.0

#: Rendered by `tests/support/photos.py`: JPEGs of 100 x 100 pixels, like those of Fruits-360.
BUILT_IN_PHOTOS = Path(__file__).with_name("data") / "photos"

#: Models alternate over this many rounds, so that a disturbance affects all of them.
_ROUNDS = 5
#: Long enough to time, and a small part of the whole bench.
_PEAK_SECONDS = 0.05
#: Photos to use, spread evenly over a folder. At 10 MB each they still fit into memory.
_MAX_PHOTOS = 64


@dataclass(frozen=True)
class Peak:
    """The processor's peak arithmetic rate on a number of threads."""

    threads: int
    #: Float32 multiply-adds per second, by CPU time.
    multiply_adds_per_second: float


@dataclass(frozen=True)
class Result:
    """Throughput of a model on a number of threads, from encoded photos to features."""

    model: str
    path: str
    threads: int
    #: By wall time: the median of the rounds, the slowest and the fastest.
    images_per_second: float
    lowest: float
    highest: float
    #: The median by CPU time: the rate on a machine without other load.
    images_per_second_undisturbed: float
    #: Speed relative to the first model on the same number of threads, by CPU time.
    times_first_model: float
    #: Multiply-adds per image; None if the file does not record them and onnx is not installed.
    multiply_adds: int | None
    #: Share of the float32 peak, by CPU time. It can exceed 1 for an int8 model.
    share_of_peak: float | None


@dataclass(frozen=True)
class Bench:
    """The results of a bench and the conditions it ran under."""

    processor: str
    #: CPUs that this process may use.
    processors: int
    #: The instruction set of the peak: AVX-512, AVX2 or SSE2.
    vectors: str
    #: AVX-512 VNNI or AVX-VNNI; None if the processor has neither.
    int8_instructions: str | None
    #: The folder of the photos, and how many of them were used.
    photos: str
    photo_count: int
    #: The photos that could not be decoded and were left out, and why.
    failed: dict[str, str]
    #: The fields of `pomona.DecodeOptions` with which they were decoded.
    decode: DecodeKeywords
    rounds: int
    #: Time for each model and number of threads.
    seconds: float
    #: The smallest share of CPU time that threads got: less than 1 on a busy machine.
    processor_share: float
    peaks: list[Peak]
    results: list[Result]


def measure(
    models: PathLike | Sequence[PathLike] | None = None,
    *,
    threads: int | Sequence[int] | None = None,
    seconds: float = DEFAULT_SECONDS,
    images: PathLike | None = None,
    **decode_options: Unpack[DecodeKeywords],
) -> Bench:
    """Measure models on this machine.

    Parameters
    ----------
    models : str, path or sequence of them, optional
        Names or files. By default the built-in model that has been pulled, and its int8 version.
    threads : int or sequence of int, optional
        Numbers of threads; by default 1, 2, 4 and so on, up to the number of CPUs that this process
        may use.
    seconds : float, default 2
        Time for each model and number of threads.
    images : path, optional
        A folder of photos; by default the photos in the package.
    **decode_options
        How photos are decoded: the fields of `pomona.DecodeOptions`.

    Returns
    -------
    Bench
        One result for each number of threads and model.

    Raises
    ------
    ModelError
        If a model does not exist or breaks the model contract.
    ValueError
        If the folder has no photos, or none of them can be decoded.
    TypeError, ValueError
        If a decode option does not exist or has an invalid value.
    """
    from pomona import _native
    from pomona._decode import gather_options

    decode = gather_options("measure", decode_options).keywords()
    folder = os.fspath(images if images is not None else BUILT_IN_PHOTOS)
    if isinstance(models, (str, os.PathLike)):
        models = [models]
    if isinstance(threads, int):
        threads = [threads]
    models = models or default_models()
    photos, failed = _decodable(_read(folder), _native.Featurizer(models[0], **decode))
    if not photos:
        path, reason = next(iter(failed.items()))
        raise ValueError(f"{folder}: no photo could be decoded; the first is {path}: {reason}")
    processors = len(os.sched_getaffinity(0))
    peaks, results, shares = [], [], []
    for number in threads or _doubling(processors):
        runs = [
            _Run(_native.Featurizer(model, threads=number, **decode), photos, seconds / _ROUNDS)
            for model in models
        ]
        arithmetic = _Rates()
        for _ in range(_ROUNDS):
            arithmetic.time(partial(_native.multiply_adds, number, _PEAK_SECONDS))
            for run in runs:
                run.round()
        cores = min(number, processors)
        # The maximum, because disturbances only ever slow the processor down.
        peak = Peak(number, cores * max(arithmetic.by_cpu))
        peaks.append(peak)
        results += [run.result(peak, cores, first=runs[0]) for run in runs]
        shares += [rates.cpus_used / cores for rates in (arithmetic, *(run.rates for run in runs))]
    return Bench(
        processor=processor(),
        processors=processors,
        vectors=_native.vectors(),
        int8_instructions=int8_instructions(),
        photos=folder,
        photo_count=len(photos),
        failed=failed,
        decode=decode,
        rounds=_ROUNDS,
        seconds=seconds,
        processor_share=min(1.0, *shares),
        peaks=peaks,
        results=results,
    )


def default_models() -> list[str]:
    """Return the built-in model that has been pulled, and its int8 version if it exists."""
    present = names()
    first = next((name for name in BUILT_IN_NAMES if name in present), BUILT_IN_NAMES[0])
    return [first, *(name for name in present if name != first and name.startswith(first))]


class _Rates:
    """Units of work per second in each round, by wall time and by CPU time."""

    def __init__(self) -> None:
        self.by_wall: list[float] = []
        self.by_cpu: list[float] = []
        self._wall = self._cpu = 0.0

    def time(self, work: Callable[[], int]) -> None:
        """Time a round; `work` returns how many units it did."""
        wall, cpu = time.perf_counter(), time.process_time()
        units = work()
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        self.by_wall.append(units / wall)
        self.by_cpu.append(units / cpu)
        self._wall += wall
        self._cpu += cpu

    @property
    def cpus_used(self) -> float:
        """CPU time divided by wall time, over all rounds."""
        return self._cpu / self._wall


class _Run:
    """One model on a number of threads."""

    def __init__(self, featurizer: Featurizer, photos: dict[str, bytes], seconds: float) -> None:
        self.rates = _Rates()
        self._featurizer = featurizer
        # The first call creates a session for each thread, so every thread needs photos.
        batch = list(islice(cycle(photos.values()), max(len(photos), 4 * featurizer.threads)))
        featurizer.try_featurize(batch)
        start = time.perf_counter()
        featurizer.try_featurize(batch)
        passes = seconds / (time.perf_counter() - start)
        self._batch = list(islice(cycle(batch), max(len(batch), round(passes * len(batch)))))

    def round(self) -> None:
        self.rates.time(lambda: len(self._featurizer.try_featurize(self._batch).features))

    def result(self, peak: Peak, cores: int, first: _Run) -> Result:
        featurizer, rates = self._featurizer, self.rates
        undisturbed = median(rates.by_cpu) * cores
        count = _multiply_adds(featurizer)
        return Result(
            model=featurizer.model_name,
            path=featurizer.model_path,
            threads=featurizer.threads,
            images_per_second=median(rates.by_wall),
            lowest=min(rates.by_wall),
            highest=max(rates.by_wall),
            images_per_second_undisturbed=undisturbed,
            times_first_model=median(rates.by_cpu) / median(first.rates.by_cpu),
            multiply_adds=count,
            share_of_peak=count and undisturbed * count / peak.multiply_adds_per_second,
        )


def _doubling(processors: int) -> list[int]:
    numbers = [1 << power for power in range(processors.bit_length())]
    return sorted({*numbers, processors})


def _read(folder: str) -> dict[str, bytes]:
    paths = list(find_images(folder))
    if not paths:
        raise ValueError(f"{folder} has no photos")
    step = -(-len(paths) // _MAX_PHOTOS)
    return {path: Path(path).read_bytes() for path in paths[::step]}


def _decodable(
    photos: dict[str, bytes], featurizer: Featurizer
) -> tuple[dict[str, bytes], dict[str, str]]:
    """Return the photos that have features, and why the others have none."""
    errors = featurizer.try_featurize(photos.values()).errors
    failed = {path: error.reason for path, error in zip(photos, errors) if error is not None}
    return {path: photo for path, photo in photos.items() if path not in failed}, failed


def _multiply_adds(featurizer: Featurizer) -> int | None:
    from pomona.models.multiply_adds import MULTIPLY_ADDS, multiply_adds

    recorded = featurizer.metadata.get(MULTIPLY_ADDS, "")
    if recorded.isdecimal():
        return int(recorded)
    try:  # converted by an older version, or by another tool
        from pomona.models.inspection import load_onnx
    except ImportError:
        return None
    return multiply_adds(load_onnx(featurizer.model_path))
