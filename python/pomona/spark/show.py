"""Show rows of a DataFrame of photos as a table with thumbnails, in notebooks."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
from pyspark.sql.types import BinaryType

from pomona._decode import gather_options
from pomona.results.thumbnails import THUMBNAIL_SIDE, jpeg
from pomona.spark._session import described, session_of
from pomona.spark.results import thumbnails

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, Row
    from typing_extensions import Unpack

    from pomona._decode import DecodeKeywords

#: Items of an array or a map shown in a cell.
_SHOWN = 3

#: Decimals shown. Further digits of distances and probabilities are noise.
_DECIMALS = 6

#: Maximum characters per cell, in a text table and in HTML.
_TEXT_WIDTH = 40
_HTML_WIDTH = 200


@dataclass(frozen=True, repr=False)
class PhotoTable:
    """A table of photos, with thumbnails in Jupyter and as plain text elsewhere.

    Attributes
    ----------
    rows
        The rows shown, without binary columns.
    thumbnails
        A JPEG file for each row, at most `THUMBNAIL_SIDE` pixels a side; empty where the photo
        cannot be read. `pomona.plots.contact_sheet` accepts them.
    reasons
        For each row, why its photo cannot be read; None if it can.
    more
        Whether the DataFrame has further rows.
    """

    rows: list[Row]
    thumbnails: list[bytes]
    reasons: list[str | None]
    more: bool

    def __repr__(self) -> str:
        names = [*(self.rows[0].__fields__ if self.rows else ()), "cannot be read"]
        lines = [names]
        for row, reason in zip(self.rows, self.reasons):
            values = [*_cells(row, _TEXT_WIDTH), _cut(reason or "", _TEXT_WIDTH)]
            lines.append([" ".join(value.split()) for value in values])
        if not any(self.reasons):
            lines = [line[:-1] for line in lines]
        widths = [max(map(len, column)) for column in zip(*lines)]
        lines.insert(1, ["-" * width for width in widths])
        table = (
            "  ".join(value.ljust(width) for value, width in zip(line, widths)) for line in lines
        )
        return "\n".join([*(line.rstrip() for line in table if self.rows), self._caption()])

    def _repr_html_(self) -> str:
        names = ["photo", *(self.rows[0].__fields__ if self.rows else ())]
        head = "".join(f"<th>{escape(name)}</th>" for name in names)
        body = []
        for row, photo, reason in zip(self.rows, self.thumbnails, self.reasons):
            cells = [escape(value) for value in _cells(row, _HTML_WIDTH)]
            picture = escape(reason) if reason else _image(photo, _name(row["path"]))
            body.append("".join(f"<td>{cell}</td>" for cell in [picture, *cells]))
        rows = "".join(f"<tr>{cells}</tr>" for cells in body)
        return (
            f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
            f"<p>{self._caption()}</p>"
        )

    def _caption(self) -> str:
        photos = f"{len(self.rows):,} photo{'' if len(self.rows) == 1 else 's'}"
        return f"the first {photos}; there are more" if self.more else photos


def show_photos(
    photos: DataFrame, n: int = 20, **decode_options: Unpack[DecodeKeywords]
) -> PhotoTable:
    """Show the first rows of a DataFrame of photos, with thumbnails.

    Jupyter displays the result as a table with a thumbnail in each row. When printed, or where HTML
    is not displayed (sparkmagic), it is a text table; there, pass its ``thumbnails`` to
    `pomona.plots.contact_sheet`. The executors read the photos, and only those that are shown.

    Parameters
    ----------
    photos
        A DataFrame with a column ``path``: the result of `read_images` or `read_features`, labels
        written by `pomona.spark.predict`, or neighbours from `pomona.similar` as
        ``spark.createDataFrame(neighbours)``. Sort it to see the most relevant rows first.
    n
        Maximum number of rows.
    **decode_options
        How photos are decoded: the fields of `pomona.DecodeOptions`. ``apply_exif=True`` shows a
        photo turned as its EXIF orientation says.

    Returns
    -------
    PhotoTable
        Paths are shortened to folder and file name, arrays to their first items, maps to their
        largest values.

    Raises
    ------
    TypeError
        An option does not exist or has the wrong type.
    ValueError
        There is no column ``path``, `n` is less than 1, or an option is invalid.
    ImportError
        Pillow is missing: ``pip install 'pomona[report]'``.

    Examples
    --------
    >>> show_photos(read_features(spark, "s3://fruits/out/features"))  # doctest: +SKIP
    >>> labels = spark.read.parquet("s3://fruits/labels")  # doctest: +SKIP
    >>> show_photos(labels.orderBy("probability"), 10)  # doctest: +SKIP
    """
    decode = gather_options("show_photos", decode_options)
    if n < 1:
        raise ValueError(f"n is {n}, it must be at least 1")
    if "path" not in photos.columns:
        raise ValueError(
            f"no column path, which locates the photos: the columns are {', '.join(photos.columns)}"
        )
    spark = session_of(photos)
    binary = [field.name for field in photos.schema if isinstance(field.dataType, BinaryType)]
    with described(spark.sparkContext, "read rows to show"):
        rows = photos.drop(*binary).take(n + 1)
    shown = rows[:n]
    paths = [row["path"] for row in shown]
    pictures = thumbnails(spark, sorted({path for path in paths if path}), THUMBNAIL_SIDE, decode)
    pixels = [pictures[path] if path else "the row has no path" for path in paths]
    return PhotoTable(
        rows=shown,
        thumbnails=[jpeg(each) or b"" for each in pixels],
        reasons=[each if isinstance(each, str) else None for each in pixels],
        more=len(rows) > n,
    )


def _cells(row: Row, width: int) -> list[str]:
    return [
        _cut(_name(value) if name == "path" else _text(value), width)
        for name, value in row.asDict().items()
    ]


def _image(photo: bytes, name: str) -> str:
    content = base64.b64encode(photo).decode()
    return f'<img alt="{escape(name)}" src="data:image/jpeg;base64,{content}">'


def _name(path: str | None) -> str:
    """Shorten a path to folder and file name; the rest is common to all photos.

    Examples
    --------
    >>> _name("s3://fruits/Test/Apple 6/r0_1.jpg"), _name("r0_1.jpg")
    ('Apple 6/r0_1.jpg', 'r0_1.jpg')
    """
    return "/".join((path or "").split("/")[-2:])


def _text(value: Any) -> str:
    """Format a value for a cell.

    Examples
    --------
    >>> _text([0.123456, 2.0, 3.0, 4.0]), _text([1, 2]), _text(None), _text(12345)
    ('[0.1235, 2, 3, …] of 4', '[1, 2]', '', '12345')
    >>> _text(2.3e-32)
    '0'
    >>> _text({"kiwi": 0.1, "lemon": 0.9})
    'lemon: 0.9, kiwi: 0.1'
    """
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{round(value, _DECIMALS):.4g}"
    if isinstance(value, Mapping):
        largest = sorted(value, key=lambda key: -(value[key] or 0))[:_SHOWN]
        entries = [f"{key}: {_text(value[key])}" for key in largest]
        return ", ".join([*entries, "…"] if len(value) > _SHOWN else entries)
    if hasattr(value, "toArray"):  # a Spark ML vector
        value = value.toArray()
    if isinstance(value, (Sequence, np.ndarray)) and not isinstance(value, str):
        first = [_text(each) for each in value[:_SHOWN]]
        if len(value) > _SHOWN:
            return f"[{', '.join(first)}, …] of {len(value):,}"
        return f"[{', '.join(first)}]"
    return str(value)


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 1]}…"
