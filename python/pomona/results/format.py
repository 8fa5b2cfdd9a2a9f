"""The format of a feature set on disk: its file names and the descriptions of finished sets.

`pomona.spark._writer` writes feature sets and explains the layout. Spark and `LocalResults` read
them through this module, which accesses no files itself::

    part-….parquet              rows; hidden names, with "_" or ".", are not part of the set
    _pomona/set-000002.json     a `FinishedSet`; the highest complete one counts
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Callable, Iterable, NamedTuple, Sequence

from pomona._decode import DecodeOptions

if TYPE_CHECKING:
    from pomona._decode import DecodeKeywords

#: The folder in a feature set that holds everything but rows.
STATE_FOLDER = "_pomona"

#: The first release wrote neither ``columns`` nor ``versions``; these are its values. No release
#: before 0.2.0 had options of decoding.
FIRST_VERSION = "0.1.0"
_FIRST_COLUMNS = ("path", "label", "features", "error", "length", "modificationTime")

_SET_FILE = re.compile(r"set-(\d+)\.json")


class FinishedSet(NamedTuple):
    """The description of a finished feature set, the content of its ``set-….json``."""

    number: int
    model_name: str
    model_sha256: str
    #: Bytes of each Parquet file, by name.
    files: dict[str, int]
    photos: int
    errors: int
    #: Photos that disappeared before they were read; they are among the errors.
    vanished: int = 0
    #: Column names, which all files share, in this order.
    columns: Sequence[str] = _FIRST_COLUMNS
    #: Versions of Pomona that computed rows.
    versions: Sequence[str] = (FIRST_VERSION,)
    #: The fields of `DecodeOptions` with which all rows were computed.
    decode: DecodeKeywords = DecodeOptions().keywords()
    #: Rows with a warning, and rows with an orientation.
    warnings: int = 0
    turned: int = 0

    @property
    def file_name(self) -> str:
        """The name of the description in `STATE_FOLDER`."""
        return f"set-{self.number:06}.json"


def set_number(name: str) -> int | None:
    """Return the number of a set from the name of its description; None for other files.

    Examples
    --------
    >>> set_number("set-000012.json"), set_number("writer.json")
    (12, None)
    """
    match = _SET_FILE.fullmatch(name)
    return int(match.group(1)) if match else None


def finished_set(
    names: Iterable[str], read_json: Callable[[str], Any | None]
) -> FinishedSet | None:
    """Return the latest finished set; None if no run has finished one.

    Parameters
    ----------
    names
        The names in `STATE_FOLDER`.
    read_json
        Reads a file of that folder; returns None for one that a crash cut short.
    """
    descriptions = filter(None, map(_SET_FILE.fullmatch, names))
    for match in sorted(descriptions, key=lambda each: int(each.group(1)), reverse=True):
        value = read_json(match.group())
        if value is not None:
            # Later versions may add fields.
            known = {field: value[field] for field in FinishedSet._fields if field in value}
            return FinishedSet(**known)
    return None
