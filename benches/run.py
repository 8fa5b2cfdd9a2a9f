"""Measure Pomona against what it replaces, and write the tables into the documentation.

Usage: python benches/run.py [--docs PAGE] [--readme README.md] [--quick] …; --help lists the rest

`make bench` runs it. It has five parts, each with its tables: `one_machine.py` (one process on one
core and on two, against Keras and against Pillow with ONNX Runtime), `int8.py` (int8 against
float32, and float32 against the CPU's peak), `on_spark.py` (whole jobs on Spark 3.1.2, against the
reference notebook's and against a plain loop), `storage.py` (the same with photos on S3) and
`search.py` (`pomona similar`).

Every contender is a small file in this folder. Each runs in its own process, pinned to its cores,
and they take turns round by round, so that a slow spell of the machine affects all of them. Ratios
are taken within a round, and the tables show medians over the rounds. Wall-clock times mean little
while the machine does other work, so the tables also compare CPU time and warn of a busy machine.
"""

from __future__ import annotations

import argparse
import datetime as dt
import os
import re
import subprocess
import sys
from pathlib import Path

import int8
import on_spark
import one_machine
import search
import storage
from harness import MODEL, REFERENCE_PYTHON, ROOT, WEIGHTS, WORK, command, processor
from speed_summary import speed_summary

START, END = "<!-- bench:start -->", "<!-- bench:end -->"


def main() -> None:
    args = arguments()
    for page in filter(None, (args.docs, args.readme)):
        if not between_markers().search(page.read_text()):
            sys.exit(f"{page} has no place for the tables: it lacks {START} and {END}")
    WORK.mkdir(parents=True, exist_ok=True)
    photos = args.photos or rendered_photos()
    prepare_model(photos)
    int8.quantize(photos)
    report = "\n".join(
        [
            "## One process",
            "",
            *one_machine.measure(photos, args.rounds, args.seconds, args.soak),
            "",
            "## int8",
            "",
            *int8.measure(photos, args.int8_seconds),
            "",
            "## Jobs on Spark 3.1.2, Python 3.7, `local[2]`",
            "",
            *on_spark.measure(photos, args.spark_rounds, args.spark_photos, args.growth_photos),
            "",
            "## Jobs on Spark 3.1.2, photos on S3",
            "",
            *storage.measure(photos, args.storage_rounds, args.storage_photos),
            "",
            "## Search",
            "",
            *search.measure(args.search_photos),
            "",
            f"`make bench`, {dt.date.today():%-d %B %Y}, {processor()}; photos: {photos.name}; "
            "MobileNetV2 with random weights and batch norms fitted to these photos: the same work "
            "as with the official weights.",
        ]
    )
    print(report)
    if args.docs:
        write(args.docs, report)
    if args.readme:
        details = os.path.relpath(args.docs or ROOT / "docs/benchmarks.md", args.readme.parent)
        write(args.readme, "\n".join(speed_summary(report, details)))


def write(page: Path, lines: str) -> None:
    """Replace what stands between the markers of a page."""
    text = between_markers().sub(lambda _: f"{START}\n{lines}\n{END}", page.read_text(), count=1)
    unfinished = page.with_name(f".{page.name}.tmp")
    unfinished.write_text(text)
    unfinished.replace(page)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--docs", type=Path, help="page to write the tables into")
    parser.add_argument("--readme", type=Path, help="page to write a summary of them into")
    parser.add_argument(
        "--photos",
        type=Path,
        default=real_photos(),
        help="folder of JPEGs (default: those in $POMONA_PHOTOS, or rendered ones)",
    )
    parser.add_argument("--rounds", type=int, default=3, help="rounds of the one-process part")
    parser.add_argument("--seconds", type=float, default=5.0, help="for each contender in a round")
    parser.add_argument("--soak", type=int, default=50_000, help="photos in the memory test")
    parser.add_argument("--spark-rounds", type=int, default=2)
    parser.add_argument("--spark-photos", type=int, default=6_000, help="photos in a job on Spark")
    parser.add_argument(
        "--growth-photos",
        type=int,
        default=2_400,
        help="photos in the smallest growing job",
    )
    parser.add_argument("--int8-seconds", type=float, default=3.0, help="for each model")
    parser.add_argument("--storage-rounds", type=int, default=2)
    parser.add_argument("--storage-photos", type=int, default=2_000, help="photos in a job on S3")
    parser.add_argument("--search-photos", type=int, default=search.PHOTOS)
    parser.add_argument("--quick", action="store_true", help="one short round of every part")
    args = parser.parse_args()
    if args.quick:
        args.rounds, args.seconds, args.soak = 1, 2.0, 3_200
        args.spark_rounds, args.spark_photos, args.growth_photos = 1, 600, 100
        args.int8_seconds, args.storage_rounds, args.storage_photos = 0.5, 1, 100
        args.search_photos = 10_000
    return args


def real_photos() -> Path | None:
    """Return the folder of real photos, of the size that the real job reads if there are any."""
    folder = os.environ.get("POMONA_PHOTOS")
    if not folder:
        return None
    small = Path(folder) / "fruits-360-100x100"
    return small if small.is_dir() else Path(folder)


def rendered_photos() -> Path:
    folder = WORK / "photos"
    if not folder.is_dir():
        unfinished = folder.with_suffix(".tmp")
        maker = [sys.executable, str(ROOT / "tests/support/photos.py"), str(unfinished)]
        subprocess.run([*maker, "--per-class", "100"], check=True)
        unfinished.rename(folder)
    return folder


def prepare_model(photos: Path) -> None:
    """Make the weights and convert them to the model with the present converter."""
    import pomona.models

    if not WEIGHTS.exists():
        unfinished = WEIGHTS.with_name("unfinished.h5")
        maker = command(REFERENCE_PYTHON, "make_weights.py", photos, unfinished)
        subprocess.run(maker, check=True)
        unfinished.rename(WEIGHTS)
    pomona.models.convert(WEIGHTS, MODEL)


def between_markers() -> re.Pattern[str]:
    return re.compile(f"{re.escape(START)}.*?{re.escape(END)}", re.DOTALL)


if __name__ == "__main__":
    main()
