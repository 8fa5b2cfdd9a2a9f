"""Decisions about photos: which to leave out and which to relabel, as ``findings.csv`` has them.

``pomona check`` and ``pomona report`` write the table, with an empty column ``decision``. Edited in
Excel, LibreOffice or a text editor, it goes back into ``pomona run --decisions`` and ``pomona
featurize --decisions``. A decision is one of::

    (empty), keep       the photo stays as it is
    leave out           the photo is not part of the set
    relabel: NAME       the photo gets the label NAME
"""

from __future__ import annotations

import csv
import difflib
import io
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Iterator, Mapping, NamedTuple

from pomona._images import composed, describe_left_out, one_line, utf8_text

if TYPE_CHECKING:
    from pomona._typing import PathLike

#: The columns of ``findings.csv``. Only ``path`` and ``decision`` are needed for decisions.
COLUMNS = (
    "path",
    "finding",
    "score",
    "suggestion",
    "decision",
    "label",
    "other_path",
    "other_label",
)

_KEEP = "keep"
_LEAVE_OUT = "leave out"
_RELABEL = "relabel"
_REMEDY = 'write "leave out", "relabel: NAME" or "keep", or leave it empty'

#: Spreadsheets evaluate a cell that starts with one of the first; an apostrophe in front prevents
#: it, and is therefore doubled where a cell starts with one.
_FORMULA = "=+-@\t\r'"

_SCHEME = re.compile("[A-Za-z][A-Za-z0-9+.-]+:")
_FILE = re.compile("file:/*")
_S3 = re.compile("s3[an]?:/+")


class Row(NamedTuple):
    """A row of the table."""

    line: int
    #: The cells by column, in lower case; columns that the table lacks are missing.
    cells: dict[str, str]


class Decision(NamedTuple):
    """What to do with a photo: relabel it, or leave it out where `label` is None."""

    path: str
    label: str | None
    #: The line of the table.
    line: int


@dataclass(frozen=True)
class Decisions:
    """The decisions of a table, by `key` of the path.

    Attributes
    ----------
    file
        Where they come from, for messages.
    by_key
        Decisions to leave out or to relabel; others change nothing.
    """

    file: str
    by_key: dict[str, Decision] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.by_key)

    def of(self, path: str) -> Decision | None:
        """Return the decision about a photo; None if it stays as it is."""
        return self.by_key.get(key(path)) if self.by_key else None

    def check_found(self, found: set[str], folders: str) -> None:
        """Refuse decisions about photos that are not among those `found`, a set of keys."""
        unknown = [each for name, each in self.by_key.items() if name not in found]
        if not unknown:
            return
        first = min(unknown, key=lambda each: each.line)
        others = f" (and {len(unknown) - 1:,} more)" if len(unknown) > 1 else ""
        raise ValueError(
            f"{self.file}, line {first.line}: there is no photo {one_line(first.path)} in "
            f"{folders}{others}: name the folders that hold it, or clear the decision"
        )


def read_decisions(file: PathLike) -> Decisions:
    """Read the decisions of a table.

    The table may be what a spreadsheet saved: separated by commas, semicolons or tabs, with or
    without a byte order mark, its columns in any order and others among them.

    Parameters
    ----------
    file
        The path of a CSV file in UTF-8.

    Raises
    ------
    OSError
        The file cannot be read.
    ValueError
        It is not such a table, a decision is unknown, or two decisions about a photo differ. The
        message names the line.

    Examples
    --------
    >>> read_decisions("findings.csv").of("fruits/apple/1.jpg")  # doctest: +SKIP
    Decision(path='fruits/apple/1.jpg', label='pear', line=7)
    """
    name = os.fsdecode(file)
    return decisions_of(rows_of(Path(name).read_bytes(), name), name)


def decisions_of(rows: Iterator[Row], file: str) -> Decisions:
    """Collect the decisions of rows; those that keep a photo are only compared with the others."""
    decided: dict[str, tuple[Row, str | None, str]] = {}
    for row in rows:
        text = " ".join(row.cells.get("decision", "").split())
        if not text:
            continue
        verb, label = _parsed(text, f"{file}, line {row.line}")
        path = row.cells["path"]
        if not path:
            raise ValueError(f"{file}, line {row.line}: the decision {text!r} has no path")
        before = decided.setdefault(key(path), (row, label, verb))
        if before[1:] != (label, verb):
            raise ValueError(
                f"{file}, lines {before[0].line} and {row.line}: two decisions about "
                f"{one_line(path)}, {before[0].cells['decision'].strip()!r} and {text!r}: keep one"
            )
    return Decisions(
        file,
        {
            name: Decision(row.cells["path"], label, row.line)
            for name, (row, label, verb) in decided.items()
            if verb != _KEEP
        },
    )


