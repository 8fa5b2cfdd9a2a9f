"""One process on one machine: Pomona beside what it is to replace, on one core and on two."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from harness import (
    MODEL,
    REFERENCE_PYTHON,
    ROOT,
    WEIGHTS,
    busy,
    command,
    plural,
    run,
    verdict,
)

(RUNTIME,) = (ROOT / "python/pomona/lib").glob("libonnxruntime.so.*")
SESSION = ["cargo", "bench", "--quiet", "--locked", "--bench", "session"]


@dataclass(frozen=True)
class Contender:
    """One way to features, and the core counts that it is measured on."""

    title: str
    command: list[str]
    cores: tuple[int, ...] = (1, 2)


@dataclass(frozen=True)
class Ratio:
    """What Pomona has to reach, as a multiple of a contender's images a second."""

    contender: str
    cores: int
    must: float


POMONA, KERAS, NEW_KERAS, PILLOW, SESSION_ALONE = "pomona", "keras", "keras3", "pillow", "session"

RATIOS = [
    Ratio(KERAS, 1, 2.7),
    Ratio(KERAS, 2, 3.5),
    Ratio(NEW_KERAS, 1, 2.5),
    Ratio(NEW_KERAS, 2, 3.5),
    Ratio(PILLOW, 1, 1.0),
    Ratio(PILLOW, 2, 1.2),
    Ratio(SESSION_ALONE, 1, 0.93),
]
PEAK_MB = 250
GROWTH_MB = 10
"""Memory is steady if the second half of a soak stays within this of the first half's peak."""


def contenders(photos: Path) -> dict[str, Contender]:
    """Return all contenders, each with its command but for the seconds."""

    return {
        POMONA: Contender("Pomona", command(sys.executable, "featurizer.py", MODEL, photos)),
        SESSION_ALONE: Contender(
            "Pomona's ONNX session alone, no decoding",
            [*SESSION, "--", str(MODEL), str(RUNTIME)],
            cores=(1,),
        ),
        PILLOW: Contender(
            "Pillow + numpy + the same ONNX Runtime",
            command(sys.executable, "pillow_onnxruntime.py", MODEL, photos),
        ),
        KERAS: Contender(
            "Keras reference, TensorFlow 2.11",
            command(REFERENCE_PYTHON, "keras_reference.py", WEIGHTS, photos),
        ),
        NEW_KERAS: Contender(
            "Keras reference, TensorFlow 2.21",
            command(sys.executable, "keras_reference.py", WEIGHTS, photos),
        ),
    }


def measure(photos: Path, rounds: int, seconds: float, soak_photos: int) -> list[str]:
    """Measure everything and return it as lines of Markdown."""
    subprocess.run([*SESSION, "--no-run"], cwd=ROOT, check=True)
    results = [measure_round(contenders(photos), seconds) for _ in range(rounds)]
    soak = run(command(sys.executable, "soak.py", MODEL, photos, str(soak_photos)))
    share = median(
        r[POMONA, cores]["images_per_second"] / r[POMONA, cores]["images_per_cpu_second"] / cores
        for r in results
        for cores in (1, 2)
    )
    return [
        *ratio_table(results, soak),
        "",
        *contender_table(contenders(photos), results),
        "",
        f"Medians of {plural(rounds, 'interleaved round')} of {seconds:g} s a process.",
        *busy(share),
    ]


Round = dict[tuple[str, int], dict[str, float]]
"""What each contender did on each number of cores."""


def measure_round(contenders: dict[str, Contender], seconds: float) -> Round:
    results: Round = {}
    for cores in (1, 2):
        for key, contender in contenders.items():
            if cores not in contender.cores:
                continue
            result = results[key, cores] = run([*contender.command, str(seconds)], cores)
            print(
                f"{cores} core{'s'[: cores - 1]}  {contender.title:42}"
                f"{result['images_per_second']:7.1f} images/s  {result['peak_mb']:5.0f} MB",
                flush=True,
            )
    return results


def ratio_table(rounds: list[Round], soak: dict[str, Any]) -> list[str]:
    titles = {key: contender.title for key, contender in contenders(Path()).items()}
    lines = [
        "| Pomona compared with | must | measured | by processor time | |",
        "| --- | --- | --- | --- | --- |",
    ]
    for ratio in RATIOS:
        what = f"{titles[ratio.contender]}, {plural(ratio.cores, 'core')}"
        by_clock = median_ratio(rounds, ratio, "images_per_second")
        by_cpu = median_ratio(rounds, ratio, "images_per_cpu_second")
        holds = verdict(by_clock >= ratio.must)
        lines.append(f"| {what} | >= {ratio.must}x | {by_clock:.2f}x | {by_cpu:.2f}x | {holds} |")
    peak = max(soak["peak_mb"], *(r[POMONA, 2]["peak_mb"] for r in rounds))
    holds = verdict(peak <= PEAK_MB)
    lines.append(f"| peak memory, 2 threads | <= {PEAK_MB} MB | {peak:.0f} MB | | {holds} |")
    resident = soak["resident_mb"]
    middle = len(resident) // 2
    growth = max(resident[middle:]) - max(resident[:middle])
    what = f"growth over the second half of {soak['count']:,} photos"
    holds = verdict(growth <= GROWTH_MB)
    lines.append(f"| {what} | <= {GROWTH_MB} MB | {growth:+.1f} MB | | {holds} |")
    return lines


def median_ratio(rounds: list[Round], ratio: Ratio, unit: str) -> float:
    ours, theirs = (POMONA, ratio.cores), (ratio.contender, ratio.cores)
    return median(results[ours][unit] / results[theirs][unit] for results in rounds)


def contender_table(contenders: dict[str, Contender], rounds: list[Round]) -> list[str]:
    lines = [
        "| | images/s, 1 core | images/s, 2 cores | peak memory, 2 cores |",
        "| --- | --- | --- | --- |",
    ]
    for key, contender in contenders.items():
        cells = ["", "", ""]
        for cores in contender.cores:
            cells[cores - 1] = f"{median(r[key, cores]['images_per_second'] for r in rounds):.0f}"
            cells[2] = f"{max(r[key, cores]['peak_mb'] for r in rounds):.0f} MB"
        lines.append(f"| {contender.title} | {' | '.join(cells)} |")
    return lines
