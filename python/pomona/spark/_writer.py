"""Writes a feature set that follows a set of photos and survives being killed at any moment.

Plain PySpark reads the folder: ``spark.read.parquet(OUTPUT)``. Readers skip names that start with
``_``, where the writer keeps its state::

    OUTPUT/part-….parquet              rows, sorted by label and path within each file
    OUTPUT/_SUCCESS                    exists while the rows are a finished set
    OUTPUT/_pomona/set-000002.json     the set's files, model and options; the highest number counts
    OUTPUT/_pomona/writer.json         the run that is writing, or that was killed
    OUTPUT/_pomona/<sha256>/           a run that has not finished; named after model and options
        chunk-…/                       rows of one Spark job; they count once _SUCCESS exists

**Chunks.** The partitions of the photos are featurized a few at a time. Each such chunk is a Spark
job that writes to its own folder, so it is either complete or does not count, whatever committer
the file system has. A run that starts again deletes incomplete chunks and featurizes the photos
that no complete chunk has.

**Publishing.** Once all chunks are complete, one job writes their rows to OUTPUT, sorted, in files
of about 128 MiB. It only adds files. They belong to the set once a new ``set-….json`` names them,
which is one small object, written atomically; then the files that they replace are deleted. Nothing
is renamed or overwritten, so a crash leaves at worst files that the next run deletes, and a run
that does not finish cannot destroy a finished set. OUTPUT has no rows until a set is published, so
half a set cannot be mistaken for a whole one.

**Later runs** list the photos and compare path, length and modification time. They rewrite a file
that holds rows of changed or deleted photos, and files that are too small to keep, together with
the new rows, and keep all other files. A few new photos among millions cost a listing and a small
file. A set with the columns of an older version is rewritten completely, once, because some readers
need all files to have the same columns. Its features stay as they are, and in its rows the columns
that the older version did not have are null.

**Errors.** ``error`` is the reason, ``error_kind`` the `pomona.ImageError.kind`, and
``error_version`` the version of Pomona that reported it. The last two decide which photos a later
run tries again.

**Options.** The model and the `pomona.DecodeOptions` of a set are the same for all its rows. They
are also in the Parquet files, as metadata of the column ``features``.

Each row is written twice: 5 kB, little next to the 10 ms of CPU time that it took to compute.
Appending chunks directly to OUTPUT would expose half a set to readers and leave small, unsorted
files; overwriting OUTPUT would delete the old set before the new one exists.
"""

from __future__ import annotations

import functools
import hashlib
import json
import re
import socket
import uuid
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from math import inf
from threading import Event, Thread
from typing import TYPE_CHECKING, Any, Iterable, Iterator, Mapping, Sequence

from pyspark.sql import DataFrame
from pyspark.sql.functions import (
    coalesce,
    col,
    count,
    element_at,
    input_file_name,
    lit,
    spark_partition_id,
    split,
    when,
)
from pyspark.sql.functions import max as spark_max
from pyspark.sql.types import (
    LongType,
    StringType,
    StructField,
    StructType,
    TimestampType,
)

from pomona import DecodeOptions, ModelError
from pomona._native import __version__
from pomona._progress import Progress
from pomona.results.format import FIRST_VERSION, STATE_FOLDER, FinishedSet, finished_set, set_number
from pomona.spark._chunks import plan_all, plan_some
from pomona.spark._session import described, settings
from pomona.spark.images import PHOTOS_PER_TASK
from pomona.spark.udf import RESULT_FIELDS, Counters, featurized

if TYPE_CHECKING:
    from pyspark.sql import Column, SparkSession

    from pomona._decode import DecodeKeywords
    from pomona.spark._hadoop import Folder
    from pomona.spark._shipping import ShippedModel

#: Photos of a chunk per core of the cluster: about 20 s of MobileNetV2, the work that a kill loses.
CHUNK_PHOTOS_PER_CORE = 5 * PHOTOS_PER_TASK

#: Bytes of a finished file: one Spark task or a few S3 requests read it.
FILE_BYTES = 128 * 1024 * 1024

