"""Finding photos in folders, including odd and hostile ones."""

from __future__ import annotations

import os
import stat
import unicodedata
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pomona._images import (
    IMAGE_EXTENSIONS,
    Tally,
    describe_left_out,
    find_images,
    is_image,
    label_of,
    one_line,
    utf8_text,
)
from pomona._progress import report_listing


def touch(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")


def found(folder: Path, tally: Tally | None = None) -> list[str]:
    return [os.path.relpath(path, folder) for path in find_images(folder, tally=tally)]


@pytest.mark.parametrize("ending", IMAGE_EXTENSIONS)
def test_every_ending_counts_in_any_case(ending: str) -> None:
    assert is_image("a" + ending)
    assert is_image("A" + ending.upper())
    assert is_image("A" + ending.title())
    assert is_image("A" + ending[:2] + ending[2:].upper())
    assert not is_image("a" + ending + ".txt")
    assert not is_image("a" + ending[1:])


def test_photos_come_in_the_order_of_their_paths(tmp_path: Path) -> None:
    touch(tmp_path, "b.jpg", "a/2.png", "a/1.JPEG", "a.jpg", "a b/x.webp", "c/d/e/f.tif")
    assert found(tmp_path) == [
        "a b/x.webp",
        "a.jpg",
        "a/1.JPEG",
        "a/2.png",
        "b.jpg",
        "c/d/e/f.tif",
    ]


def test_other_files_and_hidden_ones_are_counted_by_kind_and_passed_over(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "_DSC0001.JPG", "IMG_1.HeIc", "notes.txt", "NOTES.TXT", "README")
    touch(tmp_path, "._a.jpg", ".ipynb_checkpoints/a.jpg", ".hidden.jpg", "b/.DS_Store")
    touch(tmp_path, "b/THUMBS.DB", "b/raw.CR2", "b_$folder$", "v1.2 of the plan")
    tally = Tally()
    assert found(tmp_path, tally) == ["IMG_1.HeIc", "_DSC0001.JPG", "a.jpg"]
    assert tally.images == 3
    assert tally.left_out == {
        ".txt": 2,
        "without an extension": 2,
        "hidden": 2,
        "._*": 1,
        ".DS_Store": 1,
        "Thumbs.db": 1,
        ".cr2": 1,
        "_$folder$": 1,
    }


def test_a_tally_counts_a_bounded_number_of_extensions_and_every_format_of_photos() -> None:
    tally = Tally()
    for number in range(1_000):
        tally.leave_out(f"a.x{number}")
    for name in ("a.nef", "b.jxl", "a.x7", "._a.jpg"):
        tally.leave_out(name)
    assert len(tally.left_out) == 24
    assert tally.left_out["with other extensions"] == 980
    assert (tally.left_out[".x7"], tally.left_out[".nef"], tally.left_out[".jxl"]) == (2, 1, 1)
    assert sum(tally.left_out.values()) == 1_004


def test_the_kinds_left_out_are_listed_with_the_most_frequent_first() -> None:
    assert describe_left_out({}) == ""
    assert (
        describe_left_out({".txt": 3, ".jxl": 1, "Thumbs.db": 1, ".cr2": 40, ".nef": 1_000})
        == "1,000 .nef (RAW photos, not supported), 40 .cr2 (RAW photos, not supported), 3 .txt, "
        "1 .jxl (JPEG XL, not supported), 1 Thumbs.db"
    )


def test_paths_start_with_the_root_as_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path, "photos/a.jpg")
    monkeypatch.chdir(tmp_path)
    assert list(find_images("photos")) == ["photos/a.jpg"]
    assert list(find_images("photos//")) == ["photos/a.jpg"]
    assert list(find_images(".")) == ["./photos/a.jpg"]
    assert list(find_images(Path("photos"))) == ["photos/a.jpg"]


def test_a_file_named_outright_is_taken_whatever_its_name(tmp_path: Path) -> None:
    touch(tmp_path, "download", "a/b.jpg")
    roots = [tmp_path / "download", tmp_path / "a"]
    assert list(find_images(*roots)) == [str(tmp_path / "download"), str(tmp_path / "a" / "b.jpg")]


def test_a_root_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        list(find_images(tmp_path / "nowhere"))


