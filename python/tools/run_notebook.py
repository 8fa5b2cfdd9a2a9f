"""Execute a notebook in place, and keep of its outputs what is worth reading anywhere.

Usage: python run_notebook.py NOTEBOOK [-o FILE] [--folder FOLDER] [--kernel NAME]
                              [--set NAME=VALUE]… [--configure JSON]

The notebook is saved with the sources it had: values given here hold for this run only. Nothing is
saved if a cell fails, or if an output tells of the machine (a path, a host, an application's id).
"""

from __future__ import annotations

import argparse
import copy
import json
import re
import socket
import sys
from pathlib import Path
from typing import Any, Iterable, Iterator, Mapping

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

# A cell may start a cluster's session, or featurise some hundred photos on one core.
TIMEOUT_SECONDS = 900

PARAMETERS = "parameters"
CONFIGURE = "%%configure"

# What only means something where the notebook ran; hosts are those of one machine, or of a cluster.
MACHINE = re.compile(
    r"""
    /(?:tmp|root|home|work|var|private|Users|mnt)/[\w.-]+   # folders of one machine
    | \bfile:/                                             # any local file
    | \bapplication_\d{10,}_\d+ | \bcontainer_\w*\d{10,}    # YARN
    | \b\d{1,3}(?:\.\d{1,3}){3}(?::\d+)?\b | \blocalhost\b  # addresses
    | \bip-\d+-\d+-\d+-\d+\b | \bec2-[\w-]+\.
    | \bAKIA[0-9A-Z]{16}\b | (?i:\btoken=)                  # keys
    """,
    re.VERBOSE,
)

# Lines that Java's side of Spark writes to standard error when it starts, with times in them.
JAVA_LOG = re.compile(
    r"\d\d/\d\d/\d\d \d\d:\d\d:\d\d (?:INFO|WARN) |Setting default log level |"
    r"To adjust logging level |Using Spark's default log4j profile|WARNING: "
)

# Of sparkmagic: progress bars, and tables of sessions with ids and links of one day.
WIDGET = "application/vnd.jupyter.widget-view+json"
SESSION = re.compile("YARN Application ID|Current session configs|No active sessions")


def execute(
    notebook: Any,
    folder: Path,
    *,
    kernel: str | None = None,
    parameters: Mapping[str, str] | None = None,
    configure: Mapping[str, Any] | None = None,
) -> Any:
    """Execute a notebook.

    Parameters
    ----------
    notebook
        A notebook of nbformat 4; it stays as it is.
    folder
        The working directory of its kernel.
    kernel
        A kernel's name instead of the notebook's own; ``python3`` is this Python.
    parameters
        Values for names that the cell tagged ``parameters`` assigns.
    configure
        Settings to add to those of the ``%%configure`` cell, or to put in their place.

    Returns
    -------
    NotebookNode
        The notebook with the outputs of this run and the sources that it had.

    Raises
    ------
    CellExecutionError
        A cell failed.
    ValueError
        There is no cell to give parameters or settings to.
    """
    running = copy.deepcopy(notebook)
    if parameters:
        cell = _only(running, PARAMETERS, lambda it: PARAMETERS in _tags(it))
        for name, value in parameters.items():
            cell.source = _assigned(cell.source, name, value)
    if configure:
        cell = _configure_cell(running)
        settings = json.dumps(_merged(settings_of(running), configure))
        cell.source = f"{CONFIGURE} -f\n{settings}"
    options = {} if kernel is None else {"kernel_name": kernel}
    NotebookClient(
        running,
        timeout=TIMEOUT_SECONDS,
        startup_timeout=TIMEOUT_SECONDS,
        record_timing=False,
        resources={"metadata": {"path": str(folder)}},
        **options,
    ).execute()
    for cell, original in zip(running.cells, notebook.cells):
        cell.source = original.source
    return running


def normalise(notebook: Any) -> None:
    """Drop what differs from one run to the next without telling a reader anything."""
    spec, language = notebook.metadata.kernelspec, notebook.metadata.language_info
    for name in ("version", "nbconvert_exporter"):
        language.pop(name, None)
    notebook.metadata = nbformat.from_dict({"kernelspec": spec, "language_info": language})
    for number, cell in enumerate(code_cells(notebook), 1):
        cell.execution_count = number
        cell.outputs = _joined(output for output in cell.outputs if _is_worth_reading(output))
        for output in cell.outputs:
            if "execution_count" in output:
                output.execution_count = number
    for cell in notebook.cells:
        cell.metadata = nbformat.from_dict({"tags": _tags(cell)} if _tags(cell) else {})


