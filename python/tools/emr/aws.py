"""The AWS CLI: every call is printed before it is made, or instead.

Printed alone, the calls are a shell script that does what the command would do: what AWS would
answer is kept in variables, and what is there already is asked for with `if`.
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
#: What the shell would take for its own: all but our variables.
_UNWANTED = re.compile(r"([\\`]|\$(?!\{\w+\}))")
_ESCAPED = r"\\\1"
_WIDTH = 100
#: Where files for the calls are written. Relative: the calls are for a shell in the repository.
FILLED = Path("target/emr")
#: What AWS says to a key that is wrong or has expired.
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
    """Quote a word for the shell, but for the variables in it."""
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
    """Write a command for a shell and for a reader: a long one has a line for each option."""
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
        Every call is made there.
    dry_run
        Print a script of the calls and make none. Answers are then variables of that script.
    """

    def __init__(self, region: str, *, dry_run: bool) -> None:
        self.region = region
        self.dry_run = dry_run
        #: What there is to be told of if the rest fails: what was made, what costs money.
        self.made: list[str] = []
        self._indent = ""

    def begin(self, command: str) -> None:
        """Print what a dry run is."""
        if self.dry_run:
            print(f"#!/usr/bin/env bash\n# What `{command}` does. No call was made for this.")
            print(f"set -euo pipefail\nmkdir -p {FILLED}", flush=True)

    def script(self, line: str) -> None:
        """Print a line of a dry run's script that has no call in it."""
        if self.dry_run:
            print(f"{self._indent}{line}", flush=True)

    def demand(self, test: str, otherwise: str) -> None:
        """Let a dry run's script stop where a test fails."""
        self.script(f'{test} || {{ echo "{otherwise}" >&2; exit 1; }}')

    def say(self, text: str) -> None:
        """Print a line for the reader; in a script, a comment."""
        print(f"\n{self._indent}# {text}" if self.dry_run else f"\n{text}", flush=True)

    def remark(self, text: str) -> None:
        """Print a line that belongs to the call above it."""
        print(f"{self._indent}# {text}" if self.dry_run else f"  {text}", flush=True)

    def call(self, *words: str, makes: str = "") -> None:
        """Do something.

        Parameters
        ----------
        words
            The call, from `aws` on.
        makes
            What there is afterwards that was not before, and what it costs; in it, `<id>` is what
            AWS calls it.
        """
        self._run(self._printed(words))
        if makes and not self.dry_run:
            self.made.append(makes)

    def text(self, variable: str, *words: str, query: str, makes: str = "") -> str:
        """Make a call and return one piece of its answer; `None` as text where there is none."""
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
            The call, from `aws` on.
        query
            The part that is wanted, as JMESPath.
        quiet
            Do not print it: it is the same as the one before.
        """
        full = [*words, *(["--query", query] if query else []), "--output", "json"]
        answer = self._run(self._words(full) if quiet else self._printed(full))
        return None if self.dry_run else json.loads(answer or "null")

    def raw(self, *words: str) -> bytes:
        """Make a call and return what it writes; nothing in a dry run."""
        command = self._printed(words)
        return b"" if self.dry_run else self._started(command)

    def unless(self, *words: str, codes: tuple[str, ...]) -> Iterator[None]:
        """Go round once if a call is refused with one of these codes, and not at all if it works.

        In a dry run both are written down.
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
            self.remark("is not there")
            yield

    def when(self, condition: bool, test: str) -> Iterator[None]:
        """Go round once if a condition holds; in a dry run, which cannot know, write the test."""
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
        """Write a file for the calls that follow; a dry run's script writes it."""
        if self.dry_run:
            self._heredoc(f"cat > {quoted(str(path))}", text)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            print(f"(wrote {path})", flush=True)

    def page(self, lines: list[str]) -> None:
        """Print lines for a reader; a dry run's script prints them, with its variables in them."""
        if self.dry_run:
            self._heredoc("cat", "\n".join(lines))
        else:
            print("\n" + "\n".join(lines), flush=True)

    @staticmethod
    def _heredoc(command: str, text: str) -> None:
        # The delimiter is not quoted, so that the variables in the text get their values.
        print(f"{command} <<END\n{_UNWANTED.sub(_ESCAPED, text.rstrip())}\nEND", flush=True)

    @contextmanager
    def allowed_to_fail(self) -> Iterator[None]:
        """Carry on if a call in this block is refused, and say so."""
        try:
            yield
        except (AwsError, Stop) as error:
            self.remark(f"not known: {error}")

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
        # Version 2 shows long answers in a pager, which would wait for a key.
        environment = {**os.environ, "AWS_PAGER": ""}
        try:
            done = subprocess.run(
                command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, check=False
            )
        except FileNotFoundError as error:
            raise Stop(
                "the AWS CLI is not on this machine: install it (python3 -m pip install awscli, or "
                "https://aws.amazon.com/cli/), then run `aws configure`"
            ) from error
        if done.returncode:
            raise _explained(command, done.stderr.decode(errors="replace").strip(), self.region)
        return done.stdout


def _explained(command: list[str], said: str, region: str) -> AwsError | Stop:
    """Turn what the CLI says into a sentence where the cause is a common one."""
    if "Unable to locate credentials" in said or "config profile" in said:
        return Stop(
            f"the AWS CLI has no credentials ({said}): run `aws configure` or `aws sso login`, or "
            "set AWS_PROFILE; `aws sts get-caller-identity` must then answer"
        )
    if "Token has expired" in said or "SSO session" in said:
        return Stop(f"the AWS login has expired ({said}): run `aws sso login`")
    if "Could not connect to the endpoint URL" in said or "Connect timeout" in said:
        return Stop(f"AWS is not reached: {said}. Check REGION={region} and this machine's network")
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
            f"your AWS user may not do {operation} ({message}): ask the account's administrator "
            "for it; bootstrap/README.md lists what these commands need"
        )
    return AwsError(" ".join(command[:3]), code, message)
