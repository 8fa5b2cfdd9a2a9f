"""Whole jobs on Spark: Pomona beside the reference notebook's, and beside a plain loop."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from harness import (
    INT8_MODEL,
    MODEL,
    REFERENCE_PYTHON,
    ROOT,
    WEIGHTS,
    WORK,
    busy,
    command,
    plural,
    run,
    verdict,
)

PYTHON = ROOT / ".venv/py37/bin/python"
CORES = 2
GROWTH = (1, 4, 16)
STARTS = "5"
"""Fresh workers whose first row is waited for."""


@dataclass(frozen=True)
class Contender:
    """One way to features on disk, or in memory."""

    title: str
    python: Path
    script: str
    model: Path
    way: tuple[str, ...] = ()


POMONA, INT8, KERAS, LOOP = "pomona", "int8", "keras", "loop"
CONTENDERS = {
    POMONA: Contender(
        "Pomona's `featurize_udf`", PYTHON, "spark_featurize.py", MODEL, ("content",)
    ),
    INT8: Contender(
        "Pomona's `featurize_paths_udf`, int8",
        PYTHON,
        "spark_featurize.py",
        INT8_MODEL,
        ("paths",),
    ),
    KERAS: Contender(
        "the reference notebook's Keras `pandas_udf`, TensorFlow 2.11",
        REFERENCE_PYTHON,
        "spark_keras.py",
        WEIGHTS,
    ),
    LOOP: Contender(
        "`pomona.Featurizer(threads=2)` in a plain loop, no Spark", PYTHON, "loop.py", MODEL
    ),
}
RATIOS = [(POMONA, KERAS, 2.8), (INT8, KERAS, 7.0), (POMONA, LOOP, 0.8)]
"""What the first has to reach, as a multiple of the second's images a second."""
FIRST_ROW_SECONDS = 0.5

WORKER_MB = 300
LINEAR = 0.9
"""Cost is linear if no size is slower than this share of the images a second of any other."""


Round = dict[str, dict[str, float]]
"""What each contender did."""


def measure(photos: Path, rounds: int, job_photos: int, growth_photos: int) -> list[str]:
    """Measure everything and return it as lines of Markdown."""
    with tempfile.TemporaryDirectory(dir=WORK) as folder:
        job = copies(photos, job_photos, Path(folder, "job"))
        results, breakdowns = [], []
        for _ in range(rounds):
            results.append(measure_round(job))
            breakdowns.append(run(command(PYTHON, "spark_breakdown.py", MODEL, job), CORES))
        sizes = [
            copies(photos, growth_photos * factor, Path(folder, f"{factor}x")) for factor in GROWTH
        ]
        tiny = copies(photos, CORES, Path(folder, "tiny"))
        growth = run(command(PYTHON, "spark_growth.py", MODEL, tiny, *sizes), CORES)
        starts = run(command(PYTHON, "spark_first_row.py", MODEL, tiny, STARTS), CORES)["rounds"]

    count = round(median(r[LOOP]["images_per_second"] * r[LOOP]["seconds"] for r in results))
    share = median(
        r[LOOP]["images_per_second"] / r[LOOP]["images_per_cpu_second"] / CORES for r in results
    )
    return [
        *ratio_table(results, growth, starts),
        "",
        *contender_table(results),
        "",
        *loss_table(results, breakdowns),
        "",
        *growth_table(growth),
        "",
        *start_table(starts),
        "",
        f"{count:,} photos (copies of a few hundred) to Parquet in a fresh application on {CORES} "
        "cores, its start excluded; medians of "
        f"{plural(rounds, 'interleaved round')}. The loop writes nothing. Growth: `write_features` "
        "in one application that has done a job before; net is without what a job costs by itself, "
        f"the {fixed_cost(growth, 'seconds'):.2f} s that one of {CORES} photos takes.",
        *busy(share),
    ]


def copies(photos: Path, count: int, target: Path) -> Path:
    """Copy `count` photos, those of `photos` over and over, into folders named as theirs are."""
    originals = sorted(photos.rglob("*.jpg"))
    for index in range(count):
        again, which = divmod(index, len(originals))
        original = originals[which]
        folder = target / original.parent.name
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(original, folder / f"{again:03}_{original.name}")
    return target


def measure_round(photos: Path) -> Round:
    results = {}
    for key, contender in CONTENDERS.items():
        arguments = (contender.model, photos, *contender.way)
        result = results[key] = run(command(contender.python, contender.script, *arguments), CORES)
        print(
            f"{contender.title:62}{result['images_per_second']:7.1f} images/s"
            f"{result['peak_mb']:7.0f} MB",
            flush=True,
        )
    return results


