"""A simulated AWS: moto's server behind a recording proxy, and an AWS CLI that talks to it."""

from __future__ import annotations

import http.client
import json
import os
import re
import shlex
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Callable, NamedTuple, Union
from urllib.parse import parse_qs

import aws_cli
from services import Service, free_port

ROOT = Path(__file__).resolve().parents[2]
#: The environment of tests/requirements/aws.txt.
BIN = ROOT / ".venv" / "aws" / "bin"
#: What the Makefile sets as PYTHONPATH for the EMR tool.
TOOL_PATH = os.pathsep.join([str(ROOT / "bootstrap"), str(ROOT / "python")])
REGION = "eu-west-3"
ACCOUNT = "123456789012"


class Call(NamedTuple):
    """A request to AWS."""

    #: Such as `elasticmapreduce`.
    service: str
    #: Such as `RunJobFlow`; for S3 and EMR Serverless, the method and the path.
    action: str
    #: The body of a request in JSON, as to EMR, or the fields of a form; empty for S3.
    body: dict[str, Any]


class Answer(NamedTuple):
    """A response, of AWS or in its place."""

    status: int
    body: bytes


Said = Union["dict[str, Any]", Answer, None]
#: Is called before moto, with None, and may answer the call; and with moto's answer, to change it:
#: a dict if it is JSON.
Rule = Callable[[Call, Said], Said]


def refusal(code: str, message: str) -> Answer:
    """An error response in EMR's protocol."""
    return Answer(400, json.dumps({"__type": code, "message": message}).encode())


