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

from lines import only_on
from photos import break_one, render
from pomona import ModelError, pca, pipeline
from pomona._errors import ERROR_COLUMNS, NOTE_COLUMNS
from pomona.classification import classifiers as local
from pomona.cli import main
from pomona.models.store import names, sha256_of
from pomona.results import spark_ml
from pomona.spark.classification import classifiers, executors, prediction, svm
from pomona.spark.classification.prediction import label_photos, load, predict, trained_photos
from pomona.spark.classification.svm import fit_svm
from pomona.spark.classification.training import train
from pomona.spark.images import read_images
from pomona.spark.pca import fit_pca, takes_vectors

# PySpark 3.1's vectors call numpy by an old name.
pytestmark = pytest.mark.filterwarnings("ignore:tostring:DeprecationWarning")

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
def test_each_classifier_is_the_same_with_and_without_spark(
    spark: SparkSession,
    clouds: tuple[np.ndarray, np.ndarray],
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(local, "TREES", 10)
    rows = vectors(spark, *clouds).drop("target").cache()
    labels = [f"class {number}" for number in range(5)]
    before = takes_vectors(fit_pca(rows.select("features"), components=6).model)
    table = PipelineModel(before).transform(rows)
    fitted = classifiers.fit(name, table.select("label", "pca"), "pca", labels, seed=0)
    PipelineModel([*before, *fitted]).save(str(tmp_path / "spark"))
    # What Spark saved is loaded and saved without it; what scikit-learn fitted is saved for Spark.
    stages = spark_ml.load(tmp_path / "spark")
    spark_ml.save(tmp_path / "again", stages)
    projected = stages[1].apply(stages[0].apply(clouds[0]))
    named = [labels[number] for number in clouds[1]]
    own = local.fit(name, projected, named, seed=0, column="pca")
    spark_ml.save(tmp_path / "local", [*stages[:2], *own])
    for folder, (model, classes) in (("spark", stages[2:]), ("again", stages[2:]), ("local", own)):
        table = PipelineModel.load(str(tmp_path / folder)).transform(rows)
        found = table.select("features", "label", "predicted", "scores").collect()
        features = np.array([row.features.toArray() for row in found])
        scores = model.apply(stages[1].apply(stages[0].apply(features)))
        np.testing.assert_allclose([row.scores.toArray() for row in found], scores, atol=1e-9)
        predicted = [classes.labels[number] for number in scores.argmax(axis=1)]
        assert [row.predicted for row in found] == predicted
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


@only_on("3.5")
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

    def spy(blocks: list, **options: object) -> object:
        fitted.extend(len(block.paths) for block in blocks)
        return fit(blocks, **options)

    fit = pca.fit
    saved = results / "classifier/logistic/model"
    command = ["train", str(results), "--classifier", "logistic", "--model", str(tiny_model)]
    command += ["--save", str(saved)]
    with monkeypatch.context() as patched:
        patched.setattr(pca, "fit", spy)
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
    assert "64 of 65 photos trained this classifier: their labels say nothing about new " in shown
    rows = spark.read.parquet(str(labels)).collect()
    assert len(rows) == CLASSES * PER_CLASS + 1
    broken = [row for row in rows if row.error is not None]
    assert [Path(row.path).name for row in broken] == ["r0_cut.jpg"]
    assert (broken[0].predicted, broken[0].probability, broken[0].probabilities) == (None,) * 3
    good = [row for row in rows if row.error is None]
    # Without Spark, the same classifier finds the same.
    assert main([*command[:3], "-o", str(tmp_path / "local"), "--engine", "local"]) == 0
    capsys.readouterr()
    kept = ["path", "label", "predicted", "probability", "error", "trained"]
    here = spark.read.parquet(str(tmp_path / "local")).select(kept).orderBy("path").collect()
    there = spark.read.parquet(str(labels)).select(kept).orderBy("path").collect()
    for one, other in zip(here, there):
        assert f"file:{one.path}" == other.path
        assert one[1:3] + one[4:] == other[1:3] + other[4:]
        assert one.probability == pytest.approx(other.probability)
    for row in good:
        assert row.trained
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
        patched.setattr(prediction, "label_photos", lambda _, photos, __: doomed(photos))
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


@only_on("3.1")
@pytest.mark.parametrize("classifier", ["logistic", "forest"])
def test_without_scikit_learn_spark_fits_on_the_same_photos(
    spark: SparkSession,
    results: Path,
    images: Path,
    tiny_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    classifier: str,
) -> None:
    monkeypatch.setattr(local, "TREES", 5)
    driver = train(spark, results, classifier=classifier, model=tiny_model)
    fitted = []

    def spy(features: DataFrame, **options: object) -> object:
        fitted.append(features.count())
        return fit_pca(features, **options)

    with monkeypatch.context() as patched:
        for module in "linear_model", "ensemble":
            patched.setitem(sys.modules, f"sklearn.{module}", None)
        patched.setattr(executors, "fit_pca", spy)
        done = train(spark, results, classifier=classifier, model=tiny_model)
    # The PCA of a hold-out does not see the photos that test, nor those left out.
    assert fitted == [48, 40]
    assert "scikit-learn" in driver.versions
    assert "scikit-learn" not in done.versions
    assert (done.photos, done.left_out) == (driver.photos, driver.left_out)
    for name, metrics in driver.holdouts.items():
        other = done.holdouts[name]
        assert (other.train, other.test, other.left_out) == (
            metrics.train,
            metrics.test,
            metrics.left_out,
        )
        assert abs(other.accuracy - metrics.accuracy) <= 2 / 16
    assert trained_photos(spark, done.model) == trained_photos(spark, driver.model)
    found = predict(spark, done.model, images, tmp_path / "labels")
    assert (found.photos, found.errors) == (65, 1)


def test_a_forest_is_saved_again_and_changed_like_stages_of_spark(
    spark: SparkSession, clouds: tuple[np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    named = [f"class {number}" for number in clouds[1]]
    own = local.fit("forest", clouds[0], named, seed=0, column="features")
    spark_ml.save(tmp_path / "first", own)
    PipelineModel.load(str(tmp_path / "first")).save(str(tmp_path / "second"))
    pipeline = PipelineModel.load(str(tmp_path / "second"))
    forest = pipeline.stages[0]
    assert (forest.numFeatures, forest.numClasses) == (D, 5)
    # Spark passes rows to Python in batches, of which some are larger than others.
    rows = vectors(spark, *clouds).drop("target").union(vectors(spark, *clouds).drop("target"))
    table = forest.copy({forest.rawPredictionCol: "votes", forest.predictionCol: "number"})
    found = table.transform(rows).select("features", "votes", "probability", "number").collect()
    votes = own[0].apply(np.array([row.features.toArray() for row in found]))
    np.testing.assert_array_equal([row.votes.toArray() for row in found], votes)
    np.testing.assert_allclose([row.probability.toArray() for row in found], votes / local.TREES)
    assert [row.number for row in found] == votes.argmax(axis=1).tolist()
    assert spark_ml.load(tmp_path / "second")[0].apply(clouds[0]).shape == (200, 5)


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
    assert rows.columns == [
        *("path", "label", "predicted", "scores", *ERROR_COLUMNS, *NOTE_COLUMNS),
        "trained",
    ]
    for row in rows.where("error is null").collect():
        assert max(row.scores, key=row.scores.get) == row.predicted
    # `predict` has read the photos by their paths.
    trained = trained_photos(spark, model)
    by_content = label_photos(load(spark, model), read_images(spark, images), trained)
    assert by_content.orderBy("path").collect() == rows.orderBy("path").collect()


def test_without_rotations_there_is_no_blocked_holdout_and_a_note_says_so(
    spark: SparkSession, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "TREES", 10)
    images, output = tmp_path / "images", tmp_path / "results"
    for number, photo in enumerate(render(images, classes=2, per_class=4, size=32)):
        photo.rename(photo.with_name(f"{'abcdefgh'[number]}.jpg"))
    model = tmp_path / "un modèle.onnx"
    shutil.copyfile(str(tiny_model), str(model))
    pipeline.run(spark, images, output, model=model, components=3, progress=False)
    done = train(spark, output, classifier="forest", model=model, seed=3)
    assert len(load(spark, done.model).stages) == 5
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
