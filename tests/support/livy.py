"""Livy on the mini cluster: its real server, with a substitute for its REPL."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from keeper import Kept
from s3 import answers, class_path
from services import JAVA_OPTIONS, PATIENCE, free_port
from yarn import MiniCluster

#: The class path of Livy's server and the jar that runs in its sessions, both written by make.
JARS = Path(sys.prefix) / "livy.classpath"
REPL_JAR = Path(sys.prefix) / "livy-repl.jar"

#: What Kryo, which serializes Livy's messages, needs on Java 17.
KRYO = "--add-opens=java.base/java.util.concurrent.atomic=ALL-UNNAMED"

#: Prefixes of Livy's jars that a session's driver needs in addition to the REPL.
_SESSION_JARS = ("livy-api", "livy-rsc", "kryo")

_CONFIGURATION = """\
livy.server.host = 127.0.0.1
livy.server.port = {port}
livy.spark.master = yarn
livy.spark.deploy-mode = cluster
livy.rsc.launcher.address = 127.0.0.1
livy.rsc.rpc.server.address = 127.0.0.1
livy.rsc.server.connect.timeout = {patience}s
livy.rsc.client.connect.timeout = {patience}s
livy.server.yarn.app-lookup-timeout = {patience}s
livy.rsc.jars = {session_jars}
livy.repl.jars = {repl_jar}
"""

_LOGGING = """\
log4j.rootLogger=INFO, console
log4j.appender.console=org.apache.log4j.ConsoleAppender
log4j.appender.console.layout=org.apache.log4j.PatternLayout
log4j.appender.console.layout.ConversionPattern=%d %p %c{1}: %m%n
"""


class Livy:
    """Livy's server, whose sessions run on the cluster."""

    def __init__(self, cluster: MiniCluster, folder: Path, settings: dict[str, str]) -> None:
        jars = class_path(JARS)
        if not (jars and REPL_JAR.exists()):
            pytest.skip("needs Livy: make test-py37 or test-spark35 installs it")
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        conf = folder / "conf"
        env = cluster.environment(conf, {**cluster.spark_settings(), **settings})
        session_jars = [jar for jar in jars.split(":") if Path(jar).name.startswith(_SESSION_JARS)]
        (conf / "livy.conf").write_text(
            _CONFIGURATION.format(
                port=port,
                patience=PATIENCE,
                session_jars=",".join(f"local:{jar}" for jar in session_jars),
                repl_jar=f"local:{REPL_JAR}",
            )
        )
        (conf / "log4j.properties").write_text(_LOGGING)
        (folder / "logs").mkdir()
        env.update(LIVY_HOME=str(folder), LIVY_CONF_DIR=str(conf))
        java = Path(env["JAVA_HOME"], "bin/java")
        # It expects and creates the folder of its web pages in its working directory.
        command = ["env", "-C", str(folder), str(java), "-Xmx256m", *JAVA_OPTIONS.split()]
        command += [KRYO, "-cp", f"{jars}:{conf}:{env['HADOOP_CONF_DIR']}"]
        self.service = Kept(
            [*command, "org.apache.livy.server.LivyServer"], folder / "livy.log", env
        )
        try:
            self.service.wait_for(lambda: answers(port), "answer")
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        self.service.kill()
