"""Builds the Python environment of an EMR Serverless job: a wheelhouse, ready to be unpacked.

Usage: python -m emr.environment WHEELHOUSE -o environment.tar.gz

Spark unpacks the archive on every worker (`spark.archives=s3://…/environment.tar.gz#environment`).
It has the packages but no Python: its bin/python starts the release's own. Building needs neither
that Python nor pip, and the same wheelhouse gives the same bytes on the same version of zlib.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import io
import os
import stat
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import BinaryIO, Iterator, NamedTuple

from emr.aws import Stop
from emr.wheelhouse import CHECKSUMS, REQUIREMENTS, Node, release_of, sha256

#: Starts the release's Python with the packages. No Python may be assumed to run this.
LAUNCHER = """\
#!/bin/sh
# Starts Python {python}, which the EMR release has, with the packages of this folder.
here=$(cd "${{0%/*}}/.." && pwd) || exit 1
export PYTHONPATH="$here/lib/python{python}/site-packages${{PYTHONPATH:+:$PYTHONPATH}}"
export PYTHONNOUSERSITE=1
unset PYTHONHOME
# EMR Serverless gives the address of the job's credentials. Pomona asks there only with a token
# from a file, although the token is optional.
file=AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE
if [ -n "$AWS_CONTAINER_CREDENTIALS_FULL_URI" ] && [ -z "$(printenv $file)" ]; then
    (umask 077 && printf %s "$AWS_CONTAINER_AUTHORIZATION_TOKEN" >"$here/token")
    export $file="$here/token"
fi
seen=
for name in python{python} python3; do
    python=$(command -v "$name") || continue
    version=$("$python" -I -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>&1)
    if [ "$version" = {python} ]; then exec "$python" "$@"; fi
    seen="$seen $python is $version;"
done
echo "pomona: this environment is for Python {python} ({release}), which is not on the PATH" \\
    "$PATH:${{seen:- there is no python3;}} pack the wheelhouse of the application's release" >&2
exit 127
"""

#: Modes of the archive's files, whatever the wheels have.
_PROGRAM, _FILE = 0o755, 0o644
#: The fastest level: 9 % larger than the default one, in a third of the time.
_LEVEL = 1
#: Folders of a wheel's `.data` folder, and where their files go; headers are left out.
_SCHEMES = {"purelib": "{site}/", "platlib": "{site}/", "data": "", "scripts": "bin/"}


class Member(NamedTuple):
    """A file of the archive: where its bytes are, and its mode."""

    source: Path
    #: The name inside the wheel; None if the source is the file itself.
    inside: str | None
    mode: int


def fingerprint(wheelhouse: Path) -> str:
    """Identify the archive that a wheelhouse gives, without building it."""
    made_of = hashlib.sha256(Path(__file__).read_bytes())
    made_of.update((wheelhouse / CHECKSUMS).read_bytes())
    return made_of.hexdigest()


def build(wheelhouse: Path, target: Path) -> None:
    """Build the archive. The file appears only when it is complete."""
    _verify(wheelhouse)
    python = Node.of(wheelhouse / REQUIREMENTS).python
    members = dict(_members(wheelhouse, f"lib/python{python}/site-packages"))
    launcher = LAUNCHER.format(python=python, release=release_of(wheelhouse)).encode()
    unfinished = target.with_name(f".{target.name}.{os.getpid()}")
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with unfinished.open("wb") as file:
            _write(file, members, {"bin/python": launcher})
        unfinished.replace(target)
    finally:
        if unfinished.exists():
            unfinished.unlink()


def _verify(wheelhouse: Path) -> None:
    """Stop if a file of the wheelhouse is not the one that its list of checksums names."""
    if not (wheelhouse / CHECKSUMS).is_file():
        raise Stop(f"{wheelhouse} is not a wheelhouse: it has no {CHECKSUMS}")
    listed = {}
    for line in (wheelhouse / CHECKSUMS).read_text(encoding="utf-8").splitlines():
        expected, _, name = line.partition("  ")
        listed[name] = expected
    found = {path.name for path in wheelhouse.glob("*.whl")}
    wrong = sorted(found - listed.keys())
    for name, expected in listed.items():
        path = wheelhouse / name
        if not path.is_file() or sha256(path) != expected:
            wrong.append(name)
    if wrong:
        raise Stop(
            f"these files of {wheelhouse} are corrupted, missing or not in {CHECKSUMS}: "
            f"{', '.join(wrong)}. Remove the folder, and build or download it again"
        )


def _members(wheelhouse: Path, site: str) -> Iterator[tuple[str, Member]]:
    """Yield the name in the archive, and the source, of every file."""
    for path in sorted((wheelhouse / "check").iterdir()):
        yield f"check/{path.name}", Member(path, None, _FILE)
    for wheel in sorted(wheelhouse.glob("*.whl")):
        with zipfile.ZipFile(wheel) as archive:
            for entry in archive.infolist():
                name = _installed(entry.filename, site)
                if name and not entry.is_dir():
                    executable = entry.external_attr >> 16 & stat.S_IXUSR
                    yield name, Member(wheel, entry.filename, _PROGRAM if executable else _FILE)


def _installed(name: str, site: str) -> str:
    """Return where a file of a wheel is installed; empty if it is not."""
    folder, _, rest = name.partition("/")
    if not folder.endswith(".data"):
        return f"{site}/{name}"
    scheme, _, rest = rest.partition("/")
    return _SCHEMES[scheme].format(site=site) + rest if scheme in _SCHEMES else ""


def _write(file: BinaryIO, members: dict[str, Member], texts: dict[str, bytes]) -> None:
    """Write the archive. Times and owners are left out, so that its bytes depend on files only."""
    wheels: dict[Path, zipfile.ZipFile] = {}
    try:
        with gzip.GzipFile("", "wb", _LEVEL, file, mtime=0) as packed, tarfile.open(
            fileobj=packed, mode="w", format=tarfile.GNU_FORMAT
        ) as archive:
            for name in sorted({*members, *texts}):
                member = members.get(name)
                if member is None:
                    content, mode = texts[name], _PROGRAM
                elif member.inside is None:
                    content, mode = member.source.read_bytes(), member.mode
                else:
                    if member.source not in wheels:
                        wheels[member.source] = zipfile.ZipFile(member.source)
                    content, mode = wheels[member.source].read(member.inside), member.mode
                entry = tarfile.TarInfo(name)
                entry.size, entry.mode = len(content), mode
                archive.addfile(entry, io.BytesIO(content))
    finally:
        for wheel in wheels.values():
            wheel.close()


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Build the environment of EMR Serverless.")
    parser.add_argument("wheelhouse", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE.tar.gz")
    args = parser.parse_args()
    try:
        build(args.wheelhouse, args.output)
    except Stop as stop:
        sys.exit(f"emr.environment: {stop}.")
    print(f"{sha256(args.output)}  {args.output}")


if __name__ == "__main__":
    main()
