"""Progress on standard error: a line of amount, rate, errors and remaining time."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager, suppress
from time import monotonic
from typing import TYPE_CHECKING

from pomona._images import composed, describe_left_out, one_line

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Iterator, TextIO

    from pomona._images import Tally

#: Seconds between redraws on a terminal. Nobody can read more than five updates per second.
REDRAW_SECONDS = 0.2
#: Seconds between lines in a log.
LOG_SECONDS = 10.0

_BAR_WIDTH = 20
_MIB = 1024 * 1024


class Progress:
    """A progress line on standard error.

    On a terminal, one line is redrawn in place, at most five times per second. Elsewhere (a log
    file, a pipe, a notebook's driver log) a line is printed every ten seconds, and one at the end.
    If the stream is closed or broken, the display ends and the work continues.

    Parameters
    ----------
    description
        Name of the work, such as ``"Featurizing"``.
    total
        Units of work in total, or None if unknown. The attribute may be set later.
    unit
        Name of the units. ``"bytes"`` are shown in MiB.
    stream
        Where to print; by default ``sys.stderr``, looked up when the block starts.
    initial
        Units done before this run (a resumed download). They are shown but not part of the rate.

    Examples
    --------
    >>> import io
    >>> log = io.StringIO()
    >>> with Progress("Featurizing", total=8, stream=log) as progress:
    ...     progress.update(6)
    ...     progress.update(2, errors=1)
    >>> log.getvalue().startswith("Featurizing 8/8 images")
    True
    """

    def __init__(
        self,
        description: str,
        total: int | None = None,
        unit: str = "images",
        stream: TextIO | None = None,
        *,
        initial: int = 0,
    ) -> None:
        self.description = description
        self.total = total
        self.unit = unit
        self.done = initial
        self.counts: dict[str, int] = {}
        self._initial = initial
        self._stream = stream
        self._terminal = False
        self._drawn = 0
        self._started = self._last = monotonic()

    def __enter__(self) -> Progress:
        if self._stream is None:
            self._stream = sys.stderr
        self._started = self._last = monotonic()
        try:
            self._terminal = self._stream is not None and self._stream.isatty()
        except (OSError, ValueError):
            self._stream = None
        if self._terminal:
            self._draw(self._started)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._draw(monotonic(), last=True)
        self._stream = None

    def update(self, n: int = 1, **counts: int) -> None:
        """Add work done, and redraw the line if it is due.

        Parameters
        ----------
        n
            Units done since the last call. 0 only refreshes the line.
        **counts
            Increments of other counters, by their plural names: ``errors=3``. They are shown after
            the rate.
        """
        self.done += n
        for name, count in counts.items():
            self.counts[name] = self.counts.get(name, 0) + count
        now = monotonic()
        if now - self._last >= (REDRAW_SECONDS if self._terminal else LOG_SECONDS):
            self._draw(now)

    def _draw(self, now: float, last: bool = False) -> None:
        self._last = now
        if self._stream is None:
            return
        try:
            if self._terminal:
                # The last column stays empty: some terminals wrap as soon as it is written.
                width = _columns(self._stream) - 1
                line = self._line(now - self._started, last, bar=True)
                if len(line) > width:
                    line = self._line(now - self._started, last)[:width]
                line, self._drawn = line.ljust(self._drawn), len(line)
                text = "\r" + line + ("\n" if last else "")
            else:
                text = self._line(now - self._started, last) + "\n"
            encoding = getattr(self._stream, "encoding", None) or "utf-8"
            self._stream.write(text.encode(encoding, "replace").decode(encoding))
            self._stream.flush()
        except (OSError, ValueError):
            self._stream = None

    def _line(self, seconds: float, last: bool, bar: bool = False) -> str:
        rate = (self.done - self._initial) / seconds if seconds > 0 else 0.0
        head = " ".join(self.description.split())
        if self.total:
            share = min(self.done / self.total, 1.0)
            if bar:
                head += " [{}]".format(("#" * int(share * _BAR_WIDTH)).ljust(_BAR_WIDTH, "."))
            head += f" {self._amount(self.done)}/{self._amount(self.total)} {self._unit}"
            head += f" {int(share * 100)}%"
        else:
            head += f" {self._amount(self.done)} {self._unit}"
        parts = [head, f"{self._amount(rate, 1)} {self._unit}/s"]
        for name, count in self.counts.items():
            if count:
                parts.append(f"{count:,} {name[:-1] if count == 1 else name}")
        if last:
            parts.append(f"took {_duration(seconds)}")
        elif self.total and rate > 0:
            parts.append(f"ETA {_duration(max(self.total - self.done, 0) / rate)}")
        return " | ".join(parts)

    @property
    def _unit(self) -> str:
        return "MiB" if self.unit == "bytes" else self.unit

    def _amount(self, value: float, digits: int = 0) -> str:
        if self.unit == "bytes":
            return f"{value / _MIB:,.1f}"
        return f"{value:,.{digits}f}"


@contextmanager
def timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    """Record the wall-clock seconds of a block that succeeds, under the name of its stage."""
    started = monotonic()
    yield
    seconds[stage] = round(monotonic() - started, 3)


def report_listing(tally: Tally) -> None:
    """Print to standard error what a listing left out, and which labels it spelled otherwise."""
    lines = []
    if tally.left_out:
        photos = "1 photo" if tally.images == 1 else f"{tally.images:,} photos"
        lines.append(f"{photos}; left out: {describe_left_out(tally.left_out)}")
    if tally.decomposed:
        example = one_line(composed(min(tally.decomposed)))
        number = len(tally.decomposed)
        names = "1 folder name" if number == 1 else f"{number:,} folder names"
        lines.append(
            f"{names} in Unicode's decomposed form (NFD), such as {example}: labels have the "
            "composed form (NFC), so both spellings of a name are one label"
        )
    with suppress(OSError, ValueError):
        for line in lines:
            print(line, file=sys.stderr)  # noqa: T201


def _columns(stream: TextIO) -> int:
    """Return the width of a stream's terminal, or 80 if it is unknown."""
    try:
        return os.get_terminal_size(stream.fileno()).columns or 80
    except (OSError, ValueError):
        return 80


def _duration(seconds: float) -> str:
    """Format seconds as h:mm:ss or m:ss.

    Examples
    --------
    >>> _duration(7.2), _duration(75), _duration(3661)
    ('0:07', '1:15', '1:01:01')
    """
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02d}:{second:02d}" if hours else f"{minute}:{second:02d}"
