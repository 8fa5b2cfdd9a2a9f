"""Writes the docstrings of the stub into `src/python/docs.rs`, from which the extension has them.

Usage: extension_docs.py [--check]
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path
from typing import Iterator

ROOT = Path(__file__).parents[2]
STUB = ROOT / "python/pomona/_native.pyi"
DOCS = ROOT / "src/python/docs.rs"

HEAD = """\
//! Written by `python/tools/extension_docs.py`: the docstrings of `python/pomona/_native.pyi`.

#[rustfmt::skip]
macro_rules! docstring {
"""
FOOT = "}\n"


def docstrings(body: list[ast.stmt], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield the name and the docstring of everything in a body that has one."""
    for node in body:
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)):
            docstring = ast.get_docstring(node)
            if docstring is not None:
                yield prefix + node.name, docstring
            if isinstance(node, ast.ClassDef):
                yield from docstrings(node.body, f"{node.name}.")


def read_stub() -> list[ast.stmt]:
    """Return the statements of the stub."""
    return ast.parse(STUB.read_text()).body


def source() -> str:
    """Return the text of `docs.rs`."""
    found = docstrings(read_stub())
    return HEAD + "".join(f'({name}) => {{ r#"{text}"# }};\n' for name, text in found) + FOOT


def main() -> int:
    """Write the file, or check that it is current."""
    wanted = source()
    if DOCS.exists() and DOCS.read_text() == wanted:
        return 0
    if "--check" in sys.argv[1:]:
        print(f"{DOCS.relative_to(ROOT)} differs from the stub: make {DOCS.relative_to(ROOT)}")
        return 1
    DOCS.write_text(wanted)
    return 0


if __name__ == "__main__":
    sys.exit(main())
