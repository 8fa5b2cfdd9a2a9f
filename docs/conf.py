"""Settings of the documentation site, which `make docs` builds with Sphinx."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import astroid
from astroid import nodes
from sphinx.application import Sphinx

ROOT = Path(__file__).resolve().parents[1]

project = "Pomona"
author = "The Pomona developers"
(version, *_) = re.findall(r'^version = "(.+)"', (ROOT / "Cargo.toml").read_text(), re.M)
release = version

extensions = ["autoapi.extension", "myst_parser", "sphinx.ext.napoleon"]
html_theme = "furo"
html_title = f"Pomona {version}"
html_show_copyright = False
html_copy_source = False
myst_heading_anchors = 3
# Backticks in docstrings link to what they name, where that is documented.
default_role = "py:obj"
napoleon_use_param = False
napoleon_use_rtype = False
napoleon_use_ivar = True

# autoapi reads the sources and their stubs, so the build imports neither PySpark nor the extension.
autoapi_dirs = [str(ROOT / "python" / "pomona")]
autoapi_generate_api_docs = False
autoapi_keep_files = False
suppress_warnings = [
    "autoapi.python_import_resolution",  # of private names that autoapi cannot follow
    "ref.python",  # Summary, say, is a class of two modules, and annotations do not say which
]

# Pages that show a file from elsewhere in the repository; the index adds the table of contents.
SHARED_PAGES = {
    "changelog": "CHANGELOG.md",
    "contributing": "CONTRIBUTING.md",
    "emr": "bootstrap/README.md",
    "emr-guide": "bootstrap/guide.md",
    "emr-guide.fr": "bootstrap/guide.fr.md",
    "emr-privacy": "bootstrap/privacy.md",
    "emr-privacy.fr": "bootstrap/privacy.fr.md",
    "index": "README.md",
}


def read_shared_page(app: Sphinx, page: str, source: list[str]) -> None:
    """Give a page the text of its file, with links that start from the page's folder."""
    if page not in SHARED_PAGES:
        return
    file = ROOT / SHARED_PAGES[page]
    pages = {ROOT / shared: Path(app.srcdir, f"{name}.md") for name, shared in SHARED_PAGES.items()}

    def link(match: re.Match[str]) -> str:
        target = Path(os.path.normpath(file.parent / match[1]))
        return f"]({os.path.relpath(pages.get(target, target), app.srcdir)}"

    text = re.sub(r"\]\((?![a-z]+:)([^)#]+)", link, file.read_text(encoding="utf-8"))
    source[0] = f"{text}\n{source[0]}" if page == "index" else text


def skip_private_import(
    app: Sphinx, what: str, name: str, member: Any, skip: bool, options: Any
) -> bool | None:
    """Leave out what a module imports for itself: only the names in its `__all__` are public."""
    module = app.env.autoapi_all_objects.get(member.id.rpartition(".")[0])
    public = getattr(module, "all", None)
    return True if public is not None and name not in public else None


def hoist_lazy_imports(module: nodes.Module) -> None:
    """Move imports out of `if TYPE_CHECKING:`, to where autoapi follows them."""
    for block in list(module.body):
        if isinstance(block, nodes.If) and block.test.as_string() == "TYPE_CHECKING":
            at = module.body.index(block)
            module.body[at : at + 1] = block.body
            for statement in block.body:
                statement.parent = module


def rename_constructor(method: nodes.FunctionDef) -> None:
    """Name the stub's `__new__` what autoapi expects of a method with the class's signature."""
    method.name = "__init__"
    method.args.args[0].name = "self"


def is_constructor_of_the_stub(method: nodes.FunctionDef) -> bool:
    """Select the constructors of the extension's classes."""
    return method.name == "__new__" and method.root().name == "pomona._native"


astroid.MANAGER.register_transform(nodes.Module, hoist_lazy_imports)
astroid.MANAGER.register_transform(
    nodes.FunctionDef, rename_constructor, is_constructor_of_the_stub
)


def setup(app: Sphinx) -> None:
    """Register what this file adds to Sphinx."""
    app.connect("source-read", read_shared_page)
    app.connect("autodoc-skip-member", skip_private_import)
