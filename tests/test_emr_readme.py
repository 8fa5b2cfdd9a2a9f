"""All commands of bootstrap's pages, run in order, on a simulated AWS."""

from __future__ import annotations

import fnmatch
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any, Iterator

import pytest

import photos
from cloud import ROOT, Call, Cloud
from emr import release, wheelhouse

BOOTSTRAP = ROOT / "bootstrap"
README = BOOTSTRAP / "README.md"
GUIDE = BOOTSTRAP / "guide.md"
PRIVACY = BOOTSTRAP / "privacy.md"
SUBNET = "subnet-0a1b2c3d"
PHOTOS = "fruits-360/Test"
ADDRESS = "203.0.113.7"
#: What a release's source archive needs for the commands, of what they read.
SOURCE = ["Cargo.toml", "Makefile", "bootstrap", "notebooks", "python/pomona", "src"]
#: Does what the template says of the bucket, and moto ignores.
PRIVATE = (
    "aws s3api put-public-access-block --bucket fruits-paris --region eu-west-3 "
    "--public-access-block-configuration BlockPublicAcls=true,IgnorePublicAcls=true,"
    "BlockPublicPolicy=true,RestrictPublicBuckets=true"
)
#: Calls that every AWS user may make.
FREE = {"sts:GetCallerIdentity"}


def console(page: Path) -> list[tuple[str, list[str]]]:
    """Return the commands, each with the lines of output that the page shows."""
    found: list[tuple[str, list[str]]] = []
    for block in re.findall(r"^```console\n(.*?)^```$", page.read_text(), re.M | re.S):
        for line in block.splitlines():
            if line.startswith("$ "):
                found.append((line[2:], []))
            else:
                found[-1][1].append(line)
    return found


def steps_end(call: Call, said: dict[str, Any] | None) -> dict[str, Any] | None:
    """A rule: steps complete, which they never do in moto."""
    if call.action != "DescribeStep" or said is None:
        return None
    said["Step"]["Status"]["State"] = "COMPLETED"
    return said


@pytest.fixture(scope="module")
def account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    """An AWS with the network of a new account: a public subnet."""
    cloud = Cloud(tmp_path_factory.mktemp("cloud"))
    cloud.rules.append(steps_end)
    subnet = cloud.aws("ec2", "describe-subnets")["Subnets"][0]
    gateway = cloud.aws("ec2", "create-internet-gateway")["InternetGateway"]["InternetGatewayId"]
    joined = ("--internet-gateway-id", gateway, "--vpc-id", subnet["VpcId"])
    cloud.aws("ec2", "attach-internet-gateway", *joined)
    (table,) = cloud.aws("ec2", "describe-route-tables")["RouteTables"]
    route = ("--route-table-id", table["RouteTableId"], "--gateway-id", gateway)
    cloud.aws("ec2", "create-route", *route, "--destination-cidr-block", "0.0.0.0/0")
    yield cloud
    cloud.stop()


@pytest.fixture
def cloud(account: Cloud) -> Cloud:
    """The account without a bucket and a key pair."""
    for bucket in account.aws("s3api", "list-buckets")["Buckets"]:
        account.aws("s3", "rb", "--force", f"s3://{bucket['Name']}")
    account.aws("ec2", "delete-key-pair", "--key-name", "fruits")
    account.calls.clear()
    return account


