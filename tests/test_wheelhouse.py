"""The lock files for EMR's nodes, and the wheelhouses built from them."""

from __future__ import annotations

import hashlib
import io
import re
import subprocess
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import photos
from elf_needs import version_needs
from emr import wheelhouse

ROOT = Path(__file__).resolve().parents[1]
LOCKS = sorted((ROOT / "bootstrap" / "locks").glob("*.txt"))
ENTRY = re.compile(r"([a-z0-9-]+)==(\S+) \\\n    --hash=sha256:([0-9a-f]{64})\n")
BUILT = ["emr-6.4.0", "emr-7.14.0"]


def entries(text: str) -> dict[str, tuple[str, str]]:
    return {name: (version, sha256) for name, version, sha256 in ENTRY.findall(text)}


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.stem)
def test_every_line_of_a_lock_is_a_version_with_its_hash(lock: Path):
    heading, *packages = re.split(r"^(?=[^#\s])", lock.read_text(), flags=re.MULTILINE)
    assert all(line.startswith("# ") for line in heading.splitlines())
    assert packages
    assert [line for line in packages if not ENTRY.fullmatch(line)] == []


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.stem)
def test_a_lock_is_what_its_list_asks_for(lock: Path):
    wanted = lock.with_suffix(".in")
    asked = dict(re.findall(r"^([\w-]+)==(\S+)$", wanted.read_text(), re.MULTILINE))
    locked = entries(lock.read_text())
    assert {name: locked[name][0] for name in asked} == asked
    assert wheelhouse.Node.of(lock) == wheelhouse.Node.of(wanted)


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.stem)
def test_no_lock_has_what_breaks_a_cluster(lock: Path):
    assert not {"pyspark", "py4j", "boto3", "botocore", "s3fs"} & entries(lock.read_text()).keys()


@pytest.mark.parametrize(
    ("release", "lock"),
    [
        ("emr-6.0.0", "emr-6.txt"),
        ("emr-6.4.0", "emr-6.txt"),
        ("emr-6.15.0", "emr-6.txt"),
        ("emr-7.0.0", "emr-7.txt"),
        ("emr-7.14.0", "emr-7.txt"),
    ],
)
def test_a_release_has_the_lock_of_its_major_version(release: str, lock: str):
    assert wheelhouse.lock_of(release).name == lock


@pytest.mark.parametrize(
    "release", ["emr-5.36.0", "emr-60.4.0", "emr-spark-8.0.0", "6.4.0", "emr-6"]
)
def test_a_release_without_a_lock_is_refused_with_those_there_are(release: str):
    with pytest.raises(SystemExit, match=rf"no lock for {release}, only for .*emr-6\.x, emr-7\.x"):
        wheelhouse.lock_of(release)


@pytest.fixture(params=BUILT)
def built(request: pytest.FixtureRequest) -> Path:
    folder: Path = ROOT / "target" / "wheelhouse" / request.param
    assert folder.exists(), f"{folder} is missing: run `make wheelhouse EMR={request.param}`"
    return folder


def test_a_wheelhouse_has_the_wheels_of_its_lock_and_pomonas(built: Path):
    lock = wheelhouse.lock_of(built.name)
    asked = entries((built / "requirements.txt").read_text())
    locked = entries(lock.read_text())
    assert asked.keys() - locked.keys() == {"pomona"}
    assert {name: asked[name] for name in locked} == locked
    there = {hashlib.sha256(wheel.read_bytes()).hexdigest() for wheel in built.glob("*.whl")}
    assert there == {sha256 for _, sha256 in asked.values()}


def test_the_checksums_name_every_file_of_a_wheelhouse(built: Path):
    checked = subprocess.run(
        ["sha256sum", "--check", "--strict", "SHA256SUMS"],
        cwd=built,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    named = {line.rpartition(": ")[0] for line in checked.stdout.splitlines()}
    files = {path.relative_to(built).as_posix() for path in built.rglob("*") if path.is_file()}
    assert named == files - {"SHA256SUMS"}


def test_a_wheelhouse_says_what_it_is_for_and_what_room_it_takes(built: Path):
    heading = dict(
        re.findall(r"^# ([\w-]+): (\S+)$", (built / "requirements.txt").read_text(), re.MULTILINE)
    )
    assert heading["release"] == built.name
    assert heading["python"] == wheelhouse.Node.of(wheelhouse.lock_of(built.name)).python
    packed = sum(wheel.stat().st_size for wheel in built.glob("*.whl"))
    assert 2 * packed < int(heading["disk-bytes"]) < 10 * packed


def test_no_library_of_emr_6_needs_a_newer_glibc_or_libstdcxx_than_it_has():
    too_new = []
    for wheel in (ROOT / "target" / "wheelhouse" / BUILT[0]).glob("*.whl"):
        with zipfile.ZipFile(wheel) as archive:
            for name in archive.namelist():
                content = archive.read(name) if re.search(r"\.so(\.|$)", name) else b""
                if content.startswith(b"\x7fELF"):
                    needs = version_needs(io.BytesIO(content))
                    too_new += [(name, need.name) for need in needs if need.is_too_new()]
    assert too_new == []


class Workshop:
    """A lock of one package and an earlier wheelhouse, without access to the internet."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.source = ROOT / "target" / "wheelhouse" / BUILT[0]
        self.lock = folder / "emr-6.txt"
        self.folder = folder / "wheelhouse" / "emr-6.4.0"
        self.folder.mkdir(parents=True)
        (self.folder / "old.whl").touch()
        monkeypatch.setattr(wheelhouse, "LOCKS", folder)
        monkeypatch.setenv("PIP_NO_INDEX", "1")
        monkeypatch.setenv("PIP_FIND_LINKS", str(self.source))

    def build(self, name: str, version: str, sha256: str) -> None:
        heading = "# python: 3.7\n# glibc: 2.26\n"
        self.lock.write_text(heading + wheelhouse.requirement(name, version, sha256))
        (pomona,) = self.source.glob("pomona-*.whl")
        wheelhouse.build("emr-6.4.0", pomona, self.folder)

    def there(self) -> list[str]:
        assert list(self.folder.parent.iterdir()) == [self.folder], "something was left beside it"
        return sorted(wheel.name.split("-")[0] for wheel in self.folder.glob("*.whl"))


@pytest.fixture
def workshop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workshop:
    return Workshop(tmp_path, monkeypatch)


def test_a_wheelhouse_replaces_the_one_before(workshop: Workshop):
    workshop.build("six", *entries((ROOT / "bootstrap/locks/emr-6.txt").read_text())["six"])
    assert workshop.there() == ["pomona", "six"]


def test_a_wheel_that_is_not_the_locked_one_leaves_the_wheelhouse_before(
    workshop: Workshop, capfd: pytest.CaptureFixture[str]
):
    with pytest.raises(SystemExit, match=r"pip .* failed"):
        workshop.build("six", "1.17.0", "0" * 64)
    assert "DO NOT MATCH THE HASHES" in capfd.readouterr().err
    assert workshop.there() == ["old.whl"]


def test_the_photo_that_nodes_try_themselves_on_is_our_own_rendering():
    content = wheelhouse.CHECK["check/photo.jpg"].read_bytes()
    photo = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"), np.float32)
    rendered = photos.photo(photos.FRUITS["Apple Red"], series=0, angle=15, size=64, seed=0)
    # JPEG compression changes pixels by less than this; another photo differs by tens.
    assert np.abs(photo - np.asarray(rendered, np.float32)).mean() < 4
