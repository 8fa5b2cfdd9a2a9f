"""Classifiers: hold-outs, what is measured on them, and the pipeline that labels new photos."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from pyspark.ml import Pipeline, PipelineModel
from pyspark.ml.feature import PCA as SparkPCA  # noqa: N811
from pyspark.ml.functions import array_to_vector
from pyspark.sql import DataFrame, SparkSession
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from photos import break_one, render
from pomona import ModelError, pipeline
from pomona._errors import ERROR_COLUMNS, NOTE_COLUMNS
from pomona.cli import main
from pomona.models.store import names, sha256_of
from pomona.results.metrics import measure
from pomona.spark.classification import classifiers, holdouts, prediction, svm
from pomona.spark.classification.prediction import label_photos, load, predict
from pomona.spark.classification.svm import fit_svm
from pomona.spark.classification.training import train
from pomona.spark.images import read_images
from pomona.spark.pca import fit_pca

# PySpark 3.1's vectors call numpy by an old name.
pytestmark = pytest.mark.filterwarnings("ignore:tostring:DeprecationWarning")

#: A random hold-out of 3 of 12 photos with seed 0, as it came out on Spark 3.1.2.
GOLDEN = ["r0_24.jpg", "r0_28.jpg", "r0_44.jpg"]

CLASSES = 4
PER_CLASS = 16
D = 8

PLAIN_PYSPARK = """
import sys
from pyspark.ml import PipelineModel
from pyspark.sql import SparkSession
spark = SparkSession.builder.getOrCreate()
photos = spark.read.format("binaryFile").option("recursiveFileLookup", "true").load(sys.argv[2])
for row in PipelineModel.load(sys.argv[1]).transform(photos).select("path", "predicted").collect():
    print(row.path, row.predicted, sep="\\t")