class Reader:
    """Somebody who enters the commands of a page."""

    def __init__(self, cloud: Cloud, folder: Path, replaced: dict[str, str]) -> None:
        self.folder = folder
        self.cloud = cloud
        self.replaced = {
            SUBNET: cloud.aws("ec2", "describe-subnets")["Subnets"][0]["SubnetId"],
            **replaced,
        }
        self.programs = folder / "programs"
        self.programs.mkdir()
        self.program("pomona", f'exec {sys.executable} -m pomona "$@"')

    def program(self, name: str, text: str) -> None:
        path = self.programs / name
        path.write_text(f"#!/usr/bin/env bash\n{text}\n")
        path.chmod(0o755)

    def follow(self, page: Path, where: Path, before: dict[str, str] | None = None) -> str:
        """Enter the commands; `before` has one to enter before the first that has a word."""
        before = before or {}
        script = ["set -euo pipefail"]
        commands = console(page)
        for index, (command, _) in enumerate(commands):
            script += [before.pop(word) for word in list(before) if word in command]
            local = command
            for theirs, ours in self.replaced.items():
                local = local.replace(theirs, ours)
            script += [f"echo + {shlex.quote(command)}", local]
            if commands[index][1]:
                script[-1] += f" | tee {self.folder}/{index}.txt"
        environment = {
            **self.cloud.environment,
            "PATH": os.pathsep.join([str(self.programs), self.cloud.environment["PATH"]]),
            # Where this Pomona is, if it is not installed.
            "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
            "POMONA_HOME": str(self.folder / "models"),
            "EVERY": "0.1",
        }
        done = subprocess.run(
            ["bash"],
            input="\n".join(script),
            cwd=where,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-4000:]
        for index, (command, shown) in enumerate(commands):
            for line in shown:
                assert line in (self.folder / f"{index}.txt").read_text(), command
        return done.stdout


def assert_nothing_is_left(cloud: Cloud) -> None:
    assert "POST /applications" in [call.action for call in cloud.calls]
    applications = cloud.aws("emr-serverless", "list-applications")["applications"]
    assert {application["state"] for application in applications} == {"TERMINATED"}
    assert not cloud.aws("cloudformation", "describe-stacks")["Stacks"]
    (step,) = cloud.called("AddJobFlowSteps")
    assert "s3://fruits-paris/Test" in step.body["Steps"][0]["HadoopJarStep"]["Args"]
    assert not cloud.aws("emr", "list-clusters", "--active")["Clusters"]


def assert_allowed(cloud: Cloud) -> None:
    """The rights to paste cover every call but those to S3, which has all rights on its bucket."""
    statements = json.loads((BOOTSTRAP / "policies" / "user.json").read_text())["Statement"]
    actions = [action for statement in statements for action in _list(statement["Action"])]
    called = {f"{call.service}:{call.action}" for call in cloud.calls if call.service != "s3"}
    refused = {
        call
        for call in called - FREE
        if not any(fnmatch.fnmatchcase(call, action) for action in actions)
    }
    assert refused == set()