#: Files smaller than this are rewritten with the next change, so that they do not accumulate.
SMALL_FILE_BYTES = FILE_BYTES // 4

#: Bytes of a Parquet row group, the unit that readers skip by label and that tasks read: about
#: 3,000 photos.
ROW_GROUP_BYTES = 16 * 1024 * 1024

#: Columns of a feature set.
SCHEMA = StructType(
    [
        StructField("path", StringType()),
        StructField("label", StringType()),
        *RESULT_FIELDS,
        StructField("length", LongType()),
        StructField("modificationTime", TimestampType()),
    ]
)

#: The columns that identify an unchanged photo.
KEY = ["path", "length", "modificationTime"]

_SUCCESS = "_SUCCESS"
_MODEL = "model.json"
_WRITER = "writer.json"
_CHUNK = "chunk-"
_MARK_SUCCESS = "mapreduce.fileoutputcommitter.marksuccessfuljobs"
_SHA256 = re.compile("[0-9a-f]{64}")
_PART = re.compile(r"part-.*\.parquet")
_POLL_SECONDS = 0.5
# Where the features of a listed photo come from.
_FROM_SET = "set"
_FROM_CHUNK = "chunk"


@dataclass(frozen=True)
class FeatureSet:
    """A finished feature set, and the work that `write_features` did for it.

    Attributes
    ----------
    uri
        The folder.
    model_name, model_sha256
        The model that computed all its features.
    decode
        The options with which all its photos were decoded.
    versions
        The versions of Pomona that computed its rows, in this run and earlier ones.
    photos
        Rows, including those of photos with an error.
    errors
        Rows that have an error instead of features.
    warnings
        Rows that have a warning. Rows computed by a version before 0.2.0 have none.
    turned
        Rows of photos whose EXIF orientation was not applied, because ``apply_exif`` is false. Rows
        computed by a version before 0.2.0 are not counted.
    featurized
        Photos that this run featurized, including those with an error. A Spark accumulator counts
        them, so photos of a task that was lost and repeated may count twice.
    retried, recovered
        Of those, photos that had an error from an earlier run, and how many of them have features
        now.
    vanished
        Photos that were deleted between the listing and the reading. Photos read by their paths
        have a row with that error; photos read by Spark have no row.
    files
        Bytes of each Parquet file, by name.
    """

    uri: str
    model_name: str
    model_sha256: str
    decode: DecodeOptions
    versions: list[str]
    photos: int
    errors: int
    warnings: int
    turned: int
    featurized: int
    retried: int
    recovered: int
    vanished: int
    files: dict[str, int]


