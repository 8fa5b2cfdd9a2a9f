"""bootstrap-emr.sh, run as on a node: few programs, a Python of its own, S3, and no internet."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Callable, Iterator

import numpy as np
import pytest

import pomona
from emr import wheelhouse
from local_aws import CLI, LocalAws
from services import Service, free_port

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = ROOT / "bootstrap" / "bootstrap-emr.sh"
FIND_PYTHON = ROOT / "python" / "tools" / "find_python.sh"
MODEL = wheelhouse.CHECK["check/model.onnx"]
PHOTO = wheelhouse.CHECK["check/photo.jpg"]

EMR6, EMR7 = "emr-6.4.0", "emr-7.14.0"
BUCKET = "orchard"
#: The programs that a node needs besides Python and the AWS CLI: bash, coreutils, flock, grep, sed.
PROGRAMS = """
    bash cat chmod cp df flock grep id install ln ls mkdir mktemp mv readlink rm sed sha256sum sort
    tr uname
"""
NOBODY = 65534

FEATURIZE = """
import json, sys
import pomona
features = pomona.Featurizer(sys.argv[1]).featurize([open(sys.argv[2], "rb").read()])
print(json.dumps({"features": features.tobytes().hex(), "path": sys.path, "prefix": sys.prefix}))
"""


class Node:
    """A folder that simulates a node, with its programs, home and disk."""

    def __init__(self, root: Path, aws: LocalAws, python: str | None) -> None:
        self.target = root / "opt" / "pomona"
        self.venv = self.target / "venv"
        self.python = self.venv / "bin" / "python"
        self.programs = root / "bin"
        self.programs.mkdir(parents=True)
        for name in PROGRAMS.split():
            (self.programs / name).symlink_to(shutil.which(name))
        (self.programs / "aws").symlink_to(CLI)
        if python:
            self.python_program("python3", python)
        self.environment = {
            "PATH": str(self.programs),
            "HOME": str(root / "home"),
            # Requests to the internet fail at once, local ones do not.
            "HTTP_PROXY": f"http://127.0.0.1:{free_port()}",
            "HTTPS_PROXY": f"http://127.0.0.1:{free_port()}",
            "NO_PROXY": "127.0.0.1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_MAX_ATTEMPTS": "1",
            **aws.environment(),
        }

    def program(self, name: str, script: str) -> None:
        path = self.programs / name
        path.unlink(missing_ok=True)
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    def python_program(self, name: str, python: str) -> None:
        self.program(name, f'exec {python} "$@"')

    def command(self, *arguments: str) -> list[str]:
        bash = str(self.programs / "bash")
        return [bash, str(SCRIPT), *arguments, "--target", str(self.target)]

    def run(self, *arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*arguments),
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            **options,
        )

    def refuses(self, *arguments: str, **options: object) -> str:
        """Run the script, which must fail and clean up; return the three parts of its message."""
        run = self.run(*arguments, **options)
        assert run.returncode == 1, run.stdout + run.stderr
        assert not self.venv.is_symlink()
        assert self.leftovers() == []
        message = re.fullmatch(
            r".*?POMONA BOOTSTRAP FAILED on \S+ while (.+)\n"
            r"  What happened: (.+)\n"
            r"  What to do: (.+)\n",
            run.stderr,
            re.DOTALL,
        )
        assert message, run.stderr
        return "\n".join(message.groups())

    def leftovers(self) -> list[str]:
        """Return the files of a run that are neither in use nor removed."""
        made = [*self.target.glob("work.*"), *self.target.glob("envs/*")]
        return [path.name for path in made if path != self.venv.resolve()]

    def installed(self) -> dict[str, str]:
        """Return the packages of the environment and their versions."""
        listing = [self.python, "-I", "-m", "pip", "list", "--format", "json"]
        said = subprocess.run(listing, env=self.environment, check=True, stdout=subprocess.PIPE)
        return {
            re.sub(r"[-_.]+", "-", package["name"]).lower(): package["version"]
            for package in json.loads(said.stdout)
        }


def python_of(version: str, say_loudly: Callable[[str], None]) -> str:
    found = subprocess.run([FIND_PYTHON, version], capture_output=True, text=True, check=False)
    if found.returncode:
        say_loudly(f"no Python {version} here: the bootstrap of its EMR was not tried")
        pytest.skip(f"needs Python {version}")
    return found.stdout.strip()


@pytest.fixture(scope="module")
def python37(say_loudly: Callable[[str], None]) -> str:
    return python_of("3.7", say_loudly)


@pytest.fixture(scope="module")
def aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalAws]:
    server = LocalAws(tmp_path_factory.mktemp("aws") / "log")
    server("s3", "mb", f"s3://{BUCKET}")
    server.put(f"s3://{BUCKET}/models/orchard.onnx", MODEL.read_bytes())
    yield server
    server.stop()


def upload(aws: LocalAws, folder: Path) -> str:
    uri = f"s3://{BUCKET}/wheelhouse/{folder.name}"
    for file in folder.rglob("*"):
        if file.is_file():
            aws.put(f"{uri}/{file.relative_to(folder).as_posix()}", file.read_bytes())
    return uri


def built(release: str) -> Path:
    folder = ROOT / "target" / "wheelhouse" / release
    assert folder.exists(), f"{folder} is missing: run `make wheelhouse EMR={release}`"
    return folder


@pytest.fixture(scope="module")
def emr6(aws: LocalAws) -> str:
    """The URI of the wheelhouse for EMR 6."""
    return upload(aws, built(EMR6))


@pytest.fixture(scope="module")
def emr7(aws: LocalAws) -> str:
    return upload(aws, built(EMR7))


@pytest.fixture
def node(tmp_path: Path, aws: LocalAws, python37: str) -> Node:
    """A new node of EMR 6."""
    return Node(tmp_path, aws, python37)


@pytest.fixture(scope="module")
def installed6(
    tmp_path_factory: pytest.TempPathFactory, aws: LocalAws, emr6: str, python37: str
) -> Iterator[Node]:
    """A node of EMR 6 whose first bootstrap was killed, and whose second one succeeded."""
    folder = tmp_path_factory.mktemp("node6")
    node = Node(folder, aws, python37)
    first = Service(node.command(emr6), folder / "log", node.environment)
    half_done = node.target / "envs"
    first.wait_for(lambda: any(half_done.glob("*/lib/*/site-packages/*")), "unpack a wheel")
    first.kill()
    assert not node.venv.exists()
    assert node.leftovers()

    second = node.run(emr6, "--model", f"s3://{BUCKET}/models/orchard.onnx")
    assert second.returncode == 0, second.stdout + second.stderr
    assert second.stderr == ""
    yield node
    shutil.rmtree(node.target)


@pytest.fixture(scope="module")
def installed7(
    tmp_path_factory: pytest.TempPathFactory,
    aws: LocalAws,
    emr7: str,
    say_loudly: Callable[[str], None],
) -> Iterator[Node]:
    """A node of EMR 7 whose environment broke, and which a second bootstrap repaired.

    As on EMR 7, its `python3` is 3.9, and it has Python 3.11 too.
    """
    node = Node(tmp_path_factory.mktemp("node7"), aws, python_of("3.9", say_loudly))
    node.python_program("python3.11", python_of("3.11", say_loudly))
    assert node.run(f"s3://{BUCKET}/none/yet").returncode == 1
    broken = node.target / "envs" / "broken"
    broken.mkdir()
    shutil.copy(built(EMR7) / "SHA256SUMS", broken)
    node.venv.symlink_to("envs/broken")
    run = node.run(emr7)
    assert run.returncode == 0, run.stdout + run.stderr
    yield node
    # Remove half a gigabyte, because pytest keeps the folders of three runs.
    shutil.rmtree(node.target)


@pytest.fixture(params=["installed6", "installed7"])
def installed(request: pytest.FixtureRequest) -> Node:
    found: Node = request.getfixturevalue(request.param)
    return found


def test_jobs_on_the_node_get_the_same_features_as_here(installed: Node, tmp_path: Path):
    run = subprocess.run(
        [installed.python, "-I", "-c", FEATURIZE, MODEL, PHOTO],
        cwd=tmp_path,
        env=installed.environment,
        check=True,
        stdout=subprocess.PIPE,
    )
    said = json.loads(run.stdout)
    here = pomona.Featurizer(MODEL).featurize([PHOTO.read_bytes()])
    np.testing.assert_array_equal(np.frombuffer(bytes.fromhex(said["features"]), "f4"), here[0])
    assert said["prefix"] == str(installed.venv)
    assert [
        path for path in said["path"] if "packages" in path and str(installed.venv) not in path
    ] == []


@pytest.mark.parametrize(
    ("node_of", "release"), [("installed6", EMR6), ("installed7", EMR7)], ids=[EMR6, EMR7]
)
def test_the_environment_holds_what_the_lock_says_and_pomona(
    node_of: str, release: str, request: pytest.FixtureRequest
):
    locked = dict(
        re.findall(r"^([\w-]+)==(\S+)", (built(release) / "requirements.txt").read_text(), re.M)
    )
    assert request.getfixturevalue(node_of).installed() == locked


def test_every_user_can_read_and_nobody_else_can_write_the_environment(installed: Node):
    files = [installed.target, *installed.target.rglob("*")]
    modes = {path: path.stat().st_mode for path in files if not path.is_symlink()}
    assert [path for path, mode in modes.items() if mode & 0o022 or not mode & 0o004] == []


def test_what_was_cut_off_before_is_gone(installed6: Node):
    assert installed6.leftovers() == []


def test_the_commands_of_the_environment_run(installed: Node):
    pomona_command = installed.venv / "bin" / "pomona"
    said = subprocess.run([pomona_command, "--version"], check=True, stdout=subprocess.PIPE)
    assert said.stdout.decode().strip() == f"pomona {pomona.__version__}"


def test_a_model_given_is_on_the_node(installed6: Node):
    assert (installed6.target / "models" / "orchard.onnx").read_bytes() == MODEL.read_bytes()


def test_a_second_run_finds_all_in_place(installed6: Node, emr6: str):
    before = installed6.venv.resolve()
    run = installed6.run(emr6)
    assert (run.returncode, run.stderr) == (0, "")
    assert "is already installed: model tiny gives 16 features" in run.stdout
    assert "installing" not in run.stdout
    assert installed6.venv.resolve() == before


def test_a_model_that_does_not_work_leaves_the_one_before(
    installed6: Node, emr6: str, aws: LocalAws
):
    uri = f"s3://{BUCKET}/broken/orchard.onnx"
    aws.put(uri, MODEL.read_bytes()[:100])
    run = installed6.run(emr6, "--model", uri)
    assert run.returncode == 1
    assert "is not a complete ONNX model" in run.stderr
    assert f"What happened: {uri} does not work" in run.stderr
    assert (installed6.target / "models" / "orchard.onnx").read_bytes() == MODEL.read_bytes()


@pytest.mark.parametrize(
    ("arguments", "happened"),
    [
        ([], "'' is not the S3 URI of a wheelhouse"),
        (["/mnt/wheelhouse"], "'/mnt/wheelhouse' is not the S3 URI"),
        (["s3://orchard"], "'s3://orchard' is not the S3 URI"),
        (["s3://orchard/a", "s3://orchard/b"], "two wheelhouses were given"),
        (["s3://orchard/a", "--modle", "x"], "unknown option --modle"),
        (["s3://orchard/a", "--model", "mobilenet_v2"], "not the S3 URI of a model"),
        (["s3://barren/wheelhouse/emr-6.4.0"], "bucket barren does not exist"),
        (
            ["s3://orchard/wheelhouse/emr-6.4"],
            "s3://orchard/wheelhouse/emr-6.4/SHA256SUMS does not exist",
        ),
    ],
)
def test_a_wrong_address_is_named(node: Node, arguments: list[str], happened: str):
    assert happened in node.refuses(*arguments)


def test_a_node_without_rights_is_told_which(node: Node, aws: LocalAws, emr6: str):
    node.environment.update(aws.environment(aws.new_user("node")))
    with aws.rights_enforced():
        message = node.refuses(emr6)
    assert f"this node is not allowed to read {emr6}" in message
    assert "s3:GetObject" in message


def test_a_node_without_credentials_is_told_to_have_an_instance_profile(node: Node, emr6: str):
    del node.environment["AWS_SECRET_ACCESS_KEY"], node.environment["AWS_ACCESS_KEY_ID"]
    message = node.refuses(emr6)
    assert "no valid AWS credentials" in message
    assert "InstanceProfile" in message


def test_a_subnet_without_a_way_to_s3_is_named(node: Node, emr6: str):
    node.environment["AWS_ENDPOINT_URL"] = f"http://127.0.0.1:{free_port()}"
    message = node.refuses(emr6)
    assert "this node cannot reach S3" in message
    assert "gateway endpoint" in message


def test_a_node_without_the_aws_cli_says_so(node: Node, emr6: str):
    (node.programs / "aws").unlink()
    assert "this node has no AWS CLI" in node.refuses(emr6)


def test_a_node_without_python_says_so(node: Node, emr6: str):
    (node.programs / "python3").unlink()
    message = node.refuses(emr6)
    assert "for Python 3.7 (emr-6.4.0)" in message
    assert "it has no python3" in message


def test_a_wheelhouse_of_another_release_is_told_apart(node: Node, emr7: str):
    message = node.refuses(emr7)
    assert "for Python 3.9 (emr-7.14.0)" in message
    assert "python3 is Python 3.7." in message
    assert "make wheelhouse EMR=" in message


def test_the_environment_has_the_python_of_the_wheelhouse(installed7: Node):
    said = subprocess.run([installed7.python, "-V"], check=True, stdout=subprocess.PIPE)
    assert said.stdout.startswith(b"Python 3.9.")


class Small:
    """A small wheelhouse with some of the real wheels, for tests to damage."""

    def __init__(self, folder: Path, disk_bytes: int = 0) -> None:
        self.folder = folder
        self.folder.mkdir()
        self.heading = f"# release: {EMR6}\n# python: 3.7\n# disk-bytes: {disk_bytes}\n"
        self.asked = ""
        self.add(EMR6, "pip")

    def add(self, release: str, name: str) -> Path:
        (wheel,) = built(release).glob(f"{name}-*.whl")
        version = wheel.name.split("-")[1]
        self.asked += wheelhouse.requirement(
            name, version, hashlib.sha256(wheel.read_bytes()).hexdigest()
        )
        return Path(shutil.copy(wheel, self.folder))

    def finish(self) -> None:
        (self.folder / "requirements.txt").write_text(self.heading + self.asked)
        (self.folder / "SHA256SUMS").write_text(wheelhouse.checksums(self.folder))


@pytest.fixture
def small(tmp_path: Path) -> Small:
    return Small(tmp_path / tmp_path.name)


def test_a_corrupted_and_a_missing_wheel_are_named(node: Node, aws: LocalAws, small: Small):
    spoiled, lost, sound = (small.add(EMR6, name) for name in ("six", "pytz", "cycler"))
    small.finish()
    content = bytearray(spoiled.read_bytes())
    content[len(content) // 2] ^= 1
    spoiled.write_bytes(content)
    lost.unlink()
    message = node.refuses(upload(aws, small.folder))
    assert f"corrupted or missing: {lost.name} {spoiled.name}" in message
    assert sound.name not in message


def test_the_python_of_the_wheelhouse_is_found_beside_another_python3(
    node: Node,
    aws: LocalAws,
    small: Small,
    python37: str,
    say_loudly: Callable[[str], None],
):
    node.python_program("python3.7", python37)
    node.python_program("python3", python_of("3.11", say_loudly))
    small.finish()
    run = node.run(upload(aws, small.folder))
    assert re.search(rf"Python 3\.7\.\d+ at {node.programs}/python3\.7$", run.stdout, re.M)


@pytest.mark.parametrize("name", ["requirements.txt", "SHA256SUMS"])
def test_a_corrupted_list_is_named(node: Node, aws: LocalAws, small: Small, name: str):
    small.finish()
    (small.folder / name).write_text("six\n")
    assert f"corrupted or missing: {name}" in node.refuses(upload(aws, small.folder))


def test_a_wheel_for_another_python_is_named(node: Node, aws: LocalAws, small: Small):
    wheel = small.add(EMR7, "kiwisolver")
    small.finish()
    assert "cp39" in wheel.name
    message = node.refuses(upload(aws, small.folder))
    assert "no wheel of kiwisolver==1.4.7 for Python 3.7." in message


def test_a_list_that_lacks_a_dependency_is_refused(node: Node, aws: LocalAws, small: Small):
    small.add(EMR6, "kiwisolver")
    shutil.copy(*built(EMR6).glob("typing_extensions-*.whl"), small.folder)
    small.finish()
    run = node.run(upload(aws, small.folder))
    assert run.returncode == 1
    assert "typing-extensions" in run.stderr
    assert "What happened: pip failed" in run.stderr


def test_a_disk_that_is_too_small_is_seen_before_anything_is_fetched(
    node: Node, aws: LocalAws, tmp_path: Path
):
    small = Small(tmp_path / tmp_path.name, disk_bytes=10**18)
    small.finish()
    message = node.refuses(upload(aws, small.folder))
    assert message.startswith("checking the free space")
    assert "is full: 953674316406 MiB needed, " in message
    assert "--ebs-root-volume-size" in message


def test_a_disk_that_fills_up_is_named(node: Node, aws: LocalAws, small: Small):
    small.add(EMR6, "fonttools")
    small.finish()
    uri = upload(aws, small.folder)
    node.target.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(node.target)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("needs a small disk: mounting a tmpfs is not allowed here")
    try:
        message = node.refuses(uri)
    finally:
        subprocess.run(["umount", str(node.target)], check=True)
    assert "is full" in message


def test_a_target_that_cannot_be_written_is_named(aws: LocalAws, python37: str):
    if os.geteuid():
        pytest.skip("needs root, to become somebody who may not write")
    with tempfile.TemporaryDirectory() as folder:
        node = Node(Path(folder), aws, python37)
        Path(folder).chmod(0o755)
        message = node.refuses(f"s3://{BUCKET}/any/where", user=NOBODY, group=NOBODY)
    assert "cannot write there" in message


def test_only_making_the_target_takes_sudo(node: Node, tmp_path: Path):
    log = tmp_path / "log"
    node.program("mkdir", f'case "$*" in *pomona) exit 1;; esac; exec {shutil.which("mkdir")} "$@"')
    node.program("sudo", f'printf "%s\\n" "$*" >>{log}; shift; exec "$@"')
    assert "bucket barren does not exist" in node.refuses("s3://barren/wheelhouse")
    (asked,) = log.read_text().splitlines()
    assert asked.startswith("-n install -d -o ")
    assert asked.endswith(f" {node.target}")


def test_a_target_with_other_things_in_it_is_left_alone(node: Node, emr6: str):
    precious = node.target / "envs" / "mine"
    precious.mkdir(parents=True)
    run = node.run(emr6)
    assert run.returncode == 1
    assert f"{node.target} has other files in it" in run.stderr
    assert precious.exists()


def test_a_node_with_another_processor_is_told_so(node: Node, emr6: str):
    node.program("uname", "echo aarch64")
    message = node.refuses(emr6)
    assert "this node is aarch64" in message
    assert "Graviton" in message


def test_a_run_that_is_told_to_stop_clears_up(node: Node, emr6: str, tmp_path: Path):
    run = Service(node.command(emr6), tmp_path / "log", node.environment)
    run.wait_for(lambda: any(node.target.glob("work.*/wheels/*")), "fetch a wheel")
    os.kill(run.pid, 15)
    assert run.end() == 1
    assert "What happened: it was terminated." in run.output
    assert node.leftovers() == []
