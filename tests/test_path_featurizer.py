"""Photos by their paths, from Python: signals, forks, memory, and what is refused."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from threading import Timer
from typing import Any

import numpy as np
import pytest

from pomona import Featurizer
from pomona._native import PathFeaturizer
from stores import Hanging, Store, serving

MEGABYTE = 1_000_000
#: Of a JPEG's comment, whose length is two bytes.
LARGEST_SEGMENT = 0xFFFF

# Peak memory before and after, in KiB, and the number of photos with features. The peak of
# getrusage would be the parent's, from before the program was loaded.
MEASURE = """
import json, re, sys
from pomona import Featurizer
from pomona._native import PathFeaturizer

model, warm, bytes_in_flight, storage, paths = json.load(sys.stdin)
featurizer = Featurizer(model)
featurizer.featurize([open(warm, "rb").read()])
peak = lambda: int(re.search("VmHWM:\\s*([0-9]+)", open("/proc/self/status").read()).group(1))
before = peak()
stream = PathFeaturizer(
    featurizer, concurrency=32, max_bytes_in_flight=bytes_in_flight, storage=storage
)
stream.submit(paths[:64])
stream.submit(paths[64:])
errors = stream.next()[1] + stream.next()[1]
print(json.dumps([before, peak(), errors.count(None)]))
"""


# The maximum of threads that a PathFeaturizer adds.
COUNT_THREADS = """
import json, os, sys, threading
from pomona import Featurizer
from pomona._native import PathFeaturizer

model, paths = json.load(sys.stdin)
done, most = threading.Event(), 0

def watch():
    global most
    while not done.is_set():
        most = max(most, len(os.listdir("/proc/self/task")))

