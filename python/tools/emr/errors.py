"""What ends a command before its work is done."""

from __future__ import annotations


class Stop(Exception):  # noqa: N818 - it stops the command, with a sentence for its user
    """What happened and what to do, in a sentence."""


class AwsError(Exception):
    """A call that AWS, or its CLI, has refused."""

    def __init__(self, call: str, code: str, message: str) -> None:
        super().__init__(f"`{call}` failed: {message}")
        #: AWS's own word for it, such as `NoSuchEntity`; empty where the CLI itself failed.
        self.code = code
        #: What AWS says of it.
        self.message = message
