"""Wheelhouses: folders with all that a node of EMR installs, for nodes without internet.

Usage: python wheelhouse.py lock LOCK.in
       python wheelhouse.py build RELEASE POMONA.whl FOLDER

`lock` resolves LOCK.in, with the Python that it names, and writes every wheel's version and sha256
into LOCK.txt. `build` fetches exactly those wheels and puts beside them Pomona's own, the list that
pip installs from, a photo and a model for the node to try itself on, and the checksum of each file.
bootstrap/bootstrap-emr.sh is the reader of what it writes.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
LOCKS = ROOT / "bootstrap" / "locks"
# Path in the wheelhouse -> file in the repository.
CHECK = {
    "check/photo.jpg": ROOT / "bootstrap" / "check" / "photo.jpg",
    "check/model.onnx": ROOT / "tests" / "data" / "tiny.onnx",
}
REQUIREMENTS = "requirements.txt"
CHECKSUMS = "SHA256SUMS"

PIP = ["-m", "pip", "--disable-pip-version-check"]
# PEP 600: the oldest glibc that a wheel's tag can name.
OLDEST_GLIBC_MINOR = 5
LEGACY_PLATFORMS = ["manylinux1_x86_64", "manylinux2010_x86_64", "manylinux2014_x86_64"]


class Node(NamedTuple):
    """What a lock's heading says of the nodes that it is for."""

    #: Such as `3.7`.
    python: str
    #: Such as `2.26`.
    glibc: str

    @classmethod
    def of(cls, lock: Path) -> Node:
        """Read the heading of a lock."""
        heading = dict(re.findall(r"^# (\w+): (\S+)$", lock.read_text(), re.MULTILINE))
        missing = {"python", "glibc"} - heading.keys()
        if missing:
            sys.exit(f"{lock} does not say the nodes' {' and '.join(sorted(missing))}")
        return cls(heading["python"], heading["glibc"])

    def wheels_only(self) -> list[str]:
        """Return pip's options for wheels that these nodes can load, and nothing else."""
        major, minor = self.glibc.split(".")
        newest_first = range(int(minor), OLDEST_GLIBC_MINOR - 1, -1)
        platforms = [f"manylinux_{major}_{n}_x86_64" for n in newest_first] + LEGACY_PLATFORMS
        return ["--only-binary", ":all:", *(f"--platform={name}" for name in platforms)]

    def abis(self) -> list[str]:
        """Return pip's options for this Python, where another one runs pip."""
        interpreter = "cp" + self.python.replace(".", "")
        # Pythons up to 3.7 say in the ABI's name that they use pymalloc.
        old = tuple(map(int, self.python.split("."))) < (3, 8)
        abi = interpreter + "m" if old else interpreter
        version = ["--implementation", "cp", "--python-version", self.python]
        return [*version, "--abi", abi, "--abi", "abi3", "--abi", "none"]


def lock_of(release: str) -> Path:
    """Return the lock for a release, such as `emr-6.4.0`; all of one major version share it."""
    match = re.fullmatch(r"(emr-\d+)\.\d+\.\d+", release)
    if match:
        lock = LOCKS / f"{match.group(1)}.txt"
        if lock.exists():
            return lock
    known = ", ".join(sorted(f"{path.stem}.x" for path in LOCKS.glob("*.txt")))
    sys.exit(f"there is no lock for {release}; there are locks for {known} (such as EMR=6.4.0)")