def _list(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


def test_the_steps_of_the_readme_work(cloud: Cloud, tmp_path: Path):
    photos.render(tmp_path / PHOTOS, classes=2, per_class=2)
    replaced = {
        PHOTOS: str(tmp_path / PHOTOS),
        "~/.ssh": str(tmp_path / "ssh"),
        # Packing the real one takes half a minute.
        "make serverless-run": f"make serverless-run WHEELHOUSE={tiny_wheelhouse(tmp_path)}",
    }
    reader = Reader(cloud, tmp_path, replaced)
    # The public address, without internet access.
    reader.program("curl", f"echo {ADDRESS}")
    reader.follow(README, ROOT, {"make serverless-run": PRIVATE})
    assert_nothing_is_left(cloud)
    assert_allowed(cloud)


def test_route_b_of_the_guide_works_from_what_a_release_has(cloud: Cloud, tmp_path: Path):
    downloads = tmp_path / "downloads"
    downloads.mkdir()
    packages = tiny_wheelhouse(tmp_path)
    model = tmp_path / "efficientnet_lite0.onnx"
    shutil.copy(wheelhouse.CHECK["check/model.onnx"], model)
    (version,) = re.findall(r"emr-7\.14\.0-([\d.]+)\.zip", GUIDE.read_text())[:1]
    release.make(version, downloads, [packages, model])
    with tarfile.open(downloads / f"v{version}.tar.gz", "w:gz") as archive:
        for name in SOURCE:
            archive.add(ROOT / name, f"pomona-{version}/{name}", filter=_as_in_git)
    home = tmp_path / "home"
    home.mkdir()
    reader = Reader(cloud, tmp_path, {})
    reader.program(
        "curl",
        f"""from={downloads}/${{@: -1:1}}; from={downloads}/$(basename "$from")
        if [ "$2" = -o ]; then cp "$from" "$3"; else cp "$from" .; fi""",
    )
    cloud.aws("ec2", "create-key-pair", "--key-name", "fruits")
    photo = wheelhouse.CHECK["check/photo.jpg"]
    upload = f"aws s3 cp {photo} s3://fruits-paris/Test/Apple/1.jpg --region eu-west-3"
    said = reader.follow(GUIDE, home, {"emr-run": upload, "serverless-run": PRIVATE})
    assert "Release=emr-7.14.0" in said
    assert_nothing_is_left(cloud)
    assert_allowed(cloud)


def tiny_wheelhouse(folder: Path) -> Path:
    """Write a wheelhouse without wheels, and return its folder."""
    packages = folder / "emr-7.14.0"
    (packages / "check").mkdir(parents=True)
    (packages / "check" / "photo.jpg").write_bytes(b"a photo")
    heading = "# release: emr-7.14.0\n# python: 3.9\n# glibc: 2.34\n"
    (packages / "requirements.txt").write_text(heading)
    (packages / "SHA256SUMS").write_text(wheelhouse.checksums(packages))
    return packages


def _as_in_git(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    """Leave out what is compiled: the commands must not need it."""
    built = ("__pycache__", "/lib", ".so")
    return None if member.name.endswith(built) or "/lib/" in member.name else member


def test_the_photos_of_one_person_are_deleted(cloud: Cloud, tmp_path: Path):
    cloud.aws("s3", "mb", "s3://fruits-paris")
    enabled = ("--versioning-configuration", "Status=Enabled")
    cloud.aws("s3api", "put-bucket-versioning", "--bucket", "fruits-paris", *enabled)
    photo = str(wheelhouse.CHECK["check/photo.jpg"])
    theirs = [f"Test/person-17/{number}.jpg" for number in range(3)]
    results = ["results/features/part-0.parquet", "jupyter/jovyan/a.ipynb", "logs/j-1/stderr.gz"]
    for key in [*theirs, *theirs, *results, "Test/person-18/0.jpg"]:
        cloud.aws("s3", "cp", photo, f"s3://fruits-paris/{key}", "--only-show-errors")
    said = Reader(cloud, tmp_path, {}).follow(PRIVACY, tmp_path)
    assert not re.search(r"^\d.*person-17", said, re.M)
    left = cloud.aws("s3api", "list-object-versions", "--bucket", "fruits-paris")
    versions = [each["Key"] for each in left["Versions"]]
    markers = [each["Key"] for each in left.get("DeleteMarkers", [])]
    assert not [key for key in versions + markers if "person-17" in key]
    assert "Test/person-18/0.jpg" in versions
    assert sorted(markers) == sorted(results)
    assert cloud.aws("ec2", "get-ebs-encryption-by-default")["EbsEncryptionByDefault"]


def test_every_setting_of_the_commands_is_explained():
    from emr.settings import Settings

    text = README.read_text()
    defaults = Settings(BUCKET="BUCKET")
    named = {
        "REGION": defaults.REGION,
        "RELEASE": defaults.RELEASE,
        "INSTANCE": defaults.INSTANCE,
        "WORKERS": defaults.WORKERS,
        "TASKS": defaults.TASKS,
        "IDLE": defaults.IDLE,
        "MODEL": defaults.MODEL,
        "IMAGES": defaults.images_uri,
        "OUTPUT": defaults.output_uri,
        "TIMEOUT": defaults.TIMEOUT,
        "ON_FAILURE": defaults.ON_FAILURE,
    }
    for name, default in named.items():
        assert re.search(rf"^\| `{name}` \| `?{re.escape(default)}`? \|", text, re.M), name
    rows = "".join(re.findall(r"^\| (`.*?) \|", text, re.M))
    explained = set(re.findall(r"`([A-Z_]+)`", rows))
    inner = {"DRY_RUN", "ALLOW_REGION", "EVERY"}
    assert set(Settings.__dataclass_fields__) - explained <= inner


@pytest.mark.parametrize(
    "command", sorted(set(re.findall(r"`((?:make|pomona) [\w=. -]+)`", README.read_text())))
)
def test_every_command_in_the_text_exists(command: str):
    program, *words = command.split()
    if program == "make":
        words = ["env", "--unset=MAKEFLAGS", "make", "--dry-run", *words, "DRY_RUN=1"]
    else:
        words = [sys.executable, "-m", "pomona", words[0], "--help"]
    subprocess.run(words, cwd=ROOT, stdout=subprocess.DEVNULL, check=True)