"""


def frame(spark: SparkSession, rows: list[tuple[str, str]], partitions: int = 3) -> DataFrame:
    return spark.createDataFrame(
        spark.sparkContext.parallelize(rows, partitions), "path string, label string"
    )


def rotations(classes: int = 3, per_class: int = 40, name: str = "r0_{}.jpg") -> list:
    return [
        (f"file:/photos/fruit {number}/{name.format(index * 4)}", f"fruit {number}")
        for number in range(classes)
        for index in range(per_class)
    ]


def parts_of(split: holdouts.Holdout) -> dict[str, str | None]:
    return {row.path: row.part for row in split.parts.collect()}


def paths_of(split: holdouts.Holdout, part: str | None) -> set:
    return {path for path, each in parts_of(split).items() if each == part}


# Hold-outs.


def test_the_random_holdout_takes_the_share_of_each_class(spark: SparkSession) -> None:
    rows = [(f"/{label}/{number}.jpg", label) for label in "abc" for number in range(20)]
    rows += [("/d/1.jpg", "d"), ("/d/2.jpg", "d")]
    parts = parts_of(holdouts.stratified(frame(spark, rows), 0.25, 0))
    held_out = [path.split("/")[1] for path, part in parts.items() if part == holdouts.TEST]
    assert {label: held_out.count(label) for label in "abcd"} == {"a": 5, "b": 5, "c": 5, "d": 1}
    assert len(parts) == len(rows)


def test_a_seed_gives_the_same_split_whatever_the_partitions_place_and_spark(
    spark: SparkSession,
) -> None:
    rows = rotations()
    moved = [(path.replace("file:/photos", "s3://fruits/new"), label) for path, label in rows]
    for split in (holdouts.stratified, holdouts.blocked):
        first = parts_of(split(frame(spark, rows), 0.25, 1))
        assert parts_of(split(frame(spark, rows), 0.25, 2)) != first
        elsewhere = parts_of(split(frame(spark, moved[::-1], partitions=7), 0.25, 1))
        assert list(elsewhere.values()).count(holdouts.TEST) == 30
        assert first == {
            path.replace("s3://fruits/new", "file:/photos"): part
            for path, part in elsewhere.items()
        }
    names = sorted(
        Path(path).name
        for path in paths_of(
            holdouts.stratified(frame(spark, rotations(1, 12)), 0.25, 0), holdouts.TEST
        )
    )
    assert names == GOLDEN


def test_a_blocked_holdout_takes_a_range_of_each_rotation_with_gaps_and_photos_around_it(
    spark: SparkSession,
) -> None:
    rows = rotations() + rotations(name="r2_{}_100.jpg")
    for seed in (0, 5):
        parts = parts_of(holdouts.blocked(frame(spark, rows), 0.25, seed))
        assert len(parts) == len(rows)
        for fruit in range(3):
            for axis, end in (("r0", ""), ("r2", "_100")):
                course = "".join(
                    {holdouts.TRAIN: "-", holdouts.TEST: "t", None: "."}[
                        parts[f"file:/photos/fruit {fruit}/{axis}_{index * 4}{end}.jpg"]
                    ]
                    for index in range(40)
                )
                before, _, behind = course.partition("." + "t" * 10 + ".")
                assert before
                assert behind
                assert set(before + behind) == {"-"}


def test_the_shortest_rotations_keep_photos_to_train_on(spark: SparkSession) -> None:
    rows = [
        (f"/nuts {photos}/r0_{index}.jpg", f"nuts {photos}")
        for photos in (1, 2, 3, 4, 5)
        for index in range(photos)
    ]
    parts = parts_of(holdouts.blocked(frame(spark, rows), 0.25, 0))
    for photos in (1, 2, 3, 4, 5):
        nuts = [part for path, part in parts.items() if f"nuts {photos}/" in path]
        assert nuts.count(holdouts.TEST) == (0 if photos == 1 else 1)
        assert nuts.count(holdouts.TRAIN) == photos - nuts.count(holdouts.TEST)


def test_names_of_fruits_360_are_understood(spark: SparkSession) -> None:
    names = [
        "r0_115.jpg",
        "0_100.jpg",
        "r_87_100.jpg",
        "r2_87_100.JPG",
        "100_100.jpg",
        "r0_100.jpg",
    ]
    others = ["IMG 2041.jpg", "r0_cut.jpg", "apple-red.jpg", "0_115.jpg"]
    rows = [(f"/a/{name}", "a") for name in [*names, *others]]
    rows += rotations(1, 12)
    split = holdouts.blocked(frame(spark, rows), 0.25, 0)
    assert {Path(path).name for path in parts_of(split)} >= set(names)
    assert not {Path(path).name for path in parts_of(split)} & set(others)
    assert split.notes == ["4 photos without a rotation index in their names left out"]
    assert holdouts.blocked(frame(spark, [("/a/x.jpg", "a"), ("/b/y.jpg", "b")]), 0.25, 0) is None


def test_a_group_is_never_split_and_every_class_is_in_both_parts(spark: SparkSession) -> None:
    rows = [
        (f"/{label}/tree{tree}_{photo}.jpg", label)
        for label, trees in (("apple", range(1, 13)), ("pear", range(21, 29)))
        for tree in trees
        for photo in range(5)
    ]
    split = holdouts.grouped(frame(spark, rows), 0.25, 0, r"/(tree\d+)_")
    trees = {
        part: {Path(path).name.split("_")[0] for path in paths_of(split, part)}
        for part in (holdouts.TRAIN, holdouts.TEST)
    }
    assert not trees[holdouts.TRAIN] & trees[holdouts.TEST]
    numbers = sorted(int(tree[4:]) for tree in trees[holdouts.TEST])
    assert len([number for number in numbers if number <= 12]) == 3
    assert len([number for number in numbers if number > 20]) == 2
    assert "5 of 20 groups by pattern" in split.how


def test_groups_that_classes_share_are_held_out_where_the_share_is_most_even(
    spark: SparkSession,
) -> None:
    # On days 1 to 4 there are no pears.
    rows = [(f"/a/{day}_{photo}.jpg", "a") for day in range(12) for photo in range(4)]
    rows += [(f"/pear/{day}_{photo}.jpg", "pear") for day in range(4, 12) for photo in range(4)]
    keyed = frame(spark, rows)
    split = holdouts.grouped(keyed, 0.25, 0, r"/(\d+)_")
    days = {int(Path(path).name.split("_")[0]) for path in paths_of(split, holdouts.TEST)}
    assert days == set(range(min(days), max(days) + 1))
    assert not days & {
        int(Path(path).name.split("_")[0]) for path in paths_of(split, holdouts.TRAIN)
    }
    for label in ("a", "pear"):
        assert any(f"/{label}/" in path for path in paths_of(split, holdouts.TEST))
        assert any(f"/{label}/" in path for path in paths_of(split, holdouts.TRAIN))


def test_a_column_can_be_the_group(spark: SparkSession) -> None:
    keyed = frame(spark, rotations(2, 12)).selectExpr("*", "length(path) as length")
    split = holdouts.grouped(keyed, 0.25, 0, "length")
    lengths = [{len(path) for path in paths_of(split, part)} for part in ("train", "test")]
    assert lengths[0]
    assert lengths[1]
    assert not lengths[0] & lengths[1]


@pytest.mark.parametrize(
    ("group", "message"),
    [
        (r"/(tree\d+)_", r"pattern /\(tree\\d\+\)_ gives no key for any photo, such as file:/phot"),
        ("r0_", "as a regular expression it has no capturing group: put the key in parentheses"),
        ("(r0", r"neither a column \(path, label\) nor a regular expression: Unclosed group"),
        (
            "(fruit .)",
            "leaves nothing to hold out, because each class has only one group, such as 'f",
        ),
    ],
)
def test_groups_that_make_no_sense_say_why(spark: SparkSession, group: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        holdouts.grouped(frame(spark, rotations(2, 8)), 0.25, 0, group)


# What is measured.


def test_metrics_are_those_of_scikit_learn() -> None:
    random = np.random.RandomState(3)
    true = random.choice(list("abcd"), 200, p=[0.4, 0.3, 0.2, 0.1])
    predicted = np.where(random.rand(200) < 0.7, true, random.choice(list("abcd"), 200))
    counts: dict[tuple[str, str], int] = {}
    for pair in zip(true.tolist(), predicted.tolist()):
        counts[pair] = counts.get(pair, 0) + 1
    found = measure(counts, dict.fromkeys("abcd", 10), how="by hand")
    expected = precision_recall_fscore_support(true, predicted)
    table = [(each.precision, each.recall, each.f1, each.support) for each in found.classes]
    np.testing.assert_allclose(np.array(table).T, expected)
    assert found.confusion == confusion_matrix(true, predicted).tolist()
    assert found.accuracy == (true == predicted).mean()
    assert found.macro_f1 == pytest.approx(expected[2].mean())
    assert (found.train, found.test, found.notes) == (40, 200, [])


def test_classes_that_are_in_one_part_only_are_named() -> None:
    found = measure({("a", "a"): 3, ("b", "a"): 2}, {"a": 5, "c": 4}, how="by hand")
    assert found.notes == [
        "all photos of b are held out: the classifier never saw these classes, so all their photos "
        "count as misclassified",
        "no photo of c is held out: these are not tested",
    ]
    assert [each.recall for each in found.classes] == [1.0, 0.0, None]
    assert [each.precision for each in found.classes] == [0.6, None, None]
    assert found.macro_f1 == pytest.approx((0.75 + 0.0) / 2)


# Classifiers.


@pytest.fixture(scope="module")
def clouds() -> tuple[np.ndarray, np.ndarray]:
    """Features of five classes that overlap a little, far from the origin, in unequal scales."""
    random = np.random.RandomState(5)
    centres = random.normal(size=(5, D)) * 1.5
    labels = np.repeat(np.arange(5), 40)
    features = (centres[labels] + random.normal(size=(200, D))) * 10.0 ** np.linspace(0.5, -0.5, D)
    return (features + 30.0).astype(np.float32), labels


def vectors(spark: SparkSession, features: np.ndarray, labels: np.ndarray) -> DataFrame:
    rows = [(row.tolist(), f"class {label}", float(label)) for row, label in zip(features, labels)]
    table = spark.createDataFrame(rows, "f array<double>, label string, target double")
    return table.select(array_to_vector("f").alias("features"), "label", "target").coalesce(2)


def test_svms_have_the_least_loss_whatever_the_place_and_the_size_of_the_features(
    spark: SparkSession, clouds: tuple[np.ndarray, np.ndarray]
) -> None:
    features, labels = clouds
    mean = features.mean(axis=0, dtype=np.float64)
    penalty = 0.3
    model = fit_svm(vectors(spark, features, labels), "features", "target", 5, mean, penalty)
    weights, intercepts = model.coefficientMatrix.toArray(), model.interceptVector.toArray()

    def slope(coefficients: np.ndarray, constants: np.ndarray) -> np.ndarray:
        """Gradient of the mean squared hinge loss, its penalty included."""
        signs = np.where(labels[:, None] == np.arange(5), 1.0, -1.0)
        short = np.maximum(0.0, 1.0 - signs * (features @ coefficients.T + constants))
        steep = -2.0 * signs * short / len(labels)
        return steep.T @ (features - mean) + penalty * coefficients

    start = slope(np.zeros((5, D)), np.zeros(5))
    assert np.abs(slope(weights, intercepts)).max() < 0.01 * np.abs(start).max()


def test_of_two_classes_each_has_its_svm(
    spark: SparkSession, clouds: tuple[np.ndarray, np.ndarray]
) -> None:
    two = clouds[1] < 2
    features, labels = clouds[0][two], clouds[1][two]
    rows = vectors(spark, features, labels)
    model = fit_svm(rows, "features", "target", 2, features.mean(axis=0), 0.3)
    found = model.transform(rows).select("rawPrediction", "prediction", "target").collect()
    assert all(row.rawPrediction[0] == pytest.approx(-row.rawPrediction[1]) for row in found)
    assert np.mean([row.prediction == row.target for row in found]) >= 0.9


def test_svms_of_features_too_large_for_the_driver_are_sparks(
    spark: SparkSession, clouds: tuple[np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    three = clouds[1] < 3
    features = clouds[0][three] - clouds[0][three].mean(axis=0)
    rows = vectors(spark, features, clouds[1][three]).cache()
    here = fit_svm(rows, "features", "target", 3, np.zeros(D), 0.3)
    monkeypatch.setattr(svm, "DRIVER_NUMBERS", 0)
    monkeypatch.setattr(svm, "_fit_on_driver", None)
    monkeypatch.setattr(svm, "_SPARK_STEPS", 3)
    there = fit_svm(rows, "features", "target", 3, np.zeros(D), 0.3)
    both = [
        [row.prediction for row in model.transform(rows).select("prediction").collect()]
        for model in (here, there)
    ]
    assert np.mean(np.equal(*both)) >= 0.9


def test_an_svm_without_scikit_learn_says_how_to_get_it(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.svm", None)
    with pytest.raises(
        ImportError, match=r"an SVM needs sklearn.*: pip install 'pomona\[report\]', on the driver"
    ):
        train(spark, tmp_path, classifier="svm")


@pytest.mark.parametrize("name", ["logistic", "svm", "forest"])
def test_each_classifier_tells_classes_apart_and_survives_being_saved(
    spark: SparkSession,
    clouds: tuple[np.ndarray, np.ndarray],
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(classifiers, "TREES", 10)
    rows = vectors(spark, *clouds).drop("target").cache()
    labels = [f"class {number}" for number in range(5)]
    stages = classifiers.fit(name, rows, "features", labels, seed=0)
    PipelineModel(stages).save(str(tmp_path / "model"))
    table = PipelineModel.load(str(tmp_path / "model")).transform(rows)
    found = table.select("label", "predicted").collect()
    assert np.mean([row.label == row.predicted for row in found]) >= 0.9
    # An SVM knows no probabilities, and does not pretend to.
    assert ("probability" in table.columns) == (name != "svm")


# The whole: photos to labels.


def doomed(photos: DataFrame) -> DataFrame:
    """Rows that cannot be computed, the first of them aside."""
    return photos.selectExpr("path", "raise_error(path) as predicted")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("training")
    break_one(render(folder, classes=CLASSES, per_class=PER_CLASS, size=32))
    return folder


@pytest.fixture(scope="module")
def ran(
    spark: SparkSession, images: Path, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    output = tmp_path_factory.mktemp("run") / "results"
    pipeline.run(spark, images, output, model=tiny_model, components=6, progress=False)
    return output


@pytest.fixture
def results(ran: Path, tmp_path: Path) -> Path:
    """The output of a run that a test may write to."""
    shutil.copytree(str(ran), str(tmp_path / "results"))
    return tmp_path / "results"


@pytest.mark.filterwarnings("default:the classifier was trained with")
def test_train_writes_metrics_and_a_model_and_predict_labels_new_photos(
    spark: SparkSession,
    results: Path,
    images: Path,
    tiny_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    fitted = []

    def spy(features: DataFrame, **options: object) -> object:
        fitted.append(features.count())
        return fit_pca(features, **options)

    saved = results / "classifier/logistic/model"
    command = ["train", str(results), "--classifier", "logistic", "--model", str(tiny_model)]
    command += ["--save", str(saved)]
    with monkeypatch.context() as patched:
        patched.setattr("pomona.spark.classification.training.fit_pca", spy)
        assert main(command) == 0
    # The PCA of a hold-out does not see the photos that test, nor those left out.
    assert fitted == [48, 40]
    shown, complaint = capsys.readouterr()
    assert "pomona: --save is deprecated: use --output\n" in complaint
    lines = shown.splitlines()
    assert lines[0] == "logistic on 6 components of 64 photos; 1 without features or a label"
    assert lines[1].split() == ["hold-out", "accuracy", "macro", "F1", "tested", "trained", "on"]
    assert lines[2].split()[0] == "random"
    assert lines[3].split()[0] == "blocked"

    told = json.loads((results / "classifier/logistic/metrics.json").read_text())
    assert (told["classifier"], told["features"], told["dimensions"]) == ("logistic", "pca", 6)
    assert (told["photos"], told["left_out"]) == (CLASSES * PER_CLASS, 1)
    assert told["image_model"]["sha256"] == sha256_of(tiny_model)
    random, blocked = told["holdouts"]["random"], told["holdouts"]["blocked"]
    assert (random["train"], random["test"], random["left_out"]) == (48, 16, 0)
    # A range of 4 of 16 and one photo on either side of it, in each of 4 classes.
    assert (blocked["train"], blocked["test"], blocked["left_out"]) == (40, 16, 8)
    for metrics in (random, blocked):
        assert metrics["accuracy"] >= 0.75
        assert np.array(metrics["confusion"]).shape == (CLASSES, CLASSES)
        assert np.trace(metrics["confusion"]) / 16 == metrics["accuracy"]
        assert [each["support"] for each in metrics["classes"]] == [4] * CLASSES
        assert len(metrics["mistakes"]) == round(16 * (1 - metrics["accuracy"]))

    labels = tmp_path / "labels.parquet"
    command = ["predict", told["model"], str(images), "-o", str(labels)]
    assert main(command) == 0
    shown = capsys.readouterr().out
    assert "r0_cut.jpg: " in shown
    assert "65 photos, 1 error: " in shown
    assert "of 64 photos in folders named like a class, " in shown
    rows = spark.read.parquet(str(labels)).collect()
    assert len(rows) == CLASSES * PER_CLASS + 1
    broken = [row for row in rows if row.error is not None]
    assert [Path(row.path).name for row in broken] == ["r0_cut.jpg"]
    assert (broken[0].predicted, broken[0].probability, broken[0].probabilities) == (None,) * 3
    good = [row for row in rows if row.error is None]
    for row in good:
        assert sum(row.probabilities.values()) == pytest.approx(1)
        assert row.probabilities[row.predicted] == row.probability
        assert row.probability == max(row.probabilities.values())
    assert np.mean([row.label == row.predicted for row in good]) >= 0.8

    # Not twice into the same place, unless so asked.
    assert main(command) == 1
    assert "--overwrite replaces it" in capsys.readouterr().err
    assert main([*command, "--overwrite", "--apply-exif"]) == 0
    said = "pomona: warning: the classifier was trained with apply_exif=False: "
    assert said in capsys.readouterr().err
    assert spark.read.parquet(str(labels)).count() == len(rows)

    # A job that fails leaves the labels that were there.
    before = sorted(spark.read.parquet(str(labels)).collect())
    with monkeypatch.context() as patched:
        patched.setattr(prediction, "label_photos", lambda _, photos: doomed(photos))
        assert main([*command, "--overwrite"]) == 1
    capsys.readouterr()
    assert sorted(spark.read.parquet(str(labels)).collect()) == before

    # In a process that knows nothing but PySpark, the broken photo has no row.
    moved = tmp_path / "moved"
    shutil.move(str(results / "classifier/logistic/model"), str(moved))
    java_options = shlex.quote(spark.conf.get("spark.driver.extraJavaOptions"))
    options = f"--master local[1] --driver-java-options {java_options} pyspark-shell"
    done = subprocess.run(
        [sys.executable, "-c", PLAIN_PYSPARK, str(moved), str(images)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYSPARK_SUBMIT_ARGS": options},
        check=True,
    )
    plain = dict(line.split("\t") for line in done.stdout.decode().splitlines())
    assert plain == {row.path: row.predicted for row in good}


def test_an_svm_on_raw_features_gives_scores_and_no_probabilities(
    spark: SparkSession, results: Path, images: Path, tiny_model: Path, tmp_path: Path
) -> None:
    model = tmp_path / "svm"
    done = train(
        spark,
        results,
        classifier="svm",
        features="raw",
        group=r"/r0_(\d+)\.",
        output=model,
        model=tiny_model,
    )
    assert done.dimensions == 16
    assert done.model == f"file:{model}"
    assert not (results / "classifier/svm/model").exists()
    blocked = done.holdouts["blocked"]
    assert blocked.how == r"4 of 16 groups by pattern /r0_(\d+)\."
    assert blocked.test == 16
    with pytest.warns(DeprecationWarning, match=r"predict\(model=…\) is deprecated"):
        found = predict(spark, model=model, images=images, output=tmp_path / "labels")
    assert (found.photos, found.errors, found.probabilities) == (65, 1, False)
    rows = spark.read.parquet(found.uri)
    assert rows.columns == ["path", "label", "predicted", "scores", *ERROR_COLUMNS, *NOTE_COLUMNS]
    for row in rows.where("error is null").collect():
        assert max(row.scores, key=row.scores.get) == row.predicted
    # `predict` has read the photos by their paths.
    by_content = label_photos(load(spark, model), read_images(spark, images))
    assert by_content.orderBy("path").collect() == rows.orderBy("path").collect()


def test_without_rotations_there_is_no_blocked_holdout_and_a_note_says_so(
    spark: SparkSession, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(classifiers, "TREES", 10)
    images, output = tmp_path / "images", tmp_path / "results"
    for number, photo in enumerate(render(images, classes=2, per_class=4, size=32)):
        photo.rename(photo.with_name(f"{'abcdefgh'[number]}.jpg"))
    pipeline.run(spark, images, output, model=tiny_model, components=3, progress=False)
    done = train(spark, output, classifier="forest", model=tiny_model, seed=3)
    assert done.holdouts["blocked"] is None
    assert "group them with --group" in done.notes[0]
    assert done.holdouts["random"].test == 2


def test_what_cannot_be_trained_says_why_and_leaves_what_was_there(
    spark: SparkSession, results: Path, tiny_model: Path, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="no classifier 'bayes': choose one of logistic, svm, for"):
        train(spark, results, classifier="bayes")
    with pytest.raises(ValueError, match="no features 'umap': choose one of pca, raw"):
        train(spark, results, classifier="svm", features="umap")
    with pytest.raises(ValueError, match=r"hold-out is 1\.5: it must be between 0 and 1"):
        train(spark, results, classifier="svm", holdout_share=1.5)
    with pytest.raises(FileNotFoundError, match="holds no finished run"):
        train(spark, tmp_path / "nothing", classifier="svm")
    with pytest.raises(ModelError, match=r"were computed with .*: give its file with --model"):
        train(spark, results, classifier="svm")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/diary.txt").write_text("dear diary")
    with pytest.raises(FileExistsError, match=r"contains diary\.txt, which is not part of a Spa"):
        train(spark, results, classifier="svm", output=tmp_path / "mine", model=tiny_model)
    with pytest.raises(ValueError, match="gives no key for any photo"):
        train(spark, results, classifier="svm", group="(nowhere)", model=tiny_model)
    with pytest.raises(ValueError, match=r"not a column \(path, label, length, modificationTime\)"):
        train(spark, results, classifier="svm", group="lenght", model=tiny_model)
    # Until now, `model` was what `output` is.
    with pytest.raises(ModelError, match=r"mine' is a folder.*output is where the classifier is"):
        train(spark, results, classifier="svm", model=tmp_path / "mine")
    with pytest.raises(ModelError, match="no model file"), pytest.warns(
        DeprecationWarning, match=r"image_model=…\) is deprecated: use model="
    ):
        train(spark, results, classifier="svm", image_model=tmp_path / "no.onnx")
    assert not (results / "classifier").exists()
    results.rename(tmp_path / "results[1]")
    with pytest.raises(ValueError, match=r"cannot load a model from .*: rename the folder"):
        train(spark, tmp_path / "results[1]", classifier="svm", model=tiny_model)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({"a": 3, "b": 1, "c": 1}, "b, c: only one readable photo"),
        ({"a": 3}, "all photos are of one class, a: there is nothing to classify"),
        ({None: 3}, "none of the 3 photos of .* has both features and a label"),
    ],
)
def test_labels_that_cannot_be_learned_are_named(
    spark: SparkSession, results: Path, tiny_model: Path, labels: dict, message: str
) -> None:
    rows = [
        (f"/{label}/{number}.jpg", label, [float(number)] * 16, None)
        for label, photos in labels.items()
        for number in range(photos)
    ]
    shutil.rmtree(str(results / "features"))
    schema = "path string, label string, features array<float>, error string"
    spark.createDataFrame(rows, schema).write.parquet(str(results / "features"))
    with pytest.raises(ValueError, match=message):
        train(spark, results, classifier="svm", model=tiny_model)


def test_predict_refuses_what_is_no_model_and_outputs_among_the_photos(
    spark: SparkSession, images: Path, tmp_path: Path
) -> None:
    with pytest.raises(FileNotFoundError, match="holds no classifier: give a folder saved by `pom"):
        predict(spark, tmp_path / "nothing", images, tmp_path / "labels")
    other = SparkPCA(k=2, inputCol="features", outputCol="pca")
    Pipeline(stages=[other]).save(str(tmp_path / "other"))
    with pytest.raises(ValueError, match=r"cannot load a model from .*: rename the folder"):
        predict(spark, tmp_path / "other*", images, tmp_path / "labels")
    with pytest.raises(ValueError, match="pomona train"):
        predict(spark, tmp_path / "other", images, tmp_path / "labels")
    for output in (images / "labels", images.parent):
        with pytest.raises(ValueError, match="overlap: choose another output"):
            predict(spark, tmp_path / "other", images, output)
    assert not (tmp_path / "labels").exists()


def test_real_fruits_are_told_apart(spark: SparkSession, real_photos: Path, tmp_path: Path) -> None:
    if "efficientnet_lite0" not in names():
        pytest.skip("needs a pulled model: pomona model pull efficientnet_lite0")
    output = tmp_path / "results"
    images = real_photos / "fruits"
    pipeline.run(spark, images, output, model="efficientnet_lite0", progress=False)
    # A forest does as well; it takes longer than a test should.
    for classifier in ("logistic", "svm"):
        done = train(spark, output, classifier=classifier)
        assert done.holdouts["random"].accuracy >= 0.98
        assert done.holdouts["blocked"].accuracy >= 0.95
