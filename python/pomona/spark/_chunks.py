"""Divides photos into chunks, each of which one Spark job featurizes."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, NamedTuple, Sequence

from pyspark.sql.functions import broadcast, col, count, lit, when

from pomona.spark._session import session_of
from pomona.spark.images import PHOTOS_PER_TASK

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

# Patterns in Spark's description of a physical plan, which begins with the last operator.
_SCAN = "FileScan binaryFile"
_SHUFFLE = "Exchange"
_OTHER_THAN_ALL_ROWS = re.compile(f"Filter|Limit|Sample|Join|Generate|{_SHUFFLE}")


class Chunk(NamedTuple):
    """The photos of one job: some partitions of a DataFrame."""

    partitions: Sequence[int]
    #: Number of photos; an estimate where nothing has counted them.
    photos: int
    #: Paths of the photos to featurize; None for all photos of these partitions.
    wanted: DataFrame | None

    def of(self, photos: DataFrame) -> DataFrame:
        """Return the rows of the chunk, without reading any other partition.

        With a filter, Spark would read the other photos before it dropped them.
        """
        spark = session_of(photos)
        java = photos._jdf
        # A Scala set is also the predicate that pruning needs.
        chosen = spark._jvm.PythonUtils.toSeq(list(self.partitions)).toSet()
        all_rows = java.queryExecution().toRdd()
        rows = spark._jvm.org.apache.spark.rdd.PartitionPruningRDD.create(all_rows, chosen)
        pruned = spark._jsparkSession.internalCreateDataFrame(rows, java.schema(), False)
        owner = spark if hasattr(photos, "sparkSession") else photos.sql_ctx
        chunk = type(photos)(pruned, owner)
        if self.wanted is None:
            return chunk
        return chunk.join(broadcast(self.wanted), "path", "left_semi")


class Plan(NamedTuple):
    """The chunks of a run."""

    chunks: Sequence[Chunk]
    #: Number of all photos, including those not to featurize; None if nothing has counted them.
    listed: int | None

    @property
    def photos(self) -> int:
        """Number of photos in the chunks."""
        return sum(chunk.photos for chunk in self.chunks)


def plan_all(photos: DataFrame, chunk_photos: int) -> Plan:
    """Divide all photos, without reading any."""
    above_scan, scan, _ = _physical_plan(photos).partition(_SCAN)
    listed = None
    if "content" not in photos.columns:
        # Counting them does not access the storage.
        listed = photos.count()
    elif scan and not _OTHER_THAN_ALL_ROWS.search(above_scan):
        # One row per file.
        listed = len(photos._jdf.inputFiles())
    return Plan(_even_chunks(photos, listed, chunk_photos, None), listed)


def plan_some(photos: DataFrame, listing: DataFrame, todo: Column, chunk_photos: int) -> Plan:
    """Divide some of the photos, leaving out partitions that have none of them.

    `listing` has the ``path`` of all photos and the number of their ``partition`` of `photos`, and
    `todo` is the condition for the rows to featurize. A chunk is a whole number of partitions, with
    approximately `chunk_photos` photos.
    """
    each = listing.groupBy("partition").agg(
        count(lit(1)).alias("photos"), count(when(todo, 1)).alias("wanted")
    )
    counts = each.collect()
    sizes = {row.partition: row.photos for row in counts}
    wanted = {row.partition: row.wanted for row in counts if row.wanted}
    listed = sum(sizes.values())
    paths_to_do = listing.where(todo).select("path", "partition")
    if wanted and _SHUFFLE in _physical_plan(photos):
        # The partition of a shuffled row may depend on the selected columns, so the listing is no
        # guide.
        return Plan(_even_chunks(photos, listed, chunk_photos, paths_to_do.select("path")), listed)

    chunks: list[Chunk] = []
    part: list[int] = []
    for partition in sorted(wanted):
        part.append(partition)
        size = sum(wanted[number] for number in part)
        if size >= chunk_photos or partition == max(wanted):
            paths = None
            if size != sum(sizes[number] for number in part):
                between = col("partition").between(part[0], part[-1])
                paths = paths_to_do.where(between).select("path")
            chunks.append(Chunk(part, size, paths))
            part = []
    return Plan(chunks, listed)


def _even_chunks(
    photos: DataFrame, number: int | None, chunk_photos: int, wanted: DataFrame | None
) -> list[Chunk]:
    partitions = photos._jdf.queryExecution().toRdd().getNumPartitions()
    if not partitions:
        return []
    each = PHOTOS_PER_TASK if number is None else number / partitions
    chunks = max(1, math.ceil(partitions * each / chunk_photos))
    # Equally many partitions per core if possible: while the last task of a chunk runs, the other
    # cores are idle.
    cores = session_of(photos).sparkContext.defaultParallelism
    size = math.ceil(partitions / chunks)
    if size > cores:
        size = math.ceil(size / cores) * cores
    parts = [range(start, partitions)[:size] for start in range(0, partitions, size)]
    return [
        Chunk(part, round(part.stop * each) - round(part.start * each), wanted) for part in parts
    ]


def _physical_plan(frame: DataFrame) -> str:
    return str(frame._jdf.queryExecution().executedPlan().toString())
