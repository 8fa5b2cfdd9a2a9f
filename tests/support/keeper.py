"""Run a program, and end all that it started with it.

YARN puts each container into a session of its own, out of reach of the signals that end a process
group. Here, whatever a program has started ends when the program ends, when it is told to, and when
whoever wanted it dies.

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

#: Of Linux' prctl.h: get a signal when the parent dies; become the parent of orphans below.
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36


class Kept(Service):
    """A service that leaves no process behind, not even if pytest is killed."""

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
            return 1  # it died before we asked to be told
        return subprocess.call(command)
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        end_children()


def end_children() -> None:
    """Kill all processes below this one: whoever loses its parent becomes ours."""
    with suppress(ChildProcessError):
        while True:
            for pid in children(os.getpid()):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            os.waitpid(-1, 0)


if __name__ == "__main__":
    sys.exit(main())
