"""Calls of the AWS CLI, printed before they are made, and what its messages mean."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
from typing import Any


def one_line(text: str) -> str:
    """Join the lines of a message, which the source has over several."""
    return re.sub(r"(?<=\S)\s*\n\s*", " ", text)


def say(text: str) -> None:
    """Print a message as one line, at once."""
    print(one_line(text), flush=True)


class Stop(Exception):  # noqa: N818 - stops the command, with a message for the user
    """Ends the command. The message has the cause and what to do."""

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message))


class AwsError(Stop):
    """A call that AWS or its CLI rejected; the code is empty if the CLI itself failed."""

    def __init__(self, call: str, code: str, message: str) -> None:
        super().__init__(f"`{call}` failed: {message}")
        self.code, self.message = code, message


#: Causes of many failures: what the CLI says, and what to tell the user.
_COMMON = {
    r"Unable to locate credentials|config profile": """the AWS CLI has no credentials ({said}): run
        `aws configure` or `aws sso login`, or set AWS_PROFILE, until `aws sts get-caller-identity`
        works""",
    r"Token has expired|SSO session": "the AWS login has expired ({said}): run `aws sso login`",
    r"Could not connect to the endpoint URL|Connect timeout": """cannot connect to AWS: {said}.
        Check REGION={region} and your network""",
    r"occurred \((AuthFailure|ExpiredToken(Exception)?|InvalidAccessKeyId|InvalidClientTokenId|"
    r"InvalidSignatureException|SignatureDoesNotMatch|UnrecognizedClientException)\)": """AWS does
        not accept these credentials in {region} ({code}: {message}): run `aws configure` or `aws
        sso login` again, or enable the region in the account""",
    r"occurred \((AccessDenied(Exception)?|UnauthorizedOperation)\)": """your AWS user is not
        allowed to call {operation} ({message}): give it the permissions in
        bootstrap/policies/user.json""",
}


class Aws:
    """The AWS CLI in one region; each call is printed, so that a user can repeat it."""

    def __init__(self, region: str) -> None:
        self.region = region

    def __call__(self, *words: str, query: str = "", absent: str = "", quiet: bool = False) -> Any:
        """Return the answer to a call, parsed, or the part that a JMESPath query selects.

        `absent` matches the errors, as `CODE: MESSAGE`, for which the answer is None. A quiet call
        is not printed, because it repeats an earlier one.
        """
        full = [*words, *(["--query", query] if query else []), "--output", "json"]
        try:
            return json.loads(self.raw(*full, quiet=quiet) or "{}")
        except AwsError as error:
            if not absent or not re.match(absent, f"{error.code}: {error.message}"):
                raise
            return None

    def raw(self, *words: str, quiet: bool = False) -> bytes:
        """Make a call and return its output as it is."""
        command = ["aws", *words, "--region", self.region]
        if not quiet:
            print("$", *map(shlex.quote, command), flush=True)
        # Version 2 of the CLI opens a pager for long answers, which would wait for a key.
        environment = {**os.environ, "AWS_PAGER": ""}
        try:
            done = subprocess.run(
                command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, check=False
            )
        except FileNotFoundError as error:
            raise Stop("""the AWS CLI is not installed: install it (python3 -m pip install awscli,
                or https://aws.amazon.com/cli/) and run `aws configure`, or use AWS CloudShell,
                which has it""") from error
        if not done.returncode:
            return done.stdout
        said = done.stderr.decode(errors="replace").strip()
        found = re.search(r"occurred \((\S+)\) when calling the (\w+) [^:]*: (.*)", said, re.S)
        code, operation, message = found.groups() if found else ("", "", said)
        known = {"code": code, "operation": operation, "message": message, "region": self.region}
        for sign, meaning in _COMMON.items():
            if re.search(sign, said):
                raise Stop(meaning.format(said=said, **known))
        raise AwsError(" ".join(command[:3]), code, message or "it gave no reason")
