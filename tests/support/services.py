"""Background programs of tests, and processes in general."""

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

#: Options that halve the processor time of short Java programs.
FAST_JAVA = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"
#: Options for every JVM that a test configures itself: these, and one that Arrow needs on Java 9
#: and later.
JAVA_OPTIONS = f"-Dio.netty.tryReflectionSetAccessible=true {FAST_JAVA}"

#: Timeout in seconds, long enough for the slowest machine.
PATIENCE = 600
POLL_SECONDS = 0.05
#: Lines of a log that an error message shows.
SHOWN_LINES = 40
#: Outside of the range from which Linux assigns ports to outgoing connections.
PORTS = range(15_000, 25_000)


class Service:
    """A background program in its own process group, with its output in a file."""

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
        """The output so far."""
        return self.log.read_text(errors="replace")

    def says(self, pattern: str) -> str:
        """Wait until the output matches a regular expression; return the first group."""
        return self.wait_for(lambda: re.search(pattern, self.output), f"say {pattern}").group(1)

    def wait_for(self, condition: Callable[[], T | None], what: str) -> T:
        """Wait for a condition, and fail if the program ends before it is met."""

        def met() -> T | None:
            running = self.running
            result = condition()
            if not result and not running:
                raise AssertionError(f"{self} ended and did not {what}\n{self._last_lines()}")
            return result

        return wait_until(met, f"{self} to {what}")

    def end(self, patience: float = PATIENCE) -> int:
        """Wait until the program ends, with a timeout in seconds; return its exit code."""
        try:
            return self._process.wait(patience)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self} does not end\n{self._last_lines()}") from None

    def kill(self) -> None:
        """Kill the program and its process group, if it still runs."""
        if self.running:
            os.killpg(self.pid, signal.SIGKILL)
            self._process.wait()
            # The processes end one by one, and may write or hold locks until then.
            wait_until(lambda: not group(self.pid), f"{self} to end")

    def __str__(self) -> str:
        return " ".join(map(str, self.command))[:200]

    def _last_lines(self) -> str:
        return "\n".join(self.output.splitlines()[-SHOWN_LINES:])


def wait_until(condition: Callable[[], T | None], what: str) -> T:
    """Wait until a condition returns a true value, and return it."""
    deadline = monotonic() + PATIENCE
    while monotonic() < deadline:
        result = condition()
        if result:
            return result
        sleep(POLL_SECONDS)
    raise AssertionError(f"timeout: waited for {what}")


def free_port() -> int:
    """Reserve a free port of 127.0.0.1 until this process ends.

    Nothing else takes the port before a server uses it, or between two servers: Linux does not
    assign it, and other test processes respect the reservation, an abstract socket with its number.
    """
    for number in range(len(PORTS)):
        port = PORTS[(os.getpid() + number) % len(PORTS)]
        claim = socket.socket(socket.AF_UNIX)
        with claim, socket.socket() as probe, suppress(OSError):
            claim.bind(f"\0pomona tests: port {port}")
            probe.bind(("127.0.0.1", port))
            claim.detach()  # the file descriptor stays open
            return port
    raise AssertionError(f"none of the ports {PORTS} is free")


class Process(NamedTuple):
    """A running process."""

    pid: int
    parent: int
    group: int


def processes() -> list[Process]:
    """Return the running processes, without zombies."""
    running = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            # The name, in parentheses, may contain anything.
            state, parent, group = stat.read_text(errors="replace").rpartition(")")[2].split()[:3]
        except OSError:  # the process has just ended
            continue
        if state not in "ZX":
            running.append(Process(int(stat.parent.name), int(parent), int(group)))
    return running


def group(leader: int) -> list[int]:
    """Return the running processes of a group."""
    return [each.pid for each in processes() if each.group == leader]


def children(pid: int) -> list[int]:
    """Return the running children of a process."""
    return [each.pid for each in processes() if each.parent == pid]


def any_runs(pids: Sequence[int]) -> bool:
    """Return whether any of these processes is running."""
    return not {each.pid for each in processes()}.isdisjoint(pids)
