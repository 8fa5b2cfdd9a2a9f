"""What the commands are told, and what of it cannot be."""

from __future__ import annotations

import ipaddress
import os
import re
import shlex
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Sequence

from emr.errors import Stop

#: Regions inside the European Union: London (eu-west-2) and Zurich (eu-central-2) are not.
EU_REGIONS = {
    "eu-central-1": "Frankfurt",
    "eu-north-1": "Stockholm",
    "eu-south-1": "Milan",
    "eu-south-2": "Spain",
    "eu-west-1": "Ireland",
    "eu-west-3": "Paris",
}
#: EMR's own limits for ending an idle cluster, in seconds.
IDLE_SECONDS = range(60, 7 * 24 * 3600 + 1)
#: Addresses that a home or an office uses inside; AWS sees another one.
INSIDE = [
    ipaddress.IPv4Network(block)
    for block in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10")
]
#: S3 allows 63; the roles are named after the bucket and may have 64 characters.
LONGEST_BUCKET = 48

_BUCKET = re.compile(r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]")
_RELEASE = re.compile(r"emr-(\d+)\.\d+\.\d+")
_SUBNET = re.compile(r"subnet-[0-9a-f]+")
_MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
#: What a model may be called on S3 and in the bootstrap's arguments, which commas part.
_MODEL_FILE = re.compile(r"[A-Za-z0-9._-]+\.onnx")
_SECONDS = re.compile(r"\d+(\.\d+)?")
#: What a switch is that is not set.
_NO = ("", "0")
_EXAMPLE = {
    "BUCKET": "BUCKET=fruits-paris",
    "KEY": "KEY=fruits, the name of an EC2 key pair",
    "SUBNET": "SUBNET=subnet-0a1b2c3d",
    "MY_IP": "MY_IP=$(curl -s https://checkip.amazonaws.com)",
}