class Cloud:
    """A simulated AWS that records its calls."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.calls: list[Call] = []
        self.rules: list[Rule] = []
        port = free_port()
        moto_server = str(ROOT / "tests" / "support" / "moto_server.py")
        # Moto knows the policies that AWS manages only if this is set.
        environment = {
            **os.environ,
            "MOTO_IAM_LOAD_MANAGED_POLICIES": "true",
            "MOTO_FOLDER": str(folder),
        }
        self._moto = Service(
            [str(BIN / "python"), moto_server, "-H", "127.0.0.1", "-p", str(port)],
            folder / "moto.log",
            environment,
        )
        self._moto.says(r"Running on (http://127.0.0.1)")
        self._recorder = ThreadingHTTPServer(("127.0.0.1", 0), self._handler(port))
        threading.Thread(target=self._recorder.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._recorder.server_port}"
        self.bin = folder / "bin"
        self._cli()

    def stop(self) -> None:
        self._recorder.shutdown()
        self._recorder.server_close()
        self._loaded.kill()
        self._moto.kill()

    def _cli(self) -> None:
        """Create an `aws` command that talks to this cloud and logs its arguments.

        The CLI takes the endpoint from its environment for every service except EMR, which needs
        the option.
        """
        script = self.folder / "bin" / "aws"
        script.parent.mkdir()
        socket = str(self.folder / "aws.socket")
        server = [str(BIN / "python"), aws_cli.__file__, socket]
        self._loaded = Service(server, self.folder / "aws_cli.log", self.environment)
        self._loaded.says("(ready)")
        script.write_text(
            f"#!{BIN}/python -IS\n"
            + aws_cli.CLIENT.format(
                path=socket, log=str(self.folder / "aws.log"), words=["--endpoint-url", self.url]
            )
        )
        script.chmod(0o755)
        # pyenv's python3 puts its own programs first in the PATH, possibly with another `aws`.
        python = self.bin / "python3"
        python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
        python.chmod(0o755)

    @property
    def environment(self) -> dict[str, str]:
        """The environment of a user of this cloud, without access to a real one."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        for name in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL"):
            kept.pop(name, None)
        return {
            **kept,
            "PATH": os.pathsep.join([str(self.bin), os.environ["PATH"]]),
            "PYTHONPATH": TOOL_PATH,
            "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE",
            "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
            "AWS_CONFIG_FILE": str(self.folder / "none"),
            "AWS_SHARED_CREDENTIALS_FILE": str(self.folder / "none"),
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_MAX_ATTEMPTS": "1",
        }

    def aws(self, *words: str, raw: bool = False, **environment: str) -> Any:
        """Call the CLI and return its answer, parsed if it is JSON, unless `raw`."""
        done = subprocess.run(
            [self.bin / "aws", "--region", REGION, *words],
            env={**self.environment, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            check=True,
        )
        is_json = not raw and done.stdout.strip()[:1] in (b"{", b"[")
        return json.loads(done.stdout) if is_json else done.stdout

    def called(self, action: str) -> list[Call]:
        return [call for call in self.calls if call.action == action]

    def fail(self, resource: str, action: str, reason: str, times: int = 1) -> None:
        """Make the next actions on a resource of a stack fail, such as `CREATE`."""
        fault = {"resource": resource, "action": action, "reason": reason, "times": times}
        (self.folder / "faults.json").write_text(json.dumps([fault]))

    def resources(self, stack: str) -> dict[str, Any]:
        """Return the properties of a stack's resources, by logical id."""
        found = json.loads((self.folder / "resources.json").read_text())
        return dict(found.get(stack, {}))

    @property
    def commands(self) -> list[list[str]]:
        """The arguments of all calls of the CLI."""
        log = self.folder / "aws.log"
        return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []

    def _handler(self, port: int) -> type[BaseHTTPRequestHandler]:
        cloud = self

        class Recorder(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_one_request(self) -> None:
                self.raw_requestline = self.rfile.readline(65537)
                if not self.raw_requestline or not self.parse_request():
                    self.close_connection = True
                    return
                if self.headers.get("Expect") == "100-continue":
                    self.send_response_only(100)
                    self.end_headers()
                sent = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                call = self.call(sent)
                cloud.calls.append(call)
                answer, headers = self.answer(call, sent)
                self.send_response_only(answer.status)
                for name, value in headers:
                    self.send_header(name, value)
                if self.command != "HEAD":  # its response has the length of the body it omits
                    self.send_header("Content-Length", str(len(answer.body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(answer.body)

            def call(self, sent: bytes) -> Call:
                scope = re.search(r"Credential=[^/]+/\d+/[\w-]+/([\w-]+)/", str(self.headers))
                service = scope.group(1) if scope else ""
                target = self.headers.get("X-Amz-Target")
                if target:
                    return Call(service, target.rpartition(".")[2], json.loads(sent))
                if service == "s3":
                    return Call(service, f"{self.command} {self.path}", {})
                if service == "emr-serverless":
                    path = self.path.partition("?")[0]
                    return Call(service, f"{self.command} {path}", json.loads(sent or b"{}"))
                fields = {name: values[0] for name, values in parse_qs(sent.decode()).items()}
                return Call(service, fields["Action"], fields)

            def answer(self, call: Call, sent: bytes) -> tuple[Answer, list[tuple[str, str]]]:
                json_type = [("Content-Type", "application/x-amz-json-1.1")]
                for rule in cloud.rules:
                    said = rule(call, None)
                    if isinstance(said, Answer):
                        return said, json_type
                answer, headers = self.forward(call, sent)
                in_json = "X-Amz-Target" in self.headers or call.service == "emr-serverless"
                in_json = in_json and answer.status == 200
                for rule in cloud.rules:
                    said = rule(call, json.loads(answer.body or b"{}") if in_json else answer)
                    if isinstance(said, dict):
                        said = Answer(200, json.dumps(said).encode())
                    answer = said or answer
                return answer, headers

            def forward(self, call: Call, sent: bytes) -> tuple[Answer, list[tuple[str, str]]]:
                headers = dict(self.headers)
                if call.service == "elasticmapreduce":
                    # Moto takes EMR's region from the host name.
                    headers["Host"] = f"{REGION}.elasticmapreduce.amazonaws.com"
                moto = http.client.HTTPConnection("127.0.0.1", port)
                try:
                    moto.request(self.command, self.path, sent, headers)
                    response = moto.getresponse()
                    body = response.read()
                finally:
                    moto.close()
                skipped = ("connection", "content-length", "transfer-encoding", "date", "server")
                if self.command == "HEAD":
                    skipped = skipped[:1] + skipped[2:]
                kept = [(n, v) for n, v in response.getheaders() if n.lower() not in skipped]
                return Answer(response.status, body), kept

            def log_message(self, *_: object) -> None:
                pass

        return Recorder


def emr(
    cloud: Cloud, verb: str, *words: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run one of the EMR tool's commands as a user of a cloud."""
    return subprocess.run(
        [sys.executable, "-m", "emr", verb, *words, "EVERY=0.1"],
        cwd=ROOT,
        env={**cloud.environment, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def printed(output: str) -> list[list[str]]:
    """Return the calls that a command printed."""
    text = output.replace(" \\\n", " ")
    return [shlex.split(line[2:]) for line in text.splitlines() if line.startswith("$ aws ")]
