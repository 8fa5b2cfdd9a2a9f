"""``findings.csv``: the findings as a table that a person edits."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, Iterable

from pomona.decisions import COLUMNS, decisions_of, key, neutralised, rows_of

if TYPE_CHECKING:
    from pomona.findings import Finding


def to_csv(findings: Iterable[Finding], earlier: bytes | None, name: str) -> bytes:
    """Write findings as CSV, with the decisions of an earlier table.

    The file is UTF-8 with a byte order mark, which Excel needs, and separated by commas. Cells that
    a spreadsheet would evaluate start with an apostrophe (`pomona.decisions.neutralised`).

    Parameters
    ----------
    findings
        The rows.
    earlier
        The table that this one replaces. Its decisions are kept: also those about photos that have
        no finding any more, because they were left out or relabelled.
    name
        The name of the earlier table, for messages.

    Raises
    ------
    ValueError
        The earlier table is no such table, so that its decisions would be lost.
    """
    rows = [
        {
            "path": each.path,
            "finding": each.kind,
            "score": "" if each.score is None else f"{each.score:.5g}",
            "suggestion": each.suggestion,
            "label": each.label,
            "other_path": each.other_path,
            "other_label": each.other_label,
        }
        for each in findings
    ]
    if earlier:
        kept = list(rows_of(earlier, name))
        decisions_of(iter(kept), name)
        decided = {
            (key(row.cells["path"]), row.cells.get("finding", "")): row.cells
            for row in kept
            if row.cells["decision"].strip()
        }
        for row in rows:
            cells = decided.pop((key(row["path"]), row["finding"]), None)
            if cells is not None:
                row["decision"] = cells["decision"]
        rows += decided.values()
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, COLUMNS, restval="", extrasaction="ignore")
    writer.writeheader()
    for row in rows:
        writer.writerow({column: neutralised(cell) for column, cell in row.items()})
    return buffer.getvalue().encode("utf-8-sig", "backslashreplace")
