"""A model given on the driver reaches every executor, whole, by Spark's own means."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path

import pyspark
import pytest
from pyspark import SparkFiles, cloudpickle
from pyspark.sql import DataFrame, SparkSession

from lines import only_on
from pomona import DecodeOptions, Featurizer, ModelError
from pomona.spark import featurize_udf
from pomona.spark._shipping import load, ship, shipped_path, threads_per_task
from services import PATIENCE

#: An empty field that no reader of ONNX knows: the same model in another file.
UNKNOWN_FIELD = b"\xc2\x3e"


def variant(tiny_model: Path, folder: Path, mark: bytes) -> Path:
    """Make another file of the same model, unknown to every worker so far."""
    path = folder / "tiny.onnx"
    path.write_bytes(tiny_model.read_bytes() + UNKNOWN_FIELD + bytes([len(mark)]) + mark)
    return path


@pytest.fixture
def photo(spark: SparkSession, photos_folder: Path) -> DataFrame:
    content = bytearray(next(photos_folder.rglob("*.jpg")).read_bytes())
    return spark.createDataFrame([(content,)], "content binary")


@pytest.fixture
def features(photo: DataFrame, tiny_model: Path) -> list:
    content = bytes(photo.collect()[0].content)
    return Featurizer(tiny_model).featurize([content])[0].tolist()


def test_a_local_path_a_uri_and_a_pulled_name_all_work(
    photo: DataFrame,
    features: list,
    tiny_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "my_fruits.onnx").write_bytes(tiny_model.read_bytes())
    monkeypatch.setenv("POMONA_HOME", str(home))
    spaced = tmp_path / "with a space é%20.onnx"
    spaced.write_bytes(tiny_model.read_bytes())

    for model in (tiny_model, str(tiny_model), "my_fruits", f"file://{spaced}", f"file:{spaced}"):
        assert photo.select(featurize_udf(model)("content")).collect()[0][0] == features, model


def test_the_file_is_sent_once_however_often_a_model_is_used(
    spark: SparkSession, tiny_model: Path, tmp_path: Path
) -> None:
    model = variant(tiny_model, tmp_path, b"once")
    first = ship(spark.sparkContext, model)
    second = ship(spark.sparkContext, f"file://{model}")

    assert first == second
    files = spark.sparkContext._jsc.sc().listFiles().mkString("\n").split("\n")
    assert sum(name.endswith(first.file) for name in files) == 1


def test_models_that_share_a_name_do_not_meet(
    spark: SparkSession, photo: DataFrame, features: list, tiny_model: Path, tmp_path: Path
) -> None:
    one = ship(spark.sparkContext, variant(tiny_model, tmp_path, b"one"))
    two = ship(spark.sparkContext, variant(tiny_model, tmp_path, b"two"))

    assert one.name == two.name == "tiny"
    assert one.file != two.file
    assert one.sha256 != two.sha256
    for shipped in (one, two):
        served = shipped_path(spark.sparkContext, shipped)
        assert photo.select(featurize_udf(served)("content")).collect()[0][0] == features


def test_the_application_keeps_its_model_when_the_users_file_goes(
    photo: DataFrame, features: list, tiny_model: Path, tmp_path: Path
) -> None:
    model = variant(tiny_model, tmp_path, b"gone")
    featurize = featurize_udf(model)
    model.unlink()
    assert photo.select(featurize("content")).collect()[0][0] == features


def test_only_the_models_name_and_checksum_are_pickled(
    spark: SparkSession, tiny_model: Path
) -> None:
    pickled = cloudpickle.dumps(featurize_udf(tiny_model).func)
    assert len(pickled) < 4096
    assert ship(spark.sparkContext, tiny_model).sha256.encode() in pickled
    # By reference to the package that the executors have, not by value.
    assert b"pomona.spark.udf" in pickled
    assert b"try_featurize" not in pickled
    assert str(tiny_model).encode() not in pickled
    pickle.loads(pickled)  # noqa: S301 (our own)


def test_a_model_cut_short_on_an_executor_is_refused_by_name(
    spark: SparkSession, photo: DataFrame, tiny_model: Path, tmp_path: Path
) -> None:
    model = variant(tiny_model, tmp_path, b"cut short")
    featurize = featurize_udf(model)
    shipped = ship(spark.sparkContext, model)
    photo.count()  # executors fetch files before their next task
    executors_copy = Path(SparkFiles.get(shipped.file))
    executors_copy.write_bytes(executors_copy.read_bytes()[:1000])

    with pytest.raises(Exception, match="ModelError: model tiny on executor ") as error:
        photo.select(featurize("content")).collect()

    assert f"{executors_copy} is damaged: 1000 bytes with sha256 " in str(error.value)
    assert f"expected sha256 {shipped.sha256}; restart the executor" in str(error.value)


def test_a_model_deleted_on_an_executor_is_refused_by_name(
    spark: SparkSession, photo: DataFrame, tiny_model: Path, tmp_path: Path
) -> None:
    model = variant(tiny_model, tmp_path, b"deleted")
    featurize = featurize_udf(model)
    photo.count()
    executors_copy = Path(SparkFiles.get(ship(spark.sparkContext, model).file))
    executors_copy.unlink()

    with pytest.raises(Exception, match="ModelError: model tiny on executor ") as error:
        photo.select(featurize("content")).collect()

    assert f"{executors_copy} cannot be read: No such file or directory" in str(error.value)


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        ("file:/nowhere/model.onnx", r"model file:/nowhere/model.onnx cannot be read: .*not exist"),
        ("nosuch://bucket/model.onnx", "model nosuch://bucket/model.onnx cannot be read: .*nosuch"),
        ("hdfs://host.invalid/model.onnx", r"host\.invalid/model\.onnx cannot be read: the server"),
        ("/nowhere/model.onnx", "/nowhere/model.onnx"),
    ],
)
def test_a_model_that_is_not_there_is_refused_on_the_driver(
    spark: SparkSession, model: str, reason: str
) -> None:
    with pytest.raises(ModelError, match=reason):
        ship(spark.sparkContext, model)


def test_a_file_that_is_no_model_is_refused_on_the_driver(
    spark: SparkSession, tmp_path: Path
) -> None:
    (tmp_path / "model.onnx").write_bytes(b"weights")
    with pytest.raises(ModelError, match=f"model file://{tmp_path}/model.onnx: "):
        ship(spark.sparkContext, f"file://{tmp_path}/model.onnx")
    with pytest.raises(ModelError, match=f"{tmp_path}/model.onnx"):
        ship(spark.sparkContext, tmp_path / "model.onnx")


def test_threads_are_the_cores_of_a_task(
    spark: SparkSession, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert threads_per_task(spark.sparkContext) == 1
    conf = pyspark.SparkConf(loadDefaults=False).set("spark.task.cpus", "3")
    monkeypatch.setattr(spark.sparkContext, "getConf", lambda: conf)
    assert threads_per_task(spark.sparkContext) == 3
    load.cache_clear()
    assert load(ship(spark.sparkContext, tiny_model), 3, DecodeOptions()).threads == 3


ON_A_CLUSTER = """
import sys
from pyspark import SparkFiles
from pyspark.sql import SparkSession
from pomona.spark import featurize_udf, read_images

