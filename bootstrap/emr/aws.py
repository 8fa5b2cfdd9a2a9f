"""Calls of the AWS CLI, printed before they are made, and what its messages mean."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
from typing import Any


class Stop(Exception):  # noqa: N818 - stops the command, with a message for the user
    """Ends the command. The message has the cause and what to do."""


class AwsError(Stop):
    """A call that AWS or its CLI rejected."""

    def __init__(self, call: str, code: str, message: str) -> None:
        super().__init__(f"`{call}` failed: {message}")
        #: AWS's error code, such as `NoSuchEntity`; empty if the CLI itself failed.
        self.code = code
        self.message = message


_REFUSAL = re.compile(
    r"An error occurred \(([^)]+)\) when calling the (\w+) operation[^:]*: (.*)", re.S
)
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


class Aws:
    """The AWS CLI in one region; each call is printed, so that a user can repeat it."""

    def __init__(self, region: str) -> None:
        self.region = region

    def __call__(self, *words: str, query: str = "", quiet: bool = False) -> Any:
        """Make a call and return its answer, parsed; None if it has none.

        Parameters
        ----------
        words
            The words after `aws`.
        query
            JMESPath of the part to return.
        quiet
            Do not print the call, which repeats an earlier one.

        Raises
        ------
        AwsError
            If AWS rejects the call.
        Stop
            If the CLI is missing or has no valid credentials, or the user lacks a permission.
        """
        full = [*words, *(["--query", query] if query else []), "--output", "json"]
        return json.loads(self.raw(*full, quiet=quiet) or "null")

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
            raise Stop(
                "the AWS CLI is not installed: install it (python3 -m pip install awscli, or "
                "https://aws.amazon.com/cli/) and run `aws configure`, or use AWS CloudShell, "
                "which has it"
            ) from error
        if done.returncode:
            raise _explained(command, done.stderr.decode(errors="replace").strip(), self.region)
        return done.stdout


def _explained(command: list[str], said: str, region: str) -> Stop:
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
    call = " ".join(command[:3])
    refusal = _REFUSAL.search(said)
    if not refusal:
        return AwsError(call, "", said or "it gave no reason")
    code, operation, message = refusal.groups()
    message = message.strip()
    if code in _BAD_CREDENTIALS:
        return Stop(
            f"AWS does not accept these credentials in {region} ({code}: {message}): run "
            "`aws configure` or `aws sso login` again, or enable the region in the account"
        )
    if code in _FORBIDDEN:
        return Stop(
            f"your AWS user is not allowed to call {operation} ({message}): give it the "
            "permissions in bootstrap/policies/user.json"
        )
    return AwsError(call, code, message)
