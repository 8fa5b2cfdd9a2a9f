"""Output folders like those of `pomona run`, with synthetic features and made without Spark."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from pomona.results.format import STATE_FOLDER, FinishedSet

DIM = 32
COMPONENTS = 6
SIDE = 32


def features_of(classes: int, per_class: int, *, dim: int = DIM, seed: int = 0) -> np.ndarray:
    """Generate features: one cluster per class, float32 of shape (classes * per_class, dim)."""
    random = np.random.RandomState(seed)
    centres = np.abs(random.normal(size=(classes, 1, dim)))
    spread = 0.2 * random.normal(size=(classes, per_class, dim))
    return (centres + spread).reshape(-1, dim).astype(np.float32)


def draw_photo(path: Path, number: int) -> None:
    """Write a small JPEG whose colour depends on its number."""
    path.parent.mkdir(parents=True, exist_ok=True)
    colour = (number * 37 % 256, number * 91 % 256, number * 53 % 256)
    Image.new("RGB", (SIDE, SIDE * 3 // 4), colour).save(path, quality=80)


def write_output(
    folder: Path,
    paths: list[str],
    labels: list[str | None],
    features: np.ndarray,
    *,
    errors: dict[str, str] | None = None,
    components: int = COMPONENTS,
    model: dict[str, str] | None = None,
    files: int = 2,
    warnings: dict[str, str] | None = None,
    **summary_extra: object,
) -> Path:
    """Write features, pca and summary; photos in `errors` have no features. Return `folder`.

    Without `warnings`, the features have the columns of a version before 0.2.0.
    """
    errors = errors or {}
    reasons = [errors.get(path) for path in paths]
    whole = np.array([reason is None for reason in reasons])
    centred = features - features[whole].mean(axis=0)
    _, sizes, axes = np.linalg.svd(centred[whole], full_matrices=False)
    components = min(components, len(axes))
    curve = (np.cumsum(sizes**2) / np.sum(sizes**2)).tolist()
    rows = [
        {
            "path": path,
            "label": label,
            "features": None if reason else vector,
            "error": reason,
        }
        for path, label, vector, reason in zip(paths, labels, features, reasons)
    ]
    schema = pa.schema(
        [
            ("path", pa.string()),
            ("label", pa.string()),
            ("features", pa.list_(pa.float32())),
            ("error", pa.string()),
        ]
    )
    if warnings is not None:
        rows = [{**row, "warning": warnings.get(row["path"])} for row in rows]
        schema = schema.append(pa.field("warning", pa.string()))
        summary_extra["warnings"] = len(warnings)
    state = folder / "features" / STATE_FOLDER
    state.mkdir(parents=True)
    names = [f"part-{number:05}-x.snappy.parquet" for number in range(files)]
    for number, name in enumerate(names):
        table = pa.Table.from_pylist(rows[number::files], schema=schema)
        pq.write_table(table, folder / "features" / name)
    model = model or {"name": "tiny", "sha256": "0" * 64}
    finished = FinishedSet(
        number=1,
        model_name=model["name"],
        model_sha256=model["sha256"],
        files=dict.fromkeys(names, 1),
        photos=len(paths),
        errors=len(errors),
    )
    (state / finished.file_name).write_text(json.dumps(finished._asdict()))
    projected = (centred @ axes[:components].T).astype(np.float32)
    pca = pa.table(
        {
            "path": [path for path, kept in zip(paths, whole) if kept],
            "label": pa.array([x for x, kept in zip(labels, whole) if kept], pa.string()),
            "pca": pa.array(list(projected[whole]), pa.list_(pa.float32())),
        }
    )
    (folder / "pca").mkdir()
    pq.write_table(pca, folder / "pca" / "part-00000-y.snappy.parquet")
    summary = {
        "images": ["file:/photos"],
        "output": str(folder),
        "model": model,
        "photos": len(paths),
        "errors": len(errors),
        "featurized": len(paths),
        "dim": features.shape[1],
        "k": components,
        "variance_explained": curve[components - 1],
        "variance_curve": curve,
        "seconds": {"list": 1.0, "features": 12.5, "pca": 2.0},
        "images_per_second": 123.4,
        "versions": {"pomona": "0.1.0", "spark": "3.1.2"},
        "finished": "2026-11-22T10:00:00+00:00",
        **summary_extra,
    }
    (folder / "summary.json").write_text(json.dumps(summary))
    return folder


def write_classes(
    folder: Path, classes: int, per_class: int, *, labels: list[str] | None = None
) -> Path:
    """Write photos of many classes and the output of a run on them; returns the output."""
    names = labels or [f"Fruit {number} of {classes}" for number in range(classes)]
    paths = []
    for number, name in enumerate(names):
        for turn in range(per_class):
            photo = folder / "photos" / name.replace("/", "_") / f"r0_{turn}.jpg"
            draw_photo(photo, number)
            paths.append(f"file:{photo}")
    repeated = [name for name in names for _ in range(per_class)]
    return write_output(folder / "output", paths, list(repeated), features_of(classes, per_class))
