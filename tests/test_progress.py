"""The progress line: its text, its frequency, and that it never disturbs the work."""

from __future__ import annotations

import io
import os
import pty
import re
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pomona import _progress
from pomona._progress import Progress
from terminals import all_shown


class Clock:
    """A clock that tests advance."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    """A terminal that records its output."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(_progress, "monotonic", clock)
    return clock


def lines_of(stream: io.StringIO) -> list[str]:
    return [line.rstrip() for line in re.split(r"[\r\n]+", stream.getvalue()) if line.strip()]


def test_the_line_shows_done_total_rate_errors_and_time_left(clock: Clock) -> None:
    terminal = Terminal()
    with Progress("Featurizing", total=200, stream=terminal) as progress:
        clock.now += 2
        progress.update(50, errors=3)
        assert lines_of(terminal)[-1] == (
            "Featurizing 50/200 images 25% | 25.0 images/s | 3 errors | ETA 0:06"
        )


def test_the_last_line_says_how_long_it_took(clock: Clock) -> None:
    log = io.StringIO()
    with Progress("Featurizing", total=2, stream=log) as progress:
        progress.update(2)
        clock.now += 65
    assert log.getvalue() == "Featurizing 2/2 images 100% | 0.0 images/s | took 1:05\n"


def test_one_error_is_not_errors(clock: Clock) -> None:
    log = io.StringIO()
    with Progress("Featurizing", stream=log) as progress:
        progress.update(errors=1, skipped=0)
    assert log.getvalue() == "Featurizing 1 images | 0.0 images/s | 1 error | took 0:00\n"


def test_a_bar_is_drawn_where_the_line_leaves_room(clock: Clock) -> None:
    terminal = Terminal()
    with Progress("Reading", total=4, unit="files", stream=terminal) as progress:
        clock.now += 1
        progress.update(2)
    assert "Reading [##########..........] 2/4 files 50%" in terminal.getvalue()


def test_a_total_that_is_not_known_is_left_out(clock: Clock) -> None:
    log = io.StringIO()
    with Progress("Reading", stream=log) as progress:
        clock.now += 2
        progress.update(10)
    assert log.getvalue() == "Reading 10 images | 5.0 images/s | took 0:02\n"


def test_bytes_are_shown_in_mebibytes(clock: Clock) -> None:
    log = io.StringIO()
    with Progress("Downloading", total=10 << 20, unit="bytes", stream=log) as progress:
        clock.now += 2
        progress.update(5 << 20)
    assert log.getvalue() == "Downloading 5.0/10.0 MiB 50% | 2.5 MiB/s | took 0:02\n"


def test_a_resumed_download_counts_only_new_bytes_in_its_rate(clock: Clock) -> None:
    log = io.StringIO()
    total, before = 10 << 20, 8 << 20
    with Progress("Downloading", total, "bytes", log, initial=before) as progress:
        clock.now += 2
        progress.update(2 << 20)
    assert log.getvalue() == "Downloading 10.0/10.0 MiB 100% | 1.0 MiB/s | took 0:02\n"


def test_a_terminal_is_redrawn_at_most_five_times_a_second(clock: Clock) -> None:
    terminal = Terminal()
    with Progress("Featurizing", total=1000, stream=terminal) as progress:
        for _ in range(1000):
            clock.now += 0.001
            progress.update()
        redraws = terminal.getvalue().count("\r")
    assert 4 <= redraws <= 6  # the first at once, then one every 0.2 s


def test_a_log_gets_a_line_every_ten_seconds_and_a_last_one(clock: Clock) -> None:
    log = io.StringIO()
    with Progress("Featurizing", total=100, stream=log) as progress:
        for _ in range(25):
            clock.now += 1
            progress.update()
    lines = log.getvalue().splitlines()
    assert [line.split(" | ")[0] for line in lines] == [
        "Featurizing 10/100 images 10%",
        "Featurizing 20/100 images 20%",
        "Featurizing 25/100 images 25%",
    ]
    assert "\r" not in log.getvalue()


def test_a_shorter_line_wipes_the_longer_one_before_it(clock: Clock) -> None:
    terminal = Terminal()
    with Progress("Featurizing", total=100, stream=terminal) as progress:
        clock.now += 1
        progress.update(1)
        clock.now += 200
        progress.update(99)
    screen = ""
    for part in terminal.getvalue().rstrip("\n").split("\r")[1:]:
        screen = part + screen[len(part) :]
        assert screen.rstrip() == part.rstrip()
    assert screen.endswith(" ")


def test_the_line_ends_with_a_line_break_when_the_work_fails(clock: Clock) -> None:
    terminal = Terminal()
    with pytest.raises(RuntimeError), Progress("Featurizing", stream=terminal):
        raise RuntimeError
    assert terminal.getvalue().endswith("\n")


def test_more_work_than_announced_stays_at_100_percent(clock: Clock) -> None:
    log = io.StringIO()
    with Progress("Featurizing", total=2, stream=log) as progress:
        clock.now += 10
        progress.update(5)
    assert "5/2 images 100%" in log.getvalue()
    assert "ETA 0:00" in log.getvalue()


def test_a_closed_stream_does_not_stop_the_work(clock: Clock) -> None:
    stream = io.StringIO()
    with Progress("Featurizing", total=2, stream=stream) as progress:
        stream.close()
        clock.now += 11
        progress.update()
        clock.now += 11
        progress.update()
    assert progress.done == 2


def test_a_broken_pipe_does_not_stop_the_work(clock: Clock) -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    stream = os.fdopen(write_end, "w", buffering=1)
    with Progress("Featurizing", stream=stream) as progress:
        clock.now += 11
        progress.update()
    assert progress.done == 1
    with suppress(BrokenPipeError):
        stream.close()


def test_no_standard_error_at_all_is_fine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", None)
    with Progress("Featurizing") as progress:
        progress.update()
    assert progress.done == 1


def test_a_stream_without_the_letters_shows_question_marks() -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    with Progress("Früchte", stream=stream) as progress:
        progress.update()
    assert raw.getvalue().startswith(b"Fr?chte 1 images")


def test_a_real_terminal_gets_lines_no_wider_than_it_is() -> None:
    master, slave = pty.openpty()
    with os.fdopen(slave, "w") as terminal, Progress(
        "x" * 300, total=3, stream=terminal
    ) as progress:
        progress.update(3)
    assert max(len(line) for line in re.split(r"[\r\n]+", all_shown(master))) == 79


@given(
    updates=st.lists(
        st.tuples(st.integers(0, 10**12), st.integers(0, 50), st.floats(0, 1e6)), max_size=20
    ),
    total=st.none() | st.integers(0, 10**12),
    unit=st.sampled_from(["images", "bytes"]),
    terminal=st.booleans(),
    description=st.text(max_size=40),
)
@settings(deadline=None)
def test_no_sequence_of_updates_breaks_the_line(
    updates: list[tuple[int, int, float]],
    total: int | None,
    unit: str,
    terminal: bool,
    description: str,
) -> None:
    clock = Clock()
    stream = Terminal() if terminal else io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_progress, "monotonic", clock)
        with Progress(description, total, unit, stream) as progress:
            for n, errors, seconds in updates:
                clock.now += seconds
                progress.update(n, errors=errors)
    assert progress.done == sum(n for n, _, _ in updates)
    assert progress.counts.get("errors", 0) == sum(errors for _, errors, _ in updates)
    assert stream.getvalue().endswith("\n")
