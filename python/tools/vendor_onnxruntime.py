"""Downloads ONNX Runtime to `python/pomona/lib`, and lets it load with glibc 2.26 (Amazon Linux 2).

Usage: python vendor_onnxruntime.py

pip downloads the official wheel and verifies it against a pinned sha256. The library needs glibc
2.27 for three functions only: `expf`, `logf` and `powf` of libm, which have a new version in glibc
2.27 because they bypass the old SVID error wrapper. Every glibc for x86-64 has these functions as
GLIBC_2.2.5 too, so the only entry of `.gnu.version_r` for GLIBC_2.27 is changed to that version.
Nothing else in the file changes, and a library that differs from this description is rejected.
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
# The library after the change.
LIBRARY_SHA256 = "2061d3bf9a493a736c6dac64f22a7301a4166c2a0b3b295e84b708756701c513"

LIBRARY = f"libonnxruntime.so.{VERSION}"
# File in the official wheel -> file in our `lib` folder. The library comes last, so that it never
# exists without its licence.
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
    """Fill the `lib` folder, unless it is already complete."""
    if (TARGET / LIBRARY).exists() and sha256((TARGET / LIBRARY).read_bytes()) == LIBRARY_SHA256:
        return
    with tempfile.TemporaryDirectory() as folder:
        wheel = download(Path(folder))
        with zipfile.ZipFile(wheel) as archive:
            contents = {name: archive.read(source) for source, name in FILES.items()}
    contents[LIBRARY] = rewrite(contents[LIBRARY])
    actual = sha256(contents[LIBRARY])
    if actual != LIBRARY_SHA256:
        sys.exit(f"the changed {LIBRARY} has sha256 {actual}, but {LIBRARY_SHA256} was tested")
    TARGET.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        write(TARGET / name, content)
    print(f"{TARGET / LIBRARY}: ONNX Runtime {VERSION}, needs at most glibc 2.17")


def download(folder: Path) -> Path:
    """Download the official wheel with pip, which rejects any other sha256."""
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
    """Replace the only reference to glibc 2.27 with the version that every glibc has."""
    needs = version_needs(io.BytesIO(library))
    too_new = [need for need in needs if need.is_too_new()]
    if [(need.library, need.name) for need in too_new] != [REWRITTEN]:
        sys.exit(
            f"{LIBRARY} should need {REWRITTEN} as its only version that is too new, but it needs"
            f" {too_new}"
        )
    (entry,) = too_new
    # The replacement's name is already in the string table, because other entries use it.
    name_offset = next(need.name_offset for need in needs if need.name == REPLACEMENT)
    rewritten = bytearray(library)
    struct.pack_into("<I", rewritten, entry.entry_offset, elf_hash(REPLACEMENT))
    struct.pack_into("<I", rewritten, entry.entry_offset + VNA_NAME, name_offset)
    left = [need for need in version_needs(io.BytesIO(rewritten)) if need.is_too_new()]
    if left:
        sys.exit(f"{LIBRARY} still needs {left} after the change")
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
    """Write a file atomically."""
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
    """Return the SHA-256 of `content`, in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


if __name__ == "__main__":
    main()
