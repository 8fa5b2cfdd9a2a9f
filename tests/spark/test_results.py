"""What a run left, read through Spark: the same as from a local copy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Callable

import numpy as np
import pyarrow.parquet as pq
import pytest
from pyspark.ml import PipelineModel
from pyspark.ml.functions import array_to_vector
from pyspark.sql import SparkSession

import pomona.cli._results
from pomona import featurize_folder, pca, pipeline, similar
from pomona.cli import main
from pomona.results import LocalResults
from pomona.spark import pca as pca_on_spark
from pomona.spark.results import SparkResults

# PySpark 3.1 pickles vectors by a method that numpy has renamed.
pytestmark = pytest.mark.filterwarnings("ignore:tostring:DeprecationWarning")

BROKEN = "Apricot/broken [1] é.jpg"


@pytest.fixture(scope="module")
def output(
    spark: SparkSession,
    photos_folder: Path,
    tiny_model: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """The output of a real run, one of whose photos is broken."""
    folder = tmp_path_factory.mktemp("results")
    for photo in photos_folder.rglob("*.jpg"):
        copy = folder / "photos" / photo.relative_to(photos_folder)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(photo.read_bytes())
    (folder / "photos" / BROKEN).write_bytes(b"broken")
    pipeline.run(
        spark, folder / "photos", folder / "out", model=tiny_model, components=4, progress=False
    )
    return folder / "out"


@pytest.fixture(scope="module")
def results(spark: SparkSession, output: Path) -> SparkResults:
    return SparkResults(spark, str(output))


@pytest.fixture(scope="module")
def local(output: Path) -> LocalResults:
    return LocalResults(str(output))


def test_spark_and_a_local_copy_tell_the_same(results: SparkResults, local: LocalResults) -> None:
    assert results.classes() == local.classes()
    assert sum(each.errors for each in results.classes()) == 1
    assert results.broken(5) == local.broken(5)
    ((path, label, reason),) = results.broken(5)
    assert path.endswith(BROKEN)
    assert (label, reason[:10]) == ("Apricot", "not a JPEG")
    assert results.summary == local.summary
    assert results.read_json("nowhere.json") is None
    assert results.folders("nowhere") == local.folders("nowhere") == []
    assert results.folders("pca_model") == local.folders("pca_model") == ["metadata", "stages"]


def test_the_same_photos_are_drawn_wherever_the_set_is(
    results: SparkResults, local: LocalResults
) -> None:
    one, other = results.sample(13, seed=5), local.sample(13, seed=5)
    assert len(one.paths) == 13
    assert one.paths == other.paths
    assert one.labels == other.labels
    np.testing.assert_array_equal(one.features, other.features)
    np.testing.assert_array_equal(one.pca, other.pca)


def test_thumbnails_are_made_by_the_executors(results: SparkResults, local: LocalResults) -> None:
    paths = [row for block in local.vectors("features") for row in block.paths][:5]
    gone = "file:/nowhere/gone.jpg"
    found = results.thumbnails([*paths, gone], 40)
    expected = local.thumbnails(paths, 40)
    assert all(np.array_equal(found[path], expected[path]) for path in paths)
    assert found[gone] == "the file no longer exists"


def test_the_nearest_photos_are_found_by_the_executors(
    results: SparkResults, local: LocalResults
) -> None:
    query = local.sample(3).features[1]
    found = similar.nearest(results, query, 5)
    expected = similar.nearest(local, query, 5)
    assert [each.path for each in found] == [each.path for each in expected]
    np.testing.assert_allclose(
        [each.distance for each in found], [each.distance for each in expected], atol=1e-9
    )
    pairs = similar.duplicates(results.vectors("features"), threshold=0.5)
    assert pairs.photos == 32
    assert pairs.found == similar.duplicates(local.vectors("features"), threshold=0.5).found


def projections(folder: Path) -> dict[str, np.ndarray]:
    """The principal components of each photo, by its name."""
    files = sorted((folder / "pca").glob("part-*.parquet"))
    rows = [row for file in files for row in pq.ParquetFile(str(file)).read().to_pylist()]
    return {row["path"].partition("/photos/")[2]: np.array(row["pca"]) for row in rows}


@pytest.mark.parametrize("standardize", [False, True])
def test_a_pca_without_spark_is_that_of_spark(
    spark: SparkSession, output: Path, tiny_model: Path, tmp_path: Path, standardize: bool
) -> None:
    folder = tmp_path / "featurized"
    featurize_folder(output.parent / "photos", folder, model=tiny_model)
    on_spark = SparkResults(spark, str(folder))
    with pytest.raises(ValueError, match="has no PCA: `pomona pca"):
        pca.ensure_pca(on_spark)
    pca_on_spark.write_pca(on_spark, components=4, standardize=standardize)
    expected, one = projections(folder), dict(on_spark.summary)
    model = PipelineModel.load(str(folder / "pca_model"))

    here = LocalResults(str(folder))
    pca.write_pca(here, components=4, standardize=standardize)
    found, other = projections(folder), here.summary
    assert found.keys() == expected.keys()
    assert len(found) == 32
    for name, components in found.items():
        np.testing.assert_allclose(components, expected[name], atol=1e-6)
    np.testing.assert_allclose(other["variance_curve"], one["variance_curve"], atol=1e-6)
    changing = {"variance_curve", "variance_explained", "seconds", "finished"}
    assert {key: one[key] for key in one.keys() - changing} == {
        key: other[key] for key in other.keys() - changing
    }
    again = PipelineModel.load(str(folder / "pca_model"))
    vectors = spark.read.parquet(str(folder / "features")).where("error is null")
    vectors = vectors.select("path", array_to_vector("features").alias("features")).sort("path")
    rows = [
        [row.pca.toArray() for row in each.transform(vectors).collect()] for each in (model, again)
    ]
    np.testing.assert_allclose(rows[0], rows[1], atol=1e-6)


def test_the_verbs_go_through_spark_where_the_output_is_not_here(
    results: SparkResults,
    output: Path,
    tiny_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    elsewhere: Callable[[str], None] = lambda uri: None  # noqa: E731
    monkeypatch.setattr(pomona.cli._results, "local_path", elsewhere)
    assert main(["report", str(output), "--sample", "8"]) == 0
    assert capsys.readouterr().out.startswith(f"{results.uri}/report/index.html: a sample of 8")
    page = (output / "report/index.html").read_text(encoding="utf-8")
    assert "not a JPEG" in page

    assert main(["pca", str(output), "--components", "3", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["rows"] == 32
    assert len(next(iter(projections(output).values()))) == 3

    new = tmp_path / "new.jpg"
    new.write_bytes(min((output.parent / "photos").rglob("r0_0.jpg")).read_bytes())
    command = ["similar", str(output), str(new), "--model", str(tiny_model), "-k", "2", "--json"]
    assert main(command) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["neighbours"][0]["distance"] == pytest.approx(0, abs=1e-6)
    assert len(found["neighbours"]) == 2
    assert not found["in_set"]
