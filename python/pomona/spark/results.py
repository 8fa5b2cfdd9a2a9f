"""The output folder of a run on any file system that Spark's Hadoop reaches: S3, HDFS, a disk."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Callable, Iterator, Sequence, TypeVar

import numpy as np
import pandas as pd
import pyarrow as pa
from pyspark.sql.functions import broadcast, coalesce, col, concat, count, lit, row_number, sha2
from pyspark.sql.utils import AnalysisException
from pyspark.sql.window import Window

from pomona.results import ClassCount, Results, Vectors
from pomona.results.pixels import PixelStatistics, pixel_statistics
from pomona.results.thumbnails import thumbnail
from pomona.results.vectors import BLOCK_ROWS, blocks_of
from pomona.spark._hadoop import Folder
from pomona.spark._session import described, settings
from pomona.spark.features import read_features

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pyspark.sql import DataFrame, Row, SparkSession

    from pomona import DecodeOptions
    from pomona.results.vectors import Through

T = TypeVar("T")

#: Vectors that the driver collects at once, about 50 MB; more are streamed.
_COLLECTED = 10_000

_BLOCK = "paths array<string>, labels array<string>, numbers binary"
_PIXELS = "path string, height int, width int, pixels binary, reason string"
_STATISTICS = "path string, numbers array<double>, reason string"


class SparkResults(Results):
    """The output folder of a finished run, read by Spark.

    Parameters
    ----------
    spark
        The session whose settings and credentials are used.
    uri
        The folder.

    Attributes
    ----------
    spark, home
        The session, and the folder as an object of Hadoop.
    """

    def __init__(self, spark: SparkSession, uri: str) -> None:
        self.spark = spark
        self.home = Folder(spark, uri)
        super().__init__(self.home.uri)

    def read_json(self, name: str) -> Any | None:
        """Read a JSON file with Hadoop."""
        file = self.home / name
        return file.read_json() if file.exists() else None

    def read(self, name: str) -> bytes | None:
        """Read a file with Hadoop."""
        file = self.home / name
        return file.read_bytes() if file.exists() else None

    def folders(self, name: str) -> list[str]:
        """List subfolders with Hadoop."""
        return sorted(each for each, size in (self.home / name).sizes().items() if size is None)

    def write(self, name: str, content: bytes) -> None:
        """Write a file with Hadoop."""
        (self.home / name).write_bytes(content)

    def delete(self, name: str) -> None:
        """Delete a file with Hadoop."""
        (self.home / name).delete()

    def columns(self) -> list[str]:
        """Read the schema."""
        return list(self._table("features").columns)

    def classes(self) -> list[ClassCount]:
        """Count on the executors."""
        with _job(self.spark, "count the photos of each class"):
            rows = self._table("features").groupBy("label").agg(count(lit(1)), count("error"))
            return sorted(ClassCount(*row) for row in rows.collect())

    def first_with(self, column: str, limit: int) -> list[tuple[str, str, Any]]:
        """Sort on the executors."""
        with _job(self.spark, f"list the first photos with a value of {column}"):
            rows = self._table("features")
            if column not in rows.columns:
                return []
            rows = rows.where(col(column).isNotNull()).select("path", "label", column)
            return [tuple(row) for row in rows.sort("path").take(limit)]

    def choose(self, quotas: dict[str, int], seed: int) -> list[str]:
        """Rank on the executors, which shuffle only paths and labels."""
        table = self.spark.createDataFrame(list(quotas.items()), "label string, quota int")
        order = Window.partitionBy("label").orderBy(sha2(concat(lit(f"{seed} "), col("path")), 256))
        with _job(self.spark, "draw a sample"):
            readable = self._table("features").where(col("error").isNull()).select("path", "label")
            ranked = readable.withColumn("rank", row_number().over(order))
            chosen = ranked.join(broadcast(table), "label").where(col("rank") <= col("quota"))
            return [row.path for row in chosen.select("path").collect()]

    def vectors(
        self, column: str, *, paths: Sequence[str] | None = None, through: Through | None = None
    ) -> Iterator[Vectors]:
        """Pack blocks on the executors; stream many, and collect a few or those of `through`."""
        table = self._table(column)
        if paths is not None:
            wanted = self.spark.createDataFrame([(path,) for path in paths], "path string")
            table = table.join(broadcast(wanted), "path")

        def pack(frames: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
            blocks = (block for frame in frames for block in _blocks_of_frame(frame))
            for block in blocks if through is None else through(blocks):
                numbers = np.ascontiguousarray(block.matrix, np.float32).tobytes()
                row = (block.paths, block.labels, numbers)
                yield pd.DataFrame([row], columns=["paths", "labels", "numbers"])

        packed = table.select("path", "label", col(column).alias("vector")).mapInPandas(
            pack, _BLOCK
        )
        with _job(self.spark, f"read {column}"):
            few = through or (paths is not None and len(paths) <= _COLLECTED)
            rows = packed.collect() if few else packed.toLocalIterator()
        for row in rows:
            matrix = np.frombuffer(row.numbers, np.float32).reshape(len(row.paths), -1)
            yield Vectors(row.paths, row.labels, matrix)

    def photo(self, path: str) -> bytes:
        """Read a file with Hadoop."""
        return Folder(self.spark, path).read_bytes()

    def thumbnails(self, paths: Sequence[str], side: int) -> dict[str, NDArray[np.uint8] | str]:
        """Decode on the executors."""
        return thumbnails(self.spark, paths, side, self.decode)

    def pixels(self, paths: Sequence[str]) -> dict[str, PixelStatistics | str]:
        """Decode on the executors."""
        decode = self.decode

        def measure(frames: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
            for frame in frames:
                found = [pixel_statistics(content, decode=decode) for content in frame["content"]]
                rows = [(None, each) if isinstance(each, str) else (each, None) for each in found]
                yield pd.DataFrame(rows, columns=["numbers", "reason"]).assign(path=frame["path"])

        def of_row(row: Row) -> PixelStatistics | str:
            return row.reason or PixelStatistics(*row.numbers)

        return _of_each(self.spark, paths, "measure pixels", measure, _STATISTICS, of_row)

    def _table(self, name: str) -> DataFrame:
        table = read_features(self.spark, (self.home / name).uri)
        return table.withColumn("label", coalesce("label", lit("")))


def thumbnails(
    spark: SparkSession, paths: Sequence[str], side: int, decode: DecodeOptions
) -> dict[str, NDArray[np.uint8] | str]:
    """Read and scale down photos on the executors; only thumbnails reach the driver.

    The result has for each path what `pomona.results.thumbnails.thumbnail` returns: uint8 of shape
    (height, width, 3), at most `side` pixels a side; or the reason why there is no picture.
    `decode` says how the photos are decoded.
    """

    def shrink(frames: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        for frame in frames:
            rows = [_shrunk(*row, side, decode) for row in zip(frame["path"], frame["content"])]
            yield pd.DataFrame(rows, columns=["path", "height", "width", "pixels", "reason"])

    def picture(row: Row) -> NDArray[np.uint8] | str:
        return row.reason or np.frombuffer(row.pixels, np.uint8).reshape(row.height, row.width, 3)

    return _of_each(spark, paths, "read photos for thumbnails", shrink, _PIXELS, picture)


def _of_each(
    spark: SparkSession,
    paths: Sequence[str],
    what: str,
    function: Callable[[Iterator[pd.DataFrame]], Iterator[pd.DataFrame]],
    schema: str,
    of_row: Callable[[Row], T | str],
) -> dict[str, T | str]:
    """Apply a function to path and content of each photo on the executors.

    The result has a value for each path, made from a row of the function, or a reason why there is
    none.
    """
    values: dict[str, T | str] = {}
    if paths:
        with _job(spark, what):
            for row in _contents(spark, paths).mapInPandas(function, schema).toLocalIterator():
                values[row.path] = of_row(row)
    return {path: values[path] if path in values else _other(spark, path, values) for path in paths}


def _other(spark: SparkSession, path: str, values: dict[str, T | str]) -> T | str:
    """Look a photo up under the URI that Spark gives it, or explain why Spark skipped it."""
    file = Folder(spark, path)
    if file.uri in values:
        return values[file.uri]
    name = path.rpartition("/")[2]
    if name.startswith("_") and "=" not in name:
        return "Spark's reader skips names that start with an underscore"
    return "the file is empty" if file.exists() else "the file no longer exists"


@contextmanager
def _job(spark: SparkSession, text: str) -> Iterator[None]:
    # Without adaptive plans, a few photos would take 200 tasks per shuffle.
    adaptive = settings(spark, spark_sql_adaptive_enabled="true")
    with described(spark.sparkContext, text), adaptive:
        yield


def _contents(spark: SparkSession, paths: Sequence[str]) -> DataFrame:
    reader = spark.read.format("binaryFile")
    files = [Folder(spark, path) for path in paths]
    try:
        photos = reader.load([file.pattern for file in files])
    except AnalysisException:  # Spark reads none of them if one does not exist
        photos = reader.load([file.pattern for file in files if file.exists()])
    return photos.select("path", "content")


def _blocks_of_frame(frame: pd.DataFrame) -> Iterator[Vectors]:
    paths, labels = frame["path"].tolist(), frame["label"].tolist()
    for start in range(0, len(frame), BLOCK_ROWS):
        part = slice(start, start + BLOCK_ROWS)
        lists = pa.array(frame["vector"].iloc[part].tolist())
        yield from blocks_of(paths[part], labels[part], lists)


def _shrunk(
    path: str, content: bytes, side: int, decode: DecodeOptions
) -> tuple[str, int, int, bytes, str | None]:
    pixels = thumbnail(content, side, decode=decode)
    if isinstance(pixels, str):
        return path, 0, 0, b"", pixels
    height, width, _ = pixels.shape
    return path, height, width, pixels.tobytes(), None
