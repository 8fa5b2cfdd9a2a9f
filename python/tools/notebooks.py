"""Writes the notebooks, in English and in French, from their sources.

Usage: python notebooks.py

`notebooks/source` has a jupytext script for each notebook. Its code is that of both languages; a
Markdown cell names its language: `lang="en"`, `lang="fr"`. The English notebook keeps its outputs
where the code stays the same, and the French one gets a copy of them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jupytext
import nbformat

FOLDER = Path(__file__).resolve().parents[2] / "notebooks"
SOURCES = sorted((FOLDER / "source").glob("*.py"))
#: What a language's notebook is called after the name of its source.
SUFFIXES = {"en": ".ipynb", "fr": ".fr.ipynb"}


def path_of(source: Path, language: str) -> Path:
    """Return where a source's notebook in a language is written."""
    return FOLDER / f"{source.stem}{SUFFIXES[language]}"


def translated(source: Path, language: str, executed: Any | None = None) -> Any:
    """Return a source's notebook in one language.

    Parameters
    ----------
    source
        A script in jupytext's percent format, whose cells have titles.
    language
        ``en`` or ``fr``.
    executed
        A notebook of this source in any language. Its outputs are kept where the code is the same.

    Returns
    -------
    NotebookNode
        A notebook in nbformat 4.5 whose cells have the titles of the source as ids.
    """
    script = jupytext.read(str(source))
    outputs = {} if executed is None else {cell.id: cell for cell in executed.cells}
    notebook = nbformat.v4.new_notebook(
        metadata={name: script.metadata[name] for name in ("kernelspec", "language_info")}
    )
    for cell in script.cells:
        if cell.metadata.get("lang", language) != language:
            continue
        title, tags = cell.metadata["title"], cell.metadata.get("tags")
        metadata = {"tags": tags} if tags else {}
        if cell.cell_type == "markdown":
            new = nbformat.v4.new_markdown_cell(cell.source, metadata=metadata)
        else:
            new = nbformat.v4.new_code_cell(cell.source, metadata=metadata)
            ran = outputs.get(title)
            if ran is not None and ran.source == new.source:
                new.outputs, new.execution_count = ran.outputs, ran.execution_count
        new.id = title
        notebook.cells.append(new)
    return notebook


def main() -> None:
    """Write all notebooks."""
    for source in SOURCES:
        english = path_of(source, "en")
        executed = nbformat.read(str(english), as_version=4) if english.exists() else None
        for language in SUFFIXES:
            notebook = translated(source, language, executed)
            nbformat.write(notebook, str(path_of(source, language)))


if __name__ == "__main__":
    main()
