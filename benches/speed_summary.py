"""The README's summary of the benchmark: six rows, taken from the tables of a whole report."""

from __future__ import annotations

from typing import NamedTuple


class Row(NamedTuple):
    """A row of the summary: two cells of one of the report's tables, in one column."""

    title: str
    section: str
    column: str
    pomona: str
    other: str
    other_title: str


SPARK = "Jobs on Spark 3.1.2, Python 3.7, `local[2]`"
S3 = "Jobs on Spark 3.1.2, photos on S3"
KERAS = "Keras reference, TensorFlow 2.11"
KERAS_UDF = "the reference notebook's Keras `pandas_udf`, TensorFlow 2.11"

ROWS = [
    Row(
        "Photos/s, one core",
        "One process",
        "images/s, 1 core",
        "Pomona",
        KERAS,
        "Keras",
    ),
    Row(
        "Photos/s, two cores",
        "One process",
        "images/s, 2 cores",
        "Pomona",
        KERAS,
        "Keras",
    ),
    Row(
        "Photos/s, one core, int8",
        "int8",
        "images/s, 1 thread",
        "`mobilenet_v2`, int8",
        "`mobilenet_v2`, float32",
        "Pomona in float32",
    ),
    Row(
        "Photos/s, a Spark job on two cores",
        SPARK,
        "images/s",
        "Pomona's `featurize_udf`",
        KERAS_UDF,
        "Keras in a `pandas_udf`",
    ),
    Row(
        "Photos/s, the same, photos on S3 with 70 ms per request",
        S3,
        "images/s",
        "`featurize_udf` with paths, photos on S3",
        "`featurize_udf` with content from `binaryFile`, photos on S3",
        "Spark's `binaryFile`",
    ),
    Row(
        "Memory of a Spark Python worker",
        SPARK,
        "peak memory of a Python process",
        "Pomona's `featurize_udf`",
        KERAS_UDF,
        "Keras in a `pandas_udf`",
    ),
]


def speed_summary(report: str, details: str) -> list[str]:
    """Return the summary as lines of Markdown.

    Parameters
    ----------
    report : str
        The report with all its tables.
    details : str
        Path of the page that has the report, as the README links to it.

    Raises
    ------
    ValueError
        If a table, a column or a row that the summary takes is missing from the report.
    """
    lines = ["| | Pomona | Compared with (Keras: TensorFlow 2.11) |", "| --- | --- | --- |"]
    for row in ROWS:
        pomona, other = (
            cell(report, row.section, name, row.column) for name in (row.pomona, row.other)
        )
        lines.append(f"| {row.title} | {pomona} | {row.other_title}: {other} |")
    conditions = report.strip().splitlines()[-1]
    return [*lines, "", f"{conditions} [All tables]({details})."]


def cell(report: str, section: str, row: str, column: str) -> str:
    """Return the cell of a table that has both the column and the row."""
    _, found, rest = f"\n{report}".partition(f"\n## {section}\n")
    if not found:
        raise ValueError(f"the report has no section {section!r}")
    head: list[str] = []
    for line in rest.partition("\n## ")[0].splitlines():
        if not line.startswith("|"):
            head = []
            continue
        cells = [text.strip() for text in line.strip("|").split("|")]
        head = head or cells
        if cells[0] == row and column in head:
            return cells[head.index(column)]
    raise ValueError(f"{section!r} has no table with the row {row!r} and the column {column!r}")
