"""Settings of the commands, and their validation."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Sequence

from emr.aws import Stop
from pomona import ModelError, plan
from pomona.models.store import MODEL_SUFFIX, path_of

ROOT = Path(__file__).resolve().parents[2]
#: Regions inside the European Union: London (eu-west-2) and Zurich (eu-central-2) are not.
EU_REGIONS = {
    "eu-central-1": "Frankfurt",
    "eu-north-1": "Stockholm",
    "eu-south-1": "Milan",
    "eu-south-2": "Spain",
    "eu-west-1": "Ireland",
    "eu-west-3": "Paris",
}
#: Folders of the bucket that photos and results must not share.
TAKEN = ("jupyter", "logs", "models", "serverless", "wheelhouse")
RESULTS = "results"

_BYTE = r"(25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)"
_FORMS = {
    "BUCKET": (
        r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]",
        "the name of a bucket, without s3://: 3 to 63 lower-case letters, digits and hyphens (no "
        "dots, which break TLS to the bucket), starting and ending with a letter or a digit",
    ),
    "SUBNET": (
        r"|subnet-[0-9a-f]+",
        "a subnet id (subnet-0a1b2c3d); to list yours: aws ec2 describe-subnets",
    ),
    "MY_IP": (
        # Not 0.0.0.0, this machine or a group, of which port 22 would be opened to everyone.
        rf"|(?!0\.|127\.|22[4-9]|23\d)({_BYTE}\.){{3}}{_BYTE}",
        "the IPv4 address of one machine, such as 203.0.113.7, to which port 22 is opened; to see "
        "yours: curl -s https://checkip.amazonaws.com",
    ),
    "RELEASE": (r"emr-[67]\.\d+\.\d+", "a release label of EMR 6 or 7, such as emr-6.4.0"),
    "EMAIL": (r"|[^@\s]+@[^@\s]+\.[^@\s]+", "an e-mail address"),
    "ON_FAILURE": (r"keep|remove", "keep or remove"),
    "EVERY": (r"\d+(\.\d+)?", "a number of seconds"),
}
#: Valid file names of a model on S3 and in the bootstrap's arguments, which are comma-separated.
_MODEL_FILE = re.compile(r"[A-Za-z0-9._-]+\.onnx")
#: Whole numbers, and EMR's limits for them; AWS's for the budget.
_RANGES = {
    "WORKERS": range(1, 1001),
    "TASKS": range(1001),
    "IDLE": range(60, 7 * 24 * 3600 + 1),
    "TIMEOUT": range(5, 1_000_001),
    "BUDGET": range(1, 1_000_001),
}
_OFF = ("", "0")
_EXAMPLE = {
    "BUCKET": "BUCKET=fruits-paris",
    "KEY": "KEY=fruits, the name of an EC2 key pair",
    "SUBNET": "SUBNET=subnet-0a1b2c3d",
    "MY_IP": "MY_IP=$(curl -s https://checkip.amazonaws.com)",
    "IMAGES": "IMAGES=fruits-360/Test",
}


@dataclass(frozen=True)
class Settings:
    """Settings given by the user, under their names in make."""

    BUCKET: str = ""
    KEY: str = ""
    SUBNET: str = ""
    MY_IP: str = ""
    REGION: str = plan.DEFAULT_REGION
    RELEASE: str = plan.DEFAULT_RELEASE
    INSTANCE: str = plan.DEFAULT_INSTANCE
    #: Core nodes, on demand.
    WORKERS: str = str(plan.DEFAULT_WORKERS)
    #: Task nodes, on the spot market.
    TASKS: str = "0"
    #: Seconds without work after which EMR terminates the cluster.
    IDLE: str = "3600"
    #: A pulled model's name, or an .onnx file.
    MODEL: str = "mobilenet_v2"
    #: A folder of photos on this machine, which is uploaded, or an s3:// folder in the bucket.
    IMAGES: str = ""
    OUTPUT: str = ""
    #: More options for `pomona run`.
    ARGS: str = ""
    #: The folder that `make wheelhouse` filled, or a release's archive of one.
    WHEELHOUSE: str = ""
    #: The address that the budget alarm writes to.
    EMAIL: str = ""
    #: US dollars a month, for the alarm.
    BUDGET: str = "20"
    #: Connect through Session Manager, which needs no key pair and no open port.
    SSM: str = ""
    #: Minutes after which EMR Serverless cancels a job.
    TIMEOUT: str = "120"
    #: What to do with a stack that failed: `remove` or `keep`.
    ON_FAILURE: str = "remove"
    DRY_RUN: str = ""
    ALLOW_REGION: str = ""
    #: Seconds between checks of a state.
    EVERY: str = "30"

    @classmethod
    def of(cls, words: Sequence[str], needed: Sequence[str]) -> Settings:
        """Parse `NAME=VALUE` words, and check everything that can be checked without AWS."""
        known = [field.name for field in fields(cls)]
        given = {}
        for word in words:
            name, equals, value = word.partition("=")
            if not equals or name not in known:
                raise Stop(f"{word!r} is not one of {', '.join(f'{name}=…' for name in known)}")
            if value.strip():
                given[name] = value.strip()
        settings = cls(**given)
        if settings.ssm:
            needed = [name for name in needed if name not in ("KEY", "MY_IP")]
        missing = [name for name in needed if not getattr(settings, name)]
        if missing:
            examples = " ".join(_EXAMPLE[name] for name in missing)
            raise Stop(f"{' and '.join(missing)} must be given, for example {examples}")
        settings._check()
        return settings

    def _check(self) -> None:
        for name, (form, what) in _FORMS.items():
            if not re.fullmatch(form, getattr(self, name)):
                raise Stop(f"{name}={getattr(self, name)} is not {what}")
        self._check_region()
        for name, allowed in _RANGES.items():
            value = getattr(self, name)
            if not value.isdecimal() or int(value) not in allowed:
                raise Stop(
                    f"{name}={value} must be a whole number from {allowed[0]:,} to {allowed[-1]:,}"
                )
        try:
            shlex.split(self.ARGS)
        except ValueError as error:
            raise Stop(f"ARGS={self.ARGS} cannot be split into options: {error}") from error
        try:
            plan.check_release(self.INSTANCE, self.RELEASE)
        except ValueError as error:
            raise Stop(
                f"INSTANCE={self.INSTANCE}: {error}; use another INSTANCE, or a later RELEASE, "
                "such as emr-7.14.0"
            ) from error
        self._check_model()
        self._check_folders()

    def _check_region(self) -> None:
        if self.REGION not in EU_REGIONS and self.ALLOW_REGION in _OFF:
            inside = ", ".join(f"{name} ({city})" for name, city in EU_REGIONS.items())
            raise Stop(
                f"REGION={self.REGION} is not in the European Union, where the photos must stay "
                f"(GDPR): use {inside}, or set ALLOW_REGION=1"
            )

    def _check_model(self) -> None:
        if not _MODEL_FILE.fullmatch(self.model_file.name):
            raise Stop(
                f"MODEL={self.MODEL} is neither the name of a pulled model nor an .onnx file named "
                "with letters, digits, dots, hyphens and underscores only: rename it, or convert "
                f"it: pomona model convert {shlex.quote(self.MODEL)} -o NAME.onnx"
            )

    def _check_folders(self) -> None:
        """Stop if the photos or the results would be where something else is."""
        photos, results = f"{self.images_uri}/", f"{self.output_uri}/"
        for name, folder in (("IMAGES", photos), ("OUTPUT", results)):
            given = f"{name}={getattr(self, name) or folder}"
            if not folder.startswith(f"{self.uri}/"):
                raise Stop(
                    f"{given} is not in {self.uri}, the only bucket that the cluster can read and "
                    "write: copy the photos there, or set BUCKET to theirs"
                )
            parts = folder[len(self.uri) + 1 : -1].split("/")
            if not any(parts):
                raise Stop(
                    f"{given} would be the whole bucket, where the results and the logs are too: "
                    f"give a folder, such as {self.uri}/{'Test' if name == 'IMAGES' else RESULTS}"
                )
            if "" in parts:
                raise Stop(
                    f"{given} has a double slash, which on S3 is not the same as a single one: "
                    "remove it"
                )
            if parts[0] in (TAKEN if name == "OUTPUT" else (*TAKEN, RESULTS)):
                raise Stop(
                    f"{given} would be in {self.uri}/{parts[0]}, where Pomona or EMR keeps other "
                    "files: give another folder, or rename the local one"
                )
        if photos.startswith(results) or results.startswith(photos):
            raise Stop(
                f"the photos would be in {photos} and the results in {results}, and one must not "
                "be inside the other: give another IMAGES or OUTPUT"
            )

    @property
    def uri(self) -> str:
        """The URI of the bucket."""
        return f"s3://{self.BUCKET}"

    @property
    def wheelhouse(self) -> Path:
        """The wheelhouse on this machine, a folder or an archive."""
        return Path(self.WHEELHOUSE or f"target/wheelhouse/{self.RELEASE}")

    @property
    def local_photos(self) -> Path | None:
        """The folder of photos on this machine to upload, if there is one."""
        return Path(self.IMAGES) if self.IMAGES and "://" not in self.IMAGES else None

    @property
    def images_uri(self) -> str:
        """The job's folder of photos."""
        if self.local_photos is not None:
            return f"{self.uri}/{self.local_photos.resolve().name}".rstrip("/")
        return self.IMAGES.rstrip("/") or f"{self.uri}/Test"

    @property
    def output_uri(self) -> str:
        """The job's output folder."""
        return self.OUTPUT.rstrip("/") or f"{self.uri}/{RESULTS}"

    @property
    def model_file(self) -> Path:
        """The model on this machine: a pulled model by its name, or a path."""
        if self.MODEL.endswith(MODEL_SUFFIX):
            return Path(self.MODEL)
        try:
            return path_of(self.MODEL)
        except ModelError:  # not a name
            return Path(self.MODEL)

    @property
    def model_uri(self) -> str:
        """The model in the bucket."""
        return f"{self.uri}/models/{self.model_file.name}"

    @property
    def place(self) -> str:
        """The words that make later commands find the cluster."""
        return f"BUCKET={self.BUCKET}" + self._changed("REGION", "ALLOW_REGION")

    @property
    def again(self) -> str:
        """The words for a job: settings that differ from the defaults."""
        moved = self.images_uri != f"{self.uri}/Test"
        images = f" IMAGES={shlex.quote(self.images_uri)}" if moved else ""
        return self.place + self._changed("MODEL", "OUTPUT") + images

    def _changed(self, *names: str) -> str:
        changed = [name for name in names if getattr(self, name) != getattr(Settings, name)]
        return "".join(f" {name}={shlex.quote(getattr(self, name))}" for name in changed)

    @property
    def ssm(self) -> bool:
        """Whether to connect through Session Manager."""
        return self.SSM not in _OFF

    @property
    def dry_run(self) -> bool:
        """Whether to print what would be done instead of doing it."""
        return self.DRY_RUN not in _OFF