watcher = threading.Thread(target=watch)
watcher.start()
before = len(os.listdir("/proc/self/task"))
stream = PathFeaturizer(Featurizer(model), concurrency=32)
stream.submit(paths)
assert stream.next()[1].count(None) == len(paths)
done.set()
watcher.join()
print(most - before)
"""


def test_features_are_those_of_the_bytes_in_the_order_of_the_paths(
    folder: Path, tiny_model: Path
) -> None:
    paths = sorted(folder.rglob("*.jpg"))
    featurizer = Featurizer(tiny_model, threads=2)
    stream = PathFeaturizer(featurizer)
    stream.submit(str(path) for path in paths[:10])
    stream.submit([*map(str, paths[10:]), f"{folder}/gone.jpg", None])

    first, second = stream.next(), stream.next()

    assert first is not None
    assert second is not None
    assert stream.next() is None
    matrix = np.concatenate([first[0], second[0]])
    expected = featurizer.featurize([path.read_bytes() for path in paths])
    np.testing.assert_array_equal(matrix[:-2], expected)
    assert np.isnan(matrix[-2:]).all()
    errors = [error and (error.index, error.reason, error.kind) for error in first[1] + second[1]]
    last = len(paths) - 10
    assert errors == [None] * len(paths) + [
        (last, "not read: no longer there", "gone"),
        (last + 1, "no image (null)", "missing"),
    ]


def test_what_makes_no_sense_is_refused(tiny_model: Path) -> None:
    featurizer = Featurizer(tiny_model)
    for options, said in (
        ({"concurrency": 0}, "concurrency must be at least 1"),
        ({"max_bytes_in_flight": 0}, "max_bytes_in_flight must be at least 1"),
        ({"concurrency": -1}, "concurrency must be at least 1, not -1"),
        ({"timeout": -1.0}, "timeout must be a time"),
        ({"storage": {"": {"colour": "red"}}}, "storage must be settings of S3, not colour"),
        ({"storage": {"": {"credentials": "magic"}}}, "credentials must be chain, keys"),
    ):
        with pytest.raises(ValueError, match=said):
            PathFeaturizer(featurizer, **options)
    stream = PathFeaturizer(featurizer)
    with pytest.raises(TypeError, match=r"pass \[path\]"):
        stream.submit("one.jpg")
    stream.submit(["hdfs://name/1.jpg"])
    with pytest.raises(ValueError, match=r"can't read hdfs://name/1\.jpg: photos are read by"):
        stream.next()
    assert stream.next() is None


def test_a_signal_ends_the_wait_for_a_server_that_hangs_and_other_photos_can_be_had(
    folder: Path, tiny_model: Path
) -> None:
    def ring(*_: object) -> None:
        raise InterruptedError

    before = signal.signal(signal.SIGALRM, ring)
    with serving(Hanging) as storage:
        featurizer = Featurizer(tiny_model)
        stream = PathFeaturizer(featurizer, storage=storage)
        stream.submit([f"s3a://garden/{number}.jpg" for number in range(50)])
        alarm = Timer(0.3, os.kill, (os.getpid(), signal.SIGALRM))
        alarm.start()
        try:
            with pytest.raises(InterruptedError):
                stream.next()
        finally:
            alarm.join()
            signal.signal(signal.SIGALRM, before)
        assert stream.next() is None
        paths = sorted(folder.rglob("*.jpg"))
        for _ in range(3):
            stream.submit(str(path) for path in paths)
            results = stream.next()
            assert results is not None
            expected = featurizer.featurize([path.read_bytes() for path in paths])
            np.testing.assert_array_equal(results[0], expected)


def test_neither_an_error_nor_an_interruption_changes_what_is_read_afterwards(
    folder: Path, tiny_model: Path
) -> None:
    paths = [str(path) for path in sorted(folder.rglob("*.jpg"))]
    featurizer = Featurizer(tiny_model, threads=2)
    expected = featurizer.featurize([Path(path).read_bytes() for path in paths])
    photo = Path(paths[0]).read_bytes()

    class Slow(Store):
        def content(self) -> bytes:
            time.sleep(0.02)
            return photo

    def ring(*_: object) -> None:
        raise InterruptedError

    before = signal.signal(signal.SIGALRM, ring)
    try:
        with serving(Slow) as storage:
            stream = PathFeaturizer(featurizer, storage=storage)
            slow = [f"s3a://garden/{number}.jpg" for number in range(400)]
            for _ in range(20):
                # Reads are aborted while they wait, while they transfer and when they have arrived.
                stream.submit([*paths, *slow, "hdfs://name/1.jpg"])
                with pytest.raises(ValueError, match="hdfs://name/1"):
                    stream.next()
                assert stream.next() is None
                stream.submit([*paths, *slow])
                signal.setitimer(signal.ITIMER_REAL, 0.1)
                with pytest.raises(InterruptedError):
                    stream.next()
                assert stream.next() is None
                stream.submit(paths)
                results = stream.next()
                assert results is not None
                assert results[1] == [None] * len(paths)
                np.testing.assert_array_equal(results[0], expected)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_a_key_that_can_not_be_requested_is_refused_and_no_other_one_is_read(
    folder: Path, tiny_model: Path
) -> None:
    photo = next(folder.rglob("*.jpg")).read_bytes()
    requested: list[str] = []

    class Recording(Store):
        def content(self) -> bytes:
            requested.append(self.path)
            return photo

    keys = ["/k.jpg", "k.jpg/", "/", "a//k.jpg", "a/../k.jpg", "k.jpg"]
    with serving(Recording) as storage:
        stream = PathFeaturizer(Featurizer(tiny_model), storage=storage)
        stream.submit(f"s3://garden/{key}" for key in keys)
        results = stream.next()
    assert results is not None
    assert requested == ["/garden/k.jpg"]
    assert results[1][-1] is None
    for error in results[1][:-1]:
        assert error is not None
        assert error.reason.startswith("not read: its name can't be requested: ")
        assert error.kind == "storage"
    assert np.isnan(results[0][:-1]).all()


def test_local_files_are_read_by_eight_threads_at_most(
    folder: Path, tmp_path: Path, tiny_model: Path
) -> None:
    photo = next(folder.rglob("*.jpg"))
    paths = [str(tmp_path / f"{number}.jpg") for number in range(2000)]
    for path in paths:
        os.link(photo, path)
    done = subprocess.run(
        [sys.executable, "-c", COUNT_THREADS],
        input=json.dumps([str(tiny_model), paths]).encode(),
        stdout=subprocess.PIPE,
        check=True,
    )
    # Besides them one thread waits for S3.
    assert int(done.stdout) <= 1 + 8


def test_what_is_no_file_is_neither_waited_for_nor_read(tiny_model: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "endless.jpg").symlink_to("/dev/zero")
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "empty.jpg").write_bytes(b"")
    stream = PathFeaturizer(Featurizer(tiny_model))
    stream.submit(f"{tmp_path}/{name}.jpg" for name in ("pipe", "endless", "folder", "empty"))
    results = stream.next()
    assert results is not None
    errors = [error and (error.reason, error.kind) for error in results[1]]
    assert errors == [("not a file", "storage")] * 3 + [("empty: 0 bytes", "image")]


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_child_reads_with_threads_of_its_own(folder: Path, tiny_model: Path) -> None:
    paths = [str(path) for path in sorted(folder.rglob("*.jpg"))]
    featurizer = Featurizer(tiny_model)
    stream = PathFeaturizer(featurizer)
    stream.submit(paths)
    expected = stream.next()
    assert expected is not None
    stream.submit(paths)

    def in_child() -> int:
        with pytest.raises(RuntimeError, match="make a new PathFeaturizer"):
            stream.next()
        with pytest.raises(RuntimeError, match="make a new PathFeaturizer"):
            stream.submit(paths)
        own = PathFeaturizer(Featurizer(tiny_model))
        own.submit(paths)
        found = own.next()
        return 0 if found is not None and np.array_equal(found[0], expected[0]) else 2

    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = in_child()
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    again = stream.next()
    assert again is not None
    np.testing.assert_array_equal(again[0], expected[0])


@pytest.mark.parametrize("way", ["local", "s3"])
def test_32_reads_of_10_megabytes_take_no_more_memory_than_was_given(
    folder: Path, tmp_path: Path, tiny_model: Path, way: str
) -> None:
    small = next(folder.rglob("*.jpg"))
    large = tmp_path / "large.jpg"
    large.write_bytes(inflated(small.read_bytes(), 10 * MEGABYTE))
    room = 40 * MEGABYTE

    class Large(Store):
        def content(self) -> bytes:
            return large.read_bytes()

    with serving(Large) as storage:
        paths = [str(large) if way == "local" else f"s3a://garden/{n}.jpg" for n in range(96)]
        before, after, whole = measured(tiny_model, small, room, storage, paths)
    assert whole == len(paths)
    # What was promised, and 250 MB besides: the process itself among them.
    assert after * 1024 < room + 250 * MEGABYTE
    # The photos' own share, with what connections and the allocator keep.
    assert (after - before) * 1024 < room + 60 * MEGABYTE


def measured(model: Path, small: Path, room: int, storage: Any, paths: list[str]) -> list[int]:
    given = json.dumps([str(model), str(small), room, storage, paths])
    result = subprocess.run(
        [sys.executable, "-c", MEASURE],
        input=given.encode(),
        stdout=subprocess.PIPE,
        check=True,
    )
    return list(json.loads(result.stdout))


def inflated(photo: bytes, size: int) -> bytes:
    """Fill a JPEG up with comments."""
    comments = bytearray()
    while len(comments) < size:
        comments += b"\xff\xfe" + LARGEST_SEGMENT.to_bytes(2, "big") + bytes(LARGEST_SEGMENT - 2)
    return photo[:2] + bytes(comments) + photo[2:]
