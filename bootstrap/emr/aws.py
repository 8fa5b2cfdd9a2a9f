"""Calls of the AWS CLI, printed before they are made or, in a dry run, instead.

The output of a dry run is a shell script that does the same: answers of AWS are in its variables,
and `if` tests what already exists.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Iterator

from emr.errors import AwsError, Stop

_REFUSAL = re.compile(
    r"An error occurred \(([^)]+)\) when calling the (\w+) operation[^:]*: (.*)", re.S
)
_VARIABLE = re.compile(r"\$\{\w+\}")
#: Special characters of the shell in a here-document, except our variables.
_SPECIAL = re.compile(r"([\\`]|\$(?!\{\w+\}))")
_ESCAPED = r"\\\1"
_WIDTH = 100
#: The folder for files that calls read. Relative, because scripts run in the repository.
FILLED = Path("target/emr")
#: Error codes for a key that is wrong or has expired.
_BAD_CREDENTIALS = {
    "AuthFailure",
    "ExpiredToken",
    "ExpiredTokenException",
    "InvalidAccessKeyId",
    "InvalidClientTokenId",
    "InvalidSignatureException",
    "SignatureDoesNotMatch",
    "UnrecognizedClientException",
}
_FORBIDDEN = {"AccessDenied", "AccessDeniedException", "UnauthorizedOperation"}


def quoted(word: str) -> str:
    """Quote a word for the shell, except for the variables in it."""
    if not _VARIABLE.search(word):
        return shlex.quote(word)
    pieces = re.split(r"(\$\{\w+\})", word)
    return (
        '"'
        + "".join(
            piece if index % 2 else re.sub(r'([\\"`$])', r"\\\1", piece)
            for index, piece in enumerate(pieces)
        )
        + '"'
    )


def shell(words: list[str], indent: str = "") -> str:
    """Format a command for a shell. A long one gets one line per option."""
    line = " ".join(map(quoted, words))
    if len(line) + len(indent) <= _WIDTH:
        return line
    lines: list[str] = []
    for word in words:
        if word.startswith("--") or not lines:
            lines.append(quoted(word))
        else:
            lines[-1] += f" {quoted(word)}"
    return f" \\\n{indent}    ".join(lines)


class Aws:
    """Calls of the AWS CLI in one region.

    Parameters
    ----------
    region
        The region of all calls.
    dry_run
        Print a script of the calls and make none. Answers are then variables of the script.
    """

    def __init__(self, region: str, *, dry_run: bool) -> None:
        self.region = region
        self.dry_run = dry_run
        #: What to report if the command fails: what it has created, and what costs money.
        self.made: list[str] = []
        self._indent = ""

    def begin(self, command: str) -> None:
        """Print the head of a dry run's script."""
        if self.dry_run:
            print(
                f"#!/usr/bin/env bash\n# The calls of `{command}`. None was made for this script."
            )
            print(f"set -euo pipefail\nmkdir -p {FILLED}", flush=True)

    def script(self, line: str) -> None:
        """Print a line of a dry run's script that is not a call."""
        if self.dry_run:
            print(f"{self._indent}{line}", flush=True)

    def demand(self, test: str, message: str) -> None:
        """Make a dry run's script stop if a test fails."""
        self.script(f'{test} || {{ echo "{message}" >&2; exit 1; }}')

    def say(self, text: str) -> None:
        """Print a heading; in a script, a comment."""
        print(f"\n{self._indent}# {text}" if self.dry_run else f"\n{text}", flush=True)

    def remark(self, text: str) -> None:
        """Print a note on the call above."""
        print(f"{self._indent}# {text}" if self.dry_run else f"  {text}", flush=True)

    def call(self, *words: str, makes: str = "") -> None:
        """Make a call.

        Parameters
        ----------
        words
            The words after `aws`.
        makes
            Description of what the call creates, and its cost.
        """
        self._run(self._printed(words))
        if makes and not self.dry_run:
            self.made.append(makes)

    def text(self, variable: str, *words: str, query: str, makes: str = "") -> str:
        """Make a call and return one field of its answer, or the text `None` if it is missing.

        `<id>` in `makes` stands for that field.
        """
        full = [*words, "--query", query, "--output", "text"]
        answer = self._run(self._printed(full, variable)).strip()
        if self.dry_run:
            return f"${{{variable}}}"
        if makes:
            self.made.append(makes.replace("<id>", answer))
        return answer

    def answer(self, *words: str, query: str = "", quiet: bool = False) -> Any:
        """Make a call and return its answer; None in a dry run.

        Parameters
        ----------
        words
            The words after `aws`.
        query
            JMESPath of the part to return.
        quiet
            Do not print the call, which repeats the one before.
        """
        full = [*words, *(["--query", query] if query else []), "--output", "json"]
        answer = self._run(self._words(full) if quiet else self._printed(full))
        return None if self.dry_run else json.loads(answer or "null")

    def raw(self, *words: str) -> bytes:
        """Make a call and return its output; nothing in a dry run."""
        command = self._printed(words)
        return b"" if self.dry_run else self._started(command)

    def unless(self, *words: str, codes: tuple[str, ...]) -> Iterator[None]:
        """Run the body of a `for` loop only if a call fails with one of these codes.

        A dry run prints the body inside an `if`.
        """
        command = self._words(words)
        if self.dry_run:
            yield from self.when(False, f"! {shell(command)} >/dev/null 2>&1")
            return
        print(f"$ {shell(command)}", flush=True)
        try:
            self._run(command)
        except AwsError as error:
            if error.code not in codes:
                raise
            self.remark("does not exist yet")
            yield

    def when(self, condition: bool, test: str) -> Iterator[None]:
        """Run the body of a `for` loop if a condition holds; a dry run prints it inside an `if`."""
        if not self.dry_run:
            if condition:
                yield
            return
        print(f"{self._indent}if {test}; then", flush=True)
        self._indent += "  "
        yield
        self._indent = self._indent[:-2]
        print(f"{self._indent}fi", flush=True)

    def write(self, path: Path, text: str) -> None:
        """Write a file for later calls; in a dry run, the script writes it."""
        if self.dry_run:
            self._heredoc(f"cat > {quoted(str(path))}", text)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            print(f"(wrote {path})", flush=True)

    def page(self, lines: list[str]) -> None:
        """Print lines for the user; in a dry run, the script prints them with its variables."""
        if self.dry_run:
            self._heredoc("cat", "\n".join(lines))
        else:
            print("\n" + "\n".join(lines), flush=True)

    @staticmethod
    def _heredoc(command: str, text: str) -> None:
        # The delimiter is not quoted, so that the shell expands the variables in the text.
        print(f"{command} <<END\n{_SPECIAL.sub(_ESCAPED, text.rstrip())}\nEND", flush=True)

    @contextmanager
    def allowed_to_fail(self) -> Iterator[None]:
        """Continue if a call in this block fails, and print a note."""
        try:
            yield
        except (AwsError, Stop) as error:
            self.remark(f"unknown: {error}")

    def _words(self, words: tuple[str, ...] | list[str]) -> list[str]:
        return ["aws", *words, "--region", self.region]

    def _printed(self, words: tuple[str, ...] | list[str], variable: str = "") -> list[str]:
        command = self._words(words)
        if not self.dry_run:
            print(f"$ {shell(command)}", flush=True)
        elif variable:
            print(f"{self._indent}{variable}=$({shell(command, self._indent)})", flush=True)
        else:
            print(f"{self._indent}{shell(command, self._indent)}", flush=True)
        return command

    def _run(self, command: list[str]) -> str:
        return "" if self.dry_run else self._started(command).decode()

    def _started(self, command: list[str]) -> bytes:
        # Version 2 of the CLI opens a pager for long answers, which would wait for a key.
        environment = {**os.environ, "AWS_PAGER": ""}
        try:
            done = subprocess.run(
                command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, check=False
            )
        except FileNotFoundError as error:
            raise Stop(
                "the AWS CLI is not installed: install it (python3 -m pip install awscli, or "
                "https://aws.amazon.com/cli/), then run `aws configure`"
            ) from error
        if done.returncode:
            raise _explained(command, done.stderr.decode(errors="replace").strip(), self.region)
        return done.stdout


