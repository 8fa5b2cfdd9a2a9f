"""Programs that tests start, kill and wait for."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
from contextlib import suppress
from pathlib import Path
from time import monotonic, sleep
from typing import Callable, NamedTuple, Sequence, TypeVar

T = TypeVar("T")

#: For every JVM: what Arrow's Java side wants on Java 9 and later; then what makes short programs
#: quick.
JAVA_OPTIONS = "-Dio.netty.tryReflectionSetAccessible=true -XX:TieredStopAtLevel=1 -XX:+UseSerialGC"

#: Seconds after which something that was to happen never will, on the slowest machine.
PATIENCE = 600
POLL_SECONDS = 0.05
#: Lines of a log that an error shows.
SHOWN_LINES = 40
#: Ports that Linux gives to nobody who asks for just any, as hundreds of sockets do during tests.
PORTS = range(15_000, 25_000)


class Service:
    """A program in the background, in a process group of its own, with its output in a file."""

    def __init__(self, command: Sequence[str], log: Path, env: dict[str, str]) -> None:
        self.command = command
        self.log = log
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=env,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    @property
    def output(self) -> str:
        """All that it has said so far."""
        return self.log.read_text(errors="replace")

    def says(self, pattern: str) -> str:
        """Wait until it says what matches a regular expression; return the first group."""
        return self.wait_for(lambda: re.search(pattern, self.output), f"say {pattern}").group(1)

    def wait_for(self, condition: Callable[[], T | None], what: str) -> T:
        """Wait for a condition that is true only while it runs."""

        def met() -> T | None:
            running = self.running
            result = condition()
            if not result and not running:
                raise AssertionError(f"{self} ended and did not {what}\n{self._last_lines()}")
            return result

        return wait_until(met, f"{self} to {what}")

    def end(self, patience: float = PATIENCE) -> int:
        """Wait until it ends, so many seconds at most; return its exit code."""
        try:
            return self._process.wait(patience)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self} does not end\n{self._last_lines()}") from None

    def kill(self) -> None:
        """End it and all that it has started as a loss of power would; fine if it has ended."""
        if self.running:
            os.killpg(self.pid, signal.SIGKILL)
            self._process.wait()
            # Each ends by itself, and until then may still write, or hold a lock.
            wait_until(lambda: not group(self.pid), f"{self} to end")

    def __str__(self) -> str:
        return " ".join(map(str, self.command))[:200]

    def _last_lines(self) -> str:
        return "\n".join(self.output.splitlines()[-SHOWN_LINES:])


def wait_until(condition: Callable[[], T | None], what: str) -> T:
    """Wait until a condition gives something true, and return that."""
    deadline = monotonic() + PATIENCE
    while monotonic() < deadline:
        result = condition()
        if result:
            return result
        sleep(POLL_SECONDS)
    raise AssertionError(f"waited in vain for {what}")


def free_port() -> int:
    """Claim a port of 127.0.0.1 that nobody listens on, until this process ends.

    Nobody else gets it before it is used, or between two servers that use it: neither from the
    system, nor from here in another process, where the claim is a name that only one can hold.
    """
    for number in range(len(PORTS)):
        port = PORTS[(os.getpid() + number) % len(PORTS)]
        claim = socket.socket(socket.AF_UNIX)
        with claim, socket.socket() as probe, suppress(OSError):
            claim.bind(f"\0pomona tests: port {port}")
            probe.bind(("127.0.0.1", port))
            claim.detach()  # the file descriptor stays open
            return port
    raise AssertionError(f"no port is free of {PORTS}")


class Process(NamedTuple):
    """A process that runs."""

    pid: int
    parent: int
    group: int


def processes() -> list[Process]:
    """List the processes that run: those that have ended and wait to be noticed do not."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            # The name, in parentheses, may hold anything.
            state, parent, group = stat.read_text(errors="replace").rpartition(")")[2].split()[:3]
        except OSError:  # it has ended meanwhile
            continue
        if state not in "ZX":
            found.append(Process(int(stat.parent.name), int(parent), int(group)))
    return found


def group(leader: int) -> list[int]:
    """Find the processes of a group that still run."""
    return [each.pid for each in processes() if each.group == leader]


def children(pid: int) -> list[int]:
    """Find the processes that a process has started, and that still run."""
    return [each.pid for each in processes() if each.parent == pid]


def any_runs(pids: Sequence[int]) -> bool:
    """Tell whether any of some processes still runs."""
    return not {each.pid for each in processes()}.isdisjoint(pids)
