"""Settings of the commands, and their validation."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Sequence

from emr.aws import Stop
from pomona import plan
from pomona.models.store import MODEL_SUFFIX, home

ROOT = Path(__file__).resolve().parents[2]
#: The newest release of the line that is locked and tested.
NEWEST_RELEASE = "emr-7.14.0"
#: Folders of the bucket that photos, and results, must not share; the first is the results' own.
_KEPT = ("results", "jupyter", "logs", "models", "serverless", "wheelhouse")
_BYTE = r"(25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)"
#: The pattern of a setting, and what is wrong with a value that does not match it.
_FORMS = {
    "BUCKET": (
        r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]",
        """is not the name of a bucket, without s3://: 3 to 63 lower-case letters, digits and
        hyphens (no dots, which break TLS to it), beginning and ending with a letter or a digit""",
    ),
    "SUBNET": (r"|subnet-[0-9a-f]+", "is not a subnet id, as in: aws ec2 describe-subnets"),
    "MY_IP": (
        # Not 0.0.0.0, this machine or a group, of which port 22 would be opened to everyone.
        rf"|(?!0\.|127\.|22[4-9]|23\d)({_BYTE}\.){{3}}{_BYTE}",
        """is not the IPv4 address of one machine, such as 203.0.113.7, to which port 22 is opened;
        to see yours: curl -s https://checkip.amazonaws.com""",
    ),
    "REGION": (
        r"eu-(central-1|north-1|south-[12]|west-[13])",
        """is not in the European Union, where the photos must stay (GDPR): use eu-central-1
        (Frankfurt), eu-north-1 (Stockholm), eu-south-1 (Milan), eu-south-2 (Spain), eu-west-1
        (Ireland) or eu-west-3 (Paris), or set ALLOW_REGION=1""",
    ),
    "RELEASE": (r"emr-[67]\.\d+\.\d+", "is not a release label of EMR 6 or 7, such as emr-6.4.0"),
    "MODEL": (
        # The bootstrap action takes the file's name among others, which commas separate.
        r"[A-Za-z0-9][A-Za-z0-9._-]*|(.*/)?[A-Za-z0-9._-]+\.onnx",
        """is neither the name of a pulled model nor an .onnx file named with letters, digits, dots,
        hyphens and underscores only: rename it, or convert it: pomona model convert {value} -o
        NAME.onnx""",
    ),
    "EMAIL": (r"|[^@\s]+@[^@\s]+\.[^@\s]+", "is not an e-mail address"),
    "ON_FAILURE": (r"keep|remove", "is not keep or remove"),
    "EVERY": (r"\d+(\.\d+)?", "is not a number of seconds"),
}
#: Whole numbers, and EMR's limits for them; AWS's for the budget.
_RANGES = {
    "WORKERS": range(1, 1001),
    "TASKS": range(1001),
    "IDLE": range(60, 7 * 24 * 3600 + 1),
    "TIMEOUT": range(5, 1_000_001),
    "BUDGET": range(1, 1_000_001),
}
_FLAGS = ("SSM", "DRY_RUN", "ALLOW_REGION")
_EXAMPLE = "BUCKET=fruits-paris KEY=fruits SUBNET=subnet-0a1b2c3d MY_IP=203.0.113.7"


