"""ImageFeaturizer: a stage like Spark's own, alone and in pipelines, saved with its model."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyspark.ml import Pipeline, PipelineModel
from pyspark.ml.classification import LogisticRegression
from pyspark.ml.feature import PCA, StringIndexer
from pyspark.ml.linalg import DenseVector
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.functions import lit

from pomona import Featurizer, ModelError, __version__
from pomona.spark import ImageFeaturizer, read_images


@pytest.fixture(scope="module")
def photos(spark: SparkSession, photos_folder: Path) -> DataFrame:
    photos = read_images(spark, photos_folder).select("path", "label", "content")
    return photos.coalesce(2).cache()


@pytest.fixture
def hostile(spark: SparkSession, photos_folder: Path) -> DataFrame:
    good = next(photos_folder.rglob("*.jpg")).read_bytes()
    rows = [("good", bytearray(good)), ("text", bytearray(b"text")), ("null", None)]
    return spark.createDataFrame(rows, "path string, content binary")


def by_path(table: DataFrame) -> dict:
    return {row.path: row for row in table.collect()}


def test_vectors_hold_the_features_of_a_featurizer(photos: DataFrame, tiny_model: Path) -> None:
    table = ImageFeaturizer(model=tiny_model).transform(photos)

    assert table.columns == ["path", "label", "content", "features"]
    rows = table.collect()
    assert len(rows) == 32
    features = Featurizer(tiny_model).featurize([bytes(row.content) for row in rows])
    for row, expected in zip(rows, features):
        assert isinstance(row.features, DenseVector)
        assert np.array_equal(row.features.toArray(), expected.astype(np.float64))


def test_keep_leaves_bad_photos_without_a_vector_and_says_why(
    hostile: DataFrame, tiny_model: Path
) -> None:
    rows = by_path(ImageFeaturizer(model=tiny_model, errorCol="error").transform(hostile))
    assert rows["good"].features.size == 16
    assert rows["good"].error is None
    assert rows["text"].features is None
    assert rows["text"].error.startswith("not a JPEG")
    assert (rows["null"].features, rows["null"].error) == (None, None)


def test_skip_leaves_out_rows_that_have_no_features(hostile: DataFrame, tiny_model: Path) -> None:
    skipping = ImageFeaturizer(model=tiny_model, errorCol="error", handleInvalid="skip")
    rows = by_path(skipping.transform(hostile))
    assert set(rows) == {"good"}
    assert rows["good"].error is None


def test_error_fails_the_job_and_names_the_photo(hostile: DataFrame, tiny_model: Path) -> None:
    strict = ImageFeaturizer(model=tiny_model, handleInvalid="error", errorCol="error")
    with pytest.raises(Exception, match="photo text: not a JPEG"):
        strict.transform(hostile).collect()
    with pytest.raises(Exception, match=r"photo in row [01] of partition [01] .*: not a JPEG"):
        strict.transform(hostile.drop("path")).collect()
    good = strict.transform(hostile.where("path = 'good'"))
    assert by_path(good)["good"].error is None


def test_columns_can_have_other_names(hostile: DataFrame, tiny_model: Path) -> None:
    renamed = hostile.withColumnRenamed("content", "my photo")
    featurizer = (
        ImageFeaturizer()
        .setInputCol("my photo")
        .setOutputCol("a vector")
        .setErrorCol("a reason")
        .setModel(tiny_model)
        .setHandleInvalid("keep")
    )
    table = featurizer.transform(renamed)
    assert table.columns == ["path", "my photo", "a vector", "a reason"]
    assert by_path(table)["good"]["a vector"].size == 16


def test_parameters_are_those_of_spark(tiny_model: Path) -> None:
    featurizer = ImageFeaturizer(model=str(tiny_model), errorCol="error")
    assert featurizer.getInputCol() == "content"
    assert featurizer.getOutputCol() == "features"
    assert featurizer.getErrorCol() == "error"
    assert featurizer.getModel() == str(tiny_model)
    assert featurizer.getHandleInvalid() == "keep"
    assert featurizer.setParams(handleInvalid="skip") is featurizer
    assert featurizer.getHandleInvalid() == "skip"
    assert featurizer.getModel() == str(tiny_model)
    text = featurizer.explainParams()
    for param in featurizer.params:
        assert f"{param.name}: " in text
    assert featurizer.setParams(maxBytesInFlight=1 << 20, timeout=5) is featurizer
    assert "keep (null vector), skip (no row) or error" in text


def test_errors_have_a_kind_and_a_version(hostile: DataFrame, tiny_model: Path) -> None:
    featurizer = ImageFeaturizer(
        model=tiny_model, errorCol="why", errorKindCol="kind", errorVersionCol="version"
    )
    rows = by_path(featurizer.transform(hostile))
    assert (rows["text"].kind, rows["text"].version) == ("image", __version__)
    for name in ("good", "null"):
        assert (rows[name].why, rows[name].kind, rows[name].version) == (None, None, None)


@pytest.mark.parametrize("policy", ["keep", "skip", "error"])
def test_a_column_of_paths_has_the_features_of_the_bytes(
    photos: DataFrame, tiny_model: Path, policy: Any
) -> None:
    featurizer = ImageFeaturizer(model=tiny_model, handleInvalid=policy)
    by_content = by_path(featurizer.transform(photos))
    by_paths = by_path(featurizer.setInputCol("path").transform(photos.drop("content")))
    assert len(by_paths) == 32
    assert {name: row.features for name, row in by_paths.items()} == {
        name: row.features for name, row in by_content.items()
    }


def test_a_path_that_cannot_be_read_is_kept_skipped_or_named(
    spark: SparkSession, photos: DataFrame, tiny_model: Path
) -> None:
    missing = spark.createDataFrame([("/nowhere.jpg",)], "path string")
    both = photos.select("path").limit(3).union(missing)
    featurizer = ImageFeaturizer(
        inputCol="path", model=tiny_model, errorCol="error", errorKindCol="kind"
    )
    rows = by_path(featurizer.transform(both))
    assert [row.kind for row in rows.values() if row.error] == ["gone"]
    assert featurizer.setHandleInvalid("skip").transform(both).count() == 3
    with pytest.raises(Exception, match=r"photo /nowhere\.jpg: "):
        featurizer.setHandleInvalid("error").transform(both).collect()


def test_a_copy_is_changed_alone(tiny_model: Path) -> None:
    featurizer = ImageFeaturizer(model=tiny_model)
    other = featurizer.copy({featurizer.outputCol: "vector"})
    assert (featurizer.getOutputCol(), other.getOutputCol()) == ("features", "vector")


def test_wrong_parameters_and_columns_are_refused(hostile: DataFrame, tiny_model: Path) -> None:
    with pytest.raises(ValueError, match="handleInvalid is 'drop'"):
        ImageFeaturizer(handleInvalid="drop")
    with pytest.raises(ValueError, match="no column photo among path, content: set inputCol"):
        ImageFeaturizer(inputCol="photo", model=tiny_model).transform(hostile)
    numbers = hostile.withColumn("n", lit(1))
    with pytest.raises(TypeError, match=r"column n is int: .* bytes of photos .* or their paths"):
        ImageFeaturizer(inputCol="n", model=tiny_model).transform(numbers)
    with pytest.raises(ValueError, match="column path already exists"):
        ImageFeaturizer(outputCol="path", model=tiny_model).transform(hostile)
    with pytest.raises(ModelError, match="nowhere"):
        ImageFeaturizer(model="/nowhere.onnx").transform(hostile)


def test_no_column_is_written_over(hostile: DataFrame, tiny_model: Path) -> None:
    with pytest.raises(ValueError, match="output columns features, Features have the same name"):
        ImageFeaturizer(errorCol="Features", outputCol="features", model=tiny_model).transform(
            hostile
        )
    # To Spark, names that differ in case are one.
    with pytest.raises(ValueError, match="column path already exists"):
        ImageFeaturizer(outputCol="Path", model=tiny_model).transform(hostile)


def test_none_is_a_parameter_that_was_not_given(hostile: DataFrame, tiny_model: Path) -> None:
    featurizer = ImageFeaturizer(model=tiny_model, errorCol=None, handleInvalid=None)
    assert featurizer.transform(hostile).columns == ["path", "content", "features"]
    featurizer.setParams(errorCol="error", outputCol=None)
    assert featurizer.transform(hostile).columns == ["path", "content", "features", "error"]


def test_names_may_have_dots_and_backticks(hostile: DataFrame, tiny_model: Path) -> None:
    odd = hostile.withColumnRenamed("content", "photo.of`it")
    featurizer = ImageFeaturizer(
        inputCol="photo.of`it", outputCol="a.b", errorCol="a.c", model=tiny_model
    )
    assert featurizer.transform(odd).collect()[0]["a.b"].size == 16


def test_a_pipeline_with_pca_and_a_classifier_is_saved_and_loaded_whole(
    photos: DataFrame, tiny_model: Path, tmp_path: Path
) -> None:
    model = tmp_path / "mine.onnx"
    shutil.copyfile(str(tiny_model), str(model))
    stages = [
        ImageFeaturizer(model=model, handleInvalid="skip"),
        PCA(k=8, inputCol="features", outputCol="pca"),
        StringIndexer(inputCol="label", outputCol="class"),
        LogisticRegression(featuresCol="pca", labelCol="class", maxIter=2),
    ]
    pipeline = Pipeline(stages=stages)
    fitted = pipeline.fit(photos)
    expected = by_path(fitted.transform(photos))

    pipeline.save(str(tmp_path / "pipeline"))
    fitted.save(str(tmp_path / "fitted"))
    model.unlink()
    shutil.move(str(tmp_path / "fitted"), str(tmp_path / "moved"))
    loaded = PipelineModel.load(str(tmp_path / "moved"))
    shutil.rmtree(str(tmp_path / "moved"))

    assert [type(stage) for stage in loaded.stages] == [type(stage) for stage in fitted.stages]
    assert by_path(loaded.transform(photos)) == expected
    assert len(expected) == 32
    unfitted = Pipeline.load(str(tmp_path / "pipeline")).getStages()
    assert [type(stage) for stage in unfitted] == [type(stage) for stage in stages]
    assert by_path(unfitted[0].transform(photos)).keys() == expected.keys()


def test_a_stage_can_be_saved_over_the_one_it_was_loaded_from(
    hostile: DataFrame, tiny_model: Path, tmp_path: Path
) -> None:
    saved = f"file://{tmp_path}/stage"
    featurizer = ImageFeaturizer(model=tiny_model, outputCol="vector", errorCol="why")
    featurizer.save(saved)
    loaded = ImageFeaturizer.load(saved)
    loaded.setHandleInvalid("skip").write().overwrite().save(saved)

    again = ImageFeaturizer.load(saved)

    assert again.uid == featurizer.uid
    assert (again.getOutputCol(), again.getErrorCol()) == ("vector", "why")
    assert again.getHandleInvalid() == "skip"
    assert set(by_path(again.transform(hostile))) == {"good"}
    with pytest.raises(Exception, match="already exists"):
        again.save(saved)


def test_a_saved_model_that_was_changed_or_removed_is_refused(
    spark: SparkSession, tiny_model: Path, tmp_path: Path
) -> None:
    ImageFeaturizer(model=tiny_model).save(str(tmp_path / "stage"))
    saved = next((tmp_path / "stage" / "model").glob("*.onnx"))

    # Still a whole model, but for a field that nobody reads.
    content = saved.read_bytes()
    saved.write_bytes(content + b"\xc2\x3e\x00")
    with pytest.raises(ModelError, match=r"stage/model/tiny-.*\.onnx is damaged: its sha256 is"):
        ImageFeaturizer.load(str(tmp_path / "stage"))
    saved.unlink()
    with pytest.raises(ModelError, match=r"stage/model/tiny-.*\.onnx cannot be read: .*not exist"):
        ImageFeaturizer.load(str(tmp_path / "stage"))