images, model, java_options = sys.argv[1:]
builder = SparkSession.builder.master("local-cluster[2,1,600]")
for key, value in {
    "spark.executor.memory": "600m",
    "spark.executor.extraJavaOptions": java_options,
    "spark.driver.extraJavaOptions": java_options,
    "spark.ui.enabled": "false",
}.items():
    builder = builder.config(key, value)
spark = builder.getOrCreate()
spark.sparkContext.setLogLevel("OFF")
featurize = featurize_udf(model, on_error="column")
table = read_images(spark, images).select(featurize("content").alias("result"))
rows = table.collect()
assert len(rows) == 32, len(rows)
assert all(row.result.error is None and len(row.result.features) == 16 for row in rows), rows

tasks = spark.sparkContext.range(16, numSlices=8)
folders = tasks.mapPartitions(lambda _: [SparkFiles.getRootDirectory()]).collect()
print(len(set(folders)), SparkFiles.getRootDirectory() in folders)
spark.stop()
"""


@only_on("3.1")
def test_executors_in_processes_of_their_own_get_the_model(
    spark_environment: None,
    java_options: str,
    photos_folder: Path,
    tiny_model: Path,
    tmp_path: Path,
) -> None:
    script = tmp_path / "job.py"
    script.write_text(ON_A_CLUSTER)
    done = subprocess.run(
        [sys.executable, str(script), str(photos_folder), str(tiny_model), java_options],
        cwd=str(tmp_path),
        env={**os.environ, "SPARK_HOME": str(Path(pyspark.__file__).parent)},
        stdout=subprocess.PIPE,
        check=True,
        timeout=PATIENCE,
    )
    executors, driver_among_them = done.stdout.split()
    assert int(executors) >= 1
    assert driver_among_them == b"False"
