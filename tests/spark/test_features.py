"""Features on disk: what is written, what is done again, and what a crash leaves behind."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any, Callable

import numpy as np
import pytest
from pyspark.sql import DataFrame, Row, SparkSession
from pyspark.sql.functions import col, lit, when

import pomona
from lines import only_on
from pomona.spark import _writer, read_images
from pomona.spark._hadoop import Folder
from pomona.spark._writer import SCHEMA, FeatureSet, FeatureWriter
from pomona.spark.features import prepare, read_features, write_features

PHOTOS = 8
#: Of a set that 0.1.0 wrote.
FIRST_COLUMNS = ("path", "label", "features", "error", "length", "modificationTime")


class Killed(BaseException):
    """Stands for the end of the driver."""


@pytest.fixture
def images(photos_folder: Path, tmp_path: Path) -> Path:
    """Eight photos of two labels, one with a space and one with an accent."""
    folder = tmp_path / "images"
    for source, label in zip(sorted(photos_folder.iterdir()), ["Golden Apple", "Pêche"]):
        (folder / label).mkdir(parents=True)
        for photo in sorted(source.iterdir())[: PHOTOS // 2]:
            shutil.copy(str(photo), str(folder / label))
    return folder


class Job:
    """`write_features` on a folder, as a user repeats it."""

    def __init__(self, spark: SparkSession, images: Path, output: Path, model: Path) -> None:
        self.spark = spark
        self.images = images
        self.output = output
        self.model = model

    def photos(self) -> DataFrame:
        return read_images(self.spark, self.images)

    def run(self, **options: Any) -> FeatureSet:
        options = {"model": self.model, "chunk_photos": 3, **options}
        photos = options.pop("photos", None)
        return write_features(photos or self.photos(), self.output, **options)

    def rows(self) -> dict[str, Row]:
        """What plain Spark reads, by folder and file name."""
        rows = self.spark.read.parquet(str(self.output)).collect()
        by_name = {name_of(row.path): row for row in rows}
        assert len(by_name) == len(rows)
        return by_name

    def files(self) -> set[str]:
        return {path.name for path in self.output.glob("part-*")}

    def staged(self) -> list[Path]:
        return list(self.output.glob("_pomona/*/chunk-*/_SUCCESS"))


@pytest.fixture
def job(spark: SparkSession, images: Path, tmp_path: Path, tiny_model: Path) -> Job:
    return Job(spark, images, tmp_path / "features", tiny_model)


def kill_at(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, call: int = 1) -> None:
    """Make the driver end when it calls a function for the n-th time."""
    calls = []
    function = getattr(owner, name)

    def dying(*args: Any, **kwargs: Any) -> Any:
        calls.append(args)
        if len(calls) == call:
            raise Killed
        return function(*args, **kwargs)

    monkeypatch.setattr(owner, name, dying)


def run_and_be_killed(
    job: Job, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, call: int = 1, **options: Any
) -> None:
    """Run until the driver ends, as `kill_at` makes it."""
    with monkeypatch.context() as patch:
        kill_at(patch, owner, name, call)
        with pytest.raises(Killed):
            job.run(**options)


def name_of(path: object) -> str:
    """The last folder and the name of a photo."""
    return "/".join(str(path).split("/")[-2:])


def photo_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_plain_spark_reads_a_row_for_each_photo(job: Job, tiny_model: Path) -> None:
    result = job.run()
    assert (result.photos, result.featurized, result.errors, result.vanished) == (
        PHOTOS,
        PHOTOS,
        0,
        0,
    )

    frame = job.spark.read.parquet(str(job.output))
    assert frame.dtypes[:4] == [
        ("path", "string"),
        ("label", "string"),
        ("features", "array<float>"),
        ("error", "string"),
    ]
    rows = frame.collect()
    assert [(row.label, row.path) for row in rows] == sorted((row.label, row.path) for row in rows)
    assert {row.label for row in rows} == {"Golden Apple", "Pêche"}
    contents = {name_of(path): path.read_bytes() for path in photo_files(job.images)}
    featurizer = pomona.Featurizer(tiny_model)
    for row in rows:
        expected = featurizer.featurize([contents[name_of(row.path)]])[0]
        np.testing.assert_array_equal(np.float32(row.features), expected)

    assert result.files.keys() == job.files()
    assert len(result.files) == 1
    assert (job.output / "_SUCCESS").exists()
    assert not job.staged()


def test_a_second_run_does_nothing_and_later_ones_follow_the_photos(job: Job) -> None:
    job.run()
    before, files = job.rows(), job.files()
    assert job.run().featurized == 0
    assert job.files() == files

    added, changed, gone, *_ = photo_files(job.images)
    shutil.copy(str(added), str(job.images / "Pêche" / "new.jpg"))
    shutil.copy(str(gone), str(changed))
    os.utime(str(changed), (2_000_000_000, 2_000_000_000))
    gone.unlink()
    result = job.run()
    assert (result.photos, result.featurized) == (PHOTOS, 2)
    after = job.rows()
    assert after.keys() - before.keys() == {"Pêche/new.jpg"}
    assert before.keys() - after.keys() == {name_of(gone)}
    name = name_of(changed)
    assert after[name].features == before[name_of(gone)].features
    unchanged = before.keys() & after.keys() - {name}
    assert len(unchanged) == PHOTOS - 2
    assert all(after[key] == before[key] for key in unchanged)
    # Small files do not pile up.
    assert len(job.files()) == 1


def test_large_files_without_changes_stay(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_writer, "SMALL_FILE_BYTES", 0)
    job.run()
    (first,) = job.files()
    new = job.images / "Pêche" / "new.jpg"
    shutil.copy(str(photo_files(job.images)[0]), str(new))
    job.run()
    assert first in job.files()
    assert len(job.files()) == 2
    new.unlink()
    assert job.run().featurized == 0
    assert job.files() == {first}
    assert len(job.rows()) == PHOTOS


def test_a_killed_run_repeats_only_the_chunk_in_flight(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_and_be_killed(job, monkeypatch, FeatureWriter, "_write_chunk", call=3)
    assert len(job.staged()) == 2
    done = job.spark.read.parquet(*[str(path.parent) for path in job.staged()]).count()
    # What a job leaves that was cut short while it wrote.
    cut_short = job.staged()[0].parent.with_name("chunk-cut")
    shutil.copytree(str(job.staged()[0].parent), str(cut_short))
    (cut_short / "_SUCCESS").unlink()

    assert not job.files()
    with pytest.raises(FileNotFoundError, match="no finished feature set: run write_features"):
        read_features(job.spark, job.output)

    result = job.run()
    assert (result.featurized, result.photos) == (PHOTOS - done, PHOTOS)
    assert len(job.rows()) == PHOTOS


def test_a_photo_that_changes_after_a_kill_is_featurized_again(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_and_be_killed(job, monkeypatch, FeatureWriter, "_publish")
    one, other, *_ = photo_files(job.images)
    shutil.copy(str(other), str(one))
    os.utime(str(one), (2_000_000_000, 2_000_000_000))
    assert job.run().featurized == 1
    rows = job.rows()
    assert len(rows) == PHOTOS
    assert rows[name_of(one)].features == rows[name_of(other)].features


@pytest.mark.parametrize(
    ("owner", "name", "call"),
    # The calls before that belong to the start of a run.
    [(Folder, "write_json", 3), (FeatureWriter, "_delete_replaced", 2)],
    ids=["before the set is described", "before replaced files are deleted"],
)
def test_a_kill_while_publishing_loses_and_doubles_nothing(
    job: Job, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, call: int
) -> None:
    job.run()
    before = read_features(job.spark, job.output).collect()
    shutil.copy(str(photo_files(job.images)[0]), str(job.images / "Pêche" / "new.jpg"))
    run_and_be_killed(job, monkeypatch, owner, name, call=call)
    assert not (job.output / "_SUCCESS").exists()
    # Who asks Pomona gets one set or the other, and no mixture.
    assert len(read_features(job.spark, job.output).collect()) in (len(before), len(before) + 1)

    assert job.run().featurized == 0
    assert len(job.rows()) == PHOTOS + 1
    assert (job.output / "_SUCCESS").exists()


def test_a_description_that_was_cut_short_does_not_count(job: Job) -> None:
    job.run()
    state = job.output / "_pomona"
    (described,) = state.glob("set-*.json")
    (state / "set-000009.json").write_text(described.read_text()[:-30])
    assert read_features(job.spark, job.output).count() == PHOTOS
    assert job.run().featurized == 0


def test_a_description_of_a_later_version_is_read_for_what_is_known_of_it(job: Job) -> None:
    job.run()
    (described,) = job.output.glob("_pomona/set-*.json")
    value = json.loads(described.read_text())
    later = described.with_name("set-000009.json")
    later.write_text(json.dumps({**value, "number": 9, "colour": "red"}))
    assert read_features(job.spark, job.output).count() == PHOTOS
    assert job.run().featurized == 0


def test_features_of_two_models_do_not_mix(
    job: Job, other_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job.run()
    with pytest.raises(pomona.ModelError, match="holds features of another model, tiny"):
        job.run(model=other_model)

    run_and_be_killed(
        job,
        monkeypatch,
        FeatureWriter,
        "_write_chunk",
        call=2,
        model=other_model,
        resume=False,
    )
    # The finished set is there until the new one is.
    assert len(job.rows()) == PHOTOS
    with pytest.raises(pomona.ModelError, match="holds an unfinished run of another model, tiny"):
        job.run()
    # What was asked for goes on.
    result = job.run(model=other_model)
    assert 0 < result.featurized < PHOTOS
    assert result.photos == len(job.rows()) == PHOTOS
    (described,) = job.output.glob("_pomona/set-*.json")
    assert json.loads(described.read_text())["model_sha256"] == result.model_sha256


@pytest.mark.parametrize("finished", [False, True])
def test_a_run_that_another_one_takes_over_ends_and_leaves_it_alone(
    job: Job, monkeypatch: pytest.MonkeyPatch, finished: bool
) -> None:
    write_chunk = FeatureWriter._write_chunk
    others: list[FeatureWriter] = []

    def write_chunk_and_be_taken_over(run: FeatureWriter, rows: DataFrame) -> None:
        write_chunk(run, rows)
        if not others:
            others.append(
                prepare(
                    job.photos(),
                    job.output,
                    model=job.model,
                    decode=pomona.DecodeOptions(),
                    resume=True,
                )
            )
            if finished:
                others[0].write(job.photos())
            else:
                others[0]._take_over()

    with monkeypatch.context() as patch:
        patch.setattr(FeatureWriter, "_write_chunk", write_chunk_and_be_taken_over)
        who = "another run" if finished else "application .* started .*"
        with pytest.raises(OSError, match=f"^{who} has taken over .*this run stops"):
            job.run()
    if not finished:
        assert job.run().featurized < PHOTOS
    assert len(job.rows()) == PHOTOS
    assert job.run().featurized == 0


def test_other_queries_of_the_session_miss_no_file_while_a_run_goes_on(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = []
    write_chunk = FeatureWriter._write_chunk

    def look_and_write(run: FeatureWriter, rows: DataFrame) -> None:
        settings.append(job.spark.conf.get("spark.sql.files.ignoreMissingFiles"))
        write_chunk(run, rows)

    monkeypatch.setattr(FeatureWriter, "_write_chunk", look_and_write)
    job.run()
    assert set(settings) == {"false"}


def test_nothing_changes_before_a_run_writes(
    job: Job, monkeypatch: pytest.MonkeyPatch, other_model: Path
) -> None:
    job.run()
    run_and_be_killed(
        job, monkeypatch, FeatureWriter, "_write_chunk", call=2, resume=False, model=other_model
    )

    def files() -> dict[str, int]:
        everything = [path for path in job.output.rglob("*") if path.is_file()]
        return {str(path): path.stat().st_mtime_ns for path in everything}

    before = files()
    for model in (job.model, other_model):
        prepare(job.photos(), job.output, model=model, decode=pomona.DecodeOptions(), resume=False)
    assert files() == before


def test_without_resume_every_photo_is_featurized_again(job: Job) -> None:
    first = job.run()
    again = job.run(resume=False)
    assert again.featurized == PHOTOS
    assert again.files.keys().isdisjoint(first.files)
    assert job.files() == again.files.keys()
    assert len(job.rows()) == PHOTOS


def test_photos_that_cannot_be_read_are_rows_and_are_not_tried_again(job: Job) -> None:
    (job.images / "Pêche" / "empty.jpg").write_bytes(b"")
    (job.images / "Pêche" / "text.png").write_bytes(b"not a picture")
    result = job.run()
    assert (result.photos, result.errors) == (PHOTOS + 2, 2)
    rows = job.rows()
    broken = {name: row for name, row in rows.items() if row.error}
    assert broken.keys() == {"Pêche/empty.jpg", "Pêche/text.png"}
    assert all(row.features is None for row in broken.values())
    again = job.run()
    assert (again.featurized, again.errors) == (0, 2)


def rewrite(job: Job, folder: Path, change: Callable[[DataFrame], DataFrame]) -> list[str]:
    """Replace a folder's files of features by one of changed rows; return its name."""
    rewritten = folder.with_name("rewritten")
    old = sorted(folder.glob("part-*.parquet"))
    rows = change(job.spark.read.parquet(*map(str, old)))
    rows.coalesce(1).write.parquet(str(rewritten))
    for path in [*old, *folder.glob(".part-*")]:
        path.unlink()
    (new,) = rewritten.glob("part-*.parquet")
    shutil.copy(str(new), str(folder / new.name))
    shutil.rmtree(str(rewritten))
    return [new.name]


