"""The files that the cluster reads: checked here, filled in, and uploaded to the bucket."""

from __future__ import annotations

import json
import shutil
import zipfile
import zlib
from pathlib import Path
from typing import Any

from emr.aws import Aws, Stop, say
from emr.settings import ROOT, Settings
from emr.wheelhouse import CHECKSUMS, release_of
from pomona import plan

JOB = "pomona_job.py"
#: In English and in French.
NOTEBOOKS = ("fruits_on_emr.ipynb", "fruits_on_emr.fr.ipynb")
_JOBS = {JOB: ROOT / "bootstrap" / JOB}
#: What a cluster reads of the repository: its path in the bucket, and the file.
IN_BUCKET = {
    **_JOBS,
    "bootstrap-emr.sh": ROOT / "bootstrap" / "bootstrap-emr.sh",
    **{f"jupyter/jovyan/{name}": ROOT / "notebooks" / name for name in NOTEBOOKS},
}
#: The Python of the nodes, which bootstrap-emr.sh installs.
_PYTHON = "/opt/pomona/venv/bin/python"
_FILLED = ROOT / "target" / "emr"


def check(settings: Settings, *, model: bool = True) -> None:
    """Stop if the model, if it is needed, or the photos are not on this machine."""
    if model and not settings.model_file.is_file():
        raise Stop(f"""the model {settings.model_file} does not exist: pomona model pull
            {settings.MODEL}, or use another: MODEL=efficientnet_lite0, MODEL=path/to/model.onnx""")
    if settings.photos and not settings.photos.is_dir():
        raise Stop(f"""IMAGES={settings.IMAGES} is not a folder on this machine; give one, or a
            folder in the bucket: IMAGES={settings.uri}/Test""")


def wheelhouse(settings: Settings) -> Path:
    """Return the folder of the wheelhouse, unpacked; Stop if it is not one for the release."""
    folder = settings.wheelhouse
    if folder.suffix == ".zip":
        if not zipfile.is_zipfile(folder):
            raise Stop(f"WHEELHOUSE={folder} does not exist, or is not a zip archive")
        unpacked = _FILLED / folder.stem
        shutil.rmtree(unpacked, ignore_errors=True)
        try:
            shutil.unpack_archive(str(folder), str(unpacked))
        except (zipfile.BadZipFile, zlib.error) as error:
            raise Stop(f"""WHEELHOUSE={folder} is damaged ({error}): download it again, and compare
                it with the release's SHA256SUMS""") from error
        folder = next((path.parent for path in unpacked.rglob(CHECKSUMS)), unpacked)
    if not (folder / CHECKSUMS).is_file():
        raise Stop(f"""{folder} has no wheelhouse: make wheelhouse
            EMR={settings.RELEASE[len("emr-") :]}, or give a release's:
            WHEELHOUSE=pomona-wheelhouse-….zip""")
    made_for = release_of(folder)
    # All releases of EMR 6 have one Python, and all of EMR 7 another.
    if made_for and made_for.split(".")[0] != settings.RELEASE.split(".")[0]:
        raise Stop(f"""the wheelhouse {folder} is for {made_for}, and RELEASE is
            {settings.RELEASE}, which has another Python: give the wheelhouse of that release, or
            RELEASE={made_for}""")
    return folder


def uploads(settings: Settings, wheels: Path | None = None) -> list[tuple[Path, str]]:
    """Return what to upload, and where to; for a cluster, also its wheelhouse and notebooks."""
    found = [(settings.model_file, settings.model_uri)]
    if settings.photos:
        found.append((settings.photos, settings.images_uri))
    if wheels:
        found.append((wheels, f"{settings.uri}/wheelhouse/{settings.RELEASE}"))
    files = IN_BUCKET if wheels else _JOBS
    return [*found, *((file, f"{settings.uri}/{name}") for name, file in files.items())]


def upload(aws: Aws, settings: Settings, wheels: Path) -> None:
    """Upload everything that the nodes, the job and the notebook need."""
    for source, target in uploads(settings, wheels):
        if source.suffix != ".ipynb":
            # Of two wheelhouses, the nodes would install a mixture.
            copy(aws, source, target, *(["--delete"] if source == wheels else []))
            continue
        there = metadata(aws, target)
        # JupyterHub stores a changed notebook without our mark.
        if there is not None and "pomona" not in there:
            say(f"""  {target} stays, because you have changed it. On {settings.INSTANCE} nodes its
                first cell must be: %%configure -f {json.dumps(configure(settings.INSTANCE))}""")
            continue
        filled = _FILLED / source.name
        filled.parent.mkdir(parents=True, exist_ok=True)
        text = source.read_text(encoding="utf-8")
        filled.write_text(fill(text, settings), encoding="utf-8")
        copy(aws, filled, target, "--metadata", "pomona=filled")


def copy(aws: Aws, source: Path, target: str, *options: str) -> None:
    """Upload a file, or what has changed in a folder."""
    verb = "sync" if source.is_dir() else "cp"
    aws.raw("s3", verb, str(source), target, *options, "--only-show-errors")


def metadata(aws: Aws, uri: str, absent: str = "404|NoSuchKey") -> dict[str, str] | None:
    """Return the metadata of an object; None if it does not exist."""
    bucket, _, key = uri[len("s3://") :].partition("/")
    found = aws("s3api", "head-object", "--bucket", bucket, "--key", key, absent=absent)
    return None if found is None else found.get("Metadata", {})


def listing(aws: Aws, folder: str, *options: str) -> list[str]:
    """Return the URIs of the objects in a folder; none if it does not exist."""
    bucket, _, prefix = folder[len("s3://") :].partition("/")
    words = ("s3api", "list-objects-v2", "--bucket", bucket, "--prefix", prefix, *options)
    return [f"s3://{bucket}/{key}" for key in aws(*words, query="Contents[].Key") or []]


def configure(instance: str) -> dict[str, Any]:
    """Return the content of `%%configure` for an instance type: the cluster's own settings."""
    spark = plan.spark_settings(instance)
    pythons = {f"spark.pyspark.{who}python": _PYTHON for who in ("", "driver.")}
    return {
        "driverMemory": spark.pop("spark.driver.memory"),
        "executorMemory": spark.pop("spark.executor.memory"),
        "executorCores": int(spark.pop("spark.executor.cores")),
        "conf": {**pythons, **spark},
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
    code = (cell for cell in notebook["cells"] if cell["cell_type"] == "code")
    for cell, filled in zip(code, cells(settings)):
        cell["source"] = filled.splitlines(keepends=True)
    return json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"
