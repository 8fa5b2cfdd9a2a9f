"""Measure Pomona beside what it is to replace, and write the tables into the README.

Usage: python benches/run.py [--readme README.md] [--photos FOLDER] [--quick] …; see --help

`make bench` does. Five parts, each with its tables: `one_machine.py` (a process on one core and on
two, against Keras and against Pillow with ONNX Runtime), `int8.py` (against float32, and that
against the processor's peak), `on_spark.py` (whole jobs on Spark 3.1.2, against the reference
notebook's and against a plain loop), `storage.py` (the same with photos on S3) and `search.py`
(`pomona similar`).

Every contender is a small file beside this one. Each runs in a process of its own, pinned to its
cores, and all of them take turns, round by round, so that a slow spell of the machine hits
neighbours alike. A ratio is taken within a round; the tables have the medians of the rounds. Times
say little while the machine does other work: the tables also compare processor time, and say so.
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

START, END = "<!-- bench:start -->", "<!-- bench:end -->"


def main() -> None:
    args = arguments()
    if args.readme and not between_markers().search(args.readme.read_text()):
        sys.exit(f"{args.readme} has no place for the tables: {START} and {END}")
    WORK.mkdir(parents=True, exist_ok=True)
    photos = args.photos or rendered_photos()
    prepare_model(photos)
    int8.quantize(photos)
    report = "\n".join(
        [
            "### One process",
            "",
            *one_machine.measure(photos, args.rounds, args.seconds, args.soak),
            "",
            "### int8",
            "",
            *int8.measure(photos, args.int8_seconds),
            "",
            "### Jobs on Spark 3.1.2, Python 3.7, `local[2]`",
            "",
            *on_spark.measure(photos, args.spark_rounds, args.spark_photos, args.growth_photos),
            "",
            "### Jobs on Spark 3.1.2, photos on S3",
            "",
            *storage.measure(photos, args.storage_rounds, args.storage_photos),
            "",
            "### Search",
            "",
            *search.measure(args.search_photos),
            "",
            f"`make bench`, {dt.date.today():%-d %B %Y}, {processor()}; photos: {photos.name}; "
            "MobileNetV2 with random weights whose batch norms hold these photos' statistics: the "
            "same work as with the official ones.",
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
    parser.add_argument("--readme", type=Path, help="write the tables into this file")
    parser.add_argument(
        "--photos",
        type=Path,
        default=real_photos(),
        help="folder of JPEGs (default: those in $POMONA_PHOTOS, or rendered ones)",
    )
    parser.add_argument("--rounds", type=int, default=3, help="of one process")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each contender in a round")
    parser.add_argument("--soak", type=int, default=50_000, help="photos of the memory test")
    parser.add_argument("--spark-rounds", type=int, default=2)
    parser.add_argument("--spark-photos", type=int, default=6_000, help="of a job on Spark")
    parser.add_argument(
        "--growth-photos", type=int, default=2_400, help="of the smallest of jobs that grow"
    )
    parser.add_argument("--int8-seconds", type=float, default=3.0, help="of each model")
    parser.add_argument("--storage-rounds", type=int, default=2)
    parser.add_argument("--storage-photos", type=int, default=2_000, help="of a job on S3")
    parser.add_argument("--search-photos", type=int, default=search.PHOTOS)
    parser.add_argument("--quick", action="store_true", help="one round of little of everything")
    args = parser.parse_args()
    if args.quick:
        args.rounds, args.seconds, args.soak = 1, 2.0, 3_200
        args.spark_rounds, args.spark_photos, args.growth_photos = 1, 600, 100
        args.int8_seconds, args.storage_rounds, args.storage_photos = 0.5, 1, 100
        args.search_photos = 10_000
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
        maker = [sys.executable, str(ROOT / "tests/support/photos.py"), str(unfinished)]
        subprocess.run([*maker, "--per-class", "100"], check=True)
        unfinished.rename(folder)
    return folder


def prepare_model(photos: Path) -> None:
    """Make the weights and, with the converter as it is now, the model."""
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
