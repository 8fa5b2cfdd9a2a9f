"""Listings of S3 from Python: what only a server of our own can be made to have, and signals."""

from __future__ import annotations

import os
import signal
from threading import Timer
from urllib.parse import parse_qs, urlsplit
from xml.sax.saxutils import escape

import pytest

from pomona._native import list_folders
from stores import Hanging, Store, serving

#: Keys in an answer of the server.
PAGE = 3
TIME = "2026-11-22T10:11:12.345Z"
MILLISECONDS = 1_795_342_272_345

FOLDER = "<CommonPrefixes><Prefix>{}</Prefix></CommonPrefixes>"
FILE = f"<Contents><Key>{{}}</Key><Size>5</Size><LastModified>{TIME}</LastModified></Contents>"


def store(*keys: str) -> type[Store]:
    """Make a server that lists these keys as S3 does, in short answers; a file has 5 bytes."""

    class Listed(Store):
        def content(self) -> bytes:
            query = {name: one for name, (one,) in parse_qs(urlsplit(self.path).query).items()}
            prefix, start = query.get("prefix", ""), int(query.get("continuation-token", 0))
            found: list[str] = []
            for key in sorted(key for key in keys if key.startswith(prefix)):
                name, slash, _ = key[len(prefix) :].partition(query.get("delimiter", "\0"))
                entry = FOLDER if slash else FILE
                entry = entry.format(escape(prefix + name + slash))
                if entry not in found:
                    found.append(entry)
            end = start + int(query.get("max-keys", PAGE))
            more = f"<NextContinuationToken>{end}</NextContinuationToken>"
            body = "".join(found[start:end]) + (more if end < len(found) else "")
            return f"<ListBucketResult>{body}</ListBucketResult>".encode()

    return Listed


def test_a_folder_has_its_files_and_folders_from_all_answers() -> None:
    files = [f"Test/{number}.jpg" for number in range(2 * PAGE)]
    others = ["Test/", "Test/a & b/1.jpg", "Test/a & b/2.jpg", "Test/c/d/3.jpg", "Tests/4.jpg"]
    with serving(store(*files, *others)) as storage:
        listed = list_folders(
            ["s3a://garden/Test", "s3://garden/Test/c/", "s3a://garden"], storage=storage
        )
    expected = [(f"s3a://garden/{name}", 5, MILLISECONDS) for name in files]
    assert listed == [
        (expected, ["s3a://garden/Test/a & b", "s3a://garden/Test/c"]),
        ([], ["s3://garden/Test/c/d"]),
        ([], ["s3a://garden/Test", "s3a://garden/Tests"]),
    ]


def test_a_file_is_listed_alone_and_where_nothing_is_there_is_no_listing() -> None:
    with serving(store("Test.jpg", "Test.jpg.txt", "empty/")) as storage:
        listed = list_folders(
            [f"s3a://garden/{name}" for name in ("Test.jpg", "Test", "Test.jpg.t", "empty")],
            storage=storage,
        )
    assert listed == [([("s3a://garden/Test.jpg", 5, MILLISECONDS)], []), None, None, ([], [])]


def test_names_that_can_not_be_asked_for_are_refused() -> None:
    with serving(store("Test/a//b.jpg", "Test/c.jpg")) as storage:
        assert list_folders(["s3a://garden/Test"], storage=storage) == [
            ([("s3a://garden/Test/c.jpg", 5, MILLISECONDS)], ["s3a://garden/Test/a"])
        ]
        with pytest.raises(ValueError, match=r"can't read s3a://garden/Test/a: .*empty"):
            list_folders(["s3a://garden/Test/a"], storage=storage)


def test_keys_that_start_with_a_slash_are_refused_and_no_other_ones_are_listed() -> None:
    with serving(store("/Test/a.jpg", "Test/b.jpg")) as storage:
        for path in ("s3a://garden", "s3a://garden//Test", "s3a://garden//"):
            with pytest.raises(ValueError, match="start with a slash can't be requested"):
                list_folders([path], storage=storage)
        (listing,) = list_folders(["s3a://garden/Test"], storage=storage)
    assert listing == ([("s3a://garden/Test/b.jpg", 5, MILLISECONDS)], [])


@pytest.mark.parametrize("path", ["Test", "/Test", "file:/Test", "hdfs://name/Test", "s3a:///Test"])
def test_folders_that_are_not_of_s3_are_refused(path: str) -> None:
    with pytest.raises(ValueError, match=f"can't read {path}: it is not a folder of S3"):
        list_folders([path])


def test_a_signal_ends_the_wait_for_a_listing_and_others_can_be_had() -> None:
    def ring(*_: object) -> None:
        raise InterruptedError

    before = signal.signal(signal.SIGALRM, ring)
    with serving(Hanging) as storage:
        alarm = Timer(0.3, os.kill, (os.getpid(), signal.SIGALRM))
        alarm.start()
        try:
            with pytest.raises(InterruptedError):
                list_folders(["s3a://garden/Test"], storage=storage)
        finally:
            alarm.join()
            signal.signal(signal.SIGALRM, before)
        with serving(store("Test/1.jpg")) as other:
            assert list_folders(["s3a://garden/Test"], storage=other) == [
                ([("s3a://garden/Test/1.jpg", 5, MILLISECONDS)], [])
            ]


def test_a_server_that_hangs_is_told_when_the_time_is_over() -> None:
    with serving(Hanging) as storage, pytest.raises(OSError, match="the server hangs"):
        list_folders(["s3a://garden/Test"], storage=storage, timeout=0.5)