def test_an_empty_root_is_refused_and_not_taken_for_the_whole_disk() -> None:
    """As in `pomona featurize "$PHOTOS"` if the variable is not set."""
    with pytest.raises(ValueError, match="path of the photos is empty"):
        next(find_images("photos", ""))


def test_a_loop_of_links_ends(tmp_path: Path) -> None:
    touch(tmp_path, "a/x.jpg")
    (tmp_path / "a" / "loop").symlink_to(tmp_path)
    (tmp_path / "self").symlink_to("self")
    (tmp_path / "self.jpg").symlink_to("self.jpg")
    assert found(tmp_path) == ["a/x.jpg", "self.jpg"]


def test_links_to_each_other_do_not_multiply_photos(tmp_path: Path) -> None:
    count = 12  # 12! walks if every way through the links were taken
    for i in range(count):
        touch(tmp_path, f"{i:02}/photo.jpg")
        for j in range(count):
            (tmp_path / f"{i:02}" / f"to{j}").symlink_to(tmp_path / f"{j:02}")
    assert len(found(tmp_path)) == count


def test_a_linked_folder_is_searched(tmp_path: Path) -> None:
    touch(tmp_path, "raw/x.jpg")
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "apple").symlink_to(tmp_path / "raw")
    assert found(tmp_path / "train") == ["apple/x.jpg"]


def test_what_cannot_be_a_photo_but_is_named_like_one_is_left_to_the_reader(
    tmp_path: Path,
) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "dangling.jpg").symlink_to("nowhere")
    assert found(tmp_path) == ["dangling.jpg", "pipe.jpg"]


def test_a_folder_that_is_named_like_a_photo_is_searched(tmp_path: Path) -> None:
    touch(tmp_path, "folder.jpg/inside.jpg")
    assert found(tmp_path) == ["folder.jpg/inside.jpg"]


def test_a_link_to_a_folder_that_is_searched_too_does_not_replace_its_name(tmp_path: Path) -> None:
    touch(tmp_path, "photos/Kiwi/1.jpg", "photos/.cache/2.jpg", "outside/Fig/3.jpg")
    for name, target in (("Alias", "Kiwi"), ("Cached", ".cache"), ("More", "../outside")):
        (tmp_path / "photos" / name).symlink_to(target)
    (tmp_path / "outside" / "back").symlink_to("../photos/Kiwi")
    tally = Tally()
    names = ["Cached/2.jpg", "Kiwi/1.jpg", "More/Fig/3.jpg"]
    assert found(tmp_path / "photos", tally) == names
    assert tally.left_out == {"links to folders": 2, "hidden": 1}
    assert [Path(path).name for path in find_images(tmp_path / "photos" / "Alias")] == ["1.jpg"]


def test_both_spellings_of_an_accent_are_one_label() -> None:
    assert label_of("Pâte/1.jpg") == label_of(unicodedata.normalize("NFD", "Pâte/1.jpg")) == "Pâte"


def test_folders_in_the_other_spelling_are_told_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    touch(tmp_path, "Pâte/1.jpg", *(f"{part}/Pa\u0302te/2.jpg" for part in ("Training", "Test")))
    tally = Tally()
    assert len(found(tmp_path, tally)) == 3
    report_listing(tally)
    said = capsys.readouterr().err
    assert said.startswith("1 folder name in Unicode's decomposed form (NFD), such as Pâte: labels")
    assert len(said.splitlines()) == 1


def test_a_folder_that_cannot_be_listed_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path, "a/x.jpg", "b/y.jpg")
    listed = os.scandir

    def refuse(folder: str) -> object:
        if str(folder).endswith("/a"):
            raise PermissionError(13, "Permission denied", folder)
        return listed(folder)

    monkeypatch.setattr(os, "scandir", refuse)
    tally = Tally()
    assert found(tmp_path, tally) == ["b/y.jpg"]
    assert tally.unreadable == [(str(tmp_path / "a"), "Permission denied")]


def test_folders_nested_deeper_than_python_recurses_are_searched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    depth = 1500  # Python recurses to 1000, and a path has at most 4096 bytes
    for _ in range(depth):
        Path("d").mkdir()
        os.chdir("d")
    Path("x.jpg").touch()
    os.chdir(tmp_path)
    try:
        assert list(find_images("d")) == ["d/" * depth + "x.jpg"]
    finally:
        # shutil.rmtree and pytest's cleanup would exceed the recursion limit.
        path = "d/" * depth
        Path(path, "x.jpg").unlink()
        while path:
            Path(path).rmdir()
            path = path[:-2]