@dataclass(frozen=True)
class Settings:
    """What a person asks for, by the names that make knows it by."""

    BUCKET: str = ""
    KEY: str = ""
    SUBNET: str = ""
    MY_IP: str = ""
    REGION: str = "eu-west-3"
    RELEASE: str = "emr-6.4.0"
    INSTANCE: str = "m5.xlarge"
    #: Core nodes, on demand.
    WORKERS: str = "2"
    #: Task nodes, on the spot market.
    TASKS: str = "0"
    #: Seconds without work after which EMR ends the cluster.
    IDLE: str = "3600"
    #: A pulled model's name, or an .onnx file.
    MODEL: str = "mobilenet_v2"
    #: A folder of photos on this machine, to be uploaded, or an s3:// one in the bucket.
    IMAGES: str = ""
    OUTPUT: str = ""
    #: More of `pomona run`'s options.
    ARGS: str = ""
    #: The folder that `make wheelhouse` has filled.
    WHEELHOUSE: str = ""
    DRY_RUN: str = ""
    ALLOW_REGION: str = ""
    #: Seconds between two looks at what a cluster or a step does.
    EVERY: str = "30"

    @classmethod
    def of(cls, words: Sequence[str], needed: Sequence[str]) -> Settings:
        """Read `NAME=VALUE` words and check all that can be checked without AWS."""
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
                f"{' and '.join(missing)} must be given, such as "
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
                f"SUBNET={self.SUBNET} is not a subnet's id (subnet-0a1b2c3d); list yours: "
                f"aws ec2 describe-subnets --region {self.REGION}"
            )
        if not _RELEASE.fullmatch(self.RELEASE):
            raise Stop(f"RELEASE={self.RELEASE} is not a release's label, such as emr-6.4.0")
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
            raise Stop(f"BUCKET={bucket}: give the bare name, without s3://")
        if bucket != bucket.lower():
            raise Stop(
                f"BUCKET={bucket}: S3 allows no upper case in a bucket's name; take "
                f"BUCKET={bucket.lower()}"
            )
        if not _BUCKET.fullmatch(bucket) or len(bucket) > LONGEST_BUCKET:
            raise Stop(
                f"BUCKET={bucket} cannot be used: take 3 to {LONGEST_BUCKET} lower-case letters, "
                "digits and hyphens (no dots, which break TLS to the bucket), beginning and "
                "ending with a letter or a digit"
            )

    def _check_region(self) -> None:
        if self.REGION not in EU_REGIONS and self.ALLOW_REGION in _NO:
            inside = ", ".join(f"{name} ({city})" for name, city in EU_REGIONS.items())
            raise Stop(
                f"REGION={self.REGION} is not in the European Union, where the photos are to stay "
                f"(GDPR): take {inside}, or say ALLOW_REGION=1"
            )

    def _check_address(self) -> None:
        try:
            address = ipaddress.IPv4Address(self.MY_IP)
        except ValueError as error:
            raise Stop(
                f"MY_IP={self.MY_IP} is not an IPv4 address such as 203.0.113.7; yours is what "
                "this prints: curl -s https://checkip.amazonaws.com"
            ) from error
        if address.is_unspecified or address.is_loopback or address.is_multicast:
            raise Stop(
                f"MY_IP={self.MY_IP} is not the address of one machine: port 22 is opened to yours "
                "only, which is what this prints: curl -s https://checkip.amazonaws.com"
            )

    def _check_inside(self, name: str) -> None:
        value = getattr(self, name)
        if not value.startswith(f"{self.uri}/"):
            raise Stop(
                f"{name}={value} is not in {self.uri}, the only place that the cluster may read "
                "and write: copy the photos there, or take their bucket as BUCKET"
            )
        if "//" in value[len("s3://") :]:
            raise Stop(
                f"{name}={value} has a doubled slash, which on S3 is another place than a single "
                "one: write it without"
            )

    def _check_words(self) -> None:
        try:
            shlex.split(self.ARGS)
        except ValueError as error:
            raise Stop(f"ARGS={self.ARGS} is no list of options: {error}") from error
        if not _SECONDS.fullmatch(self.EVERY):
            raise Stop(f"EVERY={self.EVERY} is not a number of seconds")

    def _check_model(self) -> None:
        name = self.model_file.name
        if not name.endswith(".onnx"):
            raise Stop(
                f"MODEL={self.MODEL} is neither a pulled model's name nor an .onnx file: make one "
                f"of it with pomona model convert {shlex.quote(self.MODEL)} -o NAME.onnx"
            )
        if not _MODEL_FILE.fullmatch(name):
            raise Stop(
                f"MODEL={self.MODEL} cannot be named so on the nodes: rename the file, with "
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
        """The bucket, as a URI."""
        return f"s3://{self.BUCKET}"

    @property
    def cluster_name(self) -> str:
        """What the cluster and all that is made for it are named."""
        return f"pomona-{self.BUCKET}"

    @property
    def nodes_role(self) -> str:
        """The role, and the instance profile, of the cluster's nodes."""
        return f"{self.cluster_name}-nodes"

    @property
    def service_role(self) -> str:
        """The role that EMR itself takes on."""
        return f"{self.cluster_name}-emr"

    @property
    def wheelhouse(self) -> Path:
        """The folder that `make wheelhouse` has filled."""
        return Path(self.WHEELHOUSE or f"target/wheelhouse/{self.RELEASE}")

    @property
    def wheelhouse_uri(self) -> str:
        """Where the nodes find it."""
        return f"{self.uri}/wheelhouse/{self.RELEASE}"

    @property
    def local_photos(self) -> Path | None:
        """A folder of this machine that is to be uploaded, if one was given."""
        return Path(self.IMAGES) if self.IMAGES and "://" not in self.IMAGES else None

    @property
    def images_uri(self) -> str:
        """Where the job finds the photos."""
        if self.local_photos is not None:
            return f"{self.uri}/{self.local_photos.resolve().name}"
        return self.IMAGES.rstrip("/") or f"{self.uri}/Test"

    @property
    def output_uri(self) -> str:
        """Where the job writes."""
        return self.OUTPUT.rstrip("/") or f"{self.uri}/results"

    @property
    def model_file(self) -> Path:
        """The model on this machine: where Pomona keeps pulled ones, unless it is a path."""
        if not _MODEL_NAME.fullmatch(self.MODEL) or self.MODEL.endswith(".onnx"):
            return Path(self.MODEL)
        # As pomona.models.store has it, which needs numpy to be imported.
        cache = Path(os.environ.get("XDG_CACHE_HOME", ""))
        default = (cache if cache.is_absolute() else Path("~/.cache")) / "pomona"
        home = os.environ.get("POMONA_HOME") or default
        return Path(home).expanduser() / f"{self.MODEL}.onnx"

    @property
    def model_uri(self) -> str:
        """Where the cluster finds the model."""
        return f"{self.uri}/models/{self.model_file.name}"

    @property
    def place(self) -> str:
        """What the next commands are to be told to find the cluster again."""
        return f"BUCKET={self.BUCKET}" + self._changed("REGION", "ALLOW_REGION")

    @property
    def again(self) -> str:
        """What `emr-run` is to be told: what differs from the defaults."""
        images = self.images_uri
        moved = images != Settings(BUCKET=self.BUCKET).images_uri
        return self.place + self._changed("MODEL") + (f" IMAGES={images}" if moved else "")

    def _changed(self, *names: str) -> str:
        changed = (name for name in names if getattr(self, name) != getattr(Settings, name))
        return "".join(f" {name}={getattr(self, name)}" for name in changed)

    @property
    def dry_run(self) -> bool:
        """Whether calls are only printed."""
        return self.DRY_RUN not in _NO
