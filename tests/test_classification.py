"""Classifiers without Spark: hold-outs, what is measured on them, training and prediction."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from photos import break_one, render
from pomona import LocalResults, ModelError, featurize_folder
from pomona.classification import classifiers, holdouts, predict, train
from pomona.classification.fingerprints import are_among, as_set, fingerprints
from pomona.classification.holdouts import LEFT_OUT, TEST, TRAIN
from pomona.classification.training import Groups, hold_out
from pomona.cli import SOME_PHOTOS_FAILED, main
from pomona.models.store import names, sha256_of
from pomona.results import spark_ml
from pomona.results.metrics import measure

#: A random hold-out of 3 of 12 photos with seed 0, as Spark 3.1.2 chose it.
GOLDEN = ["r0_24.jpg", "r0_28.jpg", "r0_44.jpg"]

CLASSES = 4
PER_CLASS = 16
D = 8

Photos = "list[tuple[str, str]]"


def rotations(classes: int = 3, per_class: int = 40, name: str = "r0_{}.jpg") -> Photos:
    return [
        (f"file:/photos/fruit {number}/{name.format(index * 4)}", f"fruit {number}")
        for number in range(classes)
        for index in range(per_class)
    ]


def parts_of(split: holdouts.Holdout, photos: Photos) -> dict[str, int]:
    assert len(split.parts) == len(photos)
    return {path: int(part) for (path, _), part in zip(photos, split.parts)}


def paths_of(split: holdouts.Holdout, photos: Photos, part: int) -> set[str]:
    return {path for path, each in parts_of(split, photos).items() if each == part}


def columns(photos: Photos) -> tuple[list[str], list[str]]:
    return [path for path, _ in photos], [label for _, label in photos]


def by_pattern(photos: Photos, pattern: str) -> holdouts.Holdout:
    groups = Groups([], lambda _: {}, lambda _: None, lambda _: None)
    split = hold_out(*columns(photos), 0.25, 0, pattern, groups)[0]["blocked"]
    assert split is not None
    return split


# Hold-outs by names.


def test_the_random_holdout_takes_the_share_of_each_class() -> None:
    photos = [(f"/{label}/{number}.jpg", label) for label in "abc" for number in range(20)]
    photos += [("/d/1.jpg", "d"), ("/d/2.jpg", "d")]
    split = holdouts.stratified(*columns(photos), 0.25, 0)
    held_out = [path.split("/")[1] for path in paths_of(split, photos, TEST)]
    assert {label: held_out.count(label) for label in "abcd"} == {"a": 5, "b": 5, "c": 5, "d": 1}


def test_a_seed_gives_the_same_split_whatever_the_order_and_the_place() -> None:
    photos = rotations()
    moved = [(path.replace("file:/photos", "s3://fruits/new"), label) for path, label in photos]
    for split in (holdouts.stratified, holdouts.by_rotation):
        first = parts_of(split(*columns(photos), 0.25, 1), photos)
        assert parts_of(split(*columns(photos), 0.25, 2), photos) != first
        elsewhere = parts_of(split(*columns(moved[::-1]), 0.25, 1), moved[::-1])
        assert list(elsewhere.values()).count(TEST) == 30
        assert first == {
            path.replace("s3://fruits/new", "file:/photos"): part
            for path, part in elsewhere.items()
        }
    few = rotations(1, 12)
    drawn = paths_of(holdouts.stratified(*columns(few), 0.25, 0), few, TEST)
    assert sorted(Path(path).name for path in drawn) == GOLDEN


def test_a_blocked_holdout_takes_a_range_of_each_rotation_with_gaps_and_photos_around_it() -> None:
    photos = rotations() + rotations(name="r2_{}_100.jpg")
    for seed in (0, 5):
        parts = parts_of(holdouts.by_rotation(*columns(photos), 0.25, seed), photos)
        for fruit in range(3):
            for axis, end in (("r0", ""), ("r2", "_100")):
                course = "".join(
                    {TRAIN: "-", TEST: "t", LEFT_OUT: "."}[
                        parts[f"file:/photos/fruit {fruit}/{axis}_{index * 4}{end}.jpg"]
                    ]
                    for index in range(40)
                )
                before, _, behind = course.partition("." + "t" * 10 + ".")
                assert before
                assert behind
                assert set(before + behind) == {"-"}


def test_the_shortest_rotations_keep_photos_to_train_on() -> None:
    photos = [
        (f"/nuts {number}/r0_{index}.jpg", f"nuts {number}")
        for number in (1, 2, 3, 4, 5)
        for index in range(number)
    ]
    parts = parts_of(holdouts.by_rotation(*columns(photos), 0.25, 0), photos)
    for number in (1, 2, 3, 4, 5):
        nuts = [part for path, part in parts.items() if f"nuts {number}/" in path]
        assert nuts.count(TEST) == (0 if number == 1 else 1)
        assert nuts.count(TRAIN) == number - nuts.count(TEST)


def test_names_of_fruits_360_are_understood() -> None:
    names_of_views = [
        "r0_115.jpg",
        "0_100.jpg",
        "r_87_100.jpg",
        "r2_87_100.JPG",
        "100_100.jpg",
        "r0_100.jpg",
    ]
    others = ["IMG 2041.jpg", "r0_cut.jpg", "apple-red.jpg", "0_115.jpg"]
    assert all(holdouts.ROTATION.search(f"/a/{name}") for name in names_of_views)
    assert not any(holdouts.ROTATION.search(f"/a/{name}") for name in others)
    photos = [(f"/a/{name}", "a") for name in [*names_of_views, *others]] + rotations(1, 12)
    split = holdouts.by_rotation(*columns(photos), 0.25, 0)
    left_out = paths_of(split, photos, LEFT_OUT)
    assert {f"/a/{name}" for name in others} <= left_out
    assert split.notes == ["4 photos without a rotation index in their names left out"]
    none = [("/a/x.jpg", "a"), ("/b/y.jpg", "b")]
    assert holdouts.by_rotation(*columns(none), 0.25, 0) is None


def test_a_group_is_never_split_and_every_class_is_in_both_parts() -> None:
    photos = [
        (f"/{label}/tree{tree}_{photo}.jpg", label)
        for label, trees in (("apple", range(1, 13)), ("pear", range(21, 29)))
        for tree in trees
        for photo in range(5)
    ]
    split = by_pattern(photos, r"/(tree\d+)_")
    trees = {
        part: {Path(path).name.split("_")[0] for path in paths_of(split, photos, part)}
        for part in (TRAIN, TEST)
    }
    assert not trees[TRAIN] & trees[TEST]
    numbers = sorted(int(tree[4:]) for tree in trees[TEST])
    assert len([number for number in numbers if number <= 12]) == 3
    assert len([number for number in numbers if number > 20]) == 2
    assert "5 of 20 groups by pattern" in split.how


def test_groups_that_classes_share_are_held_out_where_the_share_is_most_even() -> None:
    # On days 1 to 4 there are no pears.
    photos = [(f"/a/{day}_{photo}.jpg", "a") for day in range(12) for photo in range(4)]
    photos += [(f"/pear/{day}_{photo}.jpg", "pear") for day in range(4, 12) for photo in range(4)]
    split = by_pattern(photos, r"/(\d+)_")
    test, training = (paths_of(split, photos, part) for part in (TEST, TRAIN))
    days = {int(Path(path).name.split("_")[0]) for path in test}
    assert days == set(range(min(days), max(days) + 1))
    assert not days & {int(Path(path).name.split("_")[0]) for path in training}
    for label in ("a", "pear"):
        assert any(f"/{label}/" in path for path in test)
        assert any(f"/{label}/" in path for path in training)


@pytest.mark.parametrize(
    ("group", "message"),
    [
        (r"/(tree\d+)_", r"pattern /\(tree\\d\+\)_ gives no key for any photo, such as file:/phot"),
        ("r0_", "as a regular expression it has no capturing group: put the key in parentheses"),
        ("(r0", r"neither a column \(path, label\), 'duplicates', a CSV file nor a regular expres"),
        (
            "(fruit .)",
            "leaves nothing to hold out, because each class has only one group, such as 'f",
        ),
        ("groups.csv", "--group groups.csv: there is no such file"),
        ("duplicates", "--group duplicates: there are too many photos to find the near-duplicates"),
    ],
)
def test_groups_that_make_no_sense_say_why(group: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        by_pattern(rotations(), group)


# Hold-outs by features.


def planted(copies: float) -> tuple[list[str], list[str], np.ndarray, list[int]]:
    """Four classes of different photos, with copies that are `copies` apart; their originals."""
    random = np.random.RandomState(2)
    centres = random.normal(size=(4, 64))
    features = np.repeat(centres, 40, axis=0) + random.normal(size=(160, 64))
    copied = random.permutation(160)[:60]
    # A vector at a right angle to the photo's own.
    aside = random.normal(size=(60, 64))
    of = features[copied]
    aside -= of * (aside * of).sum(axis=1, keepdims=True) / (of * of).sum(axis=1, keepdims=True)
    aside *= np.linalg.norm(of, axis=1, keepdims=True) / np.linalg.norm(aside, axis=1)[:, None]
    angle = np.arccos(1 - copies)
    twins = np.cos(angle) * of + np.sin(angle) * aside
    # A third of the copies have another label.
    labels = [f"class {row // 40}" for row in (*range(160), *copied)]
    labels[200:] = ["class 0"] * 20
    paths = [f"/{label}/{row}.jpg" for row, label in enumerate(labels)]
    return paths, labels, np.vstack([features, twins]).astype(np.float32), copied.tolist()


@pytest.mark.parametrize("copies", [0.0, 0.02, 0.055])
def test_no_twin_of_a_test_photo_is_in_training_whatever_their_labels(copies: float) -> None:
    paths, labels, features, copied = planted(copies)
    for seed in range(3):
        split = holdouts.by_likeness(paths, labels, features, 0.25, seed)
        pairs = [{split.parts[original], split.parts[160 + n]} for n, original in enumerate(copied)]
        assert {TEST, TRAIN} not in pairs
        counts = [(split.parts == part).sum() for part in (TRAIN, TEST)]
        assert counts[0] > 100
        assert 35 <= counts[1] <= 60
        for part in (TRAIN, TEST):
            assert len({labels[row] for row in np.flatnonzero(split.parts == part)}) == 4


def test_of_photos_of_one_object_a_neighbourhood_is_held_out_with_a_gap_around_it() -> None:
    turn = np.linspace(0, np.pi, 60)
    features = np.stack([np.cos(turn), np.sin(turn), np.zeros(60)], axis=1)
    same = np.tile([0.0, 0.0, 7.0], (6, 1))
    labels = ["turning"] * 60 + ["copies"] * 6
    paths = [f"/{label}/{row}.jpg" for row, label in enumerate(labels)]
    split = holdouts.by_likeness(paths, labels, np.vstack([features, same]), 0.25, 3)
    course = "".join(".-t"[part] for part in split.parts[:60])
    assert "t" * 15 in course
    assert course.count("t") == 15
    assert "-t" not in course
    assert "t-" not in course
    assert course.count("-") >= 15
    # Of photos that are all the same, none can be a test.
    assert set(split.parts[60:]) == {TRAIN}
    assert split.notes[0].startswith("classes whose photos all look alike: 1; ")
    assert split.notes[1] == "classes of near-duplicates only: 1; these are not tested"


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


@pytest.mark.parametrize("kinds", [2, 5])
def test_svms_have_the_least_loss_whatever_the_place_and_the_size_of_the_features(
    clouds: tuple[np.ndarray, np.ndarray], kinds: int
) -> None:
    features, labels = (each[clouds[1] < kinds] for each in clouds)
    mean = features.mean(axis=0, dtype=np.float64)
    penalty = 0.3
    weights, intercepts = classifiers.fit_svm(features, labels, mean, penalty)

    def slope(coefficients: np.ndarray, constants: np.ndarray) -> np.ndarray:
        """Gradient of the mean squared hinge loss, its penalty included."""
        signs = np.where(labels[:, None] == np.arange(kinds), 1.0, -1.0)
        short = np.maximum(0.0, 1.0 - signs * (features @ coefficients.T + constants))
        steep = -2.0 * signs * short / len(labels)
        return steep.T @ (features - mean) + penalty * coefficients

    start = slope(np.zeros((kinds, D)), np.zeros(kinds))
    assert np.abs(slope(weights, intercepts)).max() < 0.01 * np.abs(start).max()


@pytest.mark.parametrize("kinds", [2, 5])
def test_a_logistic_regression_has_the_least_loss_that_spark_defines(
    clouds: tuple[np.ndarray, np.ndarray], kinds: int
) -> None:
    features, labels = (each[clouds[1] < kinds] for each in clouds)
    named = [f"class {label}" for label in labels]
    model, _ = classifiers.fit("logistic", features, named, seed=0, column="pca")
    penalty = classifiers.LOGISTIC_PENALTY * features.var(axis=0, ddof=1, dtype=np.float64).sum()
    truth = labels[:, None] == np.arange(kinds)

    def slope(scores: np.ndarray, coefficients: np.ndarray) -> np.ndarray:
        """Gradient of the mean log loss, its penalty included."""
        shares = np.exp(scores - scores.max(axis=1, keepdims=True))
        shares /= shares.sum(axis=1, keepdims=True)
        centred = features - features.mean(axis=0, dtype=np.float64)
        return (shares - truth).T @ centred / len(labels) + penalty * coefficients

    start = slope(np.zeros((len(labels), kinds)), np.zeros((kinds, D)))
    end = slope(model.apply(features.astype(np.float64)), model.coefficients)
    assert np.abs(end).max() < 1e-3 * np.abs(start).max()


@pytest.mark.parametrize("name", ["logistic", "svm", "forest"])
def test_each_classifier_tells_classes_apart_and_survives_being_saved(
    clouds: tuple[np.ndarray, np.ndarray], name: str, tmp_path: Path
) -> None:
    named = [f"class {label}" for label in clouds[1]]
    stages = classifiers.fit(name, clouds[0], named, seed=0, column="features")
    spark_ml.save(tmp_path / "model", stages)
    # A checksum as Hadoop writes it.
    (tmp_path / "model/.trained-photos.npy.crc").touch()
    spark_ml.save(tmp_path / "model", stages)
    model, classes = spark_ml.load(tmp_path / "model")
    assert isinstance(model, type(stages[0]))
    scores = model.apply(clouds[0])
    np.testing.assert_array_equal(scores, stages[0].apply(clouds[0]))
    assert np.mean(scores.argmax(axis=1) == clouds[1]) >= 0.9
    assert list(classes.labels) == [f"class {number}" for number in range(5)]
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    (tmp_path / "model/diary.txt").write_text("dear diary")
    with pytest.raises(FileExistsError, match=r"contains diary\.txt, which is not part of"):
        spark_ml.save(tmp_path / "model", stages)


def test_a_forest_of_many_classes_is_small_and_votes_as_scikit_learn_predicts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(classifiers, "TREES", 25)
    random = np.random.RandomState(3)
    labels = np.repeat(np.arange(141), 8)
    features = random.normal(size=(141, D))[labels] + random.normal(size=(len(labels), D)) / 3
    named = [f"class {label:03}" for label in labels]
    forest, _ = classifiers.fit("forest", features, named, seed=4, column="pca")
    # Spark's forests have a number for each of 141 classes in every node: 1,128 bytes.
    assert sum(array.nbytes for array in forest[:8]) <= 50 * len(forest.feature)
    # More rows than are counted at once.
    votes = forest.apply(features)
    np.testing.assert_allclose(votes.sum(axis=1), 25)
    np.testing.assert_array_equal(votes[5:9], forest.apply(features[5:9]))
    seeds = np.random.RandomState(4)
    matrix = features.astype(np.float32)
    models = [
        RandomForestClassifier(trees, max_depth=30, random_state=seeds).fit(matrix, labels)
        for trees in (20, 5)
    ]
    expected = sum(model.predict_proba(matrix) * len(model.estimators_) for model in models)
    np.testing.assert_allclose(forest.apply(matrix), expected, atol=1e-9)


def test_fingerprints_know_photos_but_not_their_neighbours() -> None:
    random = np.random.RandomState(1)
    features = np.abs(random.normal(size=(500, 64))).astype(np.float32)
    trained = as_set(fingerprints(features[:250]))
    rounded = features * (1 + 1e-7 * random.normal(size=features.shape))
    assert are_among(fingerprints(rounded), trained).tolist() == [True] * 250 + [False] * 250
    near = features[:250] + 0.1 * random.normal(size=(250, 64))
    assert not are_among(fingerprints(near), trained).any()


# The whole: photos to labels.


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("training")
    break_one(render(folder, classes=CLASSES, per_class=PER_CLASS, size=32))
    return folder


@pytest.fixture(scope="module")
def featurized(images: Path, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("featurized") / "fruits.parquet"
    featurize_folder(images, output, model=tiny_model)
    return output


@pytest.fixture
def results(featurized: Path, tmp_path: Path) -> Path:
    """A file of features that a test may add results to."""
    shutil.copy(str(featurized), str(tmp_path / "fruits.parquet"))
    return tmp_path / "fruits.parquet"


def rows_of(folder: Path) -> list[dict[str, Any]]:
    (file,) = folder.glob("*.parquet")
    return pq.ParquetFile(str(file)).read().to_pylist()


@pytest.mark.filterwarnings("default:the classifier was trained with")
def test_train_writes_metrics_and_a_model_and_predict_labels_new_photos(
    results: Path,
    images: Path,
    tiny_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    command = ["train", str(results), "--classifier", "logistic", "--model", str(tiny_model)]
    assert main(command) == 0
    shown, steps = capsys.readouterr()
    assert [line for line in steps.splitlines() if "hold-out" in line] == [
        "pomona: choosing the hold-outs",
        "pomona: random hold-out: fitting logistic, 1 of 3",
        "pomona: blocked hold-out: fitting logistic, 2 of 3",
    ]
    assert shown.splitlines()[0].endswith(" of 64 photos; 1 without features or a label")
    home = tmp_path / "fruits-results/classifier/logistic"
    told = json.loads((home / "metrics.json").read_text())
    assert (told["classifier"], told["engine"]) == ("logistic", "local")
    assert (told["photos"], told["left_out"]) == (CLASSES * PER_CLASS, 1)
    assert told["image_model"]["sha256"] == sha256_of(tiny_model)
    random, blocked = told["holdouts"]["random"], told["holdouts"]["blocked"]
    assert (random["train"], random["test"], random["left_out"]) == (48, 16, 0)
    # A range of 4 of 16 and one photo on either side of it, in each of 4 classes.
    assert (blocked["train"], blocked["test"], blocked["left_out"]) == (40, 16, 8)
    for metrics in (random, blocked):
        assert metrics["accuracy"] >= 0.75
        assert np.trace(metrics["confusion"]) / 16 == metrics["accuracy"]
        assert len(metrics["mistakes"]) == round(16 * (1 - metrics["accuracy"]))
    assert json.loads(json.dumps(told)) == told

    labels = tmp_path / "labels.parquet"
    command = ["predict", told["model"], str(images), "-o", str(labels)]
    assert main([*command, "--fail-on-error"]) == SOME_PHOTOS_FAILED
    shown = capsys.readouterr().out
    assert "r0_cut.jpg: " in shown
    assert "65 photos, 1 error: " in shown
    assert "of 64 photos in folders named like a class, " in shown
    assert "64 of 65 photos trained this classifier: their labels say nothing about new " in shown
    rows = rows_of(labels)
    assert len(rows) == CLASSES * PER_CLASS + 1
    (broken,) = (row for row in rows if row["error"] is not None)
    assert Path(broken["path"]).name == "r0_cut.jpg"
    assert [broken[name] for name in ("predicted", "probability", "probabilities", "trained")] == [
        None
    ] * 4
    for row in rows:
        if row is not broken:
            of_class = dict(row["probabilities"])
            assert sum(of_class.values()) == pytest.approx(1)
            assert row["probability"] == of_class[row["predicted"]] == max(of_class.values())
            assert row["trained"]

    # Not twice into the same place, unless so asked; one JSON object, and nothing else.
    assert main(command) == 1
    assert "--overwrite replaces it" in capsys.readouterr().err
    others = tmp_path / "others"
    for photo in render(others, classes=CLASSES + 4, per_class=2, size=32)[: CLASSES * 2]:
        photo.unlink()
    command[2] = str(others)
    assert main([*command, "--overwrite", "--json", "--apply-exif"]) == 0
    shown, complaint = capsys.readouterr()
    assert (json.loads(shown)["photos"], json.loads(shown)["trained"]) == (8, 0)
    assert "pomona: warning: the classifier was trained with apply_exif=False: " in complaint
    assert len(rows_of(labels)) == 8

    # What fails leaves the labels that were there.
    with monkeypatch.context() as patched:
        patched.setattr("pomona.classification.prediction._Counts.add", None)
        with pytest.raises(TypeError):
            predict(told["model"], others, labels, overwrite=True)
        with pytest.raises(TypeError):
            predict(told["model"], others, tmp_path / "new")
    assert len(rows_of(labels)) == 8
    assert not (tmp_path / "new").exists()


def test_groups_are_a_column_or_a_file_and_an_svm_on_raw_features_gives_scores(
    results: Path, images: Path, tiny_model: Path, tmp_path: Path
) -> None:
    table = pq.read_table(str(results))
    paths = table.column("path").to_pylist()
    days = [int(Path(path).stem.split("_")[1]) // 4 if "cut" not in path else 0 for path in paths]
    pq.write_table(table.append_column("day", pa.array(days)), str(results))
    (tmp_path / "days.csv").write_text(
        "path,group\n" + "".join(f"{path},{day}\n" for path, day in zip(paths, days))
    )
    options = {"classifier": "svm", "features": "raw", "model": tiny_model}
    model = tmp_path / "mine/svm"
    done = train(results, group="day", output=model, **options)
    assert (done.dimensions, done.model) == (16, str(model))
    assert not (tmp_path / "fruits-results/classifier/svm/model").exists()
    blocked = done.holdouts["blocked"]
    assert blocked is not None
    assert blocked.how.endswith(" groups by column day")
    other = train(LocalResults(results), group=str(tmp_path / "days.csv"), **options)
    assert other.holdouts["blocked"].confusion == blocked.confusion
    assert "groups by file" in other.holdouts["blocked"].how
    with pytest.raises(ValueError, match=r"not a column \(path, label, day\)"):
        train(results, group="dya", **options)

    found = predict(model, images, tmp_path / "labels")
    assert (found.photos, found.errors, found.probabilities, found.trained) == (65, 1, False, 64)
    for row in rows_of(tmp_path / "labels"):
        if row["error"] is None:
            assert max(row["scores"], key=lambda pair: pair[1])[0] == row["predicted"]


def test_photos_that_are_all_near_duplicates_have_no_blocked_holdout_and_a_note_says_so(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(classifiers, "TREES", 10)
    photos = render(tmp_path / "images", classes=2, per_class=8, size=32)
    for number, photo in enumerate(photos):
        photo.rename(photo.with_name(f"{'abcdefghijklmnop'[number]}.jpg"))
    featurize_folder(tmp_path / "images", tmp_path / "results", model=tiny_model)
    steps: list[str] = []
    done = train(
        tmp_path / "results", classifier="forest", model=tiny_model, seed=3, progress=steps.append
    )
    assert steps[-1] == "saving the classifier"
    # To the tiny model, photos of one colour look the same.
    assert done.holdouts["blocked"] is None
    assert "are all near-duplicates of each other" in done.notes[0]
    assert "group them with --group" in done.notes[0]


def test_what_cannot_be_trained_says_why_and_leaves_what_was_there(
    results: Path, tiny_model: Path, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="no classifier 'bayes': choose one of logistic, svm, for"):
        train(results, classifier="bayes")
    with pytest.raises(FileNotFoundError):
        train(tmp_path / "nothing", classifier="svm")
    with pytest.raises(ModelError, match=r"were computed with .*: give its file with --model"):
        train(results, classifier="svm")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/diary.txt").write_text("dear diary")
    with pytest.raises(FileExistsError, match=r"contains diary\.txt, which is not part of a Spa"):
        train(results, classifier="svm", output=tmp_path / "mine", model=tiny_model)
    with pytest.raises(ValueError, match="is not on this machine, which needs Spark"):
        train(results, classifier="svm", output="s3://bucket/svm", model=tiny_model)
    assert not (tmp_path / "fruits-results/classifier").exists()


def test_predict_refuses_what_is_no_model_and_outputs_among_the_photos(
    images: Path, tmp_path: Path
) -> None:
    with pytest.raises(FileNotFoundError, match="holds no classifier: give a folder saved by `pom"):
        predict(tmp_path / "nothing", images, tmp_path / "labels")
    (tmp_path / "results/classifier/svm/model").mkdir(parents=True)
    for folder in ("results", "results/classifier/svm"):
        with pytest.raises(FileNotFoundError, match=r", such as .*/results/classifier/svm/model$"):
            predict(tmp_path / folder, images, tmp_path / "labels")
    line = spark_ml.Scaler(np.zeros(2), np.ones(2), False)
    spark_ml.save(tmp_path / "other", [line])
    with pytest.raises(ValueError, match="was not saved by `pomona train`: its stages are Scaler"):
        predict(tmp_path / "other", images, tmp_path / "labels")
    shutil.rmtree(str(tmp_path / "other/stages"))
    with pytest.raises(ValueError, match="is not a complete pipeline"):
        predict(tmp_path / "other", images, tmp_path / "labels")
    for output in (images / "labels", images.parent):
        with pytest.raises(ValueError, match="overlap: choose another output"):
            predict(tmp_path / "other", images, output)
    assert not (tmp_path / "labels").exists()


def test_real_fruits_are_told_apart(real_photos: Path, tmp_path: Path) -> None:
    if "efficientnet_lite0" not in names():
        pytest.skip("needs a pulled model: pomona model pull efficientnet_lite0")
    output = tmp_path / "fruits.parquet"
    featurize_folder(real_photos / "fruits", output, model="efficientnet_lite0", threads=2)
    for classifier in ("svm", "forest"):
        done = train(output, classifier=classifier)
        assert done.holdouts["random"].accuracy >= 0.97
        assert done.holdouts["blocked"].accuracy >= 0.95