class FeatureWriter:
    """One call of `write_features`, on its folder.

    It becomes the folder's writer when it begins to write. A run that starts while another one is
    writing takes over, because a running writer cannot be told apart from a killed one. The other
    run ends with an error before it adds anything else.

    The executors already have the model. `resume` keeps existing rows; of these, rows that meet the
    condition `settled` need not be computed again.
    """

    def __init__(
        self,
        spark: SparkSession,
        home: Folder,
        model: ShippedModel,
        decode: DecodeOptions,
        resume: bool,
        settled: Column,
    ) -> None:
        self._spark = spark
        self._home = home
        self._model = model
        self._decode = decode
        self._resume = resume
        self._settled = settled
        self._state = home / STATE_FOLDER
        self._staging_name = _staging_name(model, decode)
        self._staging = self._state / self._staging_name
        # The folders of unfinished runs.
        self._unfinished = [name for name in self._state.sizes() if _SHA256.fullmatch(name)]
        # The set that readers use until this run publishes its own.
        self._current = finished_set_in(home)
        # The set whose rows need not be computed again.
        self._base = self._current if resume and not self._replaces_another_set() else None
        # Complete chunks of an earlier run that did not finish, and chunks of this run.
        self._earlier: list[Folder] = []
        self._chunks: list[Folder] = []
        self._versions = [__version__]
        self._identity = {
            "run": uuid.uuid4().hex,
            "application": spark.sparkContext.applicationId,
            "host": socket.gethostname(),
            "started": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        }

    def check(self) -> None:
        """Refuse a folder with other features, or with files of other programs."""
        if self._resume:
            self._refuse_other_features()
        self._refuse_foreign_files()

    def write(
        self, photos: DataFrame, *, chunk_photos: int | None = None, progress: bool = False
    ) -> FeatureSet:
        """Write the features; parameters and result are those of `write_features`."""
        context = self._spark.sparkContext
        if chunk_photos is None:
            chunk_photos = CHUNK_PHOTOS_PER_CORE * context.defaultParallelism
        self._take_over()
        counters = Counters(photos=context.accumulator(0), errors=context.accumulator(0))
        result = featurized(photos, self._model, self._decode, counters)
        # Without adaptive plans, comparing a few photos would take 200 tasks per step.
        with settings(self._spark, spark_sql_adaptive_enabled="true"):
            listing = None
            if self._base is None and not self._earlier:
                with described(context, "count the photos"):
                    plan = plan_all(photos, chunk_photos)
            else:
                with described(context, "compare photos with features"):
                    listing = self._list_photos(photos)
                    plan = plan_some(photos, listing, col("source").isNull(), chunk_photos)
            with ExitStack() as stack:
                if progress and plan.chunks:
                    stack.enter_context(_progress_line(plan.photos, counters))
                for number, chunk in enumerate(plan.chunks, 1):
                    which = f"chunk {number} of {len(plan.chunks)}"
                    with described(context, f"featurize {chunk.photos:,} photos, {which}"):
                        rows = chunk.of(photos).withColumn("result", result)
                        self._write_chunk(rows.select("*", "result.*"))
            retried, recovered = self._count_retried(listing)
            finished = self._publish(listing)
        unread = 0 if plan.listed is None else max(0, plan.listed - finished.photos)
        return FeatureSet(
            uri=self._home.uri,
            model_name=self._model.name,
            model_sha256=self._model.sha256,
            decode=self._decode,
            versions=list(finished.versions),
            photos=finished.photos,
            errors=finished.errors,
            warnings=finished.warnings,
            turned=finished.turned,
            featurized=int(counters.photos.value),
            retried=retried,
            recovered=recovered,
            vanished=finished.vanished + unread,
            files=finished.files,
        )

    def _take_over(self) -> None:
        """Become the folder's writer, and delete what killed runs left incomplete."""
        if not self._resume:
            for name in self._unfinished:
                (self._state / name).delete()
        (self._state / _WRITER).write_json(self._identity)
        self._delete_replaced()
        for name in self._staging.sizes():
            folder = self._staging / name
            if name.startswith(_CHUNK) and _SUCCESS in folder.sizes():
                self._earlier.append(folder)
            elif name != _MODEL:
                folder.delete()
        self._versions = self._all_versions()
        (self._staging / _MODEL).write_json(
            {
                "name": self._model.name,
                "sha256": self._model.sha256,
                "decode": self._decode.keywords(),
                "versions": self._versions,
            }
        )

    def _list_photos(self, photos: DataFrame) -> DataFrame:
        """List all photos, with their partition and the source of their features.

        ``source`` is null for photos to featurize: they are new or changed, or, if ``retried`` is
        true, have an error that is not settled.
        """
        listing = photos.select(*KEY, "label", spark_partition_id().alias("partition"))
        source, retried = lit(None).cast("string"), lit(False)
        known = []
        if self._base is not None:
            known.append((_FROM_SET, self._rows_of(self._base.files)))
        if self._earlier:
            known.append((_FROM_CHUNK, _read(self._spark, self._earlier)))
        for name, rows in known:
            # A photo that failed in two killed runs has a row in a chunk of each.
            settled = rows.groupBy(*KEY).agg(spark_max(self._settled).alias(name))
            listing = listing.join(settled, KEY, "left")
            source = coalesce(source, when(col(name), name))
            retried = retried | coalesce(~col(name), lit(False))
        retried = (source.isNull() & retried).alias("retried")
        listing = listing.select(*KEY, "label", "partition", source.alias("source"), retried)
        # Written out, so that all later steps see the same listing even if photos change meanwhile.
        folder = self._staging / f"listing-{uuid.uuid4().hex}"
        listing.write.parquet(folder.uri)
        return self._spark.read.schema(listing.schema).parquet(folder.pattern)

    def _write_chunk(self, rows: DataFrame) -> None:
        """Write rows as a chunk, which counts when this returns."""
        self._stop_if_taken_over()
        folder = self._staging / f"{_CHUNK}{uuid.uuid4().hex}"
        # Features hardly ever repeat; building a dictionary would take a quarter of the writing.
        (
            rows.select(*SCHEMA.names)
            .write.option(_MARK_SUCCESS, "true")
            .option("parquet.enable.dictionary", "false")
            .parquet(folder.uri)
        )
        self._chunks.append(folder)

    def _count_retried(self, listing: DataFrame | None) -> tuple[int, int]:
        """Count the photos whose error was tried again, and those that have features now."""
        had_errors = self._earlier or (self._base is not None and self._base.errors)
        if listing is None or not self._chunks or not had_errors:
            return 0, 0
        with described(self._spark.sparkContext, "count the photos tried again"):
            again = listing.where("retried").select(*KEY)
            rows = _read(self._spark, self._chunks).select(*KEY, "error").join(again, KEY)
            retried, errors = rows.agg(count(lit(1)), count("error")).head()
        return retried, retried - errors

    def _publish(self, listing: DataFrame | None) -> FinishedSet:
        """Make the set agree with the photos, from the chunks and the existing files.

        The listing is None if the chunks of this run are the whole set.
        """
        self._stop_if_taken_over()
        with described(self._spark.sparkContext, "compare features with photos"):
            kept, rows = self._kept_files_and_new_rows(listing)
        if self._current is None or rows is not None or kept.keys() != self._current.files.keys():
            (self._home / _SUCCESS).delete()
            self._current = self._write_set(kept, rows)
            self._delete_replaced()
        (self._home / _SUCCESS).write_text("")
        self._staging.delete()
        (self._state / _WRITER).delete()
        return self._current

    def _kept_files_and_new_rows(
        self, listing: DataFrame | None
    ) -> tuple[dict[str, int], DataFrame | None]:
        """Find the files to keep, and the rows of the set that are in none of them.

        The rows are None where there is nothing to write.
        """
        if listing is None:
            return {}, _read(self._spark, self._chunks)

        new = []
        if self._chunks:
            new.append(_read(self._spark, self._chunks))
        photos = listing.select(*KEY, "label", "source")
        if self._earlier:
            from_chunk = photos.where(col("source") == _FROM_CHUNK).drop("source")
            # Empty if the earlier run was killed after it had published its chunks.
            if from_chunk.head(1):
                rows = _read(self._spark, self._earlier).where(self._settled)
                new.append(rows.drop("label").join(from_chunk, KEY))
        if self._base is None:
            return {}, _union(new)

        from_set = photos.where(col("source") == _FROM_SET).drop("source")
        old = self._rows_of(self._base.files).select(*KEY, "label", _file_name().alias("file"))
        wanted = from_set.select(*KEY, col("label").alias("wanted_label"), lit(1).alias("wanted"))
        unchanged = (col("wanted") == 1) & col("label").eqNullSafe(col("wanted_label"))
        per_file = old.join(wanted, KEY, "left").groupBy("file")
        counts = per_file.agg(
            count(lit(1)).alias("rows"),
            count("wanted").alias("wanted"),
            count(when(unchanged, 1)).alias("unchanged"),
        ).collect()
        kept = {row.file: self._base.files[row.file] for row in counts if row.rows == row.unchanged}
        if new or any(row.wanted for row in counts if row.file not in kept):
            # All files of a set must have the same columns.
            least = SMALL_FILE_BYTES if list(self._base.columns) == SCHEMA.names else inf
            kept = {name: size for name, size in kept.items() if size >= least}
            rewritten = [row.file for row in counts if row.wanted and row.file not in kept]
            if rewritten:
                new.append(self._rows_of(rewritten).drop("label").join(from_set, KEY))
        return kept, _union(new) if new else None

    def _write_set(self, kept: dict[str, int], rows: DataFrame | None) -> FinishedSet:
        files = dict(kept)
        if rows is not None:
            files.update(self._add_files(rows, kept))
        self._stop_if_taken_over()
        counts: dict[str, int] = {}
        if files:
            with described(self._spark.sparkContext, "count the features"):
                rows = self._rows_of(files).agg(
                    count(lit(1)).alias("photos"),
                    count("error").alias("errors"),
                    count(when(col("error_kind") == "gone", 1)).alias("vanished"),
                    count("warning").alias("warnings"),
                    count("orientation").alias("turned"),
                )
                counts = rows.head().asDict()
        if not counts.get("photos"):
            raise ValueError(f"there are no photos: {self._home.uri} is unchanged")
        finished = FinishedSet(
            number=self._current.number + 1 if self._current else 1,
            model_name=self._model.name,
            model_sha256=self._model.sha256,
            files=files,
            columns=SCHEMA.names,
            versions=self._versions,
            decode=self._decode.keywords(),
            **counts,
        )
        (self._state / finished.file_name).write_json(finished._asdict())
        return finished

    def _add_files(self, rows: DataFrame, kept: dict[str, int]) -> dict[str, int]:
        before = self._home.sizes()
        size = sum(chunk.bytes() for chunk in [*self._earlier, *self._chunks])
        if self._base is not None:
            size += sum(size for name, size in self._base.files.items() if name not in kept)
        files = max(1, round(size / FILE_BYTES))
        origin = {
            "model": self._model.name,
            "model_sha256": self._model.sha256,
            "decode": self._decode.keywords(),
        }
        features = col("features").alias("features", metadata={"pomona": origin})
        with described(self._spark.sparkContext, f"write the features in {files} file(s)"):
            (
                rows.repartitionByRange(files, "label", "path")
                .sortWithinPartitions("label", "path")
                .withColumn("features", features)
                .write.mode("append")
                .option("parquet.block.size", str(ROW_GROUP_BYTES))
                .option(_MARK_SUCCESS, "false")
                .parquet(self._home.uri)
            )
        return {
            name: size or 0
            for name, size in self._home.sizes().items()
            if _PART.fullmatch(name) and name not in before
        }

    def _stop_if_taken_over(self) -> None:
        file = self._state / _WRITER
        writer = file.read_json() if file.exists() else None
        if writer == self._identity:
            return
        other = "another run"
        if writer is not None:
            other = "application {application} on {host}, started {started},".format_map(writer)
        raise OSError(f"{other} has taken over {self._home.uri}: this run stops")

    def _all_versions(self) -> list[str]:
        """List the versions that computed the rows on which this run builds, and this version."""
        versions = {__version__}
        if self._base is not None:
            versions.update(self._base.versions)
        if self._earlier:
            begun = (self._staging / _MODEL).read_json() or {}
            versions.update(begun.get("versions", [FIRST_VERSION]))
        return sorted(versions)

    def _replaces_another_set(self) -> bool:
        """Whether this continues a killed run that was replacing a set of other features."""
        return (
            self._current is not None
            and not self._same_features(self._current.model_sha256, self._current.decode)
            and self._staging_name in self._unfinished
        )

    def _same_features(self, model_sha256: str, decode: DecodeKeywords) -> bool:
        """Whether features of a model and options may be in one set with those of this run."""
        return model_sha256 == self._model.sha256 and decode == self._decode.keywords()

    def _delete_replaced(self) -> None:
        """Delete files that are not part of the current set, and descriptions of earlier sets."""
        files = self._current.files if self._current else {}
        for name in self._home.sizes():
            if (_PART.fullmatch(name) and name not in files) or name == "_temporary":
                (self._home / name).delete()
        for name in self._state.sizes():
            number = set_number(name)
            if number is not None and self._current and number < self._current.number:
                (self._state / name).delete()

    def _refuse_other_features(self) -> None:
        others = [name for name in self._unfinished if name != self._staging_name]
        base = self._base
        if base is not None and not self._same_features(base.model_sha256, base.decode):
            what, name, sha256, decode = "features", base.model_name, base.model_sha256, base.decode
        elif others:
            begun = (self._state / others[0] / _MODEL).read_json() or {}
            what, name = "an unfinished run", begun.get("name", "?")
            sha256 = begun.get("sha256", others[0])
            decode = begun.get("decode", DecodeOptions().keywords())
        else:
            return
        remedy = "choose another output, or replace its contents with resume=False (--no-resume)"
        if sha256 != self._model.sha256:
            raise ModelError(
                f"{self._home.uri} holds {what} of another model, {name} (sha256 {sha256[:16]}…) "
                f"and not {self._model.name} ({self._model.sha256[:16]}…): {remedy}"
            )
        theirs, ours = _differences(decode, self._decode.keywords())
        raise ValueError(
            f"{self._home.uri} holds {what} with other options of decoding, {theirs} and not "
            f"{ours}: use the same options, {remedy}"
        )

    def _refuse_foreign_files(self) -> None:
        names = self._home.sizes()
        foreign = [name for name in names if not name.startswith(("_", "."))]
        if foreign and STATE_FOLDER not in names:
            raise FileExistsError(
                f"{self._home.uri} holds {foreign[0]}, which Pomona did not write: choose another "
                "output, or delete it"
            )

    def _rows_of(self, files: Iterable[str]) -> DataFrame:
        return _read(self._spark, [self._home / name for name in files])


