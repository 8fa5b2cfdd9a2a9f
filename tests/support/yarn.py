"""YARN and HDFS in Hadoop's mini cluster, with one node of the size of EMR's m5.xlarge."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path
from typing import Any
from urllib.request import urlopen
from xml.sax.saxutils import escape

import pyspark
import pytest
from py4j.java_gateway import GatewayParameters, JavaGateway

from keeper import Kept
from s3 import class_path
from services import JAVA_OPTIONS, Service, free_port

#: Written by make.
JARS = Path(sys.prefix) / "minicluster.classpath"

SPARK_HOME = Path(pyspark.__file__).parent
#: Versions of Spark that miniatures of EMR 6.4.0 and of EMR 7 have.
SPARK = ("3.1.", "3.5.")

#: Memory that EMR gives to YARN on an m5.xlarge, and the smallest container.
NODE_MIB, SMALLEST_CONTAINER_MIB = 12288, 32

#: What Guice, which YARN uses, needs on Java 17.
GUICE = "--add-opens=java.base/java.lang=ALL-UNNAMED"

_RESOURCE_MANAGER = ("address", "scheduler.address", "resource-tracker.address", "admin.address")
_WEB = "yarn.resourcemanager.webapp.address"
_NODE_MANAGER = ("address", "localizer.address", "webapp.address")


class MiniCluster:
    """The cluster: one process for all of Hadoop, and containers for applications."""

    def __init__(self, folder: Path) -> None:
        if not pyspark.__version__.startswith(SPARK):
            pytest.skip(f"no miniature of an EMR release with Spark {pyspark.__version__}")
        jars = class_path(JARS)
        if not jars:
            pytest.skip("needs Hadoop's mini cluster: make test-py37 or test-spark35 installs it")
        self.folder = folder
        self.service, self._gateway = _start_java(folder, jars)
        try:
            self._start(self._gateway.jvm)
        except BaseException:
            self.stop()
            raise

    def _start(self, jvm: Any) -> None:
        addresses = {
            f"yarn.resourcemanager.{name}": f"127.0.0.1:{free_port()}" for name in _RESOURCE_MANAGER
        }
        addresses.update({f"yarn.nodemanager.{name}": "127.0.0.1:0" for name in _NODE_MANAGER})
        addresses[_WEB] = f"127.0.0.1:{free_port()}"
        settings = {
            **addresses,
            "yarn.minicluster.fixed.ports": "true",
            "yarn.minicluster.yarn.nodemanager.resource.memory-mb": str(NODE_MIB),
            "yarn.scheduler.minimum-allocation-mb": str(SMALLEST_CONTAINER_MIB),
            "yarn.scheduler.maximum-allocation-mb": str(NODE_MIB),
            # As on EMR, because the JVM reserves far more address space than it uses.
            "yarn.nodemanager.vmem-check-enabled": "false",
            # Do not fail tests on a nearly full disk.
            "yarn.nodemanager.disk-health-checker.max-disk-utilization-per-disk-percentage": "100",
        }
        hadoop = jvm.org.apache.hadoop
        configuration = hadoop.yarn.conf.YarnConfiguration()
        for name, value in settings.items():
            configuration.set(name, value)
        disk = jvm.java.io.File(str(self.folder / "hdfs"))
        hdfs = hadoop.hdfs.MiniDFSCluster.Builder(configuration, disk).build()
        yarn = hadoop.yarn.server.MiniYARNCluster("yarn", 1, 1, 1)
        yarn.init(configuration)
        yarn.start()
        self._yarn = hadoop.yarn.client.api.YarnClient.createYarnClient()
        self._yarn.init(configuration)
        self._yarn.start()
        self._path = hadoop.fs.Path
        self._files = hdfs.getFileSystem()
        self.hdfs: str = self._files.getUri().toString()
        self.web = f"http://{addresses[_WEB]}"
        client = {"fs.defaultFS": self.hdfs, "dfs.replication": "1", **addresses}
        self._conf = self.folder / "conf"
        self._conf.mkdir()
        for file in ("core-site.xml", "hdfs-site.xml", "yarn-site.xml"):
            (self._conf / file).write_text(_xml(client))

    def spark_settings(self) -> dict[str, str]:
        """Return Spark's settings for small jobs on this cluster."""
        return {
            # Every node has them, as on EMR.
            "spark.yarn.jars": f"local:{SPARK_HOME}/jars/*",
            "spark.driver.extraJavaOptions": JAVA_OPTIONS,
            "spark.executor.extraJavaOptions": JAVA_OPTIONS,
            "spark.yarn.am.extraJavaOptions": JAVA_OPTIONS,
            "spark.pyspark.python": sys.executable,
            "spark.pyspark.driver.python": sys.executable,
            "spark.yarn.appMasterEnv.SPARK_LOCAL_IP": "127.0.0.1",
            "spark.yarn.maxAppAttempts": "1",
            "spark.driver.memory": "512m",
            "spark.executor.memory": "512m",
            "spark.executor.instances": "1",
            "spark.executor.cores": "2",
            "spark.sql.shuffle.partitions": "2",
            "spark.ui.port": "0",
        }

    def environment(self, folder: Path, settings: dict[str, str]) -> dict[str, str]:
        """Return the environment of a program that submits Spark jobs with these settings."""
        folder.mkdir()
        lines = [f"{name} {value}\n" for name, value in settings.items()]
        (folder / "spark-defaults.conf").write_text("".join(lines))
        return {
            **os.environ,
            "SPARK_HOME": str(SPARK_HOME),
            "SPARK_CONF_DIR": str(folder),
            "HADOOP_CONF_DIR": str(self._conf),
        }

    def put(self, source: Path, target: str) -> None:
        """Copy a file or folder to HDFS."""
        self._files.copyFromLocalFile(self._path(f"file://{source}"), self._path(target))

    def get(self, source: str, target: Path) -> Path:
        """Copy a file or folder from HDFS."""
        raw = True  # without checksum files
        self._files.copyToLocalFile(False, self._path(source), self._path(f"file://{target}"), raw)
        return target

    def exists(self, path: str) -> bool:
        return bool(self._files.exists(self._path(path)))

    def last_application(self) -> Any:
        """Return YARN's report on the application submitted last; None if there is none."""
        reports = self._yarn.getApplications()
        return max(reports, key=lambda report: report.getStartTime(), default=None)

    def spark_jobs(self) -> list[str]:
        """Return descriptions of the last application's jobs, from its Spark UI via YARN's proxy.

        The list is empty before the UI starts and after it stops.
        """
        report = self.last_application()
        if report is None:
            return []
        name = report.getApplicationId().toString()
        address = f"{self.web}/proxy/{name}/api/v1/applications/{name}/jobs"
        try:
            with urlopen(address) as answer:  # noqa: S310
                return [job.get("description", "") for job in json.load(answer)]
        except (OSError, ValueError):
            return []

    def logs(self) -> str:
        """Return the logs of the last application's containers."""
        application = self.last_application().getApplicationId().toString()
        files = sorted((self.folder / "target").rglob(f"{application}/container_*/std*"))
        return "\n".join(file.read_text(errors="replace") for file in files)

    def stop(self) -> None:
        self._gateway.close()
        self.service.kill()


def _start_java(folder: Path, jars: str) -> tuple[Service, JavaGateway]:
    """Start a JVM that is controlled through Py4J."""
    java = Path(os.environ["JAVA_HOME"], "bin/java")
    # The mini cluster writes to a sub-folder of its working directory.
    command = ["env", "-C", str(folder), str(java), "-Xmx512m", *JAVA_OPTIONS.split(), GUICE]
    command += ["-cp", jars, "py4j.GatewayServer", "--enable-auth", str(free_port())]
    service = Kept(command, folder / "hadoop.log", dict(os.environ))
    try:
        # The JVM may print something before it.
        answer = r"(?m)^(\d+)\n(\S+)\n"
        service.says(answer)
        port, secret = re.search(answer, service.output).groups()
        gateway = JavaGateway(
            gateway_parameters=GatewayParameters(
                port=int(port), auth_token=secret, auto_convert=True
            )
        )
    except BaseException:
        service.kill()
        raise
    return service, gateway


def _xml(settings: dict[str, str]) -> str:
    properties = "".join(
        f"<property><name>{escape(name)}</name><value>{escape(value)}</value></property>\n"
        for name, value in settings.items()
    )
    return f"<configuration>\n{properties}</configuration>\n"
