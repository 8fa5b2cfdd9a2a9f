"""Settings of the commands, and their validation."""

from __future__ import annotations

import ipaddress
import re
import shlex
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Sequence

from emr.errors import Stop
from pomona import ModelError, plan
from pomona.models.store import MODEL_SUFFIX, path_of

#: Regions inside the European Union: London (eu-west-2) and Zurich (eu-central-2) are not.
EU_REGIONS = {
    "eu-central-1": "Frankfurt",
    "eu-north-1": "Stockholm",
    "eu-south-1": "Milan",
    "eu-south-2": "Spain",
    "eu-west-1": "Ireland",
    "eu-west-3": "Paris",
}
#: EMR's limits for the idle time of a cluster, in seconds.
IDLE_SECONDS = range(60, 7 * 24 * 3600 + 1)
#: Address ranges of private networks, which AWS does not see.
INSIDE = [
    ipaddress.IPv4Network(block)
    for block in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10")
]
#: S3 allows 63 characters, but IAM allows 64 for the roles' names, which contain the bucket's.
MAX_BUCKET_LENGTH = 48

_BUCKET = re.compile(r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]")
_RELEASE = re.compile(r"emr-(\d+)\.\d+\.\d+")
_SUBNET = re.compile(r"subnet-[0-9a-f]+")
#: Valid file names of a model on S3 and in the bootstrap's arguments, which are comma-separated.
_MODEL_FILE = re.compile(r"[A-Za-z0-9._-]+\.onnx")
_SECONDS = re.compile(r"\d+(\.\d+)?")
#: Values of a switch that is off.
_OFF = ("", "0")
_EXAMPLE = {
    "BUCKET": "BUCKET=fruits-paris",
    "KEY": "KEY=fruits, the name of an EC2 key pair",
    "SUBNET": "SUBNET=subnet-0a1b2c3d",
    "MY_IP": "MY_IP=$(curl -s https://checkip.amazonaws.com)",
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
    #: The folder that `make wheelhouse` filled.
    WHEELHOUSE: str = ""
    DRY_RUN: str = ""
    ALLOW_REGION: str = ""
    #: Seconds between checks of the state of a cluster or a step.
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
        missing = [name for name in needed if not getattr(settings, name)]
        if missing:
            raise Stop(
                f"{' and '.join(missing)} must be given, for example "
                + " ".join(_EXAMPLE[name] for name in missing)
            )
        settings._check(needed)
        return settings

    def _check(self, needed: Sequence[str]) -> None:
        self._check_bucket()
        self._check_region()
        if "MY_IP" in needed:
            self._check_address()
        if "SUBNET" in needed and not _SUBNET.fullmatch(self.SUBNET):
            raise Stop(
                f"SUBNET={self.SUBNET} is not a subnet id (subnet-0a1b2c3d); to list yours: "
                f"aws ec2 describe-subnets --region {self.REGION}"
            )
        if not _RELEASE.fullmatch(self.RELEASE):
            raise Stop(f"RELEASE={self.RELEASE} is not a release label such as emr-6.4.0")
        self._whole("WORKERS", range(1, 1001))
        self._whole("TASKS", range(1001))
        self._whole("IDLE", IDLE_SECONDS)
        self._check_words()
        self._check_model()
        if self.IMAGES and "://" in self.IMAGES:
            self._check_inside("IMAGES")
        if self.OUTPUT:
            self._check_inside("OUTPUT")

    def _check_bucket(self) -> None:
        bucket = self.BUCKET
        if bucket.startswith("s3://"):
            raise Stop(f"BUCKET={bucket}: give the name only, without s3://")
        if bucket != bucket.lower():
            raise Stop(
                f"BUCKET={bucket}: bucket names have no upper-case letters; use "
                f"BUCKET={bucket.lower()}"
            )
        if not _BUCKET.fullmatch(bucket) or len(bucket) > MAX_BUCKET_LENGTH:
            raise Stop(
                f"BUCKET={bucket} is not valid: use 3 to {MAX_BUCKET_LENGTH} lower-case letters, "
                "digits and hyphens (no dots, which break TLS to the bucket), starting and ending "
                "with a letter or a digit"
            )

    def _check_region(self) -> None:
        if self.REGION not in EU_REGIONS and self.ALLOW_REGION in _OFF:
            inside = ", ".join(f"{name} ({city})" for name, city in EU_REGIONS.items())
            raise Stop(
                f"REGION={self.REGION} is not in the European Union, where the photos must stay "
                f"(GDPR): use {inside}, or set ALLOW_REGION=1"
            )

    def _check_address(self) -> None:
        try:
            address = ipaddress.IPv4Address(self.MY_IP)
        except ValueError as error:
            raise Stop(
                f"MY_IP={self.MY_IP} is not an IPv4 address such as 203.0.113.7; to see yours: "
                "curl -s https://checkip.amazonaws.com"
            ) from error
        if address.is_unspecified or address.is_loopback or address.is_multicast:
            raise Stop(
                f"MY_IP={self.MY_IP} is not the address of one machine, and port 22 is opened to "
                "yours only; to see it: curl -s https://checkip.amazonaws.com"
            )

    def _check_inside(self, name: str) -> None:
        value = getattr(self, name)
        if not value.startswith(f"{self.uri}/"):
            raise Stop(
                f"{name}={value} is not in {self.uri}, the only bucket that the cluster can read "
                "and write: copy the photos there, or set BUCKET to theirs"
            )
        if "//" in value[len("s3://") :]:
            raise Stop(
                f"{name}={value} has a double slash, which on S3 is not the same as a single one: "
                "remove it"
            )

    def _check_words(self) -> None:
        try:
            shlex.split(self.ARGS)
        except ValueError as error:
            raise Stop(f"ARGS={self.ARGS} cannot be split into options: {error}") from error
        if not _SECONDS.fullmatch(self.EVERY):
            raise Stop(f"EVERY={self.EVERY} is not a number of seconds")

    def _check_model(self) -> None:
        name = self.model_file.name
        if not name.endswith(MODEL_SUFFIX):
            raise Stop(
                f"MODEL={self.MODEL} is neither the name of a pulled model nor an .onnx file; to "
                f"convert it: pomona model convert {shlex.quote(self.MODEL)} -o NAME.onnx"
            )
        if not _MODEL_FILE.fullmatch(name):
            raise Stop(
                f"MODEL={self.MODEL} is not a valid file name on the nodes: rename the file, with "
                "letters, digits, dots, hyphens and underscores only"
            )

    def _whole(self, name: str, allowed: range) -> None:
        value = getattr(self, name)
        if not value.isdecimal() or int(value) not in allowed:
            raise Stop(
                f"{name}={value} must be a whole number from {allowed[0]:,} to {allowed[-1]:,}"
            )

    @property
    def uri(self) -> str:
        """The URI of the bucket."""
        return f"s3://{self.BUCKET}"

    @property
    def cluster_name(self) -> str:
        """The name of the cluster, and the prefix of the names of its resources."""
        return f"pomona-{self.BUCKET}"

    @property
    def nodes_role(self) -> str:
        """The name of the nodes' role and instance profile."""
        return f"{self.cluster_name}-nodes"

    @property
    def service_role(self) -> str:
        """The name of EMR's own role."""
        return f"{self.cluster_name}-emr"

    @property
    def wheelhouse(self) -> Path:
        """The wheelhouse on this machine."""
        return Path(self.WHEELHOUSE or f"target/wheelhouse/{self.RELEASE}")

    @property
    def wheelhouse_uri(self) -> str:
        """The wheelhouse in the bucket."""
        return f"{self.uri}/wheelhouse/{self.RELEASE}"

    @property
    def local_photos(self) -> Path | None:
        """The folder of photos on this machine to upload, if there is one."""
        return Path(self.IMAGES) if self.IMAGES and "://" not in self.IMAGES else None

    @property
    def images_uri(self) -> str:
        """The job's folder of photos."""
        if self.local_photos is not None:
            return f"{self.uri}/{self.local_photos.resolve().name}"
        return self.IMAGES.rstrip("/") or f"{self.uri}/Test"

    @property
    def output_uri(self) -> str:
        """The job's output folder."""
        return self.OUTPUT.rstrip("/") or f"{self.uri}/results"

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
        """The words for `emr-run`: settings that differ from the defaults."""
        images = self.images_uri
        moved = images != Settings(BUCKET=self.BUCKET).images_uri
        return self.place + self._changed("MODEL") + (f" IMAGES={images}" if moved else "")

    def _changed(self, *names: str) -> str:
        changed = (name for name in names if getattr(self, name) != getattr(Settings, name))
        return "".join(f" {name}={getattr(self, name)}" for name in changed)

    @property
    def dry_run(self) -> bool:
        """Whether to print the calls instead of making them."""
        return self.DRY_RUN not in _OFF