def _staging_name(model: ShippedModel, decode: DecodeOptions) -> str:
    """Name the folder of a run until it finishes: one for each model and options.

    With the default options it is the checksum of the model, as in versions without options. These
    take any other checksum for an unfinished run of another model, and refuse to continue it.
    """
    if decode == DecodeOptions():
        return model.sha256
    identity = json.dumps([model.sha256, decode.keywords()], sort_keys=True)
    return hashlib.sha256(identity.encode()).hexdigest()


def _differences(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> tuple[str, str]:
    """List the options that differ, with either side's values."""
    differing = sorted(name for name in {*theirs, *ours} if theirs.get(name) != ours.get(name))
    lists = [[f"{name}={each.get(name)!r}" for name in differing] for each in (theirs, ours)]
    return ", ".join(lists[0]), ", ".join(lists[1])


def finished_set_in(home: Folder) -> FinishedSet | None:
    """Return the finished set in a folder; None if no run has finished one."""
    state = home / STATE_FOLDER
    return finished_set(state.sizes(), lambda name: (state / name).read_json())


def read_files(spark: SparkSession, home: Folder, finished: FinishedSet) -> DataFrame:
    """Read exactly the rows of a finished set."""
    return _read(spark, [home / name for name in finished.files])


def _read(spark: SparkSession, folders: Sequence[Folder]) -> DataFrame:
    return spark.read.schema(SCHEMA).parquet(*[folder.pattern for folder in folders])


def _union(frames: Sequence[DataFrame]) -> DataFrame:
    frames = [frame.select(*SCHEMA.names) for frame in frames]
    return functools.reduce(DataFrame.unionByName, frames)


def _file_name() -> Column:
    return element_at(split(input_file_name(), "/"), -1)


@contextmanager
def _progress_line(total: int, counters: Counters) -> Iterator[None]:
    """Show progress on standard error from the counters, which Spark updates when a task ends."""
    stop = Event()
    with Progress("Featurizing", total=total) as line:

        def update() -> None:
            errors = counters.errors.value - line.counts.get("errors", 0)
            line.update(counters.photos.value - line.done, errors=errors)

        def watch() -> None:
            while not stop.wait(_POLL_SECONDS):
                update()

        watcher = Thread(target=watch, name="pomona-progress", daemon=True)
        watcher.start()
        try:
            yield
        finally:
            stop.set()
            watcher.join()
            update()
