"""Parquet files: reading them, and writing them without a Python object per number."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Iterator

import numpy as np

from pomona._optional import require

if TYPE_CHECKING:
    from pathlib import Path
    from typing import BinaryIO, Callable

    import pyarrow as pa
    from numpy.typing import NDArray

# The first bytes of every Parquet file.
_MAGIC = b"PAR1"

#: Rows buffered before a row group is written.
ROW_GROUP_BYTES = 32 << 20


def parquet(needed_for: str) -> Any:
    """Import `pyarrow.parquet`, or say how to install it."""
    return require("pyarrow.parquet", "spark", needed_for)


def open_parquet(file: BinaryIO, path: Path) -> Any:
    """Open a Parquet file for reading; raises ValueError for one that is none or not complete."""
    import pyarrow as pa

    try:
        return parquet("reading Parquet").ParquetFile(file)
    except pa.ArrowInvalid as error:
        file.seek(0)
        start = file.read(len(_MAGIC))
        if start == _MAGIC:
            wrong = "was cut short: copy it again, or repeat the command that wrote it"
        elif not start:
            wrong = "is empty: repeat the command that should have written it"
        else:
            wrong = "is not a Parquet file"
        raise ValueError(f"{path} {wrong}") from error


def lists_of(matrix: NDArray[np.float32], null: NDArray[np.bool_] | None = None) -> pa.ListArray:
    """Make a list of each row of a matrix; where `null` is true, a null instead."""
    import pyarrow as pa

    rows, width = matrix.shape
    missing = np.zeros(rows, dtype=bool) if null is None else null
    # A list starts at its offset. A null offset makes a null list, which takes no numbers.
    starts = np.zeros(rows + 1, dtype=np.int32)
    np.cumsum(np.where(missing, 0, width), out=starts[1:])
    return pa.ListArray.from_arrays(
        pa.array(starts, mask=np.append(missing, False)),
        pa.array(matrix[~missing].ravel() if missing.any() else matrix.ravel()),
    )


@contextmanager
def row_groups(file: BinaryIO, schema: pa.Schema) -> Iterator[Callable[[pa.Table], None]]:
    """Buffer tables and write them as row groups of about `ROW_GROUP_BYTES`."""
    import pyarrow as pa

    # Snappy and plain pages, which every Spark version reads.
    writer = parquet("writing Parquet").ParquetWriter(
        file,
        schema,
        compression="snappy",
        use_dictionary=["label"],
        use_compliant_nested_type=True,
    )
    pending: list[pa.Table] = []

    def write(table: pa.Table) -> None:
        pending.append(table)
        if sum(each.nbytes for each in pending) >= ROW_GROUP_BYTES:
            flush()

    def flush() -> None:
        if pending:
            table = pa.concat_tables(pending)
            pending.clear()
            writer.write_table(table, row_group_size=len(table))

    try:
        yield write
        flush()
    except BaseException:
        # Closing, or collecting an open writer, would write a footer to a file that is about to
        # be removed.
        writer.is_open = False
        raise
    writer.close()
