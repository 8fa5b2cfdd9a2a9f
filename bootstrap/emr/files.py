"""The files that the cluster reads: checked here, filled in, and uploaded to the bucket."""

from __future__ import annotations

import json
import re
import shutil
import zipfile
import zlib
from pathlib import Path
from typing import Any

from emr.aws import Aws, AwsError, Stop
from emr.settings import ROOT, Settings
from pomona import plan

SCRIPT = "bootstrap-emr.sh"
JOB = "pomona_job.py"
#: In English and in French.
NOTEBOOKS = ("fruits_on_emr.ipynb", "fruits_on_emr.fr.ipynb")
#: The Python of the nodes, which bootstrap-emr.sh installs.
_PYTHON = "/opt/pomona/venv/bin/python"
_FILLED = ROOT / "target" / "emr"
#: Marks an uploaded notebook. JupyterHub stores a changed one without it.
_MARK = "pomona"


def check(settings: Settings) -> None:
    """Stop if the model or the photos are not on this machine."""
    if not settings.model_file.is_file():
        raise Stop(
            f"the model {settings.model_file} does not exist: pomona model pull {settings.MODEL}, "
            "or use another: MODEL=efficientnet_lite0, MODEL=path/to/model.onnx"
        )
    check_photos(settings)


def check_photos(settings: Settings) -> None:
    """Stop if the photos are to be uploaded and are not on this machine."""
    photos = settings.local_photos
    if photos is not None and not photos.is_dir():
        raise Stop(
            f"IMAGES={settings.IMAGES} is not a folder on this machine; give one, or a folder in "
            f"the bucket: IMAGES={settings.uri}/Test"
        )


def wheelhouse(settings: Settings) -> Path:
    """Return the folder of the wheelhouse, unpacked; Stop if it is not one for the release."""
    folder = settings.wheelhouse
    if folder.suffix == ".zip":
        if not zipfile.is_zipfile(folder):
            raise Stop(f"WHEELHOUSE={folder} does not exist, or is not a zip archive")
        unpacked = _FILLED / folder.stem
        shutil.rmtree(unpacked, ignore_errors=True)
        try:
            with zipfile.ZipFile(folder) as archive:
                archive.extractall(unpacked)
        except (zipfile.BadZipFile, zlib.error) as error:
            raise Stop(
                f"WHEELHOUSE={folder} is damaged ({error}): download it again, and compare it "
                "with the release's SHA256SUMS"
            ) from error
        folder = next((path.parent for path in unpacked.rglob("SHA256SUMS")), unpacked)
    if not (folder / "SHA256SUMS").is_file():
        raise Stop(
            f"{folder} has no wheelhouse: make wheelhouse EMR={settings.RELEASE[len('emr-') :]}, "
            "or give a release's: WHEELHOUSE=pomona-wheelhouse-….zip"
        )
    requirements = folder / "requirements.txt"
    heading = requirements.read_text(encoding="utf-8") if requirements.is_file() else ""
    made_for = re.search(r"^# release: ((emr-\d+)\.\S+)$", heading, re.M)
    # All releases of EMR 6 have one Python, and all of EMR 7 another.
    if made_for and not settings.RELEASE.startswith(f"{made_for.group(2)}."):
        raise Stop(
            f"the wheelhouse {folder} is for {made_for.group(1)}, and RELEASE is "
            f"{settings.RELEASE}, which has another Python: give the wheelhouse of that release, "
            f"or RELEASE={made_for.group(1)}"
        )
    return folder


def uploads(settings: Settings, wheels: Path) -> list[tuple[Path, str]]:
    """Return the files and folders to upload, and where to; the notebooks are not among them."""
    found = [
        (wheels, f"{settings.uri}/wheelhouse/{settings.RELEASE}"),
        (settings.model_file, settings.model_uri),
        *((ROOT / "bootstrap" / name, f"{settings.uri}/{name}") for name in (SCRIPT, JOB)),
    ]
    if settings.local_photos is not None:
        found.append((settings.local_photos, settings.images_uri))
    return found


def upload(aws: Aws, settings: Settings, wheels: Path) -> None:
    """Upload everything that the nodes, the job and the notebook need."""
    for source, target in uploads(settings, wheels):
        # Of two wheelhouses, the nodes would install a mixture.
        options = ["--delete"] if source == wheels else []
        verb = "sync" if source.is_dir() else "cp"
        aws.raw("s3", verb, str(source), target, *options, "--only-show-errors")
    for name in NOTEBOOKS:
        _upload_notebook(aws, settings, name)


def notebook_uri(settings: Settings, name: str) -> str:
    """Return the place of a notebook in JupyterHub's folder of its first user."""
    return f"{settings.uri}/jupyter/jovyan/{name}"


def _upload_notebook(aws: Aws, settings: Settings, name: str) -> None:
    """Upload a filled notebook, unless the user has changed the one in the bucket."""
    uri = notebook_uri(settings, name)
    key = uri[len(settings.uri) + 1 :]
    try:
        words = ("s3api", "head-object", "--bucket", settings.BUCKET, "--key", key)
        ours = _MARK in (aws(*words, query="Metadata") or {})
    except AwsError as error:
        if error.code not in ("404", "NoSuchKey"):
            raise
        ours = True
    if not ours:
        print(
            f"  {uri} stays, because you have changed it. On {settings.INSTANCE} nodes its first "
            f"cell must be: %%configure -f {json.dumps(configure(settings.INSTANCE))}"
        )
        return
    filled = _FILLED / name
    filled.parent.mkdir(parents=True, exist_ok=True)
    text = (ROOT / "notebooks" / name).read_text(encoding="utf-8")
    filled.write_text(fill(text, settings), encoding="utf-8")
    mark = ("--metadata", f"{_MARK}=filled")
    aws.raw("s3", "cp", str(filled), uri, *mark, "--only-show-errors")


def configure(instance: str) -> dict[str, Any]:
    """Return the content of `%%configure` for an instance type: the cluster's own settings."""
    spark = plan.spark_settings(instance)
    return {
        "driverMemory": spark.pop("spark.driver.memory"),
        "executorMemory": spark.pop("spark.executor.memory"),
        "executorCores": int(spark.pop("spark.executor.cores")),
        "conf": {
            "spark.pyspark.python": _PYTHON,
            "spark.pyspark.driver.python": _PYTHON,
            **spark,
        },
    }


def cells(settings: Settings) -> list[str]:
    """Return the notebook's first two cells of code: the session's settings, and the paths."""
    return [
        f"%%configure -f\n{json.dumps(configure(settings.INSTANCE), indent=4)}",
        f'BUCKET = "{settings.BUCKET}"\n\n'
        f"PHOTOS = {json.dumps(settings.images_uri, ensure_ascii=False)}\n"
        f'MODEL = "{settings.model_uri}"\n'
        f"RESULTS = {json.dumps(settings.output_uri, ensure_ascii=False)}",
    ]


def fill(text: str, settings: Settings) -> str:
    """Return a notebook with the settings in its first two cells of code."""
    notebook = json.loads(text)
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    for cell, filled in zip(code, cells(settings)):
        # Both begin with a word that a changed notebook would not have here.
        if "".join(cell["source"]).split()[:1] != filled.split()[:1]:
            raise Stop(f"the notebook has no cell that starts with {filled.split()[0]}")
        cell["source"] = filled.splitlines(keepends=True)
    return json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"
