"""What `pomona featurize` writes is a result: PCA, report and searches work on it without Spark."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from sklearn.decomposition import PCA as ReferencePCA  # noqa: N811

import pomona.cli._results
from pomona import LocalResults, featurize_folder, pca
from pomona.cli import main
from pomona.models.store import sha256_of
from pomona.report import write_report
from pomona.results import Vectors, spark_ml
from pomona.results.summary import Summary

KINDS = ["file", "folder"]
PHOTOS, DIM = 32, 16


@pytest.fixture(scope="module")
def results_of(
    photos_folder: Path, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """A file and a folder of features of the same photos; tests copy them."""
    home = tmp_path_factory.mktemp("featurized")
    paths = {"file": home / "fruits.parquet", "folder": home / "fruits"}
    for path in paths.values():
        featurize_folder(photos_folder, path, model=tiny_model)
    return paths


@pytest.fixture
def kind(request: pytest.FixtureRequest) -> str:
    return str(getattr(request, "param", "file"))


@pytest.fixture
def path(kind: str, results_of: dict[str, Path], tmp_path: Path) -> Path:
    """A copy of features of the wanted kind."""
    original = results_of[kind]
    copy = tmp_path / original.name
    if original.is_dir():
        shutil.copytree(str(original), str(copy))
    else:
        shutil.copy2(str(original), str(copy))
    return copy


both = pytest.mark.parametrize("kind", KINDS, indirect=True)


# The results of `pomona featurize`.


@both
def test_a_file_and_a_folder_open_as_results(path: Path, kind: str, tiny_model: Path) -> None:
    results = LocalResults(path)
    assert results.engine == "local"
    assert results.uri == str(path.parent / ("fruits-results" if kind == "file" else "fruits"))
    fields = {field.name for field in dataclasses.fields(Summary)}
    assert results.summary.keys() - {"features_file"} == fields
    assert results.summary["model"] == {"name": "tiny", "sha256": sha256_of(tiny_model)}
    assert (results.summary["photos"], results.summary["errors"]) == (PHOTOS, 0)
    assert (results.summary["dim"], results.summary["k"]) == (DIM, 0)
    assert sum(each.photos for each in results.classes()) == PHOTOS
    assert sum(len(block.paths) for block in results.vectors("features")) == PHOTOS
    assert sorted(each.name for each in path.parent.iterdir()) == [path.name]


def test_opening_reads_no_features(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = []
    original = pq.ParquetFile.iter_batches

    def iter_batches(self: object, *args: object, **options: object) -> object:
        read.append(options["columns"])
        return original(self, *args, **options)

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", iter_batches)
    LocalResults(path).classes()
    assert read
    assert all("features" not in columns for columns in read)


def test_the_results_folder_holds_features_and_a_summary_and_nothing_unfinished(
    results_of: dict[str, Path],
) -> None:
    folder = results_of["folder"]
    files = sorted(str(each.relative_to(folder)) for each in folder.rglob("*"))
    assert files == ["features", "features/part-00000.parquet", "summary.json"]
    assert sorted(each.name for each in folder.parent.iterdir()) == ["fruits", "fruits.parquet"]


def test_results_that_fail_leave_nothing_behind(
    photos_folder: Path, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pomona.local._table", lambda *_: 1 / 0)
    (tmp_path / "empty").mkdir()
    for name in ("new", "empty"):
        with pytest.raises(ZeroDivisionError):
            featurize_folder(photos_folder, tmp_path / name, model=tiny_model)
    assert [each.name for each in tmp_path.rglob("*")] == ["empty"]


def test_an_empty_folder_becomes_results_even_if_a_killed_process_left_a_file(
    photos_folder: Path, tiny_model: Path, tmp_path: Path
) -> None:
    (tmp_path / ".pomona-0.partial").touch()
    featurize_folder(photos_folder, tmp_path, model=tiny_model)
    assert LocalResults(tmp_path).summary["photos"] == PHOTOS


@pytest.mark.parametrize("kind", ["folder"], indirect=True)
def test_overwrite_replaces_features_and_keeps_what_people_made(
    path: Path, photos_folder: Path, tiny_model: Path
) -> None:
    with pytest.raises(FileExistsError, match="overwrite=True replaces it"):
        featurize_folder(photos_folder, path, model=tiny_model)
    pca.write_pca(LocalResults(path), components=2)
    (path / "findings.csv").write_text("path,decision\n")
    (path / "classifier").mkdir()
    label = next(each for each in photos_folder.iterdir() if each.is_dir())
    featurize_folder(label, path, model=tiny_model, overwrite=True)
    results = LocalResults(path)
    assert (results.summary["photos"], results.summary["k"]) == (
        len(list(label.glob("*.jpg"))),
        0,
    )
    names = ["classifier", "features", "findings.csv", "summary.json"]
    assert sorted(each.name for each in path.iterdir()) == names


def test_a_folder_of_other_files_is_never_replaced(
    photos_folder: Path, tiny_model: Path, tmp_path: Path
) -> None:
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(FileExistsError, match="is a folder with other files"):
        featurize_folder(photos_folder, tmp_path, model=tiny_model, overwrite=True)
    with pytest.raises(ValueError, match="is in the folder of photos"):
        featurize_folder(photos_folder, photos_folder / "results", model=tiny_model)
    assert [each.name for each in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("x.csv", "give x.parquet, and convert it with pandas: "),
        ("x.JSON", "give x.parquet, and convert it with pandas: "),
        ("x.npy", "give x.parquet, and convert it with pandas: "),
        ("x.h5", "x.h5: features are written as Parquet, so give x.parquet"),
        ("x.jpg", "so give x.parquet"),
        ("-", "cannot be written to standard output"),
    ],
)
def test_outputs_that_are_not_parquet_are_refused_before_any_work(
    output: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["featurize", str(tmp_path), "-o", output, "--model", "nowhere"]) == 1
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("name", ["x.csv", "x.json", "x.npy"])
def test_the_line_that_converts_works(name: str, path: Path, tmp_path: Path) -> None:
    pytest.importorskip("pandas")
    with pytest.raises(ValueError, match="pandas") as refused:
        featurize_folder(tmp_path, name)
    line = str(refused.value).partition("with pandas: ")[2].replace("x.parquet", path.name)
    subprocess.run([sys.executable, "-c", line], cwd=str(tmp_path), check=True)
    target = tmp_path / name
    if name == "x.csv":
        rows = [line.split(",") for line in target.read_text().splitlines()]
        assert {len(row) for row in rows} == {2 + DIM}
    elif name == "x.npy":
        assert np.load(str(target)).shape == (PHOTOS, DIM)
    else:
        assert len(json.loads(target.read_text())) == PHOTOS


# What is no result.


@pytest.mark.parametrize("command", [["pca"], ["report"], ["similar", "--duplicates"]])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"path,label\n", "is not a Parquet file"),
        (None, "was cut short"),
    ],
)
def test_files_that_are_no_features_say_what_they_are(
    command: list[str],
    content: bytes | None,
    message: str,
    path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path.write_bytes(path.read_bytes()[:-100] if content is None else content)
    assert main([command[0], str(path), *command[1:]]) == 1
    assert message in capsys.readouterr().err


def test_a_parquet_file_of_another_program_is_refused(path: Path) -> None:
    pq.write_table(pq.read_table(path).replace_schema_metadata(None), path)
    with pytest.raises(ValueError, match="was not written by `pomona featurize`"):
        LocalResults(path)


@pytest.mark.parametrize("kind", ["folder"], indirect=True)
def test_a_folder_whose_features_were_cut_short_says_so(path: Path) -> None:
    file = path / "features/part-00000.parquet"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(ValueError, match="was cut short"):
        LocalResults(path).classes()


@both
def test_photos_that_all_failed_are_named(path: Path, tmp_path: Path, tiny_model: Path) -> None:
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad/1.jpg").write_bytes(b"")
    featurize_folder(tmp_path / "bad", path, model=tiny_model, overwrite=True)
    for act in (pca.write_pca, write_report):
        with pytest.raises(ValueError, match=r"none of the 1 photos of .*bad/1.jpg: empty"):
            act(LocalResults(path))


@pytest.mark.parametrize(
    "command",
    [
        ["featurize", "RESULTZ", "-o", "x.parquet"],
        ["run", "--images", "RESULTZ", "--output", "out"],
        ["pca", "RESULTZ"],
        ["pca", "RESULTZ", "--engine", "spark"],
        ["report", "RESULTZ"],
        ["similar", "RESULTZ", "--duplicates"],
        ["train", "RESULTZ", "--classifier", "svm"],
        ["predict", "RESULTZ", "RESULTZ", "-o", "x"],
    ],
)
def test_paths_that_do_not_exist_are_refused_before_java_starts(
    command: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "results").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(pomona.cli._results, "_default_is_local", lambda: True)
    assert main([word.replace("RESULTZ", "resultz") for word in command]) == 1
    error = capsys.readouterr().err
    assert error == "pomona: resultz: No such file or directory; did you mean results?\n"


def test_on_a_cluster_a_path_without_a_scheme_may_be_elsewhere(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HADOOP_CONF_DIR", "/etc/hadoop/conf")
    pomona.cli._results.check_local(["/user/hadoop/results", "s3://bucket/results"])
    with pytest.raises(FileNotFoundError):
        pomona.cli._results.check_local(["file:///nowhere"])


# PCA.


def blocks_of(matrix: np.ndarray, rows: int) -> list[Vectors]:
    return [
        Vectors([""] * len(part), [""] * len(part), part)
        for part in (matrix[start : start + rows] for start in range(0, len(matrix), rows))
    ]


@pytest.mark.parametrize("standardize", [False, True])
def test_the_components_are_those_of_scikit_learn(standardize: bool) -> None:
    random = np.random.RandomState(7)
    matrix = (random.normal(size=(300, 12)) * 10.0 ** np.linspace(0, -3, 12) + 3).astype(np.float32)
    found = pca.fit(blocks_of(matrix, 70), components=5, standardize=standardize)
    scaled = matrix.astype(np.float64) - matrix.mean(axis=0, dtype=np.float64)
    if standardize:
        scaled /= scaled.std(axis=0, ddof=1)
    expected = ReferencePCA(12).fit(scaled)
    np.testing.assert_allclose(
        found.explained_variance_ratio, expected.explained_variance_ratio_, rtol=1e-6, atol=1e-9
    )
    projected = np.abs(found.project(matrix))
    np.testing.assert_allclose(projected, np.abs(expected.transform(scaled)[:, :5]), atol=1e-5)
    assert (found.rows, found.k, found.project(matrix).dtype) == (300, 5, np.float32)


def test_rows_that_are_not_finite_are_counted() -> None:
    matrix = np.eye(6, 4, dtype=np.float32)
    matrix[5] = np.nan
    found = pca.fit(blocks_of(matrix, 3))
    assert (found.rows, found.nonfinite) == (5, 1)


@both
def test_a_pca_is_saved_as_spark_saves_it(path: Path) -> None:
    results = LocalResults(path)
    found = pca.write_pca(results, components=3)
    home = Path(results.uri)
    table = pq.read_table(home / "pca/part-00000.parquet")
    assert table.schema.names == ["path", "label", "pca"]
    features = np.concatenate([block.matrix for block in results.vectors("features")])
    np.testing.assert_array_equal(np.stack(table["pca"].to_numpy()), found.project(features))
    scaler, projection = spark_ml.load(home / "pca_model")[-2:]
    np.testing.assert_array_equal(scaler.mean, found.mean)
    np.testing.assert_array_equal(projection.components, found.components)
    again = LocalResults(path)
    assert again.summary == results.summary
    assert (again.summary["k"], again.summary["variance"]) == (3, None)
    assert len(again.summary["variance_curve"]) == DIM
    assert not list(home.rglob(".pomona*"))


def test_results_without_a_pca_get_one_once(path: Path) -> None:
    told: list[str] = []
    for _ in range(2):
        pca.ensure_pca(LocalResults(path), told.append)
    assert told == ["fitting a PCA, because there is none yet (variance 0.95)"]
    os.utime(path, ns=(1, 1))
    assert LocalResults(path).summary["k"] == 0


def test_a_pca_that_fails_leaves_the_one_before(path: Path) -> None:
    results = LocalResults(path)
    pca.write_pca(results, components=2)
    with pytest.raises(ValueError, match="at most 16"):
        pca.write_pca(results, components=99)
    assert LocalResults(path).summary["k"] == 2


def test_a_pca_that_is_cut_off_is_none(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pca.write_pca(LocalResults(path), components=2)
    monkeypatch.setattr(spark_ml, "save", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        pca.write_pca(LocalResults(path), components=3)
    assert LocalResults(path).summary["k"] == 0


# Commands.


@both
def test_every_command_works_on_both_kinds_and_without_spark(path: Path, kind: str) -> None:
    photo = pq.read_table(
        path if kind == "file" else path / "features/part-00000.parquet", columns=["path"]
    )["path"][0].as_py()
    script = f"""
        import contextlib, io, json, sys
        from pomona.cli import main
        sys.modules["pyspark"] = None
        for command in (
            ["pca", {str(path)!r}, "--components", "3", "--json"],
            ["report", {str(path)!r}, "--json"],
            ["similar", {str(path)!r}, {photo!r}, "-k", "2", "--json"],
        ):
            with contextlib.redirect_stdout(io.StringIO()) as out:
                assert main(command) == 0
            print(json.dumps(json.loads(out.getvalue())))
    """
    lines = [line[8:] for line in script.splitlines()]
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)], stdout=subprocess.PIPE, text=True, check=True
    )
    fitted, report, similar = map(json.loads, done.stdout.splitlines())
    assert (fitted["rows"], fitted["k"], fitted["dim"]) == (PHOTOS, 3, DIM)
    assert report["photos"] == report["of"] == PHOTOS
    assert Path(report["uri"]).is_file()
    assert similar["in_set"]
    assert len(similar["neighbours"]) == 2


def test_a_report_without_a_pca_fits_one_and_says_so(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", str(path)]) == 0
    assert "pomona: fitting a PCA, because there is none yet" in capsys.readouterr().err
    page = (path.parent / "fruits-results/report/index.html").read_text(encoding="utf-8")
    assert "pomona featurize … --decisions findings.csv" in page


def test_featurize_as_json_is_one_object(
    photos_folder: Path, tmp_path: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["featurize", str(photos_folder), "-o", str(tmp_path / "out"), "--json"]
    assert main([*command, "--model", str(tiny_model)]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["photos"], answer["errors"], len(answer["labels"])) == (PHOTOS, 0, 4)


def test_relative_paths_are_found_from_other_folders(
    photos_folder: Path, tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(photos_folder.parent)
    output = tmp_path / "out.parquet"
    featurize_folder(photos_folder.name, output, model=tiny_model)
    monkeypatch.chdir(tmp_path)
    results = LocalResults(output)
    photo = sorted(photos_folder.rglob("*.jpg"))[0]
    (block,) = results.vectors("features", paths=results.paths_of(str(photo)))
    assert results.photo(block.paths[0]) == photo.read_bytes()