def ratio_table(
    rounds: list[Round], growth: dict[str, Any], starts: list[dict[str, Any]]
) -> list[str]:
    lines = [
        "| Pomona on Spark compared with | must | measured | by processor time | |",
        "| --- | --- | --- | --- | --- |",
    ]
    for ours, theirs, must in RATIOS:
        by_clock, by_cpu = (
            median(r[ours][unit] / r[theirs][unit] for r in rounds)
            for unit in ("images_per_second", "images_per_cpu_second")
        )
        holds = verdict(by_clock >= must)
        title = CONTENDERS[theirs].title
        if ours != POMONA:
            title = f"{CONTENDERS[ours].title}, beside {title}"
        lines.append(f"| {title} | >= {must}x | {by_clock:.2f}x | {by_cpu:.2f}x | {holds} |")
    peak = max(growth["peak_mb"], *(r[POMONA]["peak_mb"] for r in rounds))
    holds = verdict(peak <= WORKER_MB)
    lines.append(
        f"| peak memory of a Python worker | <= {WORKER_MB} MB | {peak:.0f} MB | | {holds} |"
    )
    slowest = max(start["first_row"] for start in starts)
    holds = verdict(slowest <= FIRST_ROW_SECONDS)
    lines.append(
        "| first batch of a fresh Python worker to its first row, slowest of "
        f"{len(starts)} | <= {FIRST_ROW_SECONDS} s | {slowest:.2f} s | | {holds} |"
    )
    factors = ", ".join(f"{factor}x" for factor in GROWTH)
    for rates, note in (gross_rates, ""), (net_rates, ", net"):
        by_clock, by_cpu = (
            min(rates(growth, unit)) / max(rates(growth, unit))
            for unit in ("seconds", "cpu_seconds")
        )
        what, holds = (
            f"slowest of {factors} photos to the fastest{note}",
            verdict(by_clock >= LINEAR),
        )
        lines.append(f"| {what} | >= {LINEAR}x | {by_clock:.2f}x | {by_cpu:.2f}x | {holds} |")
    return lines


def gross_rates(growth: dict[str, Any], unit: str) -> list[float]:
    """Return each job's images a second."""
    return [job["photos"] / job[unit] for job in growth["jobs"]]


def net_rates(growth: dict[str, Any], unit: str) -> list[float]:
    """Return each job's images a second without what a job costs by itself."""
    fixed = fixed_cost(growth, unit)
    return [job["photos"] / (job[unit] - fixed) for job in growth["jobs"]]


def fixed_cost(growth: dict[str, Any], unit: str) -> float:
    return median(job[unit] for job in growth["tiny_jobs"])


def contender_table(rounds: list[Round]) -> list[str]:
    lines = ["| | images/s | peak memory of a Python process |", "| --- | --- | --- |"]
    for key, contender in CONTENDERS.items():
        rate = median(r[key]["images_per_second"] for r in rounds)
        peak = max(r[key]["peak_mb"] for r in rounds)
        lines.append(f"| {contender.title} | {rate:.0f} | {peak:.0f} MB |")
    return lines


def loss_table(rounds: list[Round], breakdowns: list[dict[str, float]]) -> list[str]:
    """Tell what fills the time between the loop's and the job's."""
    loop, job = (median(r[key]["seconds"] for r in rounds) for key in (LOOP, POMONA))
    parts = {part: median(b[part] for b in breakdowns) for part in breakdowns[0]}
    rest = job - loop - sum(parts.values())
    rows = {
        "the plain loop": loop,
        **parts,
        "the rest: Java beside the model, one core idle at the end, chance": rest,
    }
    return [
        "| Where the job's time goes | seconds | share |",
        "| --- | --- | --- |",
        *(f"| {what} | {seconds:.2f} | {seconds / job:.1%} |" for what, seconds in rows.items()),
        f"| the whole job on Spark | {job:.2f} | 100% |",
    ]


def growth_table(growth: dict[str, Any]) -> list[str]:
    lines = ["| photos | seconds | images/s | net |", "| --- | --- | --- | --- |"]
    for job, net in zip(growth["jobs"], net_rates(growth, "seconds")):
        count, seconds = job["photos"], job["seconds"]
        lines.append(f"| {count:,} | {seconds:.1f} | {count / seconds:.0f} | {net:.0f} |")
    return lines


def start_table(starts: list[dict[str, Any]]) -> list[str]:
    lines = ["| What a fresh Python worker does first | seconds |", "| --- | --- |"]
    for part in starts[0]["parts"]:
        seconds = median(start["parts"][part] for start in starts)
        lines.append(f"| {part} | {seconds:.3f} |")
    return lines
