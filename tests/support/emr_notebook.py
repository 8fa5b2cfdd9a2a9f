"""The parts of an EMR cluster that a notebook uses: S3, YARN, Livy and sparkmagic's PySpark kernel.

Usage: python tests/support/emr_notebook.py NOTEBOOK PHOTOS MODEL [-o FILE]

Runs a notebook on a folder of photos and saves it with its outputs.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any, Mapping

import pytest

from keeper import Kept
from livy import Livy
from pomona.models.store import resolve
from s3 import CLIENT_JARS, PASSWORD, USER, S3Server, class_path
from services import PATIENCE, Service
from yarn import MiniCluster

#: The environment with sparkmagic, installed by make.
PYTHON = Path(sys.prefix).parent / "livy/bin/python"
RUN_NOTEBOOK = Path(__file__).parents[2] / "python/tools/run_notebook.py"

HOUR = 3600

BUCKET = "fruits"
#: The notebook's folders and model in the bucket.
PHOTOS, MODEL, RESULTS = "Test", "models/efficientnet_lite0.onnx", "results"


class Emr:
    """A cluster, and a bucket with photos and a model."""

    def __init__(self, yarn: MiniCluster, folder: Path, photos: Path, model: Path) -> None:
        if not PYTHON.exists():
            pytest.skip("needs sparkmagic: make test-py37 or test-spark35 installs it")
        self._folder = folder
        self.s3 = S3Server(_new(folder / "s3"))
        try:
            self.s3.create(BUCKET)
            self.s3.put(BUCKET, MODEL, model.read_bytes())
            for photo in photos.rglob("*.jpg"):
                key = f"{PHOTOS}/{photo.parent.name}/{photo.name}"
                self.s3.put(BUCKET, key, photo.read_bytes())
            self.livy = Livy(yarn, _new(folder / "livy"), _s3_settings(self.s3))
        except BaseException:
            self.s3.service.kill()
            raise

    def start(self, notebook: Path, target: Path, configure: Mapping[str, Any]) -> Service:
        """Run a notebook in sparkmagic's kernel, with changes to its ``%%configure``."""
        # On EMR, this is the Python that the bootstrap installs.
        python = dict.fromkeys(
            ("spark.pyspark.python", "spark.pyspark.driver.python"), sys.executable
        )
        configure = {**configure, "conf": {**configure.get("conf", {}), **python}}
        command = [str(PYTHON), str(RUN_NOTEBOOK), str(notebook), "--output", str(target)]
        command += ["--folder", str(_new(self._folder / "notebook"))]
        command += ["--set", f"BUCKET={BUCKET}", "--configure", json.dumps(configure)]
        env = _kernel_environment(self.livy, _new(self._folder / "jupyter"))
        return Kept(command, self._folder / "notebook.log", env)

    def stop(self) -> None:
        self.livy.stop()
        self.s3.service.kill()


def _s3_settings(server: S3Server) -> dict[str, str]:
    """Return Spark's settings for `s3://`: EMR's own client there, Hadoop's `s3a` here."""
    jars = class_path(CLIENT_JARS)
    return {
        "spark.driver.extraClassPath": jars,
        "spark.executor.extraClassPath": jars,
        "spark.hadoop.fs.s3.impl": "org.apache.hadoop.fs.s3a.S3AFileSystem",
        "spark.hadoop.fs.s3a.endpoint": f"http://127.0.0.1:{server.port}",
        "spark.hadoop.fs.s3a.path.style.access": "true",
        "spark.hadoop.fs.s3a.access.key": USER,
        "spark.hadoop.fs.s3a.secret.key": PASSWORD,
    }


def _kernel_environment(livy: Livy, folder: Path) -> dict[str, str]:
    """Return an environment in which `pysparkkernel` is sparkmagic's, and uses this Livy."""
    kernel = folder / "kernels/pysparkkernel/kernel.json"
    kernel.parent.mkdir(parents=True)
    program = [str(PYTHON), "-m", "sparkmagic.kernels.pysparkkernel.pysparkkernel"]
    kernel.write_text(
        json.dumps(
            {
                "argv": [*program, "-f", "{connection_file}"],
                "display_name": "PySpark",
                "language": "python",
            }
        )
    )
    account = {"username": "", "password": "", "url": livy.url, "auth": "None"}
    settings = {
        "kernel_python_credentials": account,
        "livy_session_startup_timeout_seconds": PATIENCE,
        # By default it continues after a failing cell.
        "all_errors_are_fatal": True,
    }
    (folder / "config.json").write_text(json.dumps(settings))
    return {
        **os.environ,
        "JUPYTER_PATH": str(folder),
        "IPYTHONDIR": str(folder / "ipython"),
        "SPARKMAGIC_CONF_DIR": str(folder),
        "SPARKMAGIC_CONF_FILE": "config.json",
    }


def _new(folder: Path) -> Path:
    folder.mkdir()
    return folder


def main() -> int:
    summary, _, details = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(description=summary, epilog=details.split("\n\n")[-1])
    parser.add_argument("notebook", type=Path)
    parser.add_argument("photos", type=Path)
    parser.add_argument("model", help="a model's name or file")
    parser.add_argument("-o", "--output", type=Path, help="file to save it to (default: in place)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="emr-") as folder:
        yarn = MiniCluster(_new(Path(folder, "yarn")))
        try:
            emr = Emr(yarn, _new(Path(folder, "emr")), options.photos, Path(resolve(options.model)))
            try:
                run = emr.start(options.notebook, options.output or options.notebook, {})
                code = run.end(HOUR)
                print(run.output, file=sys.stderr, end="")
                return code
            finally:
                emr.stop()
        finally:
            yarn.stop()


if __name__ == "__main__":
    sys.exit(main())
