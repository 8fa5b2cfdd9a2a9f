"""Files of the repository that go to AWS, and their placeholders."""

from __future__ import annotations

from pathlib import Path

from emr.aws import FILLED, Aws
from emr.errors import Stop
from emr.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
BOOTSTRAP = ROOT / "bootstrap"
#: In English and in French.
NOTEBOOKS = [ROOT / "notebooks" / f"fruits_on_emr{suffix}" for suffix in (".ipynb", ".fr.ipynb")]
SCRIPT = "bootstrap-emr.sh"
JOB = "pomona_job.py"


def check(settings: Settings) -> None:
    """Stop if a file to upload is missing."""
    check_given(settings)
    if not (settings.wheelhouse / "SHA256SUMS").is_file():
        raise Stop(
            f"{settings.wheelhouse} has no wheelhouse: "
            f"make wheelhouse EMR={settings.RELEASE[len('emr-') :]}"
        )
    for path in (BOOTSTRAP / SCRIPT, BOOTSTRAP / JOB, *NOTEBOOKS):
        if not path.is_file():
            raise Stop(f"{path} is missing: is the repository complete?")


def check_given(settings: Settings) -> None:
    """Stop if the model or the photos are not on this machine."""
    if not settings.model_file.is_file():
        raise Stop(
            f"the model {settings.model_file} does not exist: pomona model pull {settings.MODEL}, "
            "or use another: MODEL=efficientnet_lite0, MODEL=path/to/model.onnx"
        )
    photos = settings.local_photos
    if photos is not None and not photos.is_dir():
        raise Stop(
            f"IMAGES={settings.IMAGES} is not a folder on this machine; give one, or a folder in "
            f"the bucket: IMAGES={settings.uri}/Test"
        )


def fill(text: str, values: dict[str, str]) -> str:
    """Replace `${NAME}` with values."""
    for name, value in values.items():
        text = text.replace("${%s}" % name, value)  # noqa: UP031 - an f-string needs doubled braces
    return text


def filled_policy(aws: Aws, policy: str, values: dict[str, str]) -> Path:
    """Write a policy with its placeholders filled in, and return its path."""
    text = (BOOTSTRAP / "policies" / f"{policy}.json").read_text(encoding="utf-8")
    path = FILLED / f"{policy}.json"
    aws.write(path, fill(text, values))
    return path
