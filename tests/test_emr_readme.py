"""All commands of bootstrap/README.md, run in order, on a simulated AWS."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Iterator

import pytest

import photos
from cloud import ROOT, Call, Cloud

README = ROOT / "bootstrap" / "README.md"
SUBNET = "subnet-0a1b2c3d"
PHOTOS = "fruits-360/Test"


def console() -> list[tuple[str, list[str]]]:
    """Return the commands, each with the lines of output that the guide shows."""
    found: list[tuple[str, list[str]]] = []
    for block in re.findall(r"^```console\n(.*?)^```$", README.read_text(), re.M | re.S):
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
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    cloud = Cloud(tmp_path_factory.mktemp("cloud"))
    cloud.rules.append(steps_end)
    yield cloud
    cloud.stop()


def program(path: Path, text: str) -> None:
    path.write_text(f"#!/usr/bin/env bash\n{text}\n")
    path.chmod(0o755)


def test_the_ten_steps_work(cloud: Cloud, tmp_path: Path):
    subnet = cloud.aws("ec2", "describe-subnets")["Subnets"][0]
    gateway = cloud.aws("ec2", "create-internet-gateway")["InternetGateway"]["InternetGatewayId"]
    joined = ("--internet-gateway-id", gateway, "--vpc-id", subnet["VpcId"])
    cloud.aws("ec2", "attach-internet-gateway", *joined)
    (table,) = cloud.aws("ec2", "describe-route-tables")["RouteTables"]
    route = ("--route-table-id", table["RouteTableId"], "--gateway-id", gateway)
    cloud.aws("ec2", "create-route", *route, "--destination-cidr-block", "0.0.0.0/0")
    photos.render(tmp_path / PHOTOS, classes=2, per_class=2)
    # The public address, without internet access.
    program(tmp_path / "curl", 'echo "203.0.113.7"')
    program(tmp_path / "pomona", f'exec {sys.executable} -m pomona "$@"')
    environment = {
        **cloud.environment,
        "PATH": os.pathsep.join([str(tmp_path), cloud.environment["PATH"]]),
        # Where this Pomona is, if it is not installed.
        "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
        "POMONA_HOME": str(tmp_path / "models"),
        "EVERY": "0.1",
    }
    here = {
        SUBNET: subnet["SubnetId"],
        PHOTOS: str(tmp_path / PHOTOS),
        "~/.ssh": str(tmp_path / "ssh"),
        "> emr-up.sh": f"> {tmp_path}/emr-up.sh",
    }
    script = ["set -euo pipefail"]
    for index, (command, shown) in enumerate(console()):
        local = command
        for theirs, ours in here.items():
            local = local.replace(theirs, ours)
        output = tmp_path / f"{index}.txt"
        script += [f"echo {index}", f"{local} | tee {output}" if shown else local]
    done = subprocess.run(
        ["bash"],
        input="\n".join(script),
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:]
    for index, (command, shown) in enumerate(console()):
        for line in shown:
            assert line in (tmp_path / f"{index}.txt").read_text(), command
    assert subprocess.run(["bash", "-n", tmp_path / "emr-up.sh"], check=True)
    assert cloud.called("RunJobFlow")
    (step,) = cloud.called("AddJobFlowSteps")
    assert "s3://fruits-paris/Test" in step.body["Steps"][0]["HadoopJarStep"]["Args"]
    assert cloud.called("TerminateJobFlows")
    assert not cloud.aws("emr", "list-clusters", "--active")["Clusters"]


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
    }
    for name, default in named.items():
        assert re.search(rf"^\| `{name}` \| `?{re.escape(default)}`? \|", text, re.M), name


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


def test_every_file_that_it_points_at_is_there():
    links = re.findall(r"\]\(([^)#]+)\)", README.read_text())
    assert links
    for link in links:
        assert (README.parent / link).exists(), link
