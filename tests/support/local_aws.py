"""A simulated AWS: moto's server, and the AWS CLI that talks to it."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Iterator
from urllib.parse import quote

from services import Service, free_port

#: Installed by make from tests/requirements/aws.txt.
PROGRAMS = Path(sys.prefix).parent / "aws" / "bin"
CLI = PROGRAMS / "aws"

REGION = "eu-west-3"
ACCOUNT = ("pomona", "orchard")


class LocalAws:
    """The server, which keeps everything in memory, and the command line of its root user."""

    def __init__(self, log: Path) -> None:
        assert CLI.exists(), f"{CLI} is missing: run `make .venv/aws/.installed`"
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        server = PROGRAMS / "moto_server"
        self._service = Service([str(server), "-H", "127.0.0.1", "-p", str(port)], log, {})
        self._service.says(r"Running on (http://127\.0\.0\.1)")

    def environment(self, user: tuple[str, str] = ACCOUNT) -> dict[str, str]:
        """Return variables that make the AWS CLI use this server as `user`, a key and a secret."""
        key, secret = user
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": key,
            "AWS_SECRET_ACCESS_KEY": secret,
            "AWS_DEFAULT_REGION": REGION,
        }

    def __call__(self, *arguments: object) -> Any:
        """Run `aws ARGUMENTS` and return its output, parsed if it is JSON."""
        command = [str(CLI), *map(str, arguments), "--output", "json"]
        said = subprocess.run(
            command, env=self.environment(), check=True, stdout=subprocess.PIPE, text=True
        ).stdout
        return json.loads(said) if said.startswith(("{", "[")) else said

    def new_user(self, name: str) -> tuple[str, str]:
        """Create a user without permissions; return its key and secret."""
        self("iam", "create-user", "--user-name", name)
        key = self("iam", "create-access-key", "--user-name", name)["AccessKey"]
        return key["AccessKeyId"], key["SecretAccessKey"]

    @contextmanager
    def rights_enforced(self) -> Iterator[None]:
        """Enforce permissions in this block. The root user has none there either."""
        self._allow_unchecked("0")
        try:
            yield
        finally:
            self._allow_unchecked("inf")

    def put(self, uri: str, content: bytes) -> None:
        """Store an object at an s3:// URI, much faster than `aws s3 cp`."""
        self._send("PUT", uri.partition("s3://")[2], content)

    def _allow_unchecked(self, requests: str) -> None:
        self._send("POST", "moto-api/reset-auth", requests.encode())

    def _send(self, method: str, path: str, content: bytes) -> None:
        request = urllib.request.Request(  # noqa: S310 - our own server
            f"{self.url}/{quote(path)}", content, {"Content-Type": "text/plain"}, method=method
        )
        urllib.request.urlopen(request).close()  # noqa: S310

    def stop(self) -> None:
        self._service.kill()
