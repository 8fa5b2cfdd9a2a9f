"""The UDFs: the features of a Featurizer, each photo once, errors that say which photo."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Iterator

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.functions import col, lit, when
from pyspark.sql.functions import length as byte_length

import photos as rendered
import pomona
import pomona.spark
from pomona import DecodeOptions, Featurizer, ModelError
from pomona._errors import ERROR_COLUMNS, NOTE_COLUMNS
from pomona.spark import featurize_udf, read_images, register
from pomona.spark._shipping import load, ship
from pomona.spark.udf import Counters, featurized

MAGIC_ONLY = b"\xff\xd8\xff"


@pytest.fixture(scope="module")
def photos(spark: SparkSession, photos_folder: Path) -> DataFrame:
    return read_images(spark, photos_folder)


@pytest.fixture(scope="module")
def with_bad(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> DataFrame:
    """Six photos; besides them one cut off, one of 0 bytes, one that is text, and a null."""
    folder = tmp_path_factory.mktemp("with_bad")
    paths = rendered.render(folder, classes=2, per_class=3)
    rendered.break_one(paths)
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "text.jpg").write_text("no photo at all")
    read = read_images(spark, folder).select("path", "content")
    null = spark.createDataFrame([("null", None)], "path string, content binary")
    return read.union(null)


def expected(model: Path, path: str) -> np.ndarray:
    photo = Path(path.replace("file:", "", 1)).read_bytes()
    return Featurizer(model).featurize([photo])[0]


def reason(model: Path, photo: bytes) -> str:
    return Featurizer(model).try_featurize([photo])[1][0].reason


def errors_too(model: Path) -> Any:
    return featurize_udf(model, on_error="column")


def test_features_are_those_of_a_featurizer_bit_for_bit(
    photos: DataFrame, tiny_model: Path
) -> None:
    rows = photos.select("path", featurize_udf(tiny_model)("content").alias("features")).collect()

    assert len(rows) == 32
    for row in rows:
        assert np.array_equal(np.float32(row.features), expected(tiny_model, row.path)), row.path


def test_real_photos_have_the_features_of_a_featurizer(
    spark: SparkSession, real_photos: Path, tiny_model: Path
) -> None:
    photos = read_images(spark, real_photos / "fruits").limit(60)

    rows = photos.select("path", errors_too(tiny_model)("content").alias("r")).collect()

    assert len(rows) == 60
    for row in rows:
        assert row.r.error is None
        assert np.array_equal(np.float32(row.r.features), expected(tiny_model, row.path)), row.path


def test_types_are_an_array_of_floats_and_a_struct_with_an_error(
    photos: DataFrame, tiny_model: Path
) -> None:
    table = photos.select(
        featurize_udf(tiny_model)("content"),
        errors_too(tiny_model)("content"),
    )
    assert table.dtypes == [
        ("featurize(content)", "array<float>"),
        (
            "featurize(content)",
            "struct<features:array<float>,error:string,error_kind:string,error_version:string,"
            "warning:string,orientation:int>",
        ),
    ]


def test_photos_that_cannot_be_read_have_null_and_a_reason_and_the_others_their_features(
    with_bad: DataFrame, tiny_model: Path
) -> None:
    both = with_bad.select(
        "path",
        featurize_udf(tiny_model)("content").alias("features"),
        errors_too(tiny_model)("content").alias("result"),
    )
    rows = {Path(row.path).name: row for row in both.collect()}

    assert len(rows) == 7
    assert rows["empty.jpg"].result.error == reason(tiny_model, b"")
    assert rows["text.jpg"].result.error == reason(tiny_model, b"no photo at all")
    assert rows["text.jpg"].result.error_kind == "image"
    assert rows["text.jpg"].result.error_version == pomona.__version__
    assert "r0_cut.jpg" in rows
    for name, row in rows.items():
        if name.startswith("r0_") and name != "r0_cut.jpg":
            assert row.result.error is None
            assert row.result.features == row.features == list(expected(tiny_model, row.path))
        else:
            assert row.features is None
            assert row.result.features is None
            for column in ERROR_COLUMNS:
                assert (row.result[column] is None) == (name == "null")


def test_a_photo_is_featurized_once_however_its_result_is_used(
    spark: SparkSession, with_bad: DataFrame, tiny_model: Path
) -> None:
    context = spark.sparkContext
    counters = Counters(context.accumulator(0), context.accumulator(0))
    result = featurized(with_bad, ship(context, tiny_model), DecodeOptions(), counters)

    table = with_bad.select("path", result.alias("result"))
    flat = table.select("path", "result.features", "result.error")
    good = flat.where(col("error").isNull() & col("features").isNotNull()).collect()

    assert len(good) == 6
    assert (counters.photos.value, counters.errors.value) == (10, 3)


def test_no_photo_is_featurized_for_columns_that_are_not_used(
    spark: SparkSession, photos: DataFrame, tiny_model: Path
) -> None:
    context = spark.sparkContext
    counters = Counters(context.accumulator(0), context.accumulator(0))
    table = photos.withColumn(
        "result", featurized(photos, ship(context, tiny_model), DecodeOptions(), counters)
    )
    assert table.select("label").distinct().count() == 4
    assert table.where("label = 'Apricot'").count() == 8
    assert counters.photos.value == 0


@pytest.mark.parametrize("rows_per_batch", [1, 7, 10_000])
def test_rows_keep_their_order_whatever_the_size_of_batches(
    spark: SparkSession, photos_folder: Path, tiny_model: Path, rows_per_batch: int
) -> None:
    paths = sorted(photos_folder.rglob("*.jpg"))
    contents = [path.read_bytes() for path in paths]
    model = Featurizer(tiny_model)
    features = [row.tolist() for row in model.featurize(contents)]
    # 600 rows in one task are more than one step of the UDF; each third photo is broken.
    rows = [
        (number, bytearray(MAGIC_ONLY if number % 3 == 0 else contents[number % len(contents)]))
        for number in range(600)
    ]
    table = spark.createDataFrame(rows, "number int, content binary").coalesce(1)
    spark.conf.set("spark.sql.execution.arrow.maxRecordsPerBatch", str(rows_per_batch))
    try:
        found = table.select("number", errors_too(tiny_model)("content").alias("result")).collect()
    finally:
        spark.conf.unset("spark.sql.execution.arrow.maxRecordsPerBatch")

    assert [row.number for row in found] == list(range(600))
    for row in found:
        broken = row.number % 3 == 0
        assert row.result.features == (None if broken else features[row.number % len(contents)])
        assert (row.result.error is not None) == broken


def test_empty_tables_and_empty_tasks_are_fine(spark: SparkSession, tiny_model: Path) -> None:
    empty = spark.createDataFrame([], "content binary")
    assert empty.select(featurize_udf(tiny_model)("content")).collect() == []
    one = spark.createDataFrame([(None,)], "content binary").repartition(4)
    row = one.select(errors_too(tiny_model)("content").alias("result")).collect()[0]
    assert set(row.result.asDict()) == {"features", *ERROR_COLUMNS, *NOTE_COLUMNS}
    assert set(row.result.asDict().values()) == {None}


def test_a_photo_of_100_megapixels_has_features_and_one_beyond_the_limit_a_reason(
    spark: SparkSession, tmp_path: Path, tiny_model: Path
) -> None:
    for name, width in (("large", 10_000), ("too large", 20_000)):
        Image.new("1", (width, 10_000), 1).save(tmp_path / f"{name}.png")
    photos = read_images(spark, tmp_path)

    rows = photos.select("path", errors_too(tiny_model)("content").alias("r")).collect()

    large, too_large = sorted(rows, key=lambda row: row.path)
    assert large.r.features == list(expected(tiny_model, large.path))
    assert too_large.r.features is None
    assert "178956970" in too_large.r.error.replace(",", "").replace("_", "")


def test_raising_names_the_path_and_the_reason(with_bad: DataFrame, tiny_model: Path) -> None:
    featurize = featurize_udf(tiny_model, on_error="raise")
    empty = with_bad.where(col("path").endswith("empty.jpg"))

    with pytest.raises(Exception, match=r"photo file:/.*/empty\.jpg: ") as error:
        empty.select(featurize("content", "path")).collect()

    assert f"empty.jpg: {reason(tiny_model, b'')}" in str(error.value)


def test_raising_names_the_row_where_its_path_is_null(
    spark: SparkSession, tiny_model: Path
) -> None:
    table = spark.createDataFrame([(bytearray(b"no photo"), None)], "content binary, path string")
    featurize = featurize_udf(tiny_model, on_error="raise")
    with pytest.raises(Exception, match=r"photo in row 0 of partition [0-9]+ .*: not a "):
        table.select(featurize("content", "path")).collect()
    with pytest.raises(Exception, match="a column of photos and a column of paths, no more"):
        table.select(featurize("content", "path", "path")).collect()


def test_raising_names_the_row_where_there_is_no_path(
    spark: SparkSession, tiny_model: Path, photos_folder: Path
) -> None:
    good = next(photos_folder.rglob("*.jpg")).read_bytes()
    contents = [bytearray(good)] * 300 + [bytearray(b"text")] + [bytearray(good)] * 3
    table = spark.createDataFrame([(one,) for one in contents], "content binary").coalesce(1)

    with pytest.raises(Exception, match=r"photo in row 300 of partition 0 .*: not a "):
        table.select(featurize_udf(tiny_model, on_error="raise")("content")).collect()


def test_raising_lets_nulls_and_good_photos_pass(
    with_bad: DataFrame, photos: DataFrame, tiny_model: Path
) -> None:
    featurize = featurize_udf(tiny_model, on_error="raise")
    nulls = with_bad.where("content IS NULL").select(featurize("content", "path").alias("f"))
    assert [row.f for row in nulls.collect()] == [None]
    good = photos.select(featurize("content", "path").alias("f"))
    assert good.where("size(f) = 16").count() == 32


def test_an_unknown_policy_is_refused(spark: SparkSession, tiny_model: Path) -> None:
    with pytest.raises(ValueError, match='must be "null", "raise" or "column"'):
        featurize_udf(tiny_model, on_error="skip")


def test_sql_calls_the_registered_function(
    spark: SparkSession, photos: DataFrame, tiny_model: Path
) -> None:
    register(spark, "features_of", tiny_model)
    photos.createOrReplaceTempView("photos_for_sql")
    try:
        rows = spark.sql(
            "SELECT path, features_of(content) AS features FROM photos_for_sql "
            "WHERE label = 'Cherry'"
        ).collect()
    finally:
        spark.catalog.dropTempView("photos_for_sql")
    assert len(rows) == 8
    for row in rows:
        assert np.array_equal(np.float32(row.features), expected(tiny_model, row.path))


def test_one_column_can_hold_photos_of_other_origins(photos: DataFrame, tiny_model: Path) -> None:
    mixed = when(byte_length("content") > 0, col("content")).otherwise(lit(None))
    features = photos.select(featurize_udf(tiny_model)(mixed).alias("features"))
    assert features.where("features IS NULL").count() == 0


def test_a_worker_keeps_its_session_for_all_its_tasks(
    spark: SparkSession, photos: DataFrame, tiny_model: Path
) -> None:
    def probe(batches: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        for _ in batches:
            sessions = load.cache_info()
            yield pd.DataFrame({"built": [sessions.misses], "reused": [sessions.hits]})

    features = photos.select(featurize_udf(tiny_model)("content"))
    assert features.rdd.getNumPartitions() > 4
    # A worker that has just taken a closed one's place, or served other tests, needs some tasks.
    for _ in range(10):
        features.collect()
        features.collect()
        table = spark.range(2, numPartitions=2).mapInPandas(probe, "built int, reused int")
        workers = table.collect()
        if all(worker.reused > worker.built > 0 for worker in workers):
            return
    raise AssertionError(workers)


def test_a_udf_needs_a_running_spark_and_says_so(
    spark: SparkSession, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(spark.sparkContext), "_active_spark_context", None)
    with pytest.raises(RuntimeError, match="no Spark session is running"):
        featurize_udf(tiny_model)


def test_a_model_that_is_not_there_is_refused_before_any_job(spark: SparkSession) -> None:
    with pytest.raises(ModelError, match=r"nowhere\.onnx"):
        featurize_udf("/nowhere.onnx")


@pytest.mark.parametrize(
    ("name", "column", "expected"),
    [
        ("featurize_struct_udf", "content", "struct"),
        ("featurize_paths_udf", "path", "array"),
        ("featurize_paths_struct_udf", "path", "struct"),
    ],
)
def test_old_names_warn_and_work(
    photos: DataFrame, tiny_model: Path, name: str, column: str, expected: str
) -> None:
    with pytest.warns(DeprecationWarning, match=f"{name} is deprecated: use featurize_udf"):
        udf = getattr(pomona.spark, name)(tiny_model)
    assert photos.select(udf(column).alias("f")).dtypes[0][1].startswith(expected)


def test_one_udf_takes_bytes_and_paths(photos: DataFrame, tiny_model: Path) -> None:
    featurize = featurize_udf(tiny_model, on_error="column")
    both = photos.select(featurize("content").alias("bytes"), featurize("path").alias("paths"))
    rows = both.collect()
    assert len(rows) == 32
    for row in rows:
        assert row.bytes.features is not None
        assert row.bytes == row.paths


def test_rows_without_a_photo_before_the_first_path_stay_in_order(
    spark: SparkSession, photos_folder: Path, tiny_model: Path
) -> None:
    photo = str(next(photos_folder.rglob("*.jpg")))
    paths = [None] * 600 + [photo, None, photo]
    table = spark.createDataFrame(list(enumerate(paths)), "number int, path string").coalesce(1)
    rows = table.select("number", featurize_udf(tiny_model)("path").alias("features")).collect()
    assert [row.number for row in rows if row.features] == [600, 602]
    assert len(rows) == 603


def test_a_registered_function_takes_every_option(
    spark: SparkSession, photos: DataFrame, tiny_model: Path
) -> None:
    register(spark, "features_or_error", tiny_model, on_error="column", concurrency=4, timeout=9.0)
    photos.createOrReplaceTempView("photos_for_sql")
    try:
        rows = spark.sql("SELECT features_or_error(path).error AS e FROM photos_for_sql").collect()
    finally:
        spark.catalog.dropTempView("photos_for_sql")
    assert [row.e for row in rows] == [None] * 32