def with_errors(rows: DataFrame, names: list[str], error: str, **columns: str) -> DataFrame:
    """Give some photos an error in the place of their features."""
    hit = col("path").rlike("({})$".format("|".join(map(re.escape, names)))) & lit(bool(names))
    rows = rows.withColumn("features", when(~hit, col("features")))
    for name, value in {"error": error, **columns}.items():
        rows = rows.withColumn(name, when(hit, lit(value)).otherwise(col(name)))
    return rows


def refuse(job: Job, names: list[str], *, first_version: bool = False, **columns: str) -> None:
    """Turn the rows of good photos in a finished set into errors, also as 0.1.0 wrote them."""

    def change(rows: DataFrame) -> DataFrame:
        rows = with_errors(rows, names, "can't decode JPEG: two SOI markers", **columns)
        return rows.select(*FIRST_COLUMNS) if first_version else rows

    files = rewrite(job, job.output, change)
    (described,) = job.output.glob("_pomona/set-*.json")
    value = json.loads(described.read_text())
    value.update(files=dict.fromkeys(files, 10**9), errors=value["errors"] + len(names))
    if first_version:
        del value["columns"], value["versions"]
    described.write_text(json.dumps(value))
    # Hadoop's checksum of what was there before.
    described.with_name(f".{described.name}.crc").unlink()