@dataclass
class Settings:
    """Settings given by the user, under their names in make, and what follows from them."""

    BUCKET: str = ""
    KEY: str = ""
    SUBNET: str = ""
    MY_IP: str = ""
    REGION: str = plan.DEFAULT_REGION
    RELEASE: str = plan.DEFAULT_RELEASE
    INSTANCE: str = plan.DEFAULT_INSTANCE
    WORKERS: str = str(plan.DEFAULT_WORKERS)  # core nodes, on demand
    TASKS: str = "0"  # task nodes, on the spot market
    IDLE: str = "3600"  # seconds without work after which EMR terminates the cluster
    MODEL: str = "mobilenet_v2"  # a pulled model's name, or an .onnx file
    IMAGES: str = ""  # a folder on this machine, which is uploaded, or one in the bucket (s3://)
    OUTPUT: str = ""
    ARGS: str = ""  # more options for `pomona run`
    WHEELHOUSE: str = ""  # what `make wheelhouse` filled, or a release's archive of one
    EMAIL: str = ""  # the budget alarm writes to it
    BUDGET: str = "20"  # US dollars a month, for the alarm
    SSM: str = ""  # connect through Session Manager, which needs no key pair and no open port
    TIMEOUT: str = "120"  # minutes after which EMR Serverless cancels a job
    ON_FAILURE: str = "remove"  # or `keep`: what to do with a stack that failed
    DRY_RUN: str = ""
    ALLOW_REGION: str = ""
    EVERY: str = "30"  # seconds between checks of a state

    def __post_init__(self) -> None:
        self.uri = f"s3://{self.BUCKET}"
        self.wheelhouse = Path(self.WHEELHOUSE or f"target/wheelhouse/{self.RELEASE}")
        #: The folder of photos to upload, if there is one.
        self.photos = Path(self.IMAGES) if self.IMAGES and "://" not in self.IMAGES else None
        name = self.photos.resolve().name if self.photos else "Test"
        self.images_uri = self.IMAGES if self.IMAGES and not self.photos else f"{self.uri}/{name}"
        self.images_uri = self.images_uri.rstrip("/")
        self.output_uri = self.OUTPUT.rstrip("/") or f"{self.uri}/results"
        is_file = self.MODEL.endswith(MODEL_SUFFIX)
        self.model_file = Path(self.MODEL) if is_file else home() / f"{self.MODEL}{MODEL_SUFFIX}"
        self.model_uri = f"{self.uri}/models/{self.model_file.name}"
        #: The words that make later commands find the cluster, and those that run the job.
        self.place = self._words("BUCKET", "REGION", "ALLOW_REGION")
        self.again = self._words("BUCKET", "REGION", "ALLOW_REGION", "MODEL", "OUTPUT")
        if self.images_uri != f"{self.uri}/Test":
            self.again += f" IMAGES={shlex.quote(self.images_uri)}"

    def _words(self, *names: str) -> str:
        given = {name: getattr(self, name) for name in names}
        changed = {name: value for name, value in given.items() if value != getattr(Settings, name)}
        return " ".join(f"{name}={shlex.quote(value)}" for name, value in changed.items())

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
        off = [name for name in _FLAGS if given.get(name) == "0"]
        settings = cls(**{name: value for name, value in given.items() if name not in off})
        unused = ("KEY", "MY_IP") if settings.SSM else ()
        missing = [name for name in needed if name not in (*given, *unused)]
        if missing:
            example = " ".join(word for word in _EXAMPLE.split() if word.split("=")[0] in missing)
            raise Stop(f"{' and '.join(missing)} must be given, for example {example}")
        settings._check()
        return settings

    def _check(self) -> None:
        for name, (form, wrong) in _FORMS.items():
            value = getattr(self, name)
            if not re.fullmatch(form, value) and (name != "REGION" or not self.ALLOW_REGION):
                raise Stop(f"{name}={value} {wrong.format(value=shlex.quote(value))}")
        for name, allowed in _RANGES.items():
            value, limits = getattr(self, name), f"from {allowed[0]:,} to {allowed[-1]:,}"
            if not value.isdecimal() or int(value) not in allowed:
                raise Stop(f"{name}={value} must be a whole number {limits}")
        try:
            shlex.split(self.ARGS)
        except ValueError as error:
            raise Stop(f"ARGS={self.ARGS} cannot be split into options: {error}") from error
        try:
            plan.check_release(self.INSTANCE, self.RELEASE)
        except ValueError as error:
            other = "use another, or a later RELEASE"
            raise Stop(f"INSTANCE={self.INSTANCE}: {error}; {other}") from error
        # Neither the photos nor the results may be where something else is.
        photos, results = f"{self.images_uri}/", f"{self.output_uri}/"
        for name, folder, taken in (("IMAGES", photos, _KEPT), ("OUTPUT", results, _KEPT[1:])):
            given, key = f"{name}={getattr(self, name) or folder}", folder[len(self.uri) + 1 : -1]
            if not folder.startswith(f"{self.uri}/"):
                raise Stop(f"""{given} is not in {self.uri}, the only bucket that the cluster can
                    read and write: copy the photos there, or set BUCKET to theirs""")
            if not key:
                raise Stop(f"""{given} would be the whole bucket, where the results and the logs are
                    too: give a folder, such as {self.uri}/Test, or {self.uri}/results""")
            if "" in key.split("/"):
                raise Stop(f"{given} has a double slash, which S3 does not take for one: remove it")
            first = key.split("/")[0]
            if first in taken:
                raise Stop(f"""{given} would be in {self.uri}/{first}, where Pomona or EMR keeps
                    other files: give another folder, or rename the local one""")
        if photos.startswith(results) or results.startswith(photos):
            raise Stop(f"""the photos would be in {photos} and the results in {results}, and one
                must not be inside the other: give another IMAGES or OUTPUT""")
