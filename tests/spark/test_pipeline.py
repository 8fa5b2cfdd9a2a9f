"""The whole job: what it leaves behind, how it is told about, and what stops it."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from pyspark.ml import PipelineModel
from pyspark.ml.functions import vector_to_array
from pyspark.sql import SparkSession

import pomona
from lines import only_on
from pomona import pipeline
from services import PATIENCE, Service

# PySpark 3.1's vectors call numpy by an old name.
pytestmark = pytest.mark.filterwarnings("ignore:tostring:DeprecationWarning")

PHOTOS = 32
DRIVER = """
import sys
from pyspark.sql import SparkSession
from pomona.pipeline import run
spark = SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false").getOrCreate()
run(spark, sys.argv[1], sys.argv[2], model=sys.argv[3], chunk_photos=1)
"""


def path_of(uri: str) -> Path:
    return Path(uri[len("file:") :])


def finished_chunks(output: Path) -> list[Path]:
    return [path.parent for path in output.glob("features/_pomona/*/chunk-*/_SUCCESS")]


def jobs_of(spark: SparkSession) -> dict[int, str]:
    """What Spark's UI calls the jobs, by their numbers; "" where it has only a line of code."""
    context = spark._jsc.sc()
    # A job that has ended may not be listed yet.
    context.listenerBus().waitUntilEmpty(PATIENCE * 1000)
    jobs = context.statusStore().jobsList(None)
    listed = {job.jobId(): job.description() for job in map(jobs.apply, range(jobs.size()))}
    return {number: text.get() if text.isDefined() else "" for number, text in listed.items()}


def test_a_run_leaves_features_projections_a_model_and_a_summary(
    spark: SparkSession, photos_folder: Path, tiny_model: Path, tmp_path: Path
) -> None:
    output = tmp_path / "results"
    # With its first query a session settles where its tables are.
    spark.range(1).collect()
    before = jobs_of(spark)
    conf = dict(spark.sparkContext.getConf().getAll())
    summary = pipeline.run(
        spark, photos_folder, output, model=tiny_model, variance=0.9, progress=False
    )

    jobs = [text for number, text in jobs_of(spark).items() if number not in before]
    assert (summary.photos, summary.errors, summary.vanished) == (PHOTOS, 0, 0)
    # An accumulator in the UDF: no photo went through the model twice.
    assert summary.featurized == PHOTOS

    features = spark.read.parquet(str(output / "features"))
    assert features.columns[:4] == ["path", "label", "features", "error"]
    pca = spark.read.parquet(str(output / "pca"))
    assert pca.dtypes == [("path", "string"), ("label", "string"), ("pca", "array<float>")]
    rows = {row.path: row for row in pca.collect()}
    assert len(rows) == PHOTOS

    model = PipelineModel.load(str(output / "pca_model"))
    applied = model.transform(features).select("path", vector_to_array("pca").alias("pca"))
    for row in applied.collect():
        assert len(row.pca) == summary.k
        np.testing.assert_allclose(row.pca, rows[row.path].pca, atol=1e-5)

    told = json.loads((output / "summary.json").read_text())
    assert told["model"] == {"name": "tiny", "sha256": summary.model["sha256"]}
    assert (told["photos"], told["k"], told["dim"], told["variance"]) == (
        PHOTOS,
        summary.k,
        16,
        0.9,
    )
    curve = told["variance_curve"]
    assert len(curve) == told["dim"]
    assert curve == sorted(curve)
    assert curve[told["k"] - 2] < 0.9 <= curve[told["k"] - 1] == told["variance_explained"]
    assert told["versions"]["pomona"] == pomona.__version__
    assert set(told["seconds"]) == {"list", "features", "pca", "projection", "model"}
    assert told["standardize"] is False
    assert str(summary).splitlines()[0].startswith("32 photos, 32 of them featurized now")

    for stage in ("featurize 32 photos, chunk 1 of 1", "fit the PCA", "project onto"):
        assert any(stage in job for job in jobs), jobs
    # Spark itself runs eight jobs to save the PCA.
    assert len(jobs) <= 12
    assert all(job.startswith("Pomona: ") for job in jobs), jobs
    assert spark.sparkContext.getLocalProperty("spark.job.description") is None
    assert dict(spark.sparkContext.getConf().getAll()) == conf
    assert spark.conf.get("spark.sql.files.ignoreMissingFiles", None) in (None, "false")