def columns_of(job: Job) -> set[tuple[str, ...]]:
    return {tuple(job.spark.read.parquet(str(path)).columns) for path in job.output.glob("part-*")}


@only_on("4.0")
def test_what_0_1_0_refused_is_tried_again_and_good_rows_stay_as_they_are(job: Job) -> None:
    (job.images / "Pêche" / "text.png").write_bytes(b"not a picture")
    job.run()
    before = job.rows()
    lost = [name for name in sorted(before) if name != "Pêche/text.png"][::2]
    refuse(job, [*lost, "Pêche/text.png"], first_version=True)
    shutil.copy(str(photo_files(job.images)[0]), str(job.images / "Pêche" / "new.jpg"))

    result = job.run()
    assert (result.featurized, result.retried, result.recovered) == (
        len(lost) + 2,
        len(lost) + 1,
        len(lost),
    )
    assert (result.photos, result.errors) == (PHOTOS + 2, 1)
    after = job.rows()
    assert {name: row for name, row in after.items() if name != "Pêche/new.jpg"} == before
    assert after["Pêche/text.png"].error_version == pomona.__version__
    # Files with the columns of 0.1.0 beside others would be more than some readers can take.
    assert columns_of(job) == {tuple(SCHEMA.names)}
    assert result.versions == ["0.1.0", pomona.__version__]
    again = job.run()
    assert (again.featurized, again.retried) == (0, 0)
    assert again.versions == result.versions
    assert job.run(resume=False).versions == [pomona.__version__]


