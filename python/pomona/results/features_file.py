"""The Parquet file that `pomona featurize` writes, and what its metadata say about it."""

from __future__ import annotations

import json
import os
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, Sequence

from pomona._decode import DecodeOptions
from pomona._errors import ERROR_COLUMNS, NOTE_COLUMNS
from pomona._images import utf8_text
from pomona._parquet import open_parquet
from pomona.results.format import FIRST_VERSION
from pomona.results.summary import LISTED_ERRORS, Summary

if TYPE_CHECKING:
    from pomona._images import Tally
    from pomona._typing import PathLike

#: Where the file is in a folder of results.
FEATURES_FILE = Path("features", "part-00000.parquet")


def origin(roots: Sequence[PathLike], tally: Tally) -> dict[str, str]:
    """Return the metadata that record where photos are.

    The paths of photos start with their root, which may be relative to the current folder.
    """
    folder = Path.cwd()
    images = [utf8_text(str(folder / os.fsdecode(root))) for root in roots]
    return {
        "pomona.images": json.dumps(images),
        "pomona.folder": json.dumps(utf8_text(str(folder))),
        "pomona.left_out": json.dumps(tally.left_out),
    }


def metadata_of(path: Path) -> dict[str, str]:
    """Read the key-value metadata of a file of features.

    Raises
    ------
    ValueError
        The file is not Parquet, is cut short, has no rows, or `pomona featurize` did not write it.
    """
    with path.open("rb") as file:
        opened = open_parquet(file, path)
        rows, metadata = opened.metadata.num_rows, opened.schema_arrow.metadata or {}
    texts = {key.decode(): value.decode() for key, value in metadata.items()}
    if "pomona.model_sha256" not in texts:
        raise ValueError(
            f"{path} was not written by `pomona featurize`: its metadata do not name a model. "
            "Programs that rewrite a Parquet file often drop them; give the original file"
        )
    if not rows:
        raise ValueError(f"{path} has no photos")
    return texts


def is_features_file(path: Path) -> bool:
    """Return whether `pomona featurize` wrote a file."""
    try:
        metadata_of(path)
    except (OSError, ValueError):
        return False
    return True


def summary_of(path: Path, output: Path) -> Summary:
    """Summarize a file of features, without reading the features.

    `output` is the folder of results to which the file belongs.
    """
    metadata = metadata_of(path)
    summary = Summary(
        images=json.loads(metadata.get("pomona.images", "[]")),
        output=str(output),
        model={"name": metadata["pomona.model"], "sha256": metadata["pomona.model_sha256"]},
        # Earlier versions recorded less.
        decode=json.loads(metadata.get("pomona.decode") or json.dumps(DecodeOptions().keywords())),
        feature_versions=[metadata.get("pomona.version", FIRST_VERSION)],
        left_out=json.loads(metadata.get("pomona.left_out", "{}")),
        decided=json.loads(metadata.get("pomona.decided", "{}")),
        dim=int(metadata.get("pomona.dim", 0)),
        versions={"pomona": metadata.get("pomona.version", FIRST_VERSION)},
        finished=datetime.fromtimestamp(path.stat().st_mtime, timezone.utc).isoformat(
            timespec="seconds"
        ),
        engine="local",
    )
    with path.open("rb") as file:
        opened = open_parquet(file, path)
        wanted = ["path", *ERROR_COLUMNS, *NOTE_COLUMNS]
        columns = [name for name in wanted if name in opened.schema_arrow.names]
        for batch in opened.iter_batches(columns=columns):
            summary.photos += len(batch)
            summary.errors += _count(batch, "error", summary.first_errors)
            summary.warnings += _count(batch, "warning", summary.first_warnings)
            summary.turned += _count(batch, "orientation", [])
            if "error_kind" in columns:
                summary.vanished += batch.column("error_kind").to_pylist().count("gone")
    return summary


def _count(batch: Any, column: str, first: list[tuple[str, Any]]) -> int:
    """Count the rows with a value, and list the first of all."""
    if column not in batch.schema.names:
        return 0
    found = batch.filter(batch.column(column).is_valid())
    few = found.slice(0, max(LISTED_ERRORS - len(first), 0))
    first += zip(few.column("path").to_pylist(), few.column(column).to_pylist())
    return int(found.num_rows)
