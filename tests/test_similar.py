"""Which photos look alike: against every distance computed plainly, and from the command line."""

from __future__ import annotations

import doctest
import importlib
import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

import outputs
from pomona import DecodeOptions, Featurizer, _vectors, similar
from pomona.cli import main
from pomona.models.store import sha256_of
from pomona.results import LocalResults, Vectors
from pomona.results.base import LEAST_PER_CLASS, draw, shares
from specimens import damaged, turned


def plain_distances(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Cosine distances by the book, in float64: a row for each of `one`."""
    one, other = one.astype(np.float64), other.astype(np.float64)
    lengths = np.linalg.norm(one, axis=1)[:, None] * np.linalg.norm(other, axis=1)
    return 1 - one @ other.T / lengths


@pytest.fixture
def features() -> np.ndarray:
    return outputs.features_of(5, 9)


@pytest.fixture
def paths(features: np.ndarray) -> list[str]:
    return [f"file:/photos/Apple {number // 9}/r0_{number % 9}.jpg" for number in range(45)]


@pytest.fixture
def labels(paths: list[str]) -> list[str]:
    return [path.split("/")[2] for path in paths]


@pytest.fixture
def results(
    features: np.ndarray, paths: list[str], labels: list[str], tmp_path: Path
) -> LocalResults:
    return LocalResults(str(outputs.write_output(tmp_path / "out", paths, labels, features)))


@pytest.fixture(scope="module")
def real_output(photos_folder: Path, tiny_model: Path, tmp_path_factory) -> Path:
    """The output of a run on the rendered photos, their features by the tiny model."""
    files = sorted(photos_folder.rglob("*.jpg"))
    features = Featurizer(tiny_model).featurize([file.read_bytes() for file in files])
    return outputs.write_output(
        tmp_path_factory.mktemp("real") / "out",
        [f"file:{file}" for file in files],
        [file.parent.name for file in files],
        features,
        model={"name": "tiny", "sha256": sha256_of(tiny_model)},
    )


# The nearest


def test_the_nearest_are_those_of_all_distances(
    features: np.ndarray, paths: list[str], labels: list[str]
) -> None:
    index = similar.Index([Vectors(paths, labels, features)])
    query = features[7] + 0.1
    distances = plain_distances(query[None], features)[0]
    found = index.nearest(query, 6)
    expected = np.argsort(distances)[:6]
    assert [each.path for each in found] == [paths[row] for row in expected]
    assert [each.label for each in found] == [labels[row] for row in expected]
    np.testing.assert_allclose([each.distance for each in found], distances[expected], atol=1e-6)


def test_a_search_that_holds_one_block_at_a_time_finds_the_same(
    results: LocalResults, features: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pomona.results.vectors.BLOCK_ROWS", 4)
    index = similar.Index(results.vectors("features"))
    streamed = similar.nearest(results, features[3], 30)
    assert [each.path for each in streamed] == [
        each.path for each in index.nearest(features[3], 30)
    ]
    assert streamed[0].distance == 0


def test_the_length_of_a_vector_does_not_count(
    features: np.ndarray, paths: list[str], labels: list[str]
) -> None:
    index = similar.Index([Vectors(paths, labels, features * 1000)])
    assert index.nearest(features[8], 1)[0] == (paths[8], labels[8], pytest.approx(0, abs=1e-12))


def test_a_vector_of_zeros_is_1_away_from_everything(
    features: np.ndarray, paths: list[str], labels: list[str]
) -> None:
    features[4] = 0
    index = similar.Index([Vectors(paths, labels, features)])
    assert {each.distance for each in index.nearest(np.zeros(outputs.DIM), 45)} == {1.0}
    found = {each.path: each.distance for each in index.nearest(features[0], 45)}
    assert found[paths[4]] == 1.0


def test_asking_for_more_than_there_are_gives_all(results: LocalResults) -> None:
    assert len(similar.nearest(results, np.ones(outputs.DIM), 1000)) == 45


def test_features_of_another_model_are_refused(results: LocalResults) -> None:
    with pytest.raises(ValueError, match="features of 32 and of 16 numbers"):
        similar.nearest(results, np.ones(16), 3)


@pytest.mark.parametrize("query", [[np.nan] * outputs.DIM, np.ones((2, outputs.DIM))])
def test_a_query_must_be_one_vector_of_finite_numbers(results: LocalResults, query) -> None:
    with pytest.raises(ValueError, match="one vector of finite numbers"):
        similar.nearest(results, query, 3)


def test_the_neighbours_of_all_are_those_of_all_distances(
    paths: list[str], labels: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_vectors, "BLOCK", 16)
    # Its distances to the nearest differ by 5e-5, which float32 tells apart on every processor.
    features = outputs.features_of(5, 9, seed=6)
    rows, distances = similar.Index([Vectors(paths, labels, features)]).neighbours(5)
    expected = plain_distances(features, features)
    np.fill_diagonal(expected, np.inf)
    np.testing.assert_array_equal(rows, np.argsort(expected, axis=1)[:, :5])
    np.testing.assert_allclose(distances, np.sort(expected, axis=1)[:, :5], atol=1e-5)


# Near-duplicates


@pytest.mark.parametrize("block", [7, 2048])
@pytest.mark.parametrize("threshold", [0.0, 0.01, 0.03, 2.0])
def test_duplicates_are_all_pairs_within_the_threshold(
    features: np.ndarray,
    paths: list[str],
    labels: list[str],
    block: int,
    threshold: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_vectors, "BLOCK", block)
    features[30] = features[2]  # the very same
    distances = plain_distances(features, features)
    one, two = np.triu_indices(45, 1)
    near = distances[one, two] <= threshold + 1e-12
    expected = {(paths[a], paths[b]) for a, b in zip(one[near], two[near])}
    found = similar.duplicates([Vectors(paths, labels, features)], threshold=threshold)
    assert {(pair.path, pair.other) for pair in found.pairs} == expected
    assert found.found == len(expected)
    assert found.photos == 45
    assert found.pairs[0][:2] == (paths[2], paths[30])
    assert found.pairs[0].distance == 0
    assert [pair.distance for pair in found.pairs] == sorted(pair.distance for pair in found.pairs)


def test_only_the_closest_pairs_are_kept_and_all_are_counted(
    features: np.ndarray, paths: list[str], labels: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_vectors, "BLOCK", 7)
    photos = [Vectors(paths, labels, features)]
    every = similar.duplicates(photos, threshold=2)
    few = similar.duplicates(photos, threshold=2, most=5)
    assert every.found == few.found == 45 * 44 // 2
    assert few.pairs == every.pairs[:5]


def test_a_set_without_features_has_no_duplicates() -> None:
    assert similar.duplicates([]) == ([], 0, 0)


def test_the_search_for_duplicates_takes_little_memory(tmp_path: Path) -> None:
    # 144 MB of vectors in a file; resident are those that the system leaves mapped, so what counts
    # is memory that the process has for itself.
    script = """
        import numpy as np
        from pomona import similar
        from pomona.results import Vectors
        def anonymous():
            with open("/proc/self/status") as file:
                return int(next(line for line in file if line.startswith("RssAnon")).split()[1])
        peak = 0
        plain = similar._close_pairs
        def watched(*args):
            global peak
            peak = max(peak, anonymous())
            return plain(*args)
        similar._close_pairs = watched
        random = np.random.RandomState(0)
        def blocks():
            for part in range(24):
                rows = random.normal(size=(250, 6000)).astype(np.float32)
                yield Vectors([f"{part}/{row}" for row in range(250)], [""] * 250, rows)
        before = anonymous()
        assert similar.duplicates(blocks()).photos == 6000
        print((peak - before) // 1024)
    """
    command = [sys.executable, "-c", textwrap.dedent(script)]
    # One thread: two of them wait for each other where cores are shared.
    alone = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=alone)
    # One block as it comes, in float32 and 64, and one of scores.
    assert int(done.stdout) < 90, "MiB above the start"


# Reading a run


def test_rows_of_files_that_are_not_of_the_set_do_not_count(
    results: LocalResults, features: np.ndarray, paths: list[str], labels: list[str], tmp_path: Path
) -> None:
    other = outputs.write_output(tmp_path / "other", paths, labels, features)
    stray = min((other / "features").glob("*.parquet"))
    stray.rename(tmp_path / "out/features/part-00009-late.snappy.parquet")
    assert len(similar.Index(results.vectors("features"))) == 45


def test_photos_with_errors_or_numbers_that_are_not_finite_are_left_out(
    features: np.ndarray, paths: list[str], labels: list[str], tmp_path: Path
) -> None:
    broken = {paths[0]: "not a JPEG", paths[44]: "cut off"}
    outputs.write_output(tmp_path / "out", paths, labels, features, errors=broken)
    results = LocalResults(str(tmp_path / "out"))
    assert set(similar.Index(results.vectors("features")).paths) == set(paths[1:44])
    assert results.broken(1) == [(paths[0], labels[0], "not a JPEG")]
    assert sum(each.errors for each in results.classes()) == 2
    block = Vectors(["a"], [""], np.array([[np.inf, 1]], np.float32))
    assert np.isinf(block.matrix).any()


def test_a_sample_has_each_class_by_its_share_and_stays_the_same(results: LocalResults) -> None:
    sample = results.sample(20, seed=3)
    counts = {label: sample.labels.count(label) for label in sample.labels}
    assert counts == dict.fromkeys([f"Apple {number}" for number in range(5)], 4)
    assert results.sample(20, seed=3).paths == sample.paths
    assert results.sample(20, seed=4).paths != sample.paths
    of_class = sorted(sample.paths[:4])
    every = sorted(
        (f"file:/photos/Apple 0/r0_{turn}.jpg" for turn in range(9)), key=lambda p: draw(p, 3)
    )
    assert of_class == sorted(every[:4])


def test_a_small_class_keeps_a_few_photos_in_a_sample() -> None:
    assert shares([100_000, 5, 2], 100) == [95, LEAST_PER_CLASS, 2]
    assert shares([10] * 200, 50) == [1] * 50 + [0] * 150
    assert sum(shares([997, 331, 78, 4], 123)) == 123


def test_a_folder_without_a_finished_run_says_what_to_name(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no finished run.*--output of `pomona run`"):
        LocalResults(str(tmp_path))


def test_the_latest_complete_description_says_which_files_are_the_set(
    results: LocalResults, tmp_path: Path
) -> None:
    state = tmp_path / "out/features/_pomona"
    (state / "set-000002.json").write_text('{"number": 2, "files": {"part-0')
    assert sum(each.photos for each in results.classes()) == 45
    (state / "set-000001.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"features holds no finished table"):
        results.classes()


def test_a_summary_that_was_cut_short_is_no_finished_run(tmp_path: Path) -> None:
    (tmp_path / "summary.json").write_text('{"photos": 6')
    with pytest.raises(FileNotFoundError, match="holds no finished run"):
        LocalResults(str(tmp_path))


# The command


def test_a_photo_of_the_set_is_found_by_its_path_and_not_among_its_neighbours(
    real_output: Path, photos_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photo = min(photos_folder.rglob("*.jpg"))
    assert main(["similar", str(real_output), str(photo), "-k", "3", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["metric"] == "cosine distance"
    assert (found["photo"], found["in_set"]) == (f"file:{photo}", True)
    assert len(found["neighbours"]) == 3
    assert found["photo"] not in [each["path"] for each in found["neighbours"]]
    distances = [each["distance"] for each in found["neighbours"]]
    assert distances == sorted(distances)


def test_a_new_photo_goes_through_the_model_of_the_run(
    real_output: Path,
    photos_folder: Path,
    tiny_model: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    photo = min(photos_folder.rglob("*.jpg"))
    new = tmp_path / "nouvelle pomme é.jpg"
    new.write_bytes(photo.read_bytes())
    assert main(["similar", str(real_output), str(new), "-k", "2", "--model", str(tiny_model)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"cosine distance to {new}:"
    assert lines[1] == f"0.000000  {photo.parent.name}  file:{photo}"
    assert len(lines) == 3


@pytest.fixture
def upright_output(photos_folder: Path, tiny_model: Path, tmp_path: Path) -> Path:
    """The output of a run with ``apply_exif`` on two photos, of which the first is turned."""
    files = [tmp_path / "apples" / "turned.jpg", min(photos_folder.rglob("*.jpg"))]
    files[0].parent.mkdir()
    files[0].write_bytes(turned("JPEG", 6))
    featurizer = Featurizer(tiny_model, apply_exif=True)
    return outputs.write_output(
        tmp_path / "out",
        [f"file:{file}" for file in files],
        ["apples", "apples"],
        featurizer.featurize([file.read_bytes() for file in files]),
        model={"name": str(tiny_model), "sha256": sha256_of(tiny_model)},
        decode=DecodeOptions(apply_exif=True).keywords(),
    )


def test_a_new_photo_is_decoded_with_the_options_of_the_run(
    upright_output: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    new = tmp_path / "new.jpg"
    new.write_bytes(turned("JPEG", 6))
    assert main(["similar", str(upright_output), str(new), "--max-pixels", "99999"]) == 0
    captured = capsys.readouterr()
    assert captured.out.splitlines()[1].startswith("0.000000  apples  ")
    assert captured.out.splitlines()[1].endswith("turned.jpg")
    assert captured.err == ""


def test_decode_options_that_the_run_did_not_have_give_a_warning(
    real_output: Path, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    new = tmp_path / "new.jpg"
    new.write_bytes(turned("JPEG", 6))
    command = ["similar", str(real_output), str(new), "--model", str(tiny_model)]
    assert main([*command, "--apply-exif"]) == 0
    assert capsys.readouterr().err == (
        "pomona: warning: the photo is decoded with another apply_exif than the run\n"
    )


def test_a_damaged_query_gives_a_warning_or_is_refused(
    real_output: Path, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    new = tmp_path / "new.jpg"
    new.write_bytes(damaged())
    command = ["similar", str(real_output), str(new), "--model", str(tiny_model)]
    assert main(command) == 0
    assert capsys.readouterr().err.startswith(f"pomona: warning: {new}: parts of the picture are")
    assert main([*command, "--strict"]) == 1
    assert "damaged or missing" in capsys.readouterr().err


def test_another_model_than_that_of_the_run_is_refused(
    real_output: Path, photos_folder: Path, tiny_model: Path, tmp_path: Path, capsys
) -> None:
    new = tmp_path / "new.jpg"
    new.write_bytes(min(photos_folder.rglob("*.jpg")).read_bytes())
    other = tmp_path / "other.onnx"
    other.write_bytes(tiny_model.read_bytes() + b"\0")
    assert main(["similar", str(real_output), str(new), "--model", str(other)]) == 1
    assert "other.onnx is not the model of this run: its sha256 is" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "cannot be read: No such file or directory"), (b"broken", "new.jpg: not a JPEG")],
)
def test_a_photo_that_cannot_be_read_says_so(
    real_output: Path, tiny_model: Path, tmp_path: Path, content: bytes | None, message: str, capsys
) -> None:
    new = tmp_path / "new.jpg"
    if content:
        new.write_bytes(content)
    assert main(["similar", str(real_output), str(new), "--model", str(tiny_model)]) == 1
    assert message in capsys.readouterr().err


def test_duplicates_are_shown_and_counted(
    results: LocalResults, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["similar", results.uri, "--duplicates", "--threshold", "1.5"]
    assert main([*command, "-k", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert lines[2] == (
        "990 pairs among 45 photos within cosine distance 1.5; the closest 2 are shown, use -k for "
        "more"
    )
    assert main([*command, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["found"], len(found["pairs"]), found["threshold"]) == (990, 100, 1.5)
    assert set(found["pairs"][0]) == {"path", "other", "label", "other_label", "distance"}


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ([], "give either a PHOTO or --duplicates"),
        (["photo.jpg", "--duplicates"], "give either a PHOTO or --duplicates"),
        (["photo.jpg", "--threshold", "0.1"], "--threshold applies to --duplicates"),
    ],
)
def test_what_to_look_for_must_be_clear(
    results: LocalResults, more: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["similar", results.uri, *more]) == 1
    assert message in capsys.readouterr().err


def test_a_folder_that_is_not_there_is_told_before_spark_is_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["similar", str(tmp_path / "nowhere"), "photo.jpg"]) == 1
    assert f"{tmp_path}/nowhere: No such file or directory" in capsys.readouterr().err


@pytest.mark.parametrize(
    "name",
    ["similar", "results.base", "results.format", "results.local", "results.metrics"],
)
def test_the_examples_of_the_docstrings_work(name: str) -> None:
    outcome = doctest.testmod(importlib.import_module(f"pomona.{name}"))
    assert outcome.attempted
    assert not outcome.failed
