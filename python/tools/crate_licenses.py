"""Writes the licences of all Rust crates in the extension to `python/pomona/lib`, for the wheel.

Usage: python crate_licenses.py

Crates that run only while Pomona is built, and crates of other platforms, are left out. A text that
several crates share is written once, under the names of all of them.
"""

from __future__ import annotations

import json
import subprocess
from collections import defaultdict
from pathlib import Path
from typing import Any, Iterator

PACKAGE = Path(__file__).resolve().parents[1] / "pomona"
TARGET = PACKAGE / "lib/rust-crates-LICENSES.txt"
COMMAND = [
    *("cargo", "metadata", "--locked", "--format-version", "1", "--features", "python"),
    *("--filter-platform", "x86_64-unknown-linux-gnu"),
]
# Files of a crate, or of C code in it, with a licence or a notice that goes with the binary.
NAMES = ("license", "licence", "copying", "copyright", "notice", "unlicense", "readme.ijg")


def main() -> None:
    """Write the file."""
    root = Path(__file__).resolve().parents[2]
    output = subprocess.run(COMMAND, cwd=root, stdout=subprocess.PIPE, check=True).stdout
    crates = linked(json.loads(output))
    holders = defaultdict(list)
    for crate in crates:
        for text in texts(crate):
            holders[text].append(title(crate))
    parts = ["The native extension of Pomona contains these Rust crates:\n"]
    parts += [f"{title(crate)}: {crate['license']}" for crate in crates]
    for text, names in sorted(holders.items(), key=lambda item: item[1]):
        parts.append("\n" + "=" * 80 + "\n" + "\n".join(names) + "\n\n" + text)
    TARGET.parent.mkdir(exist_ok=True)
    TARGET.write_text("\n".join(parts) + "\n", encoding="utf-8")


def linked(metadata: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the crates that are linked into the extension, by name, without Pomona itself."""
    packages = {package["id"]: package for package in metadata["packages"]}
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    reached: dict[str, dict[str, Any]] = {}
    waiting = [metadata["resolve"]["root"]]
    while waiting:
        node = nodes[waiting.pop()]
        for dependency in node["deps"]:
            package = packages[dependency["pkg"]]
            macros = any("proc-macro" in target["kind"] for target in package["targets"])
            needed = any(kind["kind"] is None for kind in dependency["dep_kinds"])
            if needed and not macros and package["id"] not in reached:
                reached[package["id"]] = package
                waiting.append(package["id"])
    return sorted(reached.values(), key=title)


def title(crate: dict[str, Any]) -> str:
    """Return the name and the version of a crate."""
    return f"{crate['name']} {crate['version']}"


def texts(crate: dict[str, Any]) -> Iterator[str]:
    """Generate the texts of a crate's licences and notices, without white space at line ends."""
    folder = Path(crate["manifest_path"]).parent
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name.lower().startswith(NAMES) and path.suffix != ".rs":
            lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
            yield "\n".join(line.rstrip() for line in lines).strip()


if __name__ == "__main__":
    main()
