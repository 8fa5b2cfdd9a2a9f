"""Executes a notebook in place, and saves only the outputs that matter to other readers.

Usage: python run_notebook.py NOTEBOOK [-o FILE] [--folder FOLDER] [--kernel NAME]
                              [--set NAME=VALUE]… [--configure JSON]

The notebook's sources stay unchanged: values given here apply to this run only. Nothing is saved if
a cell fails, or if an output identifies the machine (a path, a host, the id of an application).
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

# A cell may start a session on a cluster, or featurize hundreds of photos on one core.
TIMEOUT_SECONDS = 900

PARAMETERS = "parameters"
CONFIGURE = "%%configure"

# Text that identifies the machine or cluster that ran the notebook.
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

# Lines with timestamps and the like, which Spark's JVM writes to standard error when it starts.
JAVA_LOG = re.compile(
    r"\d\d/\d\d/\d\d \d\d:\d\d:\d\d (?:INFO|WARN) |Setting default log level |"
    r"To adjust logging level |Using Spark's default log4j profile|WARNING: "
)

# Outputs of sparkmagic: progress bars, and tables of sessions with ids and links.
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
        A notebook in nbformat 4, which is not modified.
    folder
        The working directory of the kernel.
    kernel
        Name of the kernel; by default the notebook's own. ``python3`` is this Python.
    parameters
        New values of variables that the cell tagged ``parameters`` assigns.
    configure
        Settings to merge into those of the ``%%configure`` cell.

    Returns
    -------
    NotebookNode
        The notebook with its original sources and the outputs of this run.

    Raises
    ------
    CellExecutionError
        A cell failed.
    ValueError
        The notebook has no cell for the parameters or settings.
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
    """Remove what differs between runs but means nothing to a reader."""
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
    """Find text in the outputs that identifies the machine; each result has the cell's id."""
    host = re.compile(rf"\b{re.escape(socket.gethostname())}\b")
    traces = []
    for cell in code_cells(notebook):
        for text in (text for output in cell.outputs for text in _texts(output)):
            for match in [*MACHINE.finditer(text), *host.finditer(text)]:
                context = text[max(0, match.start() - 40) : match.end() + 40]
                traces.append(f"cell {cell.id}: {' '.join(context.split())}")
    return traces


def settings_of(notebook: Any) -> dict[str, Any]:
    """Parse the session's settings in the ``%%configure`` cell."""
    settings: dict[str, Any] = json.loads(_configure_cell(notebook).source.partition("\n")[2])
    return settings


def code_cells(notebook: Any) -> list[Any]:
    """Return the code cells."""
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def _assigned(source: str, name: str, value: str) -> str:
    """Replace the value that a cell assigns to a name, so that later lines use the new one."""
    line = re.compile(rf"^{re.escape(name)} = .*$", re.MULTILINE)
    if not line.search(source):
        raise ValueError(f"the cell of {PARAMETERS} has no line that starts with {name} =")
    return line.sub(lambda _: f"{name} = {value!r}", source)


def _configure_cell(notebook: Any) -> Any:
    return _only(notebook, CONFIGURE, lambda it: it.source.startswith(CONFIGURE))


def _only(notebook: Any, purpose: str, matches: Any) -> Any:
    cells = [cell for cell in code_cells(notebook) if matches(cell)]
    if len(cells) != 1:
        raise ValueError(f"the notebook must have one cell for {purpose}, not {len(cells)}")
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
    """Remove log lines from an output, and return whether anything else is left."""
    if output.output_type == "stream":
        if output.name == "stderr":
            lines = output.text.splitlines(keepends=True)
            output.text = "".join(line for line in lines if not JAVA_LOG.match(line))
        return bool(output.text.strip()) and not SESSION.search(output.text)
    if WIDGET in output.get("data", {}):
        return False
    return not any(SESSION.search(text) for text in _texts(output))


def _joined(outputs: Iterable[Any]) -> list[Any]:
    """Join the pieces of a stream."""
    joined: list[Any] = []
    for output in outputs:
        name = output.get("name")
        if name and joined and joined[-1].get("name") == name:
            joined[-1].text += output.text
        else:
            joined.append(output)
    return joined


def _texts(output: Any) -> Iterator[str]:
    """Yield the text of an output."""
    if output.output_type == "stream":
        yield output.text
    elif output.output_type == "error":
        yield "\n".join([output.ename, output.evalue, *output.traceback])
    else:
        for kind, content in output.data.items():
            if not kind.startswith("image/"):
                yield content if isinstance(content, str) else json.dumps(content)


def main(arguments: list[str] | None = None) -> int:
    """Execute a notebook and save it."""
    summary, _, details = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(description=summary, epilog=details.split("\n\n")[-1])
    parser.add_argument("notebook", type=Path)
    parser.add_argument("-o", "--output", type=Path, help="file to save it to (default: in place)")
    parser.add_argument("--folder", type=Path, default=Path.cwd(), help="working directory")
    parser.add_argument("--kernel", help="kernel (default: the notebook's own)")
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="value of a parameter"
    )
    parser.add_argument("--configure", type=json.loads, metavar="JSON", help="session settings")
    options = parser.parse_args(arguments)

    notebook = nbformat.read(str(options.notebook), as_version=4)
    parameters = dict(pair.split("=", 1) for pair in options.set)
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
        print(
            f"{options.notebook}: not saved, because its outputs identify this machine:",
            file=sys.stderr,
        )
        print(*traces, sep="\n", file=sys.stderr)
        return 1
    nbformat.write(executed, str(options.output or options.notebook))
    return 0


if __name__ == "__main__":
    sys.exit(main())
