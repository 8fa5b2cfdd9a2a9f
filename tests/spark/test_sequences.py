"""On Spark, too, what comes before a photo changes nothing: in a worker, a task and a session."""

from __future__ import annotations

import random
from pathlib import Path
from typing import NamedTuple

import pytest
from pyspark.sql import Row, SparkSession

import photos as rendered
import pomona
from lines import only_on
from odd_photos import POOL, alone
from outcomes import Outcome
from pomona import pipeline
from pomona.spark import featurize_udf, predict, read_images, train
from pomona.spark.features import write_features

# PySpark 3.1's vectors call numpy by an old name.
pytestmark = pytest.mark.filterwarnings("ignore:tostring:DeprecationWarning")

PHOTOS, ODD = 1000, 150
SEED = 20


class Orchard(NamedTuple):
    """Ordinary photos with odd ones among them, and what comes of each in a process of its own."""

    folder: Path
    expected: dict[str, Outcome]

    def expected_of(self, path: str) -> Outcome:
        return self.expected[Path(path).name]


@pytest.fixture(scope="module")
def orchard(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Orchard:
    chance = random.Random(SEED)  # noqa: S311 - an order keeps no secret
    made = tmp_path_factory.mktemp("rendered")
    ordinary = [
        path.read_bytes() for path in rendered.render(made, classes=6, per_class=5, size=40)
    ]
    specimens = [name for name in sorted(POOL) if "," not in name and ":" not in name]
    others = [name for name in sorted(POOL) if name not in specimens]
    odd = specimens + chance.sample(others, ODD - len(specimens))
    different = {name: POOL[name] for name in odd}
    different.update((f"ordinary {number}", photo) for number, photo in enumerate(ordinary))
    outcomes = alone(tiny_model, different, tmp_path_factory.mktemp("alone"))
    kinds = odd + [f"ordinary {number % len(ordinary)}" for number in range(PHOTOS - ODD)]
    chance.shuffle(kinds)
    folder = tmp_path_factory.mktemp("orchard")
    expected = {}
    for number, kind in enumerate(kinds):
        path = folder / f"label {number % 7}" / f"{number:04}.jpg"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(different[kind])
        expected[path.name] = outcomes[kind]
    refused = [name for name, outcome in expected.items() if outcome.error]
    assert 30 < len(refused) < ODD
    assert any(outcome.warning for outcome in expected.values())
    assert any(outcome.orientation for outcome in expected.values())
    return Orchard(folder, expected)


def check(orchard: Orchard, rows: list[Row]) -> None:
    assert len(rows) == PHOTOS
    for row in rows:
        outcome = orchard.expected_of(row.path)
        assert Outcome(*(row[name] for name in Outcome._fields)) == outcome, row.path
        assert row.error_version == (pomona.__version__ if outcome.error else None)


@pytest.mark.parametrize("content", [True, False], ids=["by content", "by paths"])
def test_of_1000_photos_those_have_errors_that_have_them_alone(
    spark: SparkSession, orchard: Orchard, tiny_model: Path, tmp_path: Path, content: bool
) -> None:
    photos = read_images(spark, orchard.folder, content=content)
    written = write_features(photos, tmp_path / "features", model=tiny_model, chunk_photos=300)
    assert (written.photos, written.featurized) == (PHOTOS, PHOTOS)
    check(orchard, spark.read.parquet(written.uri).collect())


def test_a_job_that_failed_changes_no_later_one(
    spark: SparkSession, orchard: Orchard, tiny_model: Path
) -> None:
    for content in (True, False):
        photos = read_images(spark, orchard.folder, content=content)
        column = "content" if content else "path"
        with pytest.raises(Exception, match="photo "):
            photos.select(featurize_udf(tiny_model, on_error="raise")(column)).collect()
        rows = photos.select("path", featurize_udf(tiny_model)(column).alias("features")).collect()
        for row in rows:
            assert row.features == orchard.expected_of(row.path).features, row.path


@only_on("3.1")
def test_predicted_labels_are_those_without_the_odd_photos(
    spark: SparkSession, orchard: Orchard, tiny_model: Path, tmp_path: Path
) -> None:
    fruit = tmp_path / "fruit"
    rendered.render(fruit, classes=2, per_class=12, size=40)
    results = tmp_path / "results"
    pipeline.run(spark, fruit, results, model=tiny_model, components=4, progress=False)
    model = train(spark, results, classifier="svm", model=tiny_model).model
    good = tmp_path / "good"
    for name, outcome in orchard.expected.items():
        if not outcome.error:
            (source,) = orchard.folder.glob(f"*/{name}")
            target = good / source.parent.name / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(source.read_bytes())

    def labels(images: Path) -> dict[str, Row]:
        done = predict(spark, model, images, tmp_path / f"labels of {images.name}")
        return {Path(row.path).name: row for row in spark.read.parquet(done.uri).collect()}

    of_all, of_good = labels(orchard.folder), labels(good)
    assert len(of_all) == PHOTOS
    for name, row in of_all.items():
        _, *outcome = orchard.expected[name]
        assert [row[each] for each in Outcome._fields[1:]] == outcome
        if row.error is None:
            assert row.scores == of_good[name].scores
