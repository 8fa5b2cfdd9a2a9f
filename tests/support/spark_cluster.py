"""A cluster of Spark's own on this machine: a master and workers of one core each."""

from __future__ import annotations

import os
from pathlib import Path

import pyspark

from services import Service, any_runs, children, wait_until

SPARK_HOME = Path(pyspark.__file__).parent


class Cluster:
    """A master and two workers, which hold nothing that the driver has."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.env = {
            **os.environ,
            "SPARK_HOME": str(SPARK_HOME),
            "SPARK_DAEMON_MEMORY": "256m",
            "POMONA_HOME": str(folder / "no models here"),
        }
        self.master = self._start("master.Master", "--host", "127.0.0.1", "--port", "0")
        self.url = self.master.says(r"Starting Spark master at (spark://\S+)")
        self.workers: list[Service] = []

    def add_worker(self) -> Service:
        number = len(self.workers)
        worker = self._start(
            "worker.Worker", "--cores", "1", "--memory", "1g", "--host", "127.0.0.1", "--work-dir",
            str(self.work_dir(number)), self.url, name=f"worker-{number}"
        )  # fmt: skip
        self.workers.append(worker)
        worker.says("(Successfully registered with master)")
        return worker

    def work_dir(self, worker: int) -> Path:
        return self.folder / f"work-{worker}"

    def stop(self) -> None:
        # An executor ends when it loses its worker, and its Python workers when they lose it.
        executors = [pid for worker in self.workers for pid in children(worker.pid)]
        for service in [*self.workers, self.master]:
            service.kill()
        wait_until(lambda: not any_runs(executors), "the executors to end")

    def _start(self, program: str, *arguments: str, name: str = "master") -> Service:
        command = [str(SPARK_HOME / "bin/spark-class"), f"org.apache.spark.deploy.{program}"]
        command += ["--webui-port", "0", *arguments]
        return Service(command, self.folder / f"{name}.log", self.env)
