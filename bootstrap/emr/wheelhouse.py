"""Builds wheelhouses: folders with everything that an EMR node installs, without internet access.

Usage: python wheelhouse.py lock LOCK.in
       python wheelhouse.py build RELEASE POMONA.whl FOLDER

`lock` resolves LOCK.in with the Python that it names, and writes the version and sha256 of every
wheel to LOCK.txt. `build` downloads exactly those wheels, and adds Pomona's wheel, the requirements
file for pip, a photo and a model for the node's self-test, and the checksum of every file.
bootstrap/bootstrap-emr.sh reads the result.
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
# The oldest glibc that a wheel's tag can name (PEP 600).
OLDEST_GLIBC_MINOR = 5
LEGACY_PLATFORMS = ["manylinux1_x86_64", "manylinux2010_x86_64", "manylinux2014_x86_64"]


class Node(NamedTuple):
    """The Python and glibc of a lock's nodes, from its heading."""

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
            sys.exit(f"the heading of {lock} lacks {' and '.join(sorted(missing))}")
        return cls(heading["python"], heading["glibc"])

    def wheels_only(self) -> list[str]:
        """Return pip's options for only those wheels that these nodes can load."""
        major, minor = self.glibc.split(".")
        newest_first = range(int(minor), OLDEST_GLIBC_MINOR - 1, -1)
        platforms = [f"manylinux_{major}_{n}_x86_64" for n in newest_first] + LEGACY_PLATFORMS
        return ["--only-binary", ":all:", *(f"--platform={name}" for name in platforms)]

    def abis(self) -> list[str]:
        """Return pip's options for this Python when another one runs pip."""
        interpreter = "cp" + self.python.replace(".", "")
        # Up to Python 3.7, the name of the ABI ends in m, for pymalloc.
        pymalloc = tuple(map(int, self.python.split("."))) < (3, 8)
        abi = interpreter + "m" if pymalloc else interpreter
        version = ["--implementation", "cp", "--python-version", self.python]
        return [*version, "--abi", abi, "--abi", "abi3", "--abi", "none"]


def release_of(folder: Path) -> str:
    """Return the release that a wheelhouse was built for; nothing if it does not say."""
    requirements = folder / REQUIREMENTS
    heading = requirements.read_text(encoding="utf-8") if requirements.is_file() else ""
    return "".join(re.findall(r"^# release: (\S+)$", heading, re.MULTILINE)[:1])


def lock_of(release: str) -> Path:
    """Return the lock for a release such as `emr-6.4.0`. A major version has one lock."""
    match = re.fullmatch(r"(emr-\d+)\.\d+\.\d+", release)
    if match:
        lock = LOCKS / f"{match.group(1)}.txt"
        if lock.exists():
            return lock
    known = ", ".join(sorted(f"{path.stem}.x" for path in LOCKS.glob("*.txt")))
    sys.exit(f"there is no lock for {release}, only for {known} (such as EMR=6.4.0)")


def lock(wanted: Path) -> None:
    """Resolve a list of packages for its nodes, and write the lock beside it."""
    node = Node.of(wanted)
    # The Python that runs pip decides markers such as `python_version < "3.8"`.
    find = ROOT / "python" / "tools" / "find_python.sh"
    python = run([str(find), node.python]).strip()
    with tempfile.TemporaryDirectory() as folder:
        run([python, "-m", "venv", folder])
        inside = f"{folder}/bin/python"
        pip = re.findall(r"^pip==\S+$", wanted.read_text(), re.MULTILINE)
        run([inside, *PIP, "install", "--quiet", *pip])
        report = ["--dry-run", "--ignore-installed", "--quiet", "--report", "-"]
        target = ["--target", f"{folder}/none"]
        resolved = run(
            [inside, *PIP, "install", *report, *target, *node.wheels_only(), "-r", str(wanted)]
        )
    entries = sorted(entry(package) for package in json.loads(resolved)["install"])
    heading = (
        f"# Generated from {wanted.name} by `make lock`. Edit that file and run it again.\n"
        f"# python: {node.python}\n# glibc: {node.glibc}\n"
    )
    wanted.with_suffix(".txt").write_text(heading + "".join(entries))


def entry(package: dict[str, dict[str, dict[str, dict[str, str]]]]) -> str:
    """Return a package's lines in a lock, from its entry in pip's installation report."""
    name, version = (str(package["metadata"][key]) for key in ("name", "version"))
    return requirement(name, version, package["download_info"]["archive_info"]["hashes"]["sha256"])


def requirement(name: str, version: str, sha256: str) -> str:
    """Return a package's lines in a requirements file."""
    normal = re.sub(r"[-_.]+", "-", name).lower()
    return f"{normal}=={version} \\\n    --hash=sha256:{sha256}\n"


def build(release: str, pomona: Path, folder: Path) -> None:
    """Build a wheelhouse. The folder appears only when it is complete."""
    locked = lock_of(release)
    node = Node.of(locked)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as scratch:
        new = Path(scratch, "new")
        new.mkdir(mode=0o755)
        # Ignore the wheels' requirement of Python, which the lock has taken care of: pip would read
        # `3.7` as 3.7.0, which is too old for some of them.
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
    """Estimate the disk space to install a wheel: the wheel, its files, and their byte code."""
    with zipfile.ZipFile(wheel) as archive:
        files = archive.infolist()
    unpacked = sum(file.file_size * (2 if file.filename.endswith(".py") else 1) for file in files)
    return wheel.stat().st_size + unpacked


def checksums(folder: Path) -> str:
    """Return the checksums of all files in a folder, in the format of `sha256sum --check`."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return "".join(f"{sha256(path)}  {path.relative_to(folder).as_posix()}\n" for path in files)


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def run(command: list[str]) -> str:
    """Run a command, which prints its own errors, and return its output."""
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
    building = verbs.add_parser("build", help="build a wheelhouse")
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