def test_a_path_that_grew_too_long_is_reported_and_not_fatal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names = ["d" * 250] * 18  # past the 4,096 bytes that a path may have
    for name in names:
        Path(name).mkdir()
        os.chdir(name)
    os.chdir(tmp_path)
    tally = Tally()
    assert list(find_images(names[0], tally=tally)) == []
    assert [reason for _, reason in tally.unreadable] == ["File name too long"]


def test_names_that_are_not_utf_8_are_found_and_told_apart(tmp_path: Path) -> None:
    for name in (b"caf\xe9.jpg", b"caf\xe8.jpg"):
        (tmp_path / os.fsdecode(name)).touch()
    names = [utf8_text(Path(path).name) for path in find_images(tmp_path)]
    assert names == [r"caf\xe8.jpg", r"caf\xe9.jpg"]


def test_a_line_break_in_a_name_stays_in_the_path_and_leaves_one_line(tmp_path: Path) -> None:
    touch(tmp_path, "two\nlines.jpg")
    (path,) = find_images(tmp_path)
    assert path.endswith("two\nlines.jpg")
    assert one_line(path).endswith(r"two\nlines.jpg")


def test_control_characters_do_not_reach_a_terminal() -> None:
    assert one_line("\x1b[2Jé\u202e.jpg") == r"\x1b[2Jé\u202e.jpg"


@pytest.mark.parametrize(
    ("path", "label"),
    [
        ("Test/Apple/1.jpg", "Apple"),
        ("Test/Apple//1.jpg", "Apple"),
        ("./Apple/1.jpg", "Apple"),
        ("/1.jpg", ""),
        ("s3://bucket/Test/Äpfel rot/1.jpg", "Äpfel rot"),
    ],
)
def test_the_label_is_the_name_of_the_folder(path: str, label: str) -> None:
    assert label_of(path) == label


def test_a_photo_right_here_is_labelled_with_the_name_of_this_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "Apple" / "sub").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "Apple")
    assert label_of("1.jpg") == "Apple"
    assert label_of("./1.jpg") == "Apple"
    monkeypatch.chdir(tmp_path / "Apple" / "sub")
    assert label_of("../1.jpg") == "Apple"


names = st.text(
    st.characters(blacklist_characters="/\0", blacklist_categories=("Cs",)), min_size=1, max_size=8
).filter(lambda name: name not in (".", ".."))
trees = st.dictionaries(
    st.lists(names, min_size=1, max_size=3).map(tuple),
    st.sampled_from([*IMAGE_EXTENSIONS, ".JPG", ".txt", ""]),
    max_size=12,
)


@given(tree=trees)
@settings(suppress_health_check=[HealthCheck.too_slow], max_examples=60, deadline=None)
def test_any_tree_gives_its_photos_once_and_in_order(
    tree: dict[tuple[str, ...], str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = tmp_path_factory.mktemp("tree")
    made = set()
    for parts, ending in tree.items():
        path = root.joinpath(*(part.encode().decode()[:8] for part in parts))
        path = path.with_name(path.name + ending)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch(exist_ok=False)
        except OSError:  # a file where a folder should be, or the other way round
            continue
        if stat.S_ISREG(path.stat().st_mode):
            made.add(str(path))
    expected = {
        path
        for path in made
        if is_image(path)
        and not any(part.startswith(".") for part in Path(path).relative_to(root).parts)
    }
    tally = Tally()
    listed = list(find_images(root, tally=tally))
    files = [path for path in listed if Path(path).is_file()]
    assert set(files) == expected
    assert len(files) == len(set(files))
    assert files == sorted(files)
    assert tally.images == len(listed)


@given(st.binary(max_size=40))
@settings(deadline=None)
def test_any_bytes_make_a_name_that_parquet_takes(name: bytes) -> None:
    text = utf8_text(os.fsdecode(name))
    assert text.encode("utf-8").decode("utf-8") == text


@given(st.text())
@settings(deadline=None)
def test_any_text_becomes_one_printable_line(text: str) -> None:
    assert one_line(text).isprintable()