def traces_of_machines(notebook: Any) -> list[str]:
    """Find texts of a notebook's outputs that tell where it ran, each with its cell's id."""
    host = re.compile(rf"\b{re.escape(socket.gethostname())}\b")
    found = []
    for cell in code_cells(notebook):
        for text in (text for output in cell.outputs for text in _texts(output)):
            for match in [*MACHINE.finditer(text), *host.finditer(text)]:
                around = text[max(0, match.start() - 40) : match.end() + 40]
                found.append(f"cell {cell.id}: {' '.join(around.split())}")
    return found


def settings_of(notebook: Any) -> dict[str, Any]:
    """Read the settings of the session in the ``%%configure`` cell."""
    settings: dict[str, Any] = json.loads(_configure_cell(notebook).source.partition("\n")[2])
    return settings


def code_cells(notebook: Any) -> list[Any]:
    """List the cells that are code."""
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def _assigned(source: str, name: str, value: str) -> str:
    """Give a name another value where a cell assigns it, so that what follows from it is right."""
    line = re.compile(rf"^{re.escape(name)} = .*$", re.MULTILINE)
    if not line.search(source):
        raise ValueError(f"the cell of {PARAMETERS} has no line that starts with {name} =")
    return line.sub(lambda _: f"{name} = {value!r}", source)


def _configure_cell(notebook: Any) -> Any:
    return _only(notebook, CONFIGURE, lambda it: it.source.startswith(CONFIGURE))


def _only(notebook: Any, what: str, matches: Any) -> Any:
    cells = [cell for cell in code_cells(notebook) if matches(cell)]
    if len(cells) != 1:
        raise ValueError(f"{len(cells)} cells for {what}, there must be one")
    return cells[0]


def _tags(cell: Any) -> list[str]:
    return list(cell.metadata.get("tags", []))


def _merged(settings: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(settings)
    for name, value in changes.items():
        inner = merged.get(name)
        if isinstance(inner, dict) and isinstance(value, Mapping):
            merged[name] = _merged(inner, value)
        else:
            merged[name] = value
    return merged


def _is_worth_reading(output: Any) -> bool:
    """Tell whether something is left of an output without what is of the moment."""
    if output.output_type == "stream":
        if output.name == "stderr":
            lines = output.text.splitlines(keepends=True)
            output.text = "".join(line for line in lines if not JAVA_LOG.match(line))
        return bool(output.text.strip()) and not SESSION.search(output.text)
    if WIDGET in output.get("data", {}):
        return False
    return not any(SESSION.search(text) for text in _texts(output))


def _joined(outputs: Iterable[Any]) -> list[Any]:
    """Join what arrived of a stream in pieces."""
    joined: list[Any] = []
    for output in outputs:
        name = output.get("name")
        if name and joined and joined[-1].get("name") == name:
            joined[-1].text += output.text
        else:
            joined.append(output)
    return joined


def _texts(output: Any) -> Iterator[str]:
    """Yield what can be read of an output; pictures are not."""
    if output.output_type == "stream":
        yield output.text
    elif output.output_type == "error":
        yield "\n".join([output.ename, output.evalue, *output.traceback])
    else:
        for kind, content in output.data.items():
            if not kind.startswith("image/"):
                yield content if isinstance(content, str) else json.dumps(content)


def main(arguments: list[str] | None = None) -> int:
    """Execute and save."""
    summary, _, details = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(description=summary, epilog=details.split("\n\n")[-1])
    parser.add_argument("notebook", type=Path)
    parser.add_argument("-o", "--output", type=Path, help="where to save it (default: in place)")
    parser.add_argument("--folder", type=Path, default=Path.cwd(), help="where to run it")
    parser.add_argument("--kernel", help="a kernel instead of the notebook's own")
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="a text for a parameter"
    )
    parser.add_argument("--configure", type=json.loads, metavar="JSON", help="session settings")
    options = parser.parse_args(arguments)

    notebook = nbformat.read(str(options.notebook), as_version=4)
    parameters = dict(one.split("=", 1) for one in options.set)
    try:
        executed = execute(
            notebook,
            options.folder,
            kernel=options.kernel,
            parameters=parameters,
            configure=options.configure,
        )
    except CellExecutionError as error:
        print(f"{options.notebook}: a cell failed, nothing is saved\n{error}", file=sys.stderr)
        return 1
    normalise(executed)
    traces = traces_of_machines(executed)
    if traces:
        print(f"{options.notebook}: not saved, its outputs tell of this machine:", file=sys.stderr)
        print(*traces, sep="\n", file=sys.stderr)
        return 1
    nbformat.write(executed, str(options.output or options.notebook))
    return 0


if __name__ == "__main__":
    sys.exit(main())
