"""The options of decoding at every Spark function: pixels, columns, and what identifies a set."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, Callable

import numpy as np
import pyarrow.parquet as pq
import pytest
from pyspark.sql import Row, SparkSession
from pyspark.sql.functions import col, lit, when

import pomona
from lines import only_on
from photos import render
from pomona import DecodeOptions, Featurizer, LocalResults, pipeline
from pomona.results.thumbnails import THUMBNAIL_SIDE
from pomona.spark import (
    ImageFeaturizer,
    SparkResults,
    featurize_udf,
    predict,
    read_features,
    read_images,
    register,
    show_photos,
    train,
    write_features,
)
from pomona.spark._writer import FeatureWriter

# PySpark 3.1's vectors call numpy by an old name.
pytestmark = pytest.mark.filterwarnings("ignore:tostring:DeprecationWarning")

ODD = Path(__file__).parents[1] / "data/odd"
TURNED, DAMAGED = "exif_orient6.jpg", "scan_restart_extra_bytes.jpg"
#: Two classes, as `train` needs them, of four photos each and the two odd ones.
PHOTOS = 10


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    label = render(folder, classes=2, per_class=4)[0].parent
    for name in (TURNED, DAMAGED):
        shutil.copy(str(ODD / name), str(label))
    return folder


def odd(rows: list[Row]) -> tuple[Row, Row]:
    """Return the rows of the photo on its side and of the damaged one."""
    by_name = {Path(row.path).name: row for row in rows}
    return by_name[TURNED], by_name[DAMAGED]


def expected(model: Path, name: str, **options: Any) -> list[float]:
    features, errors = Featurizer(model, **options).try_featurize([(ODD / name).read_bytes()])
    assert errors == [None]
    return features[0].tolist()


def check(rows: list[Row], model: Path, **options: Any) -> None:
    """Compare two rows, with columns for everything, with what a `Featurizer` returns."""
    turned, damaged = odd(rows)
    assert list(turned.features) == expected(model, TURNED, **options)
    assert turned.orientation == (None if options.get("apply_exif") else 6)
    assert (turned.error, turned.warning) == (None, None)
    assert damaged.orientation is None
    if options.get("strict"):
        assert (damaged.features, damaged.warning, damaged.error_kind) == (None, None, "image")
        assert "damaged or missing" in damaged.error
    else:
        assert list(damaged.features) == expected(model, DAMAGED, **options)
        assert damaged.error is None
        assert "damaged or missing" in damaged.warning


OPTIONS = pytest.mark.parametrize("options", [{}, {"apply_exif": True, "strict": True}], ids=str)


@OPTIONS
@pytest.mark.parametrize("content", [True, False], ids=["content", "paths"])
def test_the_udf_has_the_pixels_and_notes_of_its_options(
    spark: SparkSession, images: Path, tiny_model: Path, content: bool, options: dict
) -> None:
    photos = read_images(spark, images, content=content)
    udf = featurize_udf(tiny_model, on_error="column", **options)
    table = photos.select("path", udf("content" if content else "path").alias("result"))
    check(table.select("path", "result.*").collect(), tiny_model, **options)


def test_warnings_and_limits_are_errors_where_the_options_say_so(
    spark: SparkSession, images: Path, tiny_model: Path
) -> None:
    photos = read_images(spark, images)
    raising = featurize_udf(tiny_model, on_error="raise", strict=True)
    with pytest.raises(Exception, match=f"photo .*{DAMAGED}: .* damaged or missing"):
        photos.select(raising("content", "path")).collect()
    nulls = featurize_udf(tiny_model, max_pixels=160 * 120 - 1)
    rows = photos.select("path", nulls("content").alias("features")).collect()
    assert [row.features for row in odd(rows)] == [None, None]
    assert sum(row.features is None for row in rows) == 2


def test_a_sql_function_takes_the_options(
    spark: SparkSession, images: Path, tiny_model: Path
) -> None:
    register(spark, "featurize_turned", tiny_model, apply_exif=True, decode="fast")
    read_images(spark, images).createOrReplaceTempView("odd_photos")
    try:
        rows = spark.sql("SELECT path, featurize_turned(path) AS f FROM odd_photos").collect()
    finally:
        spark.catalog.dropTempView("odd_photos")
    turned = expected(tiny_model, TURNED, apply_exif=True, decode="fast")
    assert list(odd(rows)[0].f) == turned


@OPTIONS
def test_a_stage_has_the_options_as_parameters_and_saves_them(
    spark: SparkSession, images: Path, tiny_model: Path, tmp_path: Path, options: dict
) -> None:
    stage = ImageFeaturizer(
        model=tiny_model,
        outputCol="vector",
        errorCol="error",
        errorKindCol="error_kind",
        warningCol="warning",
        orientationCol="orientation",
        applyExif=options.get("apply_exif"),
        strict=options.get("strict"),
        maxPixels=10**6,
        decode="fast",
    )
    stage.save(str(tmp_path / "stage"))
    loaded = ImageFeaturizer.load(str(tmp_path / "stage"))
    assert loaded.decode_options() == DecodeOptions(**options, max_pixels=10**6, decode="fast")
    rows = loaded.transform(read_images(spark, images)).collect()
    lists = [
        Row(**{**row.asDict(), "features": row.vector and row.vector.toArray()}) for row in rows
    ]
    check(lists, tiny_model, decode="fast", **options)


def test_a_stage_that_fails_jobs_has_notes_too(
    spark: SparkSession, images: Path, tiny_model: Path
) -> None:
    stage = ImageFeaturizer(model=tiny_model, handleInvalid="error", warningCol="why")
    stage.setOrientationCol("exif")
    photos = read_images(spark, images)
    turned, damaged = odd(stage.transform(photos).collect())
    assert (turned.exif, turned.why, damaged.exif) == (6, None, None)
    assert "damaged or missing" in damaged.why
    with pytest.raises(Exception, match=f"photo .*{DAMAGED}: .* damaged or missing"):
        stage.setParams(strict=True).transform(photos).collect()


def test_a_stage_of_0_1_1_is_loaded_with_the_defaults(
    spark: SparkSession, images: Path, tiny_model: Path, tmp_path: Path
) -> None:
    ImageFeaturizer(model=tiny_model).save(str(tmp_path / "stage"))
    (metadata,) = (tmp_path / "stage/metadata").glob("part-*")
    value = json.loads(metadata.read_text())
    for name in ("applyExif", "strict", "maxPixels", "decode"):
        del value["defaultParamMap"][name]
    metadata.write_text(json.dumps(value) + "\n")
    metadata.with_name(f".{metadata.name}.crc").unlink()
    loaded = ImageFeaturizer.load(str(tmp_path / "stage"))
    assert loaded.decode_options() == DecodeOptions()
    turned, _ = odd(loaded.transform(read_images(spark, images)).collect())
    assert turned.features.toArray().tolist() == expected(tiny_model, TURNED)


def test_wrong_options_name_their_function(
    spark: SparkSession, images: Path, tiny_model: Path, tmp_path: Path
) -> None:
    photos = read_images(spark, images)
    doors: dict[str, Callable[..., Any]] = {
        "featurize_udf": lambda **options: featurize_udf(tiny_model, **options),
        "write_features": lambda **options: write_features(photos, tmp_path / "f", **options),
        "run": lambda **options: pipeline.run(spark, images, tmp_path / "r", **options),
        "predict": lambda **options: predict(spark, tmp_path, images, tmp_path / "p", **options),
        "show_photos": lambda **options: show_photos(photos, **options),
    }
    for name, door in doors.items():
        with pytest.raises(TypeError, match=rf"{name}\(\) got an unexpected .* 'aply_exif'"):
            door(aply_exif=True)
        with pytest.raises(TypeError, match="strict is 'no': it must be True or False"):
            door(strict="no")
        with pytest.raises(ValueError, match="max_pixels is 0"):
            door(max_pixels=0)
    with pytest.raises(TypeError, match=r"featurize_udf\(\) got .* 'aply_exif'"):
        register(spark, "f", tiny_model, aply_exif=True)
    with pytest.raises(TypeError, match="unexpected keyword argument 'applyexif'"):
        ImageFeaturizer(applyexif=True)
    with pytest.raises(ValueError, match="decode is 'quick'"):
        ImageFeaturizer(decode="quick")
    with pytest.raises(ValueError, match="max_pixels is 0"):
        ImageFeaturizer().setParams(maxPixels=0)
    assert not list(tmp_path.iterdir())


def test_a_set_says_with_which_options_it_was_computed(
    spark: SparkSession, images: Path, tiny_model: Path, tmp_path: Path
) -> None:
    photos = read_images(spark, images, content=False)
    output = tmp_path / "features"
    options = {"apply_exif": True, "max_pixels": 10**6}
    decode = {"apply_exif": True, "strict": False, "max_pixels": 10**6, "decode": "exact"}
    written = write_features(photos, output, model=tiny_model, **options)
    assert written.decode == DecodeOptions(**options)
    assert (written.warnings, written.turned) == (1, 0)

    rows = spark.read.parquet(str(output))
    assert rows.dtypes[6:8] == [("warning", "string"), ("orientation", "int")]
    check(rows.collect(), tiny_model, **options)
    (described,) = output.glob("_pomona/set-*.json")
    assert json.loads(described.read_text())["decode"] == decode
    origin = {"model": "tiny", "model_sha256": written.model_sha256, "decode": decode}
    assert rows.schema["features"].metadata == {"pomona": origin}
    (file,) = output.glob("part-*")
    schema = pq.read_schema(file).metadata[b"org.apache.spark.sql.parquet.row.metadata"]
    (features,) = [each for each in json.loads(schema)["fields"] if each["name"] == "features"]
    assert features["metadata"] == {"pomona": origin}

    assert write_features(photos, output, model=tiny_model, **options).featurized == 0
    with pytest.raises(ValueError, match="other options") as error:
        write_features(photos, output, model=tiny_model, strict=True)
    assert str(error.value) == (
        f"file:{output} holds features with other options of decoding, apply_exif=True, "
        "max_pixels=1000000, strict=False and not apply_exif=False, max_pixels=178956970, "
        "strict=True: use the same options, choose another output, or replace its contents with "
        "resume=False (--no-resume)"
    )
    replaced = write_features(photos, output, model=tiny_model, strict=True, resume=False)
    assert (replaced.featurized, replaced.errors, replaced.turned) == (PHOTOS, 1, 1)
    check(spark.read.parquet(str(output)).collect(), tiny_model, strict=True)


def test_an_unfinished_run_with_other_options_is_not_continued(
    spark: SparkSession, images: Path, tiny_model: Path, tmp_path: Path
) -> None:
    photos = read_images(spark, images)
    output = tmp_path / "features"

    def run(**options: Any) -> Any:
        return write_features(photos, output, model=tiny_model, chunk_photos=3, **options)

    def die(*_: Any) -> None:
        raise KeyboardInterrupt

    for first, second in (({}, {"strict": True}), ({"apply_exif": True}, {})):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(FeatureWriter, "_publish", die)
            with pytest.raises(KeyboardInterrupt):
                run(resume=False, **first)
        (begun,) = output.glob("_pomona/*/model.json")
        assert json.loads(begun.read_text())["decode"] == DecodeOptions(**first).keywords()
        with pytest.raises(ValueError, match="an unfinished run with other options of decoding"):
            run(**second)
        # A run that continues it has all its photos, even if it replaces a set of other options.
        assert run(**first).featurized == 0
        check(read_features(spark, output).collect(), tiny_model, **first)


def test_a_set_of_0_1_1_counts_as_made_with_the_defaults_and_gets_the_columns(
    spark: SparkSession, images: Path, tiny_model: Path, tmp_path: Path
) -> None:
    output = tmp_path / "features"
    photos = read_images(spark, images, content=False)
    write_features(photos, output, model=tiny_model)
    before = {row.path: row for row in spark.read.parquet(str(output)).collect()}
    _, damaged = odd(list(before.values()))
    # As 0.1.1 wrote it, which refused the damaged photo.
    rows = spark.read.parquet(str(output)).drop("warning", "orientation")
    refused = col("path") == damaged.path
    rows = rows.withColumn("features", when(~refused, col("features")))
    for name, text in {"error": "no", "error_kind": "image", "error_version": "0.1.1"}.items():
        rows = rows.withColumn(name, when(refused, lit(text)))
    rows.coalesce(1).write.parquet(str(tmp_path / "old"))
    (old,) = output.glob("part-*")
    (new,) = (tmp_path / "old").glob("part-*")
    old.unlink()
    old.with_name(f".{old.name}.crc").unlink()
    shutil.copy(str(new), str(output / new.name))
    (described,) = output.glob("_pomona/set-*.json")
    value = json.loads(described.read_text())
    for name in ("decode", "warnings", "turned"):
        del value[name]
    value.update(
        files={new.name: new.stat().st_size}, errors=1, versions=["0.1.1"], columns=rows.columns
    )
    described.write_text(json.dumps(value))
    described.with_name(f".{described.name}.crc").unlink()

    with pytest.raises(ValueError, match="apply_exif=False and not apply_exif=True: use the same"):
        write_features(photos, output, model=tiny_model, apply_exif=True)
    written = write_features(photos, output, model=tiny_model)
    assert (written.featurized, written.retried, written.recovered) == (1, 1, 1)
    # Of the rows that 0.1.1 computed, nothing but the features is known.
    assert (written.errors, written.warnings, written.turned) == (0, 1, 0)
    assert written.versions == ["0.1.1", pomona.__version__]
    after = {row.path: row for row in spark.read.parquet(str(output)).collect()}
    assert {path: row.features for path, row in after.items()} == {
        path: row.features for path, row in before.items()
    }
    turned, again = odd(list(after.values()))
    assert (turned.warning, turned.orientation) == (None, None)
    assert again == damaged


@pytest.fixture(scope="module")
def runs(
    spark: SparkSession, images: Path, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[bool, Path]:
    """The output of a run by its `apply_exif`."""
    outputs = {}
    for apply_exif in (False, True):
        outputs[apply_exif] = tmp_path_factory.mktemp("run") / "results"
        summary = pipeline.run(
            spark,
            images,
            outputs[apply_exif],
            model=tiny_model,
            components=3,
            progress=False,
            apply_exif=apply_exif,
        )
        assert (summary.warnings, summary.turned) == (1, 0 if apply_exif else 1)
        text = str(summary)
        assert f"\n1 with a warning, such as:\n  {summary.first_warnings[0][0]}: parts of" in text
        assert ("1 on their side, upside down or mirrored" in text) != apply_exif
        assert ("apply_exif=True (--apply-exif) turns them" in text) != apply_exif
    return outputs


def test_a_summary_has_options_and_counts_and_results_list_the_photos(
    spark: SparkSession, runs: dict[bool, Path]
) -> None:
    for apply_exif, output in runs.items():
        summary = json.loads((output / "summary.json").read_text())
        assert summary["decode"] == DecodeOptions(apply_exif=apply_exif).keywords()
        assert (summary["warnings"], summary["turned"]) == (1, 0 if apply_exif else 1)
        local, remote = LocalResults(str(output)), SparkResults(spark, str(output))
        assert local.decode == remote.decode == DecodeOptions(apply_exif=apply_exif)
        assert local.warned(5) == remote.warned(5)
        ((path, _, warning),) = local.warned(5)
        assert (Path(path).name, warning) == (DAMAGED, summary["first_warnings"][0][1])
        assert local.turned(5) == remote.turned(5)
        assert [(Path(row[0]).name, row[2]) for row in local.turned(5)] == (
            [] if apply_exif else [(TURNED, 6)]
        )


def test_thumbnails_show_photos_as_they_were_decoded(
    spark: SparkSession, images: Path, runs: dict[bool, Path]
) -> None:
    photos = read_images(spark, images, content=False)
    paths = [row.path for row in photos.where(col("path").endswith(TURNED)).collect()]
    upright = np.array([THUMBNAIL_SIDE, THUMBNAIL_SIDE * 3 // 4])
    for apply_exif, output in runs.items():
        shape = upright if apply_exif else upright[::-1]
        for results in (LocalResults(str(output)), SparkResults(spark, str(output))):
            (pixels,) = results.thumbnails(paths, THUMBNAIL_SIDE).values()
            assert pixels.shape == (*shape, 3)
        table = show_photos(photos.where(col("path").endswith(TURNED)), apply_exif=apply_exif)
        assert pomona.load_image(table.thumbnails[0]).shape == (*shape, 3)
    (damaged,) = show_photos(photos.where(col("path").endswith(DAMAGED))).reasons
    assert damaged is None


@only_on("3.1")
def test_labels_are_predicted_as_the_classifier_was_trained_unless_told_otherwise(
    spark: SparkSession, images: Path, runs: dict[bool, Path], tiny_model: Path, tmp_path: Path
) -> None:
    saved = {
        apply_exif: train(
            spark, output, classifier="svm", model=tiny_model, output=tmp_path / str(apply_exif)
        ).model
        for apply_exif, output in runs.items()
    }
    number = 0

    def labels(classifier: str, **options: Any) -> tuple[Any, Row, Row]:
        nonlocal number
        number += 1
        done = predict(spark, classifier, images, tmp_path / f"labels {number}", **options)
        return (done, *odd(spark.read.parquet(done.uri).collect()))

    done, turned, damaged = labels(saved[True])
    assert (done.errors, done.warnings, done.turned) == (0, 1, 0)
    assert (turned.orientation, turned.warning) == (None, None)
    assert "damaged or missing" in damaged.warning
    _, as_stored, damaged = labels(saved[False], strict=True)
    assert as_stored.orientation == 6
    assert (damaged.predicted, damaged.warning, damaged.error_kind) == (None, None, "image")
    with pytest.warns(UserWarning, match="trained with apply_exif=True: with apply_exif=False"):
        done, other, _ = labels(saved[True], apply_exif=False)
    assert (done.turned, other.orientation) == (1, 6)
    assert other.scores != turned.scores
