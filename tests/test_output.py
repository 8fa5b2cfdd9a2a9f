"""Atomic writing of files."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from pomona._output import atomic_file, check_writable, publish


def test_the_file_appears_when_the_block_ends_and_not_before(tmp_path: Path) -> None:
    path = tmp_path / "out"
    with atomic_file(path) as file:
        file.write(b"half")
        assert not path.exists()
        file.write(b" and half")
    assert path.read_bytes() == b"half and half"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_a_failed_block_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, error: type[BaseException]
) -> None:
    path = tmp_path / "out"
    path.write_bytes(b"old")
    with pytest.raises(error), atomic_file(path) as file:  # noqa: PT012 - the block is the matter
        file.write(b"new")
        raise error
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_file_has_the_rights_that_the_umask_leaves(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        with atomic_file(tmp_path / "out"):
            pass
    finally:
        os.umask(before)
    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o640


def test_a_link_is_written_through(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "real" / "out")
    with atomic_file(link) as file:
        file.write(b"x")
    assert link.is_symlink()
    assert (tmp_path / "real" / "out").read_bytes() == b"x"


def test_a_name_as_long_as_names_can_be_is_fine(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 255)
    with atomic_file(path) as file:
        file.write(b"x")
    assert path.read_bytes() == b"x"


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"folder does not exist.*nowhere"):
        check_writable(tmp_path / "nowhere" / "out")


def test_a_folder_that_takes_no_files_is_told_by_the_name_asked_for() -> None:
    with pytest.raises(OSError, match="'/proc/out'"), atomic_file("/proc/out"):
        pass


def test_a_folder_is_not_replaced(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError, match="is a folder; give the name of a file"):
        check_writable(tmp_path)


def test_a_pipe_is_not_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="is a device or a pipe"):
        check_writable(tmp_path / "pipe")
    with pytest.raises(OSError, match="is a device or a pipe"):
        check_writable("/dev/null")


def test_a_folder_made_read_only_meanwhile_leaves_nothing(tmp_path: Path) -> None:
    partial = tmp_path / "partial"
    partial.write_bytes(b"x")
    with pytest.raises(FileNotFoundError):
        publish(partial, tmp_path / "gone" / "out")
    assert partial.exists()


def test_a_full_disk_leaves_nothing(tmp_path: Path) -> None:
    script = """
        import resource, signal, sys
        from pomona._output import atomic_file
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        try:
            with atomic_file(sys.argv[1]) as file:
                file.write(bytes(100_000))
        except OSError as error:
            print(error)
    """
    path = tmp_path / "out"
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), str(path)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == f"[Errno 27] File too large: {str(path)!r}\n"
    assert list(tmp_path.iterdir()) == []
