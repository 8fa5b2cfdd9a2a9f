"""Downloads a file over HTTP and resumes where an earlier attempt stopped."""

from __future__ import annotations

import base64
import fcntl
import hashlib
import http.client
import pathlib
import threading
import urllib.error
import urllib.request
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pomona._errors import ModelError
from pomona._progress import Progress

if TYPE_CHECKING:
    from typing import Any, Iterator

#: Errors of a download that fails.
FAILURES = (OSError, http.client.HTTPException)

# A host name may have a dozen addresses, each of which is tried for CONNECT_SECONDS.
# OPENING_SECONDS bounds them all, including the name look-up.
CONNECT_SECONDS = 5.0
OPENING_SECONDS = 10.0
# How many times a download is attempted, as long as each attempt brings some bytes.
ATTEMPTS = 4
_BLOCK = 1 << 16


@contextmanager
def exclusive(part: pathlib.Path) -> Iterator[None]:
    """Keep two processes from writing to the same partial file; the second gets a ModelError."""
    path = part.with_suffix(".lock")
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ModelError(
                f"another process is downloading to {part}; wait for it to finish"
            ) from error
        try:
            yield
        finally:
            path.unlink()


def download(url: str, part: pathlib.Path, description: str) -> None:
    """Download a file to ``part``, after the bytes that an earlier attempt left in it.

    Raises one of `FAILURES` if that fails; the bytes that have arrived stay for the next call.
    """
    for attempt in range(1, ATTEMPTS + 1):
        before = _size(part)
        try:
            _download_rest(url, part, description)
            return
        except FAILURES as error:
            if getattr(error, "code", None) == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
                # The file is complete already or has become shorter; which of both is unknown.
                remove(part)
                before = -1
            if attempt == ATTEMPTS or _size(part) <= before:
                raise


def remove(part: pathlib.Path) -> None:
    """Remove a partial file and the note of its version, as far as they exist."""
    for path in (part, _tag_file(part)):
        if path.exists():
            path.unlink()


def _download_rest(url: str, part: pathlib.Path, description: str) -> None:
    tag_file = _tag_file(part)
    start = _size(part) if tag_file.exists() else 0
    request = urllib.request.Request(url, headers={"User-Agent": "pomona"})  # noqa: S310 - ours
    if start:
        request.add_header("Range", f"bytes={start}-")
        request.add_header("If-Range", tag_file.read_text())
    with _opened(request) as response:
        if response.status != http.client.PARTIAL_CONTENT:
            # The server cannot resume, or its file has changed.
            start = 0
        length = response.headers["Content-Length"]
        total = None if length is None else start + int(length)
        tag = response.headers.get("ETag", "")
        if start == 0:
            remove(part)
            # A weak tag does not promise that the bytes are equal.
            if tag and not tag.startswith("W/"):
                tag_file.write_text(tag)
        progress = Progress(description, total=total, unit="bytes", initial=start)
        with part.open("ab") as file, progress:
            for block in iter(lambda: response.read(_BLOCK), b""):
                file.write(block)
                progress.update(len(block))
        if total is not None and _size(part) != total:
            raise ConnectionError(f"the connection closed after {_size(part)} of {total} bytes")
        _check_md5(part, response.headers.get_all("x-goog-hash", []))


def _check_md5(part: pathlib.Path, headers: list[str]) -> None:
    """Compare a file with the checksum that Google's storage sends, if there is one."""
    fields = [field.strip() for header in headers for field in header.split(",")]
    expected = [field[len("md5=") :] for field in fields if field.startswith("md5=")]
    if not expected:
        return
    # Against damage in transfer, not for security.
    digest = hashlib.md5(part.read_bytes()).digest()  # noqa: S324
    actual = base64.b64encode(digest).decode()
    if actual != expected[0]:
        remove(part)
        raise ConnectionError(
            f"the download is damaged: its MD5 is {actual}, the server says {expected[0]}"
        )


@contextmanager
def _opened(request: urllib.request.Request) -> Iterator[Any]:
    """Open a URL, or fail after OPENING_SECONDS whatever hangs."""
    result: list[Any] = []

    def run() -> None:
        try:
            result.append(urllib.request.urlopen(request, timeout=CONNECT_SECONDS))  # noqa: S310 - ours
        except BaseException as error:
            result.append(error)

    # A daemon, so that a name look-up that hangs does not delay the end of the process.
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(OPENING_SECONDS)
    if not result:
        raise TimeoutError(f"no answer within {OPENING_SECONDS:g} seconds")
    if isinstance(result[0], urllib.error.HTTPError):
        # It is a response too, and holds a connection.
        result[0].close()
    if isinstance(result[0], BaseException):
        raise result[0]
    with result[0] as response:
        yield response


def _size(part: pathlib.Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _tag_file(part: pathlib.Path) -> pathlib.Path:
    return part.with_suffix(".etag")
