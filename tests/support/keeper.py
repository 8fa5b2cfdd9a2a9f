"""Runs a program, and kills all its descendants when it ends.

YARN starts every container in a new session, which a signal to the process group does not reach.
Here, all descendants of a program die when it ends, when it is terminated, and when the process
that started it dies.

Usage: python tests/support/keeper.py PARENT_PID COMMAND…
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Sequence

from services import Service, children

#: From Linux's prctl.h: get a signal when the parent dies; adopt orphaned descendants.
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36


class Kept(Service):
    """A service that leaves no processes behind, even if pytest is killed."""

    def __init__(self, command: Sequence[str], log: Path, env: dict[str, str]) -> None:
        super().__init__([sys.executable, __file__, str(os.getpid()), *command], log, env)

    def kill(self) -> None:
        if self.running:
            os.kill(self.pid, signal.SIGTERM)
        self._process.wait()


def main() -> int:
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    for option, value in ((PR_SET_PDEATHSIG, signal.SIGTERM), (PR_SET_CHILD_SUBREAPER, 1)):
        if prctl(option, int(value), 0, 0, 0):
            raise OSError(ctypes.get_errno(), "prctl")
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    parent, *command = sys.argv[1:]
    try:
        if os.getppid() != int(parent):
            return 1  # it died before prctl was called
        return subprocess.call(command)
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        end_children()


def end_children() -> None:
    """Kill all descendants of this process, which adopts those whose parent has died."""
    with suppress(ChildProcessError):
        while True:
            for pid in children(os.getpid()):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            os.waitpid(-1, 0)


if __name__ == "__main__":
    sys.exit(main())
