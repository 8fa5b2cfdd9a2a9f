"""Arguments, photos and timing of the contenders. Runs on Python 3.7."""

import argparse
import json
import os
import re
import time
from pathlib import Path

CALL = 320
"""Photos per call of a contender: ten batches of the reference, or about one Spark task."""

WARM_UP = 64


def arguments(description):
    """Return `model`, `photos` and `seconds` of the command line."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("model")
    parser.add_argument("photos")
    parser.add_argument("seconds", type=float)
    return parser.parse_args()


def cores():
    """Return the number of cores this process is pinned to, which some libraries do not respect."""
    return len(os.sched_getaffinity(0))


def photos_in(folder):
    """Return the content of all JPEG files below `folder`, in the order of their paths."""
    return [path.read_bytes() for path in paths_in(folder)]


def paths_in(folder):
    return sorted(Path(folder).rglob("*.jpg"))


def call_of(photos, start):
    """Return the photos of the call that begins at `start`, wrapping around at the end."""
    return [photos[(start + i) % len(photos)] for i in range(CALL)]


def measure(featurize, photos, seconds):
    """Call `featurize` with lists of photos for `seconds`, and print the result as JSON."""
    featurize(photos[:WARM_UP])
    count, start, cpu_start = 0, time.perf_counter(), time.process_time()
    while time.perf_counter() - start < seconds:
        features = featurize(call_of(photos, count))
        count += len(features)
    wall, cpu = time.perf_counter() - start, time.process_time() - cpu_start
    report(count, wall, cpu, status_mb("VmHWM"))


def report(count, wall, cpu, peak_mb, **more):
    """Print the result of a contender for `harness.run`."""
    result = {
        "images_per_second": count / wall,
        "images_per_cpu_second": count / cpu,
        "peak_mb": peak_mb,
    }
    print(json.dumps(dict(result, **more)))


def status_mb(field, process="self"):
    """Return a field of /proc/PID/status in MiB: VmRSS is resident memory, VmHWM its peak."""
    status = Path("/proc", str(process), "status").read_text()
    return int(re.search(rf"^{field}:\s+(\d+) kB$", status, re.MULTILINE).group(1)) / 1024
