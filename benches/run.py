"""Measure Pomona beside what it is to replace, and write the table into the README.

Usage: python benches/run.py [--readme README.md] [--photos FOLDER] [--rounds N] [--seconds S]
                             [--soak PHOTOS] [--quick]

Every contender is a small file beside this one. Each runs in a process of its own, pinned to one
core and to two, and all of them take turns, round by round, so that a slow spell of the machine
hits neighbours alike. A ratio is taken within a round; the table has the median of the rounds.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
BENCHES = ROOT / "benches"
WORK = ROOT / "target" / "bench"
START, END = "<!-- bench:start -->", "<!-- bench:end -->"

REFERENCE_PYTHON = ROOT / ".venv/py37-keras/bin/python"
WEIGHTS = WORK / "mobilenet_v2.h5"
MODEL = WORK / "mobilenet_v2.onnx"
(RUNTIME,) = (ROOT / "python/pomona/lib").glob("libonnxruntime.so.*")
SESSION = ["cargo", "bench", "--quiet", "--locked", "--bench", "session"]

BUSY = 0.9
"""A contender that computes all the time and gets less than this share of its cores has company."""


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
    Ratio(KERAS, 1, 2.5),
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

    def python(interpreter: Path | str, script: str, model: Path) -> list[str]:
        return [str(interpreter), str(BENCHES / script), str(model), str(photos)]

    return {
        POMONA: Contender("Pomona", python(sys.executable, "featurizer.py", MODEL)),
        SESSION_ALONE: Contender(
            "Pomona's ONNX session alone, no decoding",
            [*SESSION, "--", str(MODEL), str(RUNTIME)],
            cores=(1,),
        ),
        PILLOW: Contender(
            "Pillow + numpy + the same ONNX Runtime",
            python(sys.executable, "pillow_onnxruntime.py", MODEL),
        ),
        KERAS: Contender(
            "Keras reference, TensorFlow 2.11",
            python(REFERENCE_PYTHON, "keras_reference.py", WEIGHTS),
        ),
        NEW_KERAS: Contender(
            "Keras reference, TensorFlow 2.21",
            python(sys.executable, "keras_reference.py", WEIGHTS),
        ),
    }


def main() -> None:
    args = arguments()
    if args.readme and not between_markers().search(args.readme.read_text()):
        sys.exit(f"{args.readme} has no place for the table: {START} and {END}")
    WORK.mkdir(parents=True, exist_ok=True)
    photos = args.photos or rendered_photos()
    prepare_model(photos)
    subprocess.run([*SESSION, "--no-run"], cwd=ROOT, check=True)

    rounds = [measure_round(contenders(photos), args.seconds) for _ in range(args.rounds)]
    soak = run([sys.executable, str(BENCHES / "soak.py"), str(MODEL), str(photos), str(args.soak)])

    report = "\n".join(
        [
            *ratio_table(rounds, soak),
            "",
            *contender_table(contenders(photos), rounds),
            "",
            *circumstances(args, photos, rounds),
        ]
    )
    print(report)
    if args.readme:
        text = between_markers().sub(
            lambda _: f"{START}\n{report}\n{END}", args.readme.read_text(), count=1
        )
        finished = args.readme.with_name(f".{args.readme.name}.tmp")
        finished.write_text(text)
        finished.replace(args.readme)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--readme", type=Path, help="write the table into this file")
    parser.add_argument(
        "--photos",
        type=Path,
        default=real_photos(),
        help="folder of JPEGs (default: those in $POMONA_PHOTOS, or rendered ones)",
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=6.0, help="of each contender in a round")
    parser.add_argument("--soak", type=int, default=50_000, help="photos of the memory test")
    parser.add_argument("--quick", action="store_true", help="one short round, a short soak")
    args = parser.parse_args()
    if args.quick:
        args.rounds, args.seconds, args.soak = 1, 2.0, 3_200
    return args


def real_photos() -> Path | None:
    """Return the photos of the size that the real job reads, where they are at hand."""
    folder = os.environ.get("POMONA_PHOTOS")
    if not folder:
        return None
    small = Path(folder) / "fruits-360-100x100"
    return small if small.is_dir() else Path(folder)


def rendered_photos() -> Path:
    folder = WORK / "photos"
    if not folder.is_dir():
        unfinished = folder.with_suffix(".tmp")
        maker = [sys.executable, str(ROOT / "tests/photos.py"), str(unfinished)]
        subprocess.run([*maker, "--per-class", "100"], check=True)
        unfinished.rename(folder)
    return folder


def prepare_model(photos: Path) -> None:
    """Make the weights and, with the converter as it is now, the model."""
    import pomona.models

    if not WEIGHTS.exists():
        maker = [str(REFERENCE_PYTHON), str(BENCHES / "make_weights.py"), str(photos)]
        unfinished = WEIGHTS.with_name("unfinished.h5")
        subprocess.run([*maker, str(unfinished)], check=True)
        unfinished.rename(WEIGHTS)
    pomona.models.convert(WEIGHTS, MODEL)


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


def run(command: list[str], cores: int | None = None) -> dict[str, Any]:
    """Run a program on the last `cores` cores and return the JSON of its last line."""
    everywhere = os.sched_getaffinity(0)
    chosen = sorted(everywhere)[-cores:] if cores else everywhere
    if cores and len(chosen) < cores:
        sys.exit(f"the bench needs {cores} cores, this process has {len(chosen)}")
    # TensorFlow talks a lot on standard error; it matters only where something failed.
    with tempfile.TemporaryFile("w+") as chatter:
        os.sched_setaffinity(0, chosen)  # the child inherits it, before its libraries count cores
        try:
            child = subprocess.Popen(
                command, cwd=ROOT, stdout=subprocess.PIPE, stderr=chatter, text=True
            )
        finally:
            os.sched_setaffinity(0, everywhere)
        line = ""
        for line in child.stdout:
            if not line.startswith("{"):
                print(line, end="", flush=True)
        if child.wait() != 0:
            chatter.seek(0)
            sys.exit(f"{chatter.read()}{' '.join(command)}: exit code {child.returncode}")
    return json.loads(line)


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


def circumstances(args: argparse.Namespace, photos: Path, rounds: list[Round]) -> list[str]:
    (cpu,) = set(re.findall(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.M))
    lines = [
        f"`make bench`, {dt.date.today():%-d %B %Y}, {cpu}; medians of "
        f"{plural(args.rounds, 'interleaved round')} of {args.seconds:g} s a process; photos: "
        f"{photos.name}; MobileNetV2 with random weights whose batch norms hold these photos' "
        "statistics: the same work as with the official ones."
    ]
    share = median(
        r[POMONA, cores]["images_per_second"] / r[POMONA, cores]["images_per_cpu_second"] / cores
        for r in rounds
        for cores in (1, 2)
    )
    if share < BUSY:
        lines.append(
            f"The machine was busy: Pomona got {share:.0%} of its cores' time, so the times by the "
            "clock hold for a crowded machine only."
        )
    return lines


def plural(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def verdict(holds: bool) -> str:
    return "holds" if holds else "**short**"


def between_markers() -> re.Pattern[str]:
    return re.compile(f"{re.escape(START)}.*?{re.escape(END)}", re.DOTALL)


if __name__ == "__main__":
    main()
