"""Errors that end a command."""

from __future__ import annotations


class Stop(Exception):  # noqa: N818 - stops the command, with a message for the user
    """Ends the command. The message has the cause and what to do."""


class AwsError(Exception):
    """A call that AWS or its CLI rejected."""

    def __init__(self, call: str, code: str, message: str) -> None:
        super().__init__(f"`{call}` failed: {message}")
        #: AWS's error code, such as `NoSuchEntity`; empty if the CLI itself failed.
        self.code = code
        self.message = message
