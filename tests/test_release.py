"""`make release`, with a tiny wheelhouse and the tiny model."""

from __future__ import annotations

import json
import re
import subprocess
import zipfile
from pathlib import Path
from urllib.parse import unquote

import pytest

from emr import files, release, wheelhouse
from emr.aws import Stop
from emr.settings import Settings

MODEL = wheelhouse.CHECK["check/model.onnx"]
VERSION = "1.2.3"
BUCKET = f"pomona-bucket-emr-6.4.0-{VERSION}.zip"
WHEELHOUSE = f"pomona-wheelhouse-emr-6.4.0-{VERSION}.zip"


def tiny_wheelhouse(folder: Path) -> Path:
    """Write a wheelhouse with one empty wheel, and return its folder."""
    (folder / "check").mkdir(parents=True)
    (folder / "check" / "photo.jpg").write_bytes(b"a photo")
    zipfile.ZipFile(folder / "pomona-1.2.3-cp37-abi3-any.whl", "w").close()
    python = "3.7" if folder.name.startswith("emr-6.") else "3.9"
    heading = f"# release: {folder.name}\n# python: {python}\n# glibc: 2.26\n"
    (folder / "requirements.txt").write_text(heading)
    (folder / "SHA256SUMS").write_text(wheelhouse.checksums(folder))
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("release")
    packages = [tiny_wheelhouse(folder / emr) for emr in ("emr-6.4.0", "emr-7.14.0")]
    (wheel,) = packages[0].glob("*.whl")
    for _ in range(2):  # the second replaces the first
        release.make(VERSION, folder / "dist", [wheel, *packages, MODEL])
    return folder / "dist"


def test_a_release_has_what_each_way_needs(made: Path):
    assert sorted(path.name for path in made.iterdir()) == [
        "SHA256SUMS",
        "cluster.yaml",
        "commands.html",
        "fruits_local.fr.ipynb",
        "fruits_local.ipynb",
        "fruits_on_emr.fr.ipynb",
        "fruits_on_emr.ipynb",
        "guide.fr.html",
        "guide.html",
        "pomona-1.2.3-cp37-abi3-any.whl",
        BUCKET,
        BUCKET.replace("6.4.0", "7.14.0"),
        "pomona-serverless-emr-7.14.0-1.2.3.tar.gz",
        WHEELHOUSE,
        WHEELHOUSE.replace("6.4.0", "7.14.0"),
        "privacy.fr.html",
        "privacy.html",
        "serverless.yaml",
        "tiny.onnx",
        "user.json",
    ]


def test_its_checksums_cover_every_file(made: Path):
    checked = subprocess.run(
        ["sha256sum", "--check", "--strict", "SHA256SUMS"],
        cwd=made,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    named = {line.rpartition(": ")[0] for line in checked.stdout.splitlines()}
    assert named == {path.name for path in made.iterdir()} - {"SHA256SUMS"}


def test_the_archive_for_the_console_is_the_tree_of_the_bucket(made: Path):
    with zipfile.ZipFile(made / BUCKET) as archive:
        names = set(archive.namelist())
        notebook = json.loads(archive.read("jupyter/jovyan/fruits_on_emr.fr.ipynb"))
    assert names == {
        "bootstrap-emr.sh",
        "jupyter/jovyan/fruits_on_emr.fr.ipynb",
        "jupyter/jovyan/fruits_on_emr.ipynb",
        "models/tiny.onnx",
        "pomona_job.py",
        "wheelhouse/emr-6.4.0/SHA256SUMS",
        "wheelhouse/emr-6.4.0/check/photo.jpg",
        "wheelhouse/emr-6.4.0/pomona-1.2.3-cp37-abi3-any.whl",
        "wheelhouse/emr-6.4.0/requirements.txt",
    }
    assert notebook["nbformat"] == 4


def test_the_same_files_make_the_same_archive(made: Path, tmp_path: Path):
    source = tmp_path / "source"
    for name in ("first.zip", "second.zip"):
        source.write_text("same")  # at another time
        release.pack({"a": source, "b.whl": source}, tmp_path / name)
    assert (tmp_path / "first.zip").read_bytes() == (tmp_path / "second.zip").read_bytes()


@pytest.mark.parametrize("page", sorted(release.PAGES.values()))
def test_the_pages_are_html_with_links_to_files_of_the_release(made: Path, page: str):
    text = (made / page).read_text(encoding="utf-8")
    assert f'<html lang="{"fr" if ".fr." in page else "en"}">' in text
    links = re.findall(r'href="(?!https?:)([^"#]*)(?:#([^"]*))?"', text)
    assert links
    for name, anchor in links:
        target = made / (name or page)
        assert target.exists(), name
        assert not anchor or f'id="{unquote(anchor)}"' in target.read_text(encoding="utf-8"), anchor


@pytest.mark.parametrize("archive", [BUCKET, WHEELHOUSE])
def test_the_commands_find_the_whole_wheelhouse_in_an_archive(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, archive: str
):
    monkeypatch.setattr(files, "_FILLED", tmp_path)
    folder = files.wheelhouse(Settings(BUCKET="fruits", WHEELHOUSE=str(made / archive)))
    assert folder.name == "emr-6.4.0"
    subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=folder, check=True)


@pytest.mark.parametrize("suffix", [".whl", "SHA256SUMS"], ids=["stored", "compressed"])
def test_an_archive_that_was_damaged_on_the_way_is_refused(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
):
    monkeypatch.setattr(files, "_FILLED", tmp_path)
    with zipfile.ZipFile(made / WHEELHOUSE) as archive:
        (member,) = [each for each in archive.infolist() if each.filename.endswith(suffix)]
    # A member is a header of 30 bytes, its name and its content.
    start = member.header_offset + 30 + len(member.filename)
    content = bytearray((made / WHEELHOUSE).read_bytes())
    content[start : start + 8] = b"\xff" * 8
    damaged = tmp_path / "damaged.zip"
    damaged.write_bytes(content)
    with pytest.raises(Stop, match=r"damaged\.zip is damaged .*: download it again"):
        files.wheelhouse(Settings(BUCKET="fruits", WHEELHOUSE=str(damaged)))
