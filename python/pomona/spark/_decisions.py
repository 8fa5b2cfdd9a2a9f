"""Applies decisions to listed photos: some are left out, others relabelled."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, NamedTuple

from pyspark.sql.functions import coalesce, col, from_json, lit, regexp_replace, substring

from pomona.decisions import counted, decisions_of, key, read_decisions, rows_of
from pomona.results.local import local_path
from pomona.spark._hadoop import Folder

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

    from pomona._typing import PathLike
    from pomona.decisions import Decisions

# The values of the map of decisions; the second is followed by the label.
_OUT = "-"
_LABEL = "="


class Decided(NamedTuple):
    """Listed photos without those that are left out, and the numbers of either decision."""

    photos: DataFrame
    left_out: int = 0
    relabelled: int = 0

    def counts(self) -> dict[str, int]:
        """Return the numbers as a summary has them."""
        return counted(self.left_out, self.relabelled)


def load_decisions(spark: SparkSession, file: PathLike) -> Decisions:
    """Read decisions as `read_decisions` does, from any file system that Spark's Hadoop reaches."""
    name = os.fspath(file)
    path = local_path(name)
    if path is not None:
        return read_decisions(path)
    return decisions_of(rows_of(Folder(spark, name).read_bytes(), name), name)


def decide(photos: DataFrame, decisions: Decisions | None, folders: str) -> Decided:
    """Apply decisions to the result of `list_images`, and refuse those about unknown photos.

    The decisions become a map in the plan, not a table to join: the photos stay in the partitions
    in which they were listed, which the writer of features needs.
    """
    if not decisions:
        return Decided(photos)
    values = {
        name: _OUT if each.label is None else f"{_LABEL}{each.label}"
        for name, each in decisions.by_key.items()
    }
    table = from_json(lit(json.dumps(values)), "map<string,string>")
    # `key` on the driver spells the paths that Spark lists in the same way.
    local = regexp_replace("path", "^file:/+", "/")
    decided = table[regexp_replace(local, "^s3[an]?:/+", "s3://")]
    marked = photos.withColumn("decided", decided)
    rows = marked.where(col("decided").isNotNull()).select("path", "decided").collect()
    decisions.check_found({key(row.path) for row in rows}, folders)
    left_out = sum(row.decided == _OUT for row in rows)
    kept = marked.where(coalesce(col("decided"), lit("")) != _OUT)
    label = coalesce(substring("decided", 2, 1 << 30), col("label")).alias("label")
    columns = [label if name == "label" else col(name) for name in photos.columns]
    return Decided(kept.select(*columns), left_out, len(rows) - left_out)
