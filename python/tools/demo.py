"""Show what Pomona does: photos to features to principal components, on a Spark of this machine.

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
    """Run the main job afresh and say in a few lines what came out."""
    model = pull_a_model()
    # A demo starts from nothing; a job would go on where it stopped.
    shutil.rmtree(output, ignore_errors=True)
    job = ["run", "--images", images, "--output", output, "--model", model]
    print(f"$ pomona {' '.join(job)}", flush=True)
    if subprocess.run([*POMONA, *job], check=False).returncode:
        sys.exit("The demo ended here, for the reason above.")
    explain(Path(output))


def pull_a_model() -> str:
    """Return the first built-in model that is here or can be had."""
    for name in BUILT_IN_NAMES:
        if name in names():
            return name
        print(f"$ pomona model pull {name}", flush=True)
        if subprocess.run([*POMONA, "model", "pull", name], check=False).returncode == 0:
            return name
        print(f"{name} cannot be had here, for the reason above.", flush=True)
    sys.exit("The demo needs a model; `pomona model pull --help` tells of other ways to get one.")


def explain(output: Path) -> None:
    """Print the closing lines."""
    summary = json.loads((output / "summary.json").read_text(encoding="utf-8"))
    labels = pyarrow.parquet.read_table(str(output / "pca"), columns=["label"]).column("label")
    photos = Counter(labels.to_pylist())
    readable = sum(photos.values())
    explained = summary["variance_explained"]
    print(
        f"\nPomona turned {readable:,} photos of {len(photos)} classes into {summary['dim']:,}"
        f" numbers each ({summary['model']['name']}),\nand those into {summary['k']:,} principal"
        f" components, which keep {explained:.1%} of the variance."
    )
    if summary["errors"]:
        print(f"{summary['errors']:,} more could not be read; the job went on without them:")
        for path, reason in summary["first_errors"]:
            print(f"  {path}: {reason}")
    print(
        f"Look into {output}:"
        "\n  features/     a row per photo: path, label, features, error (Parquet)"
        "\n  pca/          a row per readable photo: path, label, pca (Parquet)"
        "\n  pca_model/    the projection, a saved Spark model"
        "\n  summary.json  counts, times and the whole variance curve"
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
