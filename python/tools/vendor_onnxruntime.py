"""Put ONNX Runtime into `python/pomona/lib`, made fit for the glibc 2.26 of Amazon Linux 2.

Usage: python vendor_onnxruntime.py

pip fetches the official wheel and checks it against a pinned sha256. Its library asks for glibc
2.27 in one place only: `expf`, `logf` and `powf` of libm, which glibc 2.27 gave a new version
because they no longer go through the old SVID error wrapper. Every glibc for x86-64 has the same
functions as GLIBC_2.2.5, so the one entry of `.gnu.version_r` that names GLIBC_2.27 is pointed
there. Nothing else in the file changes, and a library that is not exactly as described here is
refused.
"""

from __future__ import annotations

import hashlib
import io
import os
import struct
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from elf_needs import version_needs

VERSION = "1.24.4"
WHEEL_SHA256 = "e54ad52e61d2d4618dcff8fa1480ac66b24ee2eab73331322db1049f11ccf330"
# Of the library after the rewriting.
LIBRARY_SHA256 = "2061d3bf9a493a736c6dac64f22a7301a4166c2a0b3b295e84b708756701c513"

LIBRARY = f"libonnxruntime.so.{VERSION}"
# File in the official wheel -> file in our `lib` folder. The library comes last, so that it is
# never there without its licence.
FILES = {
    "onnxruntime/LICENSE": "onnxruntime-LICENSE",
    "onnxruntime/ThirdPartyNotices.txt": "onnxruntime-ThirdPartyNotices.txt",
    f"onnxruntime/capi/{LIBRARY}": LIBRARY,
}
TARGET = Path(__file__).resolve().parents[1] / "pomona" / "lib"

REWRITTEN = ("libm.so.6", "GLIBC_2.27")
REPLACEMENT = "GLIBC_2.2.5"

# Elf64_Vernaux: vna_hash (4 bytes), vna_flags (2), vna_other (2), vna_name (4), vna_next (4).
VNA_NAME = 8


def main() -> None:
    """Fill the `lib` folder, unless it already holds what it should."""
    if (TARGET / LIBRARY).exists() and sha256((TARGET / LIBRARY).read_bytes()) == LIBRARY_SHA256:
        return
    with tempfile.TemporaryDirectory() as folder:
        wheel = download(Path(folder))
        with zipfile.ZipFile(wheel) as archive:
            contents = {name: archive.read(source) for source, name in FILES.items()}
    contents[LIBRARY] = rewrite(contents[LIBRARY])
    found = sha256(contents[LIBRARY])
    if found != LIBRARY_SHA256:
        sys.exit(
            f"{LIBRARY} was rewritten to sha256 {found},"
            f" not to the {LIBRARY_SHA256} that was tested"
        )
    TARGET.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        write(TARGET / name, content)
    print(f"{TARGET / LIBRARY}: ONNX Runtime {VERSION}, needs at most glibc 2.17")


def download(folder: Path) -> Path:
    """Fetch the official wheel with pip, which refuses any other sha256."""
    pinned = folder / "requirements.txt"
    pinned.write_text(f"onnxruntime=={VERSION} --hash=sha256:{WHEEL_SHA256}\n")
    options = [
        *("--quiet", "--disable-pip-version-check", "--no-deps", "--require-hashes"),
        *("--only-binary", ":all:", "--platform", "manylinux_2_27_x86_64"),
        *("--implementation", "cp", "--python-version", "3.11", "--abi", "cp311"),
    ]
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        *options,
        "-d",
        str(folder),
        "-r",
        str(pinned),
    ]
    subprocess.run(command, check=True)
    (wheel,) = folder.glob("*.whl")
    return wheel


def rewrite(library: bytes) -> bytes:
    """Point the one need for glibc 2.27 at the version of the functions that every glibc has."""
    needs = version_needs(io.BytesIO(library))
    too_new = [need for need in needs if need.is_too_new()]
    if [(need.library, need.name) for need in too_new] != [REWRITTEN]:
        sys.exit(
            f"{LIBRARY} must need {REWRITTEN} and nothing else that is too new,"
            f" but it needs {too_new}"
        )
    (entry,) = too_new
    # The replacement's name is in the file's string table already: other entries ask for it.
    name_offset = next(need.name_offset for need in needs if need.name == REPLACEMENT)
    rewritten = bytearray(library)
    struct.pack_into("<I", rewritten, entry.entry_offset, elf_hash(REPLACEMENT))
    struct.pack_into("<I", rewritten, entry.entry_offset + VNA_NAME, name_offset)
    left = [need for need in version_needs(io.BytesIO(rewritten)) if need.is_too_new()]
    if left:
        sys.exit(f"{LIBRARY} still needs {left} after the rewriting")
    return bytes(rewritten)


def elf_hash(name: str) -> int:
    """Hash a symbol version's name as the System V ABI (figure 5-13) defines it."""
    value = 0
    for byte in name.encode("ascii"):
        value = (value << 4) + byte
        high = value & 0xF0000000
        value = (value ^ (high >> 24)) & ~high
    return value


def write(path: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def sha256(content: bytes) -> str:
    """Digest of `content`, in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


if __name__ == "__main__":
    main()
