"""Findings: planted label errors, near-duplicates and bad photos, and what changed between sets."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path
from typing import Callable

import numpy as np
import pytest
from PIL import Image, ImageFilter

import outputs
import pomona.findings
from pomona import ModelError
from pomona.cli import main
from pomona.findings import BLANK_CONTRAST, Findings, check, gallery, labels, twins
from pomona.findings.drift import compare
from pomona.findings.gallery import Gallery
from pomona.local import featurize_folder
from pomona.models.store import path_of
from pomona.results import LocalResults
from pomona.results.pixels import PixelStatistics, pixel_statistics

#: The sets of real photos, by folder.
SETS = ["fruits", "fruits-360-100x100/Test"]


@pytest.fixture(scope="session")
def real_results(
    real_photos: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], LocalResults]:
    """The features of a set of real photos, computed once."""
    if not path_of("efficientnet_lite0").exists():
        pytest.skip("needs efficientnet_lite0: pomona model pull efficientnet_lite0")
    known: dict[str, LocalResults] = {}

    def results_of(name: str) -> LocalResults:
        if name not in known:
            file = tmp_path_factory.mktemp("real") / "features.parquet"
            featurize_folder(real_photos / name, file, model="efficientnet_lite0", threads=2)
            known[name] = LocalResults(str(file))
        return known[name]

    return results_of


def in_memory(results: LocalResults) -> Gallery:
    with gallery.open_gallery(results) as photos:
        return Gallery(photos.paths, photos.labels, np.array(photos.units))


def found_by(photos: Gallery, truth: np.ndarray) -> tuple[float, float]:
    """The share of wrong labels that is found, and false alarms as a share of the photos."""
    given = np.array(photos.labels)
    found = np.zeros(len(given), bool)
    found[[each.row for each in labels.suspects(*labels.margins_of(photos))]] = True
    wrong = given != truth
    return float(found[wrong].mean()), float((found & ~wrong).mean())


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("twin", ["none", "right", "wrong"])
def test_planted_label_errors_are_found_without_false_alarms(
    real_results: Callable[[str], LocalResults], name: str, twin: str
) -> None:
    photos = in_memory(real_results(name))
    truth = np.array(photos.labels)
    for seed, share in enumerate([0.02, 0.05, 0.1] * (2 if twin == "none" else 1)):
        random = np.random.RandomState(seed)
        rows = random.choice(len(truth), round(share * len(truth)), replace=False)
        given, units, true = truth.copy(), photos.units, truth
        for row in rows:
            given[row] = random.choice([each for each in photos.classes if each != truth[row]])
        if twin != "none":  # a near-copy of each, with the right or with the same wrong label
            noise = random.normal(size=(len(rows), units.shape[1])) * 0.002
            units = np.vstack([units, units[rows] + noise]).astype(np.float32)
            units /= np.linalg.norm(units, axis=1, keepdims=True)
            true = np.concatenate([truth, truth[rows]])
            given = np.concatenate([given, (truth if twin == "right" else given)[rows]])
        paths = [str(row) for row in range(len(given))]
        found, alarms = found_by(Gallery(paths, given.tolist(), units), true)
        assert found >= 0.9, f"seed {seed}: {found:.1%} of {share:.0%} found"
        assert alarms <= 0.02, f"seed {seed}: {alarms:.1%} false alarms at {share:.0%}"


def test_label_errors_among_many_classes_are_found() -> None:
    classes, per_class = 141, 30
    units = outputs.features_of(classes, per_class, dim=64)
    units /= np.linalg.norm(units, axis=1, keepdims=True)
    truth = np.repeat([f"class {number}" for number in range(classes)], per_class)
    given = truth.copy()
    given[::50] = np.roll(given, per_class)[::50]
    photos = Gallery([str(row) for row in range(len(truth))], given.tolist(), units)
    assert found_by(photos, truth) == (1.0, 0.0)


def test_photos_without_a_label_or_a_second_class_are_no_label_errors() -> None:
    units = np.eye(6, dtype=np.float32)
    for names in (["", "", "", "a", "a", "a"], ["a"] * 6, [""] * 6):
        photos = Gallery(list("abcdef"), names, units)
        assert not labels.suspects(*labels.margins_of(photos))
    copies = Gallery(list("abcdef"), list("xxxyyy"), np.ones((6, 6), np.float32))
    assert not labels.suspects(*labels.margins_of(copies))


def groups_of(found: Findings) -> dict[str, set[str]]:
    return {group.kind: {Path(each.path).stem for each in group.findings} for group in found.groups}


@pytest.mark.parametrize("name", SETS)
def test_good_photos_are_not_called_bad_and_planted_ones_are_found(
    real_photos: Path, real_results: Callable[[str], LocalResults], name: str
) -> None:
    found = check(real_results(name))
    bad = {"blurred", "dark", "tiny", "blank", "unreadable", "label_error"}
    assert sum(group.total for group in found.groups if group.kind in bad) <= 0.02 * found.photos

    for path in sorted((real_photos / name).rglob("*.jpg"))[::25]:
        with Image.open(path) as photo:
            spoiled = {
                "blurred": photo.filter(ImageFilter.GaussianBlur(1.5)),
                "dark": photo.point(lambda level: level * 0.15),
                "tiny": photo.resize((8, 8)),
                "blank": Image.new("RGB", photo.size, photo.getpixel((5, 5))),
            }
        for kind, image in spoiled.items():
            buffer = io.BytesIO()
            image.save(buffer, "JPEG", quality=90)
            statistics = pixel_statistics(buffer.getvalue())
            assert isinstance(statistics, PixelStatistics)
            kinds = [each.kind for each in pomona.findings._pixels("", "", statistics)]
            assert kind in kinds, f"{path}: {statistics}"


def test_pixels_are_measured_at_any_size() -> None:
    def measured(image: Image.Image) -> PixelStatistics | str:
        buffer = io.BytesIO()
        image.save(buffer, "PNG")
        return pixel_statistics(buffer.getvalue())

    stripes = np.tile(np.repeat([0, 255], 8), 128)[None, :].repeat(600, axis=0).astype(np.uint8)
    large = measured(Image.fromarray(stripes).convert("RGB"))
    assert isinstance(large, PixelStatistics)
    assert large.side == 600
    assert large.brightness == pytest.approx(127.5, abs=1)
    for size in [(1, 1), (1, 5000), (2, 2)]:
        point = measured(Image.new("RGB", size, "grey"))
        assert isinstance(point, PixelStatistics)
        assert point.side == min(size)
        assert point.contrast < BLANK_CONTRAST
    assert str(pixel_statistics(b"no photo")).startswith("not a JPEG, PNG")


def units_at(angles: list[float]) -> np.ndarray:
    """Unit vectors in a plane; angles of 0.1 are 0.005 apart."""
    return np.array([[np.cos(each), np.sin(each)] for each in angles], np.float32)


def test_near_duplicates_are_told_apart_by_class_and_part() -> None:
    paths = ["train/a/1", "test/a/2", "train/a/3", "train/b/4", "test/b/5", "other/b/6"]
    photos = Gallery(paths, list("aaabbb"), units_at([0, 0.05, 0.1, 0.11, 1, 1.05]))
    classes, leaks = twins.across(photos, 0.01)
    # Each pair once: photos 2 and 3 are nearest to each other, 0 and 1 to them.
    assert {(each.row, each.other) for each in classes} == {(0, 3), (1, 3), (2, 3)}
    assert classes[0][:2] == (2, 3)
    # The photo to leave out comes first, and a photo in no part is no leak.
    assert {(each.row, each.other) for each in leaks} == {(1, 0), (1, 2)}
    assert [each[:2] for each in twins.within(photos, 0.01)] == [(2, 0)]


def test_leaving_out_all_duplicates_leaves_no_two_and_no_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    random = np.random.RandomState(0)
    angles = random.uniform(0, 3, size=200).tolist()
    paths = [str(row) for row in range(200)]
    photos = Gallery(paths, ["a"] * 200, units_at(angles))
    left_out = {each.row for each in twins.within(photos, 0.01)}
    kept = [row for row in range(200) if row not in left_out]
    cosines = photos.units[kept] @ photos.units[kept].T - 2 * np.eye(len(kept))
    assert cosines.max() < 0.99
    assert (photos.units[sorted(left_out)] @ photos.units[kept].T).max(axis=1).min() >= 0.99
    monkeypatch.setattr(twins, "BLOCK", 7)
    assert {each.row for each in twins.within(photos, 0.01)} == left_out


def test_blocks_do_not_change_what_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    units = outputs.features_of(5, 12, seed=3)
    units /= np.linalg.norm(units, axis=1, keepdims=True)
    paths = [f"{'train' if row % 2 else 'test'}/{row}" for row in range(60)]
    photos = Gallery(paths, [str(row % 5) for row in range(60)], units)
    whole = twins.across(photos, 0.1), labels.margins_of(photos)[1].tolist()
    assert all(whole[0])
    for module in (twins, gallery):
        monkeypatch.setattr(module, "BLOCK", 7)
    # Few enough for the screen of blocks.
    monkeypatch.setattr(twins, "_AXES", 4)
    parts = twins.across(photos, 0.1), labels.margins_of(photos)[1].tolist()
    assert [[each[:2] for each in pairs] for pairs in parts[0]] == [
        [each[:2] for each in pairs] for pairs in whole[0]
    ]
    assert parts[1] == whole[1]


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """Results of two classes of ten photos and one of three; one photo is broken."""
    names = ["pear"] * 10 + ["fig"] * 10 + ["kiwi"] * 3
    features = outputs.features_of(3, 10)[:23]
    paths = [f"/photos/{name}/{row}.jpg" for row, name in enumerate(names)]
    return outputs.write_output(
        tmp_path / "output",
        paths,
        list(names),
        features,
        errors={paths[0]: "truncated"},
        warnings={paths[1]: "clipped"},
    )


def test_what_featurizing_noted_and_thin_classes_are_findings(written: Path) -> None:
    found = groups_of(check(LocalResults(str(written))))
    assert found["unreadable"] == {"0"}
    assert found["warning"] == {"1"}
    assert found["thin_class"] == {"20", "21", "22"}
    whole = check(LocalResults(str(written)))
    assert [group.kind for group in whole.groups] == ["thin_class", "unreadable", "warning"]
    assert (whole.photos, whole.of, whole.measured) == (22, 22, 0)
    assert whole.not_measured == (22, "No such file or directory")


def test_of_a_very_large_set_a_sample_is_looked_at(
    written: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gallery, "LARGEST", 9)
    found = check(LocalResults(str(written)))
    assert (found.photos, found.of) == (9, 22)
    thin = next(group for group in found.groups if group.kind == "thin_class")
    assert thin.total == 3


def test_two_sets_are_compared_by_path_or_by_features(tmp_path: Path) -> None:
    features = outputs.features_of(3, 10)
    names = ["a"] * 10 + ["b"] * 10 + ["c"] * 10
    here = [f"file:/photos/{name}/{row}.jpg" for row, name in enumerate(names)]
    there = [f"/elsewhere/{name}/{row}.jpg" for row, name in enumerate(names)]
    there[5] = "/elsewhere/a/renamed.jpg"
    drifted = features.copy()
    drifted[10:20] = features[10:20, ::-1]  # the photos of a class are others
    one = outputs.write_output(tmp_path / "one", here[:20], list(names[:20]), drifted[:20])
    two = outputs.write_output(
        tmp_path / "two", there, list(names), features, images=["/elsewhere"]
    )
    drift = compare(LocalResults(str(one)), LocalResults(str(two)))
    assert [each.path for each in drift.new] == sorted(here[10:20])
    assert [each.path for each in drift.gone] == sorted(there[10:20]) + sorted(there[20:])
    assert [(each.label, each.here, each.there) for each in drift.classes] == [
        ("b", 10, 10),
        ("a", 10, 10),
        ("c", 0, 10),
    ]
    moved, same, gone = drift.classes
    assert moved.distance is not None
    assert moved.distance > 1
    assert (moved.far_share, same.distance, same.far_share) == (1.0, 0.0, 0.0)
    assert (gone.distance, gone.far_share) == (None, None)
    assert {each.label for each in drift.far} == {"b"}
    same_set = compare(LocalResults(str(two)), LocalResults(str(two)))
    assert (same_set.new, same_set.gone, same_set.far) == ([], [], [])
    json.dumps(drift.as_dict(), allow_nan=False)


def test_sets_of_two_models_are_not_compared(written: Path, tmp_path: Path) -> None:
    other = outputs.write_output(
        tmp_path / "other",
        ["a", "b"],
        ["a", "b"],
        outputs.features_of(2, 1),
        model={"name": "other", "sha256": "1" * 64},
    )
    with pytest.raises(ModelError, match=r"come from another model, other .* cannot be compared"):
        compare(LocalResults(str(written)), LocalResults(str(other)))


def test_the_command_prints_totals_and_writes_all(
    written: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "findings.csv"
    shutil.copytree(written, tmp_path / "copy")
    assert main(["check", str(written), "-o", str(table), "--against", str(tmp_path / "copy")]) == 0
    told = capsys.readouterr().out
    assert "thin_class: 3\n  3  /photos/kiwi/20.jpg\n" in told
    assert "unreadable: 1\n  /photos/pear/0.jpg  truncated\n" in told
    assert "5 findings in 22 photos; the pixels of 0 were measured" in told
    assert "22 photos could not be read again: No such file or directory" in told
    assert "0 new, 0 gone, 0 far" in told
    assert len(table.read_text("utf-8-sig").splitlines()) == 6
    assert main(["check", str(written), "--json", "--fail-on-findings"]) == 4
    found = json.loads(capsys.readouterr().out)
    assert [kind["kind"] for kind in found["kinds"]] == ["thin_class", "unreadable", "warning"]
    assert found["kinds"][0]["listed"][0]["label"] == "kiwi"
    assert main(["check", str(written), "--fail-on-findings", "thin"]) == 2
    assert "there is no kind of finding 'thin'" in capsys.readouterr().err
