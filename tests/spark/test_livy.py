"""The notebook for EMR, from sparkmagic's kernel through Livy to YARN, S3 and back."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Iterator

import pandas as pd
import pyspark
import pytest
from test_cluster import check_features

import photos
from emr_notebook import BUCKET, RESULTS, Emr
from yarn import MiniCluster

NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "fruits_on_emr.ipynb"
CLASSES, PER_CLASS = 4, 8
PHOTOS = CLASSES * PER_CLASS + 1
#: Less than an m5.xlarge has, for less work.
SMALL = {
    "driverMemory": "512m",
    "executorMemory": "512m",
    "executorCores": 2,
    "conf": {"spark.executor.memoryOverhead": "1g"},
}


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    photos.break_one(photos.render(folder, classes=CLASSES, per_class=PER_CLASS))
    return folder


@pytest.fixture
def emr(yarn: MiniCluster, tmp_path: Path, images: Path, tiny_model: Path) -> Iterator[Emr]:
    running = Emr(yarn, tmp_path, images, tiny_model)
    yield running
    running.stop()


def test_the_notebook_for_emr_ends_in_features_and_components_on_s3(
    emr: Emr, yarn: MiniCluster, images: Path, tiny_model: Path, tmp_path: Path
) -> None:
    executed = tmp_path / "executed.ipynb"
    run = emr.start(NOTEBOOK, executed, SMALL)
    try:
        what = f"Pomona: featurize {PHOTOS} photos, chunk 1 of 1"
        run.wait_for(lambda: what in yarn.spark_jobs(), f"show in Spark's UI: {what}")
        assert run.end() == 0, run.output
    finally:
        run.kill()

    features, pca = (table(emr, name, tmp_path) for name in ("features", "pca"))
    failed = features[features["error"].notnull()]
    assert [path.rpartition("/")[2] for path in failed["path"]] == ["r0_cut.jpg"]
    whole = features[features["error"].isnull()]
    expected = [
        f"s3://{BUCKET}/Test/{path.relative_to(images)}" for path in images.rglob("r0_*[0-9].jpg")
    ]
    # The notebook decides to leave out the near-duplicates.
    assert sorted(whole["path"]) == sorted(pca["path"])
    assert set(pca["path"]) < set(expected)
    check_features(whole, tiny_model, images)
    assert emr.s3.keys(BUCKET, f"{RESULTS}/pca_model/metadata/part-")

    outputs = [
        output
        for cell in json.loads(executed.read_text())["cells"]
        for output in cell.get("outputs", [])
    ]
    said = "".join(text for output in outputs for text in output.get("text", []))
    python = ".".join(map(str, sys.version_info[:2]))
    assert f"Spark {pyspark.__version__}, Python {python}." in said
    assert f"{{'photos': {PHOTOS}, 'featurized': {PHOTOS}, 'errors': 1}}" in said
    assert f"{{'labels of folders': {PHOTOS - 1}, " in said
    assert f"'left out': {PHOTOS - 1 - len(pca)}" in said
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 8


def table(emr: Emr, name: str, folder: Path) -> pd.DataFrame:
    parts = []
    for key in emr.s3.keys(BUCKET, f"{RESULTS}/{name}/part-"):
        part = folder / f"{name}-{len(parts)}.parquet"
        part.write_bytes(emr.s3.get(BUCKET, key))
        parts.append(pd.read_parquet(part))
    return pd.concat(parts)