def _parsed(text: str, where: str) -> tuple[str, str | None]:
    """Split a decision into its verb and a new label, which only ``relabel`` has."""
    verb, colon, label = (part.strip() for part in text.partition(":"))
    verb = verb.lower()
    if verb in (_KEEP, _LEAVE_OUT) and not colon:
        return verb, None
    if verb == _RELABEL and label:
        return verb, composed(label)  # as the labels that folders give
    if verb == _RELABEL:
        raise ValueError(f'{where}: {text!r} names no label: write "relabel: NAME"')
    close = difflib.get_close_matches(verb, [_KEEP, _LEAVE_OUT, _RELABEL], 1)
    hint = f", did you mean {close[0]!r}?" if close else ""
    raise ValueError(f"{where}: unknown decision {text!r}{hint} ({_REMEDY})")


def counted(left_out: int, relabelled: int) -> dict[str, int]:
    """Return the numbers of decisions that were carried out, as a summary has them."""
    counts = {"left out": left_out, "relabelled": relabelled}
    return {name: count for name, count in counts.items() if count}


def describe_listing(left_out: Mapping[str, int], decided: Mapping[str, int]) -> list[str]:
    """Describe what a listing left out, and what decisions changed, in a line each."""
    lines = []
    if left_out:
        lines.append(f"left out: {describe_left_out(left_out)}")
    if decided:
        lines.append(describe_decided(decided))
    return lines


def describe_decided(decided: Mapping[str, int]) -> str:
    """Describe the result of `counted`.

    Examples
    --------
    >>> describe_decided({"left out": 3, "relabelled": 1_200})
    'by decision: 3 left out, 1,200 relabelled'
    """
    return "by decision: " + ", ".join(f"{count:,} {name}" for name, count in decided.items())


def key(path: str) -> str:
    """Return a spelling of a photo's path that does not depend on who listed it.

    Local paths are absolute and without a scheme.

    Examples
    --------
    >>> key("file:///fruits/1.jpg"), key("/fruits/../fruits/1.jpg"), key("s3a://b/1.jpg")
    ('/fruits/1.jpg', '/fruits/1.jpg', 's3://b/1.jpg')
    """
    if _FILE.match(path):
        return os.path.normpath(_FILE.sub("/", path, count=1))
    if _S3.match(path):
        return _S3.sub("s3://", path, count=1)
    if _SCHEME.match(path):
        return path
    return utf8_text(os.path.abspath(path))  # noqa: PTH100 - it must not follow links


def rows_of(content: bytes, file: str) -> Iterator[Row]:
    """Parse a table that this module or a spreadsheet wrote.

    Parameters
    ----------
    content
        The file.
    file
        Its name, for messages.
    """
    try:
        text = content.decode(
            "utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
        )
    except UnicodeDecodeError:
        raise ValueError(
            f"{file} is not UTF-8: save it again as “CSV UTF-8”, or in LibreOffice with the "
            "character set Unicode (UTF-8)"
        ) from None
    header = next((line for line in text.splitlines() if line.strip()), "")
    separator = max(",;\t", key=header.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    names: list[str] = []
    try:
        for cells in reader:
            if not any(cell.strip() for cell in cells) or cells[0].lower().startswith("sep="):
                continue
            if not names:
                names = [cell.strip().lower() for cell in cells]
                missing = [name for name in ("path", "decision") if name not in names]
                if missing:
                    raise ValueError(
                        f"{file} has no column {' and '.join(missing)}: give the findings.csv that "
                        "`pomona check` or `pomona report` wrote"
                    )
                continue
            values = (restored(cell) for cell in cells)
            yield Row(reader.line_num, {**dict.fromkeys(names, ""), **dict(zip(names, values))})
    except csv.Error as error:
        raise ValueError(f"{file}, line {reader.line_num}: {error}") from error
    if not names:
        raise ValueError(f"{file} is empty: it must have at least the columns path and decision")


def neutralised(cell: str) -> str:
    """Keep a spreadsheet from evaluating a cell as a formula.

    Examples
    --------
    >>> neutralised("=cmd.jpg"), neutralised("'a.jpg"), neutralised("a=b.jpg")
    ("'=cmd.jpg", "''a.jpg", 'a=b.jpg')
    """
    return f"'{cell}" if cell[:1] and cell[0] in _FORMULA else cell


def restored(cell: str) -> str:
    """Undo `neutralised`.

    Examples
    --------
    >>> restored("'=cmd.jpg"), restored("''a.jpg"), restored("a=b.jpg")
    ('=cmd.jpg', "'a.jpg", 'a=b.jpg')
    """
    return cell[1:] if cell[:1] == "'" and cell[1:2] and cell[1] in _FORMULA else cell
