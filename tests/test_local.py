"""`pomona featurize` as a function: a folder to Parquet on one machine."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import pomona
from pomona import _parquet, local
from pomona._errors import ERROR_COLUMNS, NOTE_COLUMNS
from pomona.local import NoImagesError, featurize_folder
from pomona.models.store import sha256_of
from services import wait_until
from specimens import damaged, turned


def errors_of(output: Path) -> dict[str, str]:
    """Map the names of the photos that failed to the reasons."""
    rows = pq.read_table(output).to_pylist()
    assert all((row["features"] is None) == (row["error"] is not None) for row in rows)
    return {Path(row["path"]).name: row["error"] for row in rows if row["error"] is not None}


def test_every_photo_is_a_row_in_the_order_of_the_paths(
    folder: Path, output: Path, tiny_model: Path
) -> None:
    summary = featurize_folder(folder, output, model=tiny_model)
    table = pq.read_table(output)
    paths = sorted(str(path) for path in folder.rglob("*.jpg"))
    assert table["path"].to_pylist() == paths
    assert table["label"].to_pylist() == [Path(path).parent.name for path in paths]
    assert table["error"].null_count == len(table) == summary.photos == 16
    assert summary.labels == {path.name for path in folder.iterdir()}
    assert summary.errors == 0
    assert summary.output_bytes == output.stat().st_size
    assert summary.images_per_second > 0


def test_images_is_a_name_of_photos_that_warns() -> None:
    with pytest.warns(DeprecationWarning, match=r"Summary\.photos"):
        assert local.Summary(output="out", photos=3).images == 3


def test_the_features_are_those_of_the_featurizer(
    folder: Path, output: Path, tiny_model: Path
) -> None:
    featurize_folder(folder, output, model=tiny_model, threads=2)
    table = pq.read_table(output)
    photos = [Path(path).read_bytes() for path in table["path"].to_pylist()]
    expected = pomona.Featurizer(tiny_model).featurize(photos)
    np.testing.assert_array_equal(np.stack(table["features"].to_numpy()), expected)


def test_the_columns_have_the_promised_types(folder: Path, output: Path, tiny_model: Path) -> None:
    featurize_folder(folder, output, model=tiny_model)
    schema = pq.read_schema(output)
    assert schema.names == ["path", "label", "features", *ERROR_COLUMNS, *NOTE_COLUMNS]
    strings = [pa.string()] * 4
    assert schema.types == [*strings[:2], pa.list_(pa.float32()), *strings, pa.int32()]


def test_the_file_says_which_model_made_it(folder: Path, output: Path, tiny_model: Path) -> None:
    featurize_folder(folder, output, model=tiny_model, apply_exif=True, max_pixels=99_999)
    metadata = pq.read_schema(output).metadata
    assert metadata[b"pomona.model"] == b"tiny"
    assert metadata[b"pomona.model_sha256"].decode() == sha256_of(tiny_model)
    assert metadata[b"pomona.version"].decode() == pomona.__version__
    assert json.loads(metadata[b"pomona.decode"]) == {
        "apply_exif": True,
        "strict": False,
        "max_pixels": 99_999,
        "decode": "exact",
    }
    assert b"pomona.license" in metadata


def test_pages_are_snappy_so_that_every_spark_reads_them(
    folder: Path, output: Path, tiny_model: Path
) -> None:
    featurize_folder(folder, output, model=tiny_model)
    group = pq.ParquetFile(output).metadata.row_group(0)
    assert {group.column(i).compression for i in range(group.num_columns)} == {"SNAPPY"}


def test_failed_photos_are_rows_with_their_error(
    folder: Path, output: Path, tiny_model: Path
) -> None:
    label = next(folder.iterdir())
    good = next(label.iterdir()).read_bytes()
    (label / "empty.jpg").write_bytes(b"")
    (label / "cut.jpg").write_bytes(good[: len(good) // 2])
    (label / "text.png").write_text("hello")
    summary = featurize_folder(folder, output, model=tiny_model)
    errors = errors_of(output)
    assert errors.keys() == {"empty.jpg", "cut.jpg", "text.png"}
    assert summary.errors == 3
    assert summary.photos == 19
    assert {Path(path).name: why for path, why in summary.first_errors} == errors
    rows = [row for row in pq.read_table(output).to_pylist() if row["error"]]
    assert {(row["error_kind"], row["error_version"]) for row in rows} == {
        ("image", pomona.__version__)
    }


def notes_of(output: Path) -> dict[str, tuple[str | None, int | None]]:
    """Map the names of the photos that have features to their warnings and orientations."""
    rows = pq.read_table(output).to_pylist()
    return {
        Path(row["path"]).name: (row["warning"], row["orientation"])
        for row in rows
        if row["features"] is not None
    }


def test_damaged_photos_have_features_and_a_warning(
    folder: Path, output: Path, tiny_model: Path
) -> None:
    (folder / "damaged.jpg").write_bytes(damaged())
    (folder / "empty.jpg").write_bytes(b"")
    summary = featurize_folder(folder, output, model=tiny_model)
    notes = notes_of(output)
    warning, _ = notes.pop("damaged.jpg")
    assert warning is not None
    assert "damaged or missing" in warning
    assert set(notes.values()) == {(None, None)}
    assert (summary.errors, summary.warnings, summary.turned) == (1, 1, 0)
    assert summary.first_warnings == [(str(folder / "damaged.jpg"), warning)]


def test_with_strict_a_warning_is_an_error(folder: Path, output: Path, tiny_model: Path) -> None:
    (folder / "damaged.jpg").write_bytes(damaged())
    summary = featurize_folder(folder, output, model=tiny_model, strict=True)
    assert "damaged or missing" in errors_of(output)["damaged.jpg"]
    assert (summary.errors, summary.warnings, summary.first_warnings) == (1, 0, [])


def test_no_more_than_the_first_warnings_are_listed(
    folder: Path, output: Path, tiny_model: Path
) -> None:
    for photo in folder.rglob("*.jpg"):
        photo.write_bytes(damaged())
    summary = featurize_folder(folder, output, model=tiny_model)
    assert summary.warnings == 16
    assert [path for path, _ in summary.first_warnings] == [
        str(path) for path in sorted(folder.rglob("*.jpg"))[: local.LISTED_ERRORS]
    ]


def test_turned_photos_are_counted_unless_they_are_turned_back(
    folder: Path, output: Path, tiny_model: Path
) -> None:
    (folder / "turned.jpg").write_bytes(turned("JPEG", 6))
    (folder / "upright.jpg").write_bytes(turned("JPEG", 1))
    summary = featurize_folder(folder, output, model=tiny_model)
    notes = notes_of(output)
    assert notes["turned.jpg"] == (None, 6)
    assert notes["upright.jpg"] == (None, None)
    assert (summary.warnings, summary.turned) == (0, 1)
    summary = featurize_folder(folder, output, model=tiny_model, apply_exif=True, overwrite=True)
    assert notes_of(output)["turned.jpg"] == (None, None)
    assert summary.turned == 0


def test_allow_trailing_warns_and_does_nothing(
    folder: Path, output: Path, tiny_model: Path
) -> None:
    photo = min(folder.rglob("*.jpg"))
    photo.write_bytes(photo.read_bytes() + b"tail")
    with pytest.warns(DeprecationWarning, match="allow_trailing is deprecated and ignored"):
        summary = featurize_folder(folder, output, model=tiny_model, allow_trailing=False)
    assert summary.errors == 0


def test_a_mistyped_option_is_named(folder: Path, output: Path, tiny_model: Path) -> None:
    with pytest.raises(TypeError, match=r"featurize_folder\(\) .* 'exif'"):
        featurize_folder(folder, output, model=tiny_model, exif=True)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match=r"featurize\(\) .* 'exif'"):
        pomona.featurize([], model=tiny_model, exif=True)  # type: ignore[call-arg]


def test_featurize_takes_the_options_of_decoding(tiny_model: Path) -> None:
    photos = [turned("JPEG", 6)]
    upright = pomona.featurize(photos, model=tiny_model, apply_exif=True)
    expected = pomona.Featurizer(tiny_model, apply_exif=True).featurize(photos)
    np.testing.assert_array_equal(upright, expected)
    assert (pomona.featurize(photos, model=tiny_model) != upright).any()
    with pytest.raises(pomona.ImageError, match="damaged or missing"):
        pomona.featurize([damaged()], model=tiny_model, strict=True)


def test_features_stay_with_their_photo_between_failed_ones(
    folder: Path, output: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "CHUNK_ROWS", 3)
    for index, photo in enumerate(sorted(folder.rglob("*.jpg"))):
        if index % 3 != 1:
            photo.write_bytes(b"broken")
    featurize_folder(folder, output, model=tiny_model)
    featurizer = pomona.Featurizer(tiny_model)
    for row in pq.read_table(output).to_pylist():
        content = Path(row["path"]).read_bytes()
        if content == b"broken":
            assert row["features"] is None
        else:
            assert row["features"] == featurizer.featurize([content])[0].tolist()


def test_when_every_photo_fails_the_file_has_every_error(
    folder: Path, output: Path, tiny_model: Path
) -> None:
    for photo in folder.rglob("*.jpg"):
        photo.write_bytes(b"broken")
    summary = featurize_folder(folder, output, model=tiny_model)
    assert summary.errors == summary.photos == 16
    assert pq.read_table(output)["features"].null_count == 16
    assert len(summary.first_errors) == local.LISTED_ERRORS


def test_what_is_no_file_is_an_error_and_never_a_hang(
    folder: Path, output: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(folder / "pipe.jpg")
    (folder / "dangling.jpg").symlink_to("nowhere")
    (folder / "loop.jpg").symlink_to("loop.jpg")
    (folder / "endless.jpg").symlink_to("/dev/zero")
    monkeypatch.chdir(folder)  # a socket's path has 107 bytes at most
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket.jpg")
        featurize_folder(folder, output, model=tiny_model)
    special = "cannot be read: it is a pipe, a socket or a device, not a regular file"
    assert errors_of(output) == {
        "pipe.jpg": special,
        "endless.jpg": special,
        "socket.jpg": special,
        "dangling.jpg": "cannot be read: No such file or directory",
        "loop.jpg": "cannot be read: Too many levels of symbolic links",
    }


def test_a_file_too_large_to_be_a_photo_is_not_read(
    folder: Path, output: Path, tiny_model: Path
) -> None:
    with (folder / "huge.jpg").open("wb") as file:
        file.truncate(1 << 40)  # sparse: takes no space
    featurize_folder(folder, output, model=tiny_model)
    assert "1,099,511,627,776 bytes, the limit is" in errors_of(output)["huge.jpg"]


def test_a_photo_that_vanishes_after_the_listing_is_an_error(
    folder: Path, output: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    victim = min(folder.rglob("*.jpg"))
    listed = local.find_images

    def find_and_remove(*roots: Path, **options: local.Tally) -> list[str]:
        paths = list(listed(*roots, **options))
        if not options:  # the second walk, the one that is read
            victim.unlink()
        return paths

    monkeypatch.setattr(local, "find_images", find_and_remove)
    featurize_folder(folder, output, model=tiny_model)
    assert errors_of(output) == {victim.name: "cannot be read: No such file or directory"}


def test_a_forbidden_photo_is_an_error(
    folder: Path, output: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Not by chmod: tests may run as root, who may read everything.
    victim = min(folder.rglob("*.jpg"))
    opened = os.open

    def refuse(path: str, *rest: int, **options: int) -> int:
        if str(path) == str(victim):
            raise PermissionError(13, "Permission denied", path)
        return opened(path, *rest, **options)

    monkeypatch.setattr(os, "open", refuse)
    featurize_folder(folder, output, model=tiny_model)
    assert errors_of(output) == {victim.name: "cannot be read: Permission denied"}


def test_names_that_are_hard_on_parquet_and_terminals_arrive(
    folder: Path, output: Path, tiny_model: Path
) -> None:
    photo = min(folder.rglob("*.jpg"))
    label = folder / os.fsdecode(b"pomme caf\xe9\n")
    label.mkdir()
    for name in (b"two\nlines.jpg", b"\xff\xfe.jpg", "Äpfel 🍎.jpg".encode()):
        shutil.copy(photo, label / os.fsdecode(name))
    featurize_folder(label, output, model=tiny_model)
    table = pq.read_table(output)
    assert [path.rsplit("/", 1)[1] for path in table["path"].to_pylist()] == [
        "two\nlines.jpg",
        "Äpfel 🍎.jpg",
        r"\xff\xfe.jpg",
    ]
    assert table["label"].to_pylist() == ["pomme caf\\xe9\n"] * 3
    assert table["error"].null_count == 3


def test_a_single_photo_and_several_paths_are_taken(
    folder: Path, output: Path, tiny_model: Path
) -> None:
    one, *others = sorted(folder.iterdir())
    photo = min(one.iterdir())
    assert featurize_folder(photo, output, model=tiny_model).photos == 1
    summary = featurize_folder([photo, *others], output, model=tiny_model, overwrite=True)
    assert summary.photos == 9
    assert summary.labels == {path.name for path in folder.iterdir()}


def test_an_output_inside_the_input_folder_is_fine(folder: Path, tiny_model: Path) -> None:
    output = folder / "features.parquet"
    for overwrite in (False, True):
        summary = featurize_folder(folder, output, model=tiny_model, overwrite=overwrite)
        assert (summary.photos, summary.errors) == (16, 0)
        assert summary.left_out == ({".parquet": 1} if overwrite else {})


def test_the_former_name_of_the_files_left_out_warns() -> None:
    summary = local.Summary(output="x", left_out={".txt": 2, "hidden": 1})
    with pytest.warns(DeprecationWarning, match=r"Summary\.left_out"):
        assert summary.others == 3


def test_an_existing_output_is_replaced_only_when_asked(
    folder: Path, output: Path, tiny_model: Path
) -> None:
    output.write_text("precious")
    with pytest.raises(FileExistsError, match="exists already"):
        featurize_folder(folder, output, model=tiny_model)
    assert output.read_text() == "precious"
    featurize_folder(folder, output, model=tiny_model, overwrite=True)
    assert pq.read_metadata(output).num_rows == 16


def test_no_photos_is_an_error_that_says_what_was_looked_for_and_where(
    tmp_path: Path, output: Path, tiny_model: Path
) -> None:
    folder = tmp_path / "documents"
    folder.mkdir()
    (folder / "letter.txt").write_text("hello")
    with pytest.raises(NoImagesError, match=r"documents: .* jpg jpeg .*; left out: 1 .txt$"):
        featurize_folder(folder, output, model=tiny_model)
    assert not output.exists()


def test_many_small_chunks_and_row_groups_make_the_same_file(
    folder: Path, output: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    featurize_folder(folder, output, model=tiny_model)
    once = pq.read_table(output)
    monkeypatch.setattr(local, "CHUNK_ROWS", 3)
    monkeypatch.setattr(_parquet, "ROW_GROUP_BYTES", 1)
    featurize_folder(folder, output, model=tiny_model, overwrite=True)
    assert pq.read_metadata(output).num_row_groups == 6
    assert pq.read_table(output).equals(once)


def test_chunks_end_at_their_bytes_as_well_as_at_their_rows(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "CHUNK_BYTES", 1)
    photos = [(str(path), path.parent.name) for path in folder.rglob("*.jpg")]
    assert [len(chunk) for chunk in local._chunks(photos)] == [1] * 16


def test_chunks_grow_so_that_the_first_photos_show_soon(folder: Path) -> None:
    photos = [(str(path), path.parent.name) for path in folder.rglob("*.jpg")] * 40
    rows = [len(chunk) for chunk in local._chunks(photos)]
    assert rows == [16, 32, 64, 128, local.CHUNK_ROWS, 640 - 16 - 32 - 64 - 128 - 256]


def test_a_uri_is_sent_to_spark(output: Path, tiny_model: Path) -> None:
    with pytest.raises(ValueError, match=r"s3://bucket/Test is a URI.*pomona run"):
        featurize_folder("s3://bucket/Test", output, model=tiny_model)


def test_an_output_that_names_no_file_here_is_told_so(folder: Path, tiny_model: Path) -> None:
    with pytest.raises(ValueError, match=r"s3://bucket/f\.parquet is a URI.*pomona run"):
        featurize_folder(folder, "s3://bucket/f.parquet", model=tiny_model)
    with pytest.raises(ValueError, match="name of the file to write is empty"):
        featurize_folder(folder, "", model=tiny_model)


def test_a_reader_that_fails_is_heard_of(
    folder: Path, output: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: str, label: str) -> None:
        raise MemoryError(path, label)

    monkeypatch.setattr(local, "_read_photo", fail)
    with pytest.raises(MemoryError):
        featurize_folder(folder, output, model=tiny_model)
    assert not output.exists()


def test_no_thread_is_left_when_the_work_fails(
    folder: Path, output: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "CHUNK_ROWS", 1)  # the reader is far from its end

    def fail(*_: object) -> None:
        raise RuntimeError

    monkeypatch.setattr(local, "_table", fail)
    before = set(threading.enumerate())
    with pytest.raises(RuntimeError):
        featurize_folder(folder, output, model=tiny_model)
    # It is told to end and given a second, which a busy machine may not have for it.
    wait_until(lambda: before.issuperset(threading.enumerate()), "the reader to end")
    assert list(output.parent.iterdir()) == [folder]


def test_a_model_that_is_not_there_is_told_before_photos_are_read(
    tmp_path: Path, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POMONA_HOME", str(tmp_path / "home"))
    with pytest.raises(pomona.ModelError, match="pomona model pull mobilenet_v2"):
        featurize_folder(tmp_path, output)


def test_without_pyarrow_the_error_names_the_extra(
    folder: Path, output: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(ImportError, match=r"pip install 'pomona\[spark\]'"):
        featurize_folder(folder, output, model=tiny_model)


def test_importing_the_module_does_not_import_pyarrow() -> None:
    script = "import sys, pomona.local; sys.exit('pyarrow' in sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True)


def test_a_full_disk_leaves_no_output_and_one_error(
    photos_folder: Path, output: Path, tiny_model: Path
) -> None:
    script = """
        import gc, resource, signal, sys
        from pomona import _parquet, local
        local.ROW_GROUP_BYTES = local.CHUNK_ROWS = 1
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))
        try:
            local.featurize_folder(*sys.argv[1:3], model=sys.argv[3])
        except OSError as error:
            print(error)
        gc.collect()
    """
    command = [sys.executable, "-c", textwrap.dedent(script), photos_folder, output, tiny_model]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == f"[Errno 27] File too large: {str(output)!r}\n"
    assert "Exception ignored" not in done.stderr
    assert list(output.parent.iterdir()) == []


def test_memory_does_not_grow_with_the_number_or_the_size_of_files(
    output: Path, tmp_path: Path, photos_folder: Path, tiny_model: Path
) -> None:
    # 1.2 GB in 120 links to one photo of 10 MB: the bytes behind its end are accepted.
    folder = tmp_path / "large"
    folder.mkdir()
    content = min(photos_folder.rglob("*.jpg")).read_bytes()
    (tmp_path / "large.jpg").write_bytes(content + bytes(10_000_000))
    for index in range(120):
        os.link(tmp_path / "large.jpg", folder / f"{index}.jpg")
    script = """
        import resource, sys
        import pyarrow.parquet
        from pomona import _parquet, local
        # In this process alone: the peak of a child starts at that of its parent.
        def peak():
            with open("/proc/self/status") as file:
                return int(next(line for line in file if line.startswith("VmHWM")).split()[1])
        before = peak()
        summary = local.featurize_folder(*sys.argv[1:3], model=sys.argv[3])
        assert (summary.photos, summary.errors) == (120, 0), summary
        print((peak() - before) // 1024)
    """
    command = [sys.executable, "-c", textwrap.dedent(script), folder, output, tiny_model]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    # Three chunks of 16 MB and a photo each, and what a session and a writer take.
    assert int(done.stdout) < 200, "MiB above the start"


def test_the_real_photos_all_have_features(
    real_photos: Path, output: Path, tiny_model: Path
) -> None:
    summary = featurize_folder(real_photos / "fruits", output, model=tiny_model)
    assert (summary.photos, len(summary.labels), summary.errors) == (295, 23, 0)
