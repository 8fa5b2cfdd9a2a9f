"""A local S3 server: S3Proxy, which keeps its objects in memory."""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import json
import os
import re
import socket
import sys
from contextlib import suppress
from email.utils import formatdate
from pathlib import Path
from urllib.parse import quote, unquote

import pytest

import relay
from keeper import Kept
from services import Service, free_port, wait_until

#: Class paths of the server and of the S3 client of this environment's Spark, written by make.
SERVER_JARS = Path(sys.prefix).parent / "s3proxy.classpath"
CLIENT_JARS = Path(sys.prefix) / "s3.classpath"

USER, PASSWORD = "pomona", "orchard"

_CONFIGURATION = """\
s3proxy.endpoint=http://127.0.0.1:{port}
s3proxy.authorization=aws-v2-or-v4
s3proxy.identity={user}
s3proxy.credential={password}
jclouds.provider=transient
jclouds.identity=unused
jclouds.credential=unused
"""

# By default it logs every step.
_LOGGING = """\
<configuration>
  <appender name="console" class="ch.qos.logback.core.ConsoleAppender">
    <encoder><pattern>%d %level %msg%n</pattern></encoder>
  </appender>
  <root level="WARN"><appender-ref ref="console"/></root>
</configuration>
"""


def class_path(file: Path) -> str:
    """Read a class path that Maven wrote; "" if make has not been run."""
    if not file.exists():
        return ""
    jars = file.read_text()
    missing = [jar for jar in jars.split(":") if not Path(jar).exists()]
    assert not missing, f"{missing[0]} is not in Maven's store: delete {file} and run make again"
    return jars


class S3Server:
    """The server, and a simple client."""

    def __init__(self, folder: Path) -> None:
        jars = class_path(SERVER_JARS)
        if not jars:
            pytest.skip("needs an S3 server: make test-spark installs it")
        self.port = free_port()
        configuration, logging = folder / "s3proxy.conf", folder / "logback.xml"
        configuration.write_text(
            _CONFIGURATION.format(port=self.port, user=USER, password=PASSWORD)
        )
        logging.write_text(_LOGGING)
        java = Path(os.environ["JAVA_HOME"], "bin/java")
        command = [str(java), "-Xmx512m", f"-Dlogback.configurationFile={logging}", "-cp", jars]
        command += ["org.gaul.s3proxy.Main", "--properties", str(configuration)]
        self.service = Kept(command, folder / "s3proxy.log", dict(os.environ))
        self.service.wait_for(lambda: answers(self.port), "answer")

    def create(self, bucket: str) -> None:
        self._request("PUT", f"/{bucket}")

    def put(self, bucket: str, key: str, content: bytes) -> None:
        self._request("PUT", f"/{bucket}/{quote(key)}", content)

    def delete(self, bucket: str, key: str) -> None:
        self._request("DELETE", f"/{bucket}/{quote(key)}")

    def get(self, bucket: str, key: str) -> bytes:
        return self._request("GET", f"/{bucket}/{quote(key)}")

    def keys(self, bucket: str, prefix: str) -> list[str]:
        """Return the keys of all objects with a prefix. Those of empty folders end in a slash."""
        keys: list[str] = []
        while True:
            start = quote(keys[-1], safe="") if keys else ""
            listing = self._request(
                "GET",
                f"/{bucket}",
                query=f"?prefix={quote(prefix, safe='')}&marker={start}&encoding-type=url",
            ).decode()
            keys += [unquote(key) for key in re.findall("<Key>(.*?)</Key>", listing)]
            if "<IsTruncated>true" not in listing:
                return keys

    def _request(self, method: str, path: str, body: bytes = b"", query: str = "") -> bytes:
        # Signed with S3's first signature version, which is the simplest.
        date = formatdate(usegmt=True)
        signed = hmac.new(PASSWORD.encode(), f"{method}\n\n\n{date}\n{path}".encode(), hashlib.sha1)
        signature = base64.b64encode(signed.digest()).decode()
        headers = {"Date": date, "Authorization": f"AWS {USER}:{signature}"}
        connection = http.client.HTTPConnection("127.0.0.1", self.port)
        try:
            connection.request(method, path + query, body, headers)
            response = connection.getresponse()
            content = response.read()
        finally:
            connection.close()
        assert response.status < 300, content.decode()
        return content


class Door:
    """A relay before the server that can be shut, as if the server had died, and inject faults.

    The server itself keeps running, because its objects are in its memory. When the door is shut,
    connections break, and new ones are refused until it opens again. Arguments of `Door` and of
    `trouble` are those of `relay.Faults`; `counts` returns the number of requests, among others.
    """

    def __init__(self, server: S3Server, folder: Path, **trouble: float | str) -> None:
        self.port = free_port()
        self._target = server.port
        self._log = folder / "door.log"
        self._trouble = trouble
        self.open()

    def open(self) -> None:
        command = [sys.executable, relay.__file__, str(self.port), str(self._target)]
        command.append(json.dumps(self._trouble))
        # Not a `Kept` service, which would end with the thread that opened the door.
        self._relay = Service(command, self._log, dict(os.environ))
        self._relay.wait_for(lambda: answers(self.port), "open")

    def shut(self) -> None:
        self._relay.kill()
        wait_until(lambda: not answers(self.port), "the door to shut")

    def trouble(self, **trouble: float | str) -> None:
        """Replace the faults, and reset the counts."""
        self._control("PUT", relay.control(relay.Faults(**trouble)))

    def counts(self) -> dict[str, float]:
        """Return `relay.Relay.counts`."""
        return self._control("GET", relay.CONTROL)

    def _control(self, method: str, target: str) -> dict[str, float]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port)
        try:
            connection.request(method, target)
            return json.load(connection.getresponse())
        finally:
            connection.close()


def answers(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
        return True
    return False
