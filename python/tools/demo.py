"""Demonstrates Pomona: photos to features to principal components, on a local Spark.

Usage: python demo.py IMAGES OUTPUT
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pyarrow.parquet

from pomona.models.store import BUILT_IN_NAMES, names

POMONA = [sys.executable, "-m", "pomona"]


def main(images: str, output: str) -> None:
    """Run the job from scratch and explain its output."""
    model = pull_a_model()
    # A job would resume from an earlier output.
    shutil.rmtree(output, ignore_errors=True)
    job = ["run", "--images", images, "--output", output, "--model", model]
    print(f"$ pomona {' '.join(job)}", flush=True)
    if subprocess.run([*POMONA, *job], check=False).returncode:
        sys.exit("The demo failed, for the reason above.")
    explain(Path(output))


def pull_a_model() -> str:
    """Return the first built-in model that is in the store or can be pulled."""
    for name in BUILT_IN_NAMES:
        if name in names():
            return name
        print(f"$ pomona model pull {name}", flush=True)
        if subprocess.run([*POMONA, "model", "pull", name], check=False).returncode == 0:
            return name
        print(f"{name} is not available here, for the reason above.", flush=True)
    sys.exit("The demo needs a model; `pomona model pull --help` has other ways to get one.")


def explain(output: Path) -> None:
    """Print the closing lines."""
    summary = json.loads((output / "summary.json").read_text(encoding="utf-8"))
    labels = pyarrow.parquet.read_table(str(output / "pca"), columns=["label"]).column("label")
    photos = Counter(labels.to_pylist())
    readable = sum(photos.values())
    explained = summary["variance_explained"]
    print(
        f"\nPomona turned {readable:,} photos of {len(photos)} classes into {summary['dim']:,}"
        f" features each ({summary['model']['name']}),\nand projected these to {summary['k']:,}"
        f" principal components, which explain {explained:.1%} of the variance."
    )
    if summary["errors"]:
        print(f"The job skipped {summary['errors']:,} more, which could not be read:")
        for path, reason in summary["first_errors"]:
            print(f"  {path}: {reason}")
    print(
        f"The output is in {output}:"
        "\n  features/     a row per photo: path, label, features, error (Parquet)"
        "\n  pca/          a row per readable photo: path, label, pca (Parquet)"
        "\n  pca_model/    the projection, a saved Spark model"
        "\n  summary.json  counts, times and the explained variance of every component"
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