def test_a_set_of_0_1_0_that_needs_nothing_is_left_alone(job: Job) -> None:
    job.run()
    refuse(job, [], first_version=True)
    files = job.files()
    result = job.run()
    assert (result.photos, result.featurized, result.retried) == (PHOTOS, 0, 0)
    assert job.files() == files
    assert columns_of(job) == {FIRST_COLUMNS}
    assert result.versions == ["0.1.0"]


def test_an_unfinished_run_of_0_1_0_is_finished_without_its_errors(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_and_be_killed(job, monkeypatch, FeatureWriter, "_publish")
    names = [name_of(path) for path in photo_files(job.images)]
    lost = names[1::2]
    for marker in job.staged():
        rewrite(
            job,
            marker.parent,
            lambda rows: with_errors(rows, lost, "two SOI markers").select(*FIRST_COLUMNS),
        )
    (begun,) = job.output.glob("_pomona/*/model.json")
    begun.write_text(json.dumps({"name": "tiny"}))
    begun.with_name(".model.json.crc").unlink()
    # Killed once more, so that the lost photos have rows in chunks of two runs.
    run_and_be_killed(job, monkeypatch, FeatureWriter, "_publish")
    result = job.run()
    assert (result.photos, result.errors, result.featurized) == (PHOTOS, 0, 0)
    assert result.versions == ["0.1.0", pomona.__version__]
    assert sorted(job.rows()) == names


@pytest.mark.parametrize(
    ("kind", "tried_again"),
    [("image", False), ("storage", True), ("memory", True), ("gone", True)],
)
def test_errors_that_are_not_the_photos_are_tried_again_and_others_on_request(
    job: Job, kind: str, tried_again: bool
) -> None:
    job.run()
    before = job.rows()
    lost = sorted(before)[:3]
    refuse(job, lost, error_kind=kind, error_version=pomona.__version__)
    result = job.run()
    number = len(lost) if tried_again else 0
    assert (result.featurized, result.retried, result.recovered) == (number, number, number)
    if not tried_again:
        assert {name for name, row in job.rows().items() if row.error} == set(lost)
        result = job.run(retry_errors=True)
        assert (result.featurized, result.retried, result.recovered) == (3, 3, 3)
    assert job.rows() == before
    assert job.run(retry_errors=True).featurized == 0


def test_a_killed_run_that_retries_errors_goes_on_with_what_it_has(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    job.run()
    before = job.rows()
    refuse(job, sorted(before), error_kind="image", error_version=pomona.__version__)
    run_and_be_killed(job, monkeypatch, FeatureWriter, "_write_chunk", call=2, retry_errors=True)
    (done,) = job.staged()
    number = job.spark.read.parquet(str(done.parent)).count()
    result = job.run(retry_errors=True)
    assert (result.retried, result.recovered) == (PHOTOS - number, PHOTOS - number)
    assert job.rows() == before


def test_a_photo_that_vanishes_before_it_is_read_has_no_row(job: Job) -> None:
    photos = read_images(job.spark, job.images, ignore_missing=True)
    photo_files(job.images)[0].unlink()
    result = job.run(photos=photos)
    assert (result.photos, result.vanished) == (PHOTOS - 1, 1)
    assert len(job.rows()) == PHOTOS - 1


def test_another_rule_for_labels_needs_no_featurizing(job: Job) -> None:
    job.run()
    assert job.run(photos=read_images(job.spark, job.images, label=lit("fruit"))).featurized == 0
    assert {row.label for row in job.rows().values()} == {"fruit"}


def test_photos_that_were_shuffled_resume_as_well(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_and_be_killed(
        job,
        monkeypatch,
        FeatureWriter,
        "_write_chunk",
        call=4,
        photos=job.photos().repartition(4, "path"),
    )
    done = job.spark.read.parquet(*[str(path.parent) for path in job.staged()]).count()
    assert done
    assert job.run(photos=job.photos().repartition(4, "path")).featurized == PHOTOS - done
    assert len(job.rows()) == PHOTOS


def test_files_of_others_are_refused(job: Job) -> None:
    job.spark.range(3).write.parquet(str(job.output))
    files = job.files()
    with pytest.raises(FileExistsError, match="which Pomona did not write"):
        job.run()
    assert job.files() == files


def test_no_photos_leave_the_features_as_they_are(job: Job) -> None:
    job.run()
    for resume in (True, False):
        with pytest.raises(ValueError, match="there are no photos"):
            job.run(photos=job.photos().where("length < 0"), resume=resume)
    assert read_features(job.spark, job.output).count() == PHOTOS


def test_what_makes_no_sense_is_refused(job: Job) -> None:
    with pytest.raises(ValueError, match="no column length: read them with"):
        job.run(photos=job.photos().drop("length"))
    with pytest.raises(ValueError, match="chunk_photos is 0"):
        job.run(chunk_photos=0)
    with pytest.raises(ValueError, match="column length is string, it must be bigint"):
        job.run(photos=job.photos().withColumn("length", lit("5")))
    with pytest.raises(ValueError, match="column content is string, it must be binary"):
        job.run(photos=job.photos().withColumn("content", lit("a photo")))
    assert not job.output.exists()


def test_labels_of_any_type_are_text_and_other_columns_stay_out(job: Job) -> None:
    photos = job.photos().withColumn("label", lit(7))
    for name in ("error", "features", "result"):
        photos = photos.withColumn(name, lit("theirs"))
    assert job.run(photos=photos).errors == 0
    assert {row.label for row in job.rows().values()} == {"7"}
    assert job.run(photos=photos).featurized == 0


def test_features_that_are_not_there_are_told_so(job: Job) -> None:
    with pytest.raises(FileNotFoundError, match=r"there are no features in file:.*/features"):
        read_features(job.spark, job.output)


def test_an_output_that_cannot_be_written_is_named(job: Job, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    job.output = tmp_path / "file" / "features"
    with pytest.raises(OSError, match=r"cannot (write|list) .*/file/features"):
        job.run()


def test_a_progress_line_counts_photos_and_errors(
    job: Job, capfd: pytest.CaptureFixture[str]
) -> None:
    (job.images / "Pêche" / "text.png").write_bytes(b"not a picture")
    job.run(progress=True)
    lines = capfd.readouterr().err.splitlines()
    assert any(
        line.startswith(f"Featurizing {PHOTOS + 1}/{PHOTOS + 1} images 100%") and "1 error" in line
        for line in lines
    )