def lock(wanted: Path) -> None:
    """Resolve a list of packages for its nodes, and write what was found beside it."""
    node = Node.of(wanted)
    # Markers such as `python_version < "3.8"` are judged by the Python that runs pip.
    find = ROOT / "python" / "tools" / "find_python.sh"
    python = run([str(find), node.python]).strip()
    with tempfile.TemporaryDirectory() as folder:
        run([python, "-m", "venv", folder])
        inside = f"{folder}/bin/python"
        pip = re.findall(r"^pip==\S+$", wanted.read_text(), re.MULTILINE)
        run([inside, *PIP, "install", "--quiet", *pip])
        report = ["--dry-run", "--ignore-installed", "--quiet", "--report", "-"]
        target = ["--target", f"{folder}/none"]
        found = run(
            [inside, *PIP, "install", *report, *target, *node.wheels_only(), "-r", str(wanted)]
        )
    entries = sorted(entry(package) for package in json.loads(found)["install"])
    heading = (
        f"# Made of {wanted.name} by `make lock`: change that and make it anew.\n"
        f"# python: {node.python}\n# glibc: {node.glibc}\n"
    )
    wanted.with_suffix(".txt").write_text(heading + "".join(entries))


def entry(package: dict[str, dict[str, dict[str, dict[str, str]]]]) -> str:
    """Return a package's lines in a lock, of its part of pip's installation report."""
    name, version = (str(package["metadata"][key]) for key in ("name", "version"))
    return requirement(name, version, package["download_info"]["archive_info"]["hashes"]["sha256"])


def requirement(name: str, version: str, sha256: str) -> str:
    """Return one package's lines in a list for pip."""
    normal = re.sub(r"[-_.]+", "-", name).lower()
    return f"{normal}=={version} \\\n    --hash=sha256:{sha256}\n"


def build(release: str, pomona: Path, folder: Path) -> None:
    """Fill a wheelhouse; the folder is there once it is finished, or not at all."""
    locked = lock_of(release)
    node = Node.of(locked)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as scratch:
        new = Path(scratch, "new")
        new.mkdir(mode=0o755)
        # The lock has settled which Python they are for; pip would take `3.7` for 3.7.0, which is
        # older than some ask for.
        exactly = ["--quiet", "--no-deps", "--require-hashes", "--ignore-requires-python"]
        exactly += [*node.wheels_only(), *node.abis()]
        run([sys.executable, *PIP, "download", *exactly, "-r", str(locked), "-d", str(new)])
        shutil.copy(pomona, new)
        for name, source in CHECK.items():
            (new / name).parent.mkdir(exist_ok=True)
            shutil.copyfile(source, new / name)
        name, version = pomona.name.split("-")[:2]
        (new / REQUIREMENTS).write_text(
            f"# release: {release}\n# disk-bytes: {sum(map(disk_bytes, new.glob('*.whl')))}\n"
            + locked.read_text()
            + requirement(name, version, sha256(pomona))
        )
        (new / CHECKSUMS).write_text(checksums(new))
        if folder.exists():
            folder.rename(Path(scratch, "old"))
        new.rename(folder)


def disk_bytes(wheel: Path) -> int:
    """Return about how much room a wheel takes being installed: packed, unpacked, compiled."""
    with zipfile.ZipFile(wheel) as archive:
        files = archive.infolist()
    unpacked = sum(file.file_size * (2 if file.filename.endswith(".py") else 1) for file in files)
    return wheel.stat().st_size + unpacked


def checksums(folder: Path) -> str:
    """Return what `sha256sum --check` reads, for every file in a folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return "".join(f"{sha256(path)}  {path.relative_to(folder).as_posix()}\n" for path in files)


def sha256(path: Path) -> str:
    """Digest of a file, in hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def run(command: list[str]) -> str:
    """Run a command, which says itself what goes wrong, and return what it prints."""
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command[:4])} … failed: see above")
    return done.stdout


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Lock and build wheelhouses for EMR.")
    verbs = parser.add_subparsers(required=True, dest="verb")
    locking = verbs.add_parser("lock", help="resolve a list of packages")
    locking.add_argument("wanted", type=Path, metavar="LOCK.in")
    building = verbs.add_parser("build", help="fill a wheelhouse")
    building.add_argument("release", help="such as emr-6.4.0")
    building.add_argument("pomona", type=Path, metavar="POMONA.whl")
    building.add_argument("folder", type=Path)
    args = parser.parse_args()
    if args.verb == "lock":
        lock(args.wanted)
    else:
        build(args.release, args.pomona, args.folder)


if __name__ == "__main__":
    main()