@only_on("3.1")
def test_a_driver_killed_in_the_middle_repeats_at_most_its_last_chunk(
    spark: SparkSession, photos_folder: Path, tiny_model: Path, tmp_path: Path
) -> None:
    undisturbed, output = tmp_path / "undisturbed", tmp_path / "results"
    command = [sys.executable, "-c", DRIVER, str(photos_folder), str(output), str(tiny_model)]
    # The driver, its Java and its Python workers.
    driver = Service(command, tmp_path / "driver.log", dict(os.environ))
    try:
        driver.wait_for(lambda: len(finished_chunks(output)) >= 2, "finish two chunks")
    finally:
        driver.kill()
    assert not (output / "summary.json").exists()
    assert not list(output.glob("features/part-*"))
    done = spark.read.parquet(*map(str, finished_chunks(output))).count()

    summary = pipeline.run(spark, photos_folder, output, model=tiny_model, progress=False)
    assert summary.featurized == PHOTOS - done
    pipeline.run(spark, photos_folder, undisturbed, model=tiny_model, progress=False)
    for table in ("features", "pca"):
        one, other = (
            sorted(spark.read.parquet(str(folder / table)).collect())
            for folder in (output, undisturbed)
        )
        assert len(one) == PHOTOS
        assert one == other


def test_broken_photos_are_counted_and_have_no_projection(
    spark: SparkSession, photos_folder: Path, tiny_model: Path, tmp_path: Path
) -> None:
    images = tmp_path / "images" / "Crème brûlée"
    images.mkdir(parents=True)
    for photo in sorted(photos_folder.rglob("*.jpg"))[:5]:
        (images / f"{photo.parent.name} {photo.name}").write_bytes(photo.read_bytes())
    (images / "empty.jpg").write_bytes(b"")
    output = tmp_path / "results"
    summary = pipeline.run(
        spark, images, output, model=tiny_model, components=2, standardize=True, progress=False
    )
    assert (summary.photos, summary.errors, summary.k, summary.variance) == (6, 1, 2, None)
    assert [path_of(path).name for path, _ in summary.first_errors] == ["empty.jpg"]
    rows = spark.read.parquet(str(output / "pca")).collect()
    assert len(rows) == 5
    assert {(row.label, len(row.pca)) for row in rows} == {("Crème brûlée", 2)}
    assert "1 with an error, such as:\n" in str(summary)

    # Asking for too much is told, and what was finished before is finished no more.
    with pytest.raises(ValueError, match="components is 6, but 5 rows"):
        pipeline.run(spark, images, output, model=tiny_model, components=6, progress=False)
    assert not (output / "summary.json").exists()


def test_a_run_that_is_refused_leaves_a_finished_output_as_it_is(
    spark: SparkSession, photos_folder: Path, tiny_model: Path, other_model: Path, tmp_path: Path
) -> None:
    output = tmp_path / "results"
    pipeline.run(spark, photos_folder, output, model=tiny_model, progress=False)
    finished = (output / "summary.json").read_bytes()
    with pytest.raises(pomona.ModelError, match="holds features of another model"):
        pipeline.run(spark, photos_folder, output, model=other_model, progress=False)
    assert (output / "summary.json").read_bytes() == finished