def _explained(command: list[str], said: str, region: str) -> AwsError | Stop:
    """Explain the CLI's message if its cause is a common one."""
    if "Unable to locate credentials" in said or "config profile" in said:
        return Stop(
            f"the AWS CLI has no credentials ({said}): run `aws configure` or `aws sso login`, or "
            "set AWS_PROFILE, until `aws sts get-caller-identity` works"
        )
    if "Token has expired" in said or "SSO session" in said:
        return Stop(f"the AWS login has expired ({said}): run `aws sso login`")
    if "Could not connect to the endpoint URL" in said or "Connect timeout" in said:
        return Stop(f"cannot connect to AWS: {said}. Check REGION={region} and your network")
    refusal = _REFUSAL.search(said)
    if not refusal:
        return AwsError(" ".join(command[:3]), "", said or "it gave no reason")
    code, operation, message = refusal.groups()
    message = message.strip()
    if code in _BAD_CREDENTIALS:
        return Stop(
            f"AWS does not accept these credentials in {region} ({code}: {message}): run "
            "`aws configure` or `aws sso login` again, or enable the region in the account"
        )
    if code in _FORBIDDEN:
        return Stop(
            f"your AWS user is not allowed to call {operation} ({message}): ask the account's "
            "administrator; bootstrap/README.md lists the permissions that these commands need"
        )
    return AwsError(" ".join(command[:3]), code, message)
