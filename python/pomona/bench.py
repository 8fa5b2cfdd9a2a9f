"""How fast this machine turns photos into features, and how near that is to what it can do.

The limit is measured too: float32 multiply-adds from registers, on as many threads. What neighbours
on the same machine take away shows in the clock but hardly in processor time, so both are told.
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

from pomona import _native
from pomona._errors import ImageError
from pomona._images import find_images
from pomona.models.multiply_adds import MULTIPLY_ADDS, multiply_adds
from pomona.models.store import BUILT_IN_NAMES, names
from pomona.processor import int8_instructions, processor

if TYPE_CHECKING:
    from typing import Union

    PathLike = Union[str, "os.PathLike[str]"]

DEFAULT_SECONDS = 2.0

#: Fruit rendered by `tests/support/photos.py`, JPEGs of 100 x 100 pixels like those of Fruits-360.
BUILT_IN_PHOTOS = Path(__file__).with_name("data") / "photos"

#: Models take turns this often, so that what disturbs one disturbs all.
_ROUNDS = 5
#: Long enough for the clock, short enough to be a small part of the bench.
_PEAK_SECONDS = 0.05
#: Photos of a folder that are used, from all over it: 10 MB each would fit into memory.
_MAX_PHOTOS = 64


@dataclass(frozen=True)
class Peak:
    """What the processor can do, on so many threads."""

    threads: int
    #: Float32 multiply-adds a second, by processor time.
    multiply_adds_per_second: float


@dataclass(frozen=True)
class Result:
    """How fast a model was on so many threads, from the bytes of photos to their features."""

    model: str
    path: str
    threads: int
    #: By the clock: the median of the rounds, the slowest and the fastest.
    images_per_second: float
    lowest: float
    highest: float
    #: The median by processor time: what the clock would say if nothing else ran.
    images_per_second_undisturbed: float
    #: Times as fast as the first model on as many threads, by processor time.
    times_first_model: float
    #: What the model computes for an image; None if its file does not say and onnx is not there.
    multiply_adds: int | None
    #: Of the float32 peak, by processor time; an int8 model may pass 1.
    share_of_peak: float | None


@dataclass(frozen=True)
class Bench:
    """All that was measured."""

    processor: str
    #: Processors that this process may use.
    processors: int
    #: The vectors of the peak: AVX-512, AVX2 or SSE2.
    vectors: str
    #: AVX-512 VNNI or AVX-VNNI; None where int8 has no instructions of its own, and hardly pays.
    int8_instructions: str | None
    #: The folder of the photos, and how many were used.
    photos: str
    photo_count: int
    rounds: int
    #: For each model and number of threads.
    seconds: float
    #: The smallest share of their processors that the threads had: less than 1 on a busy machine.
    processor_share: float
    peaks: list[Peak]
    results: list[Result]


def measure(
    models: Sequence[PathLike] | None = None,
    *,
    threads: Sequence[int] | None = None,
    seconds: float = DEFAULT_SECONDS,
    images: PathLike | None = None,
) -> Bench:
    """Measure models on this machine.

    Parameters
    ----------
    models : sequence of str or path, optional
        Names or files. By default the built-in model that is there, and those whose names start
        with its name: its int8 version.
    threads : sequence of int, optional
        Numbers of threads; by default 1, 2, 4 and so on to the processors that this process may
        use.
    seconds : float, default 2
        For each model and number of threads.
    images : path, optional
        A folder of photos; by default those that the package carries.

    Returns
    -------
    Bench
        A result for each number of threads and model.

    Raises
    ------
    ModelError
        If a model is not there or breaks the model contract.
    ValueError
        If the folder holds no photos, or one that can't be read.
    """
    folder = os.fspath(images if images is not None else BUILT_IN_PHOTOS)
    photos = _read(folder)
    processors = len(os.sched_getaffinity(0))
    peaks, results, shares = [], [], []
    for number in threads or _doubling(processors):
        runs = [
            _Run(_native.Featurizer(model, threads=number), photos, seconds / _ROUNDS)
            for model in models or default_models()
        ]
        work = _Clock()
        for _ in range(_ROUNDS):
            work.time(partial(_native.multiply_adds, number, _PEAK_SECONDS))
            for run in runs:
                run.round()
        at_work = min(number, processors)
        # The highest: nothing makes a processor faster than it is.
        peak = Peak(number, at_work * max(work.by_processor))
        peaks.append(peak)
        results += [run.result(peak, at_work, first=runs[0]) for run in runs]
        clocks = [work, *(run.clock for run in runs)]
        shares += [clock.processors / at_work for clock in clocks]
    return Bench(
        processor=processor(),
        processors=processors,
        vectors=_native.vectors(),
        int8_instructions=int8_instructions(),
        photos=folder,
        photo_count=len(photos),
        rounds=_ROUNDS,
        seconds=seconds,
        processor_share=min(1.0, *shares),
        peaks=peaks,
        results=results,
    )


def default_models() -> list[str]:
    """Name the built-in model that is there, and its int8 version if that is there too."""
    present = names()
    first = next((name for name in BUILT_IN_NAMES if name in present), BUILT_IN_NAMES[0])
    return [first, *(name for name in present if name != first and name.startswith(first))]


class _Clock:
    """Rates of rounds: things a second, by the clock and by the time on processors."""

    def __init__(self) -> None:
        self.by_clock: list[float] = []
        self.by_processor: list[float] = []
        self._clock = self._processor = 0.0

    def time(self, work: Callable[[], int]) -> None:
        """Time work that returns the number of things it did."""
        clock, processor = time.perf_counter(), time.process_time()
        done = work()
        clock, processor = time.perf_counter() - clock, time.process_time() - processor
        self.by_clock.append(done / clock)
        self.by_processor.append(done / processor)
        self._clock += clock
        self._processor += processor

    @property
    def processors(self) -> float:
        """Processors that were at work, on average."""
        return self._processor / self._clock


class _Run:
    """One model on so many threads."""

    def __init__(
        self, featurizer: _native.Featurizer, photos: dict[str, bytes], seconds: float
    ) -> None:
        self.clock = _Clock()
        self._featurizer = featurizer
        # The first call starts the sessions; a photo for each thread, so that all of them start.
        batch = list(islice(cycle(photos.values()), max(len(photos), 4 * featurizer.threads)))
        try:
            featurizer.featurize(batch)
        except ImageError as error:
            raise ValueError(f"{list(photos)[error.index]}: {error.reason}") from error
        start = time.perf_counter()
        featurizer.featurize(batch)
        passes = seconds / (time.perf_counter() - start)
        self._batch = list(islice(cycle(batch), max(len(batch), round(passes * len(batch)))))

    def round(self) -> None:
        self.clock.time(lambda: len(self._featurizer.featurize(self._batch)))

    def result(self, peak: Peak, processors: int, first: _Run) -> Result:
        featurizer, clock = self._featurizer, self.clock
        undisturbed = median(clock.by_processor) * processors
        count = _multiply_adds(featurizer)
        return Result(
            model=featurizer.model_name,
            path=featurizer.model_path,
            threads=featurizer.threads,
            images_per_second=median(clock.by_clock),
            lowest=min(clock.by_clock),
            highest=max(clock.by_clock),
            images_per_second_undisturbed=undisturbed,
            times_first_model=median(clock.by_processor) / median(first.clock.by_processor),
            multiply_adds=count,
            share_of_peak=count and undisturbed * count / peak.multiply_adds_per_second,
        )


def _doubling(processors: int) -> list[int]:
    numbers = [1 << power for power in range(processors.bit_length())]
    return sorted({*numbers, processors})


def _read(folder: str) -> dict[str, bytes]:
    found = list(find_images(folder))
    if not found:
        raise ValueError(f"{folder} holds no photos")
    step = -(-len(found) // _MAX_PHOTOS)
    return {path: Path(path).read_bytes() for path in found[::step]}


def _multiply_adds(featurizer: _native.Featurizer) -> int | None:
    noted = featurizer.metadata.get(MULTIPLY_ADDS, "")
    if noted.isdecimal():
        return int(noted)
    try:  # a file of an older version, or of somebody else's making
        from pomona.models.inspection import load_onnx
    except ImportError:
        return None
    return multiply_adds(load_onnx(featurizer.model_path))