def test_without_a_readable_photo_the_features_tell_why(
    spark: SparkSession, tiny_model: Path, tmp_path: Path
) -> None:
    images = tmp_path / "images"
    images.mkdir()
    for number in range(3):
        (images / f"{number}.jpg").write_bytes(b"\xff\xd8\xff")
    output = tmp_path / "results"
    with pytest.raises(ValueError, match=r"no PCA: none of the 3 photos can be read, e\.g\. .*jpg"):
        pipeline.run(spark, images, output, model=tiny_model, progress=False)
    rows = spark.read.parquet(str(output / "features")).collect()
    assert len(rows) == 3
    assert all(row.error and row.features is None for row in rows)
    assert not (output / "summary.json").exists()


def test_folders_without_photos_are_refused_and_leave_nothing(
    spark: SparkSession, tiny_model: Path, tmp_path: Path
) -> None:
    images = tmp_path / "images"
    images.mkdir()
    output = tmp_path / "results"
    with pytest.raises(FileNotFoundError, match="no photo under"):
        pipeline.run(spark, images, output, model=tiny_model, progress=False)
    (images / "notes.txt").write_text("no photo")
    with pytest.raises(FileNotFoundError, match=r"only other files \(1 \.txt\)"):
        pipeline.run(spark, images, output, model=tiny_model, progress=False)
    with pytest.raises(FileNotFoundError):
        pipeline.run(spark, tmp_path / "missing", output, model=tiny_model, progress=False)
    assert not output.exists()


def test_an_output_among_the_photos_is_refused(
    spark: SparkSession, photos_folder: Path, tiny_model: Path
) -> None:
    for output in (photos_folder, f"{photos_folder}/", f"file:{photos_folder}//results"):
        with pytest.raises(ValueError, match="in the folder of photos"):
            pipeline.run(spark, photos_folder, output, model=tiny_model, progress=False)
    assert not (photos_folder / "results").exists()


@pytest.mark.parametrize(
    ("folder", "error", "message"),
    [
        ("", ValueError, "empty"),
        (os.fsdecode(b"caf\xe9"), ValueError, r"caf\\xe9: .* not UTF-8"),
        ("hdfs://host.invalid/x", OSError, r"host\.invalid/x: the server does not answer"),
        ("a:b", OSError, "cannot reach a:b"),
    ],
)
def test_a_folder_that_cannot_be_is_named(
    spark: SparkSession,
    photos_folder: Path,
    tiny_model: Path,
    tmp_path: Path,
    folder: str,
    error: type[Exception],
    message: str,
) -> None:
    for images, output in ((photos_folder, folder), (folder, tmp_path / "results")):
        with pytest.raises(error, match=message):
            pipeline.run(spark, images, output, model=tiny_model, progress=False)
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    "wrong",
    [{"variance": 0}, {"variance": 1.5}, {"components": 0}, {"variance": 1, "components": 1}],
)
def test_arguments_that_make_no_sense_are_refused_before_any_work(
    spark: SparkSession, photos_folder: Path, tiny_model: Path, tmp_path: Path, wrong: dict
) -> None:
    with pytest.raises(ValueError, match=r"variance|components"):
        pipeline.run(spark, photos_folder, tmp_path / "results", model=tiny_model, **wrong)
    assert not (tmp_path / "results").exists()


def test_a_model_that_is_not_there_is_refused_before_any_work(
    spark: SparkSession, photos_folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(pomona.ModelError):
        pipeline.run(spark, photos_folder, tmp_path / "results", model=tmp_path / "no.onnx")
    assert not (tmp_path / "results").exists()


def test_real_photos_go_through_whole(
    spark: SparkSession, real_photos: Path, tiny_model: Path, tmp_path: Path
) -> None:
    images = real_photos / "fruits-360-100x100"
    summary = pipeline.run(spark, images, tmp_path / "results", model=tiny_model, progress=False)
    photos = list(images.rglob("*.jpg"))
    files = len(photos)
    assert (summary.photos, summary.featurized, summary.errors) == (files, files, 0)
    labels = spark.read.parquet(str(tmp_path / "results/pca")).select("label").distinct().collect()
    assert len(labels) == len({photo.parent for photo in photos})
