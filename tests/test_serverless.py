"""The EMR Serverless commands, with the real AWS CLI against a simulated AWS, and the environment.

Moto's jobs succeed as soon as they are started, and use nothing: rules give them the states, the
bill and the refusals of EMR Serverless.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar, Iterator, NamedTuple

import pytest

import pomona
from cloud import REGION, ROOT, Answer, Call, Cloud, Said, printed, refusal
from emr import environment, serverless
from emr.aws import Aws, Stop
from emr.settings import Settings
from emr.stack import Stack
from pomona import plan

BUCKET = "fruits-paris"
ROLE = "arn:aws:iam::123456789012:role/"
A_ROLE = f"{ROLE}any"
PYTHON = "3.9"


class Done(NamedTuple):
    """The result of a command, and the calls that it made."""

    code: int
    output: str
    errors: str
    calls: list[Call]

    def called(self, action: str) -> list[Call]:
        """Return the calls of an action, such as `POST /applications`, with `*` for an id."""
        return [call for call in self.calls if of(call) == action]


def of(call: Call) -> str:
    """Return a call's method and path, with `*` for ids."""
    if call.service != "emr-serverless":
        return call.action
    parts = call.action.split("/")
    return "/".join("*" if number in (2, 4) else part for number, part in enumerate(parts))


GET_JOB = "GET /applications/*/jobruns/*"
START_JOB = "POST /applications/*/jobruns"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    cloud = Cloud(tmp_path_factory.mktemp("cloud"))
    yield cloud
    cloud.stop()


@pytest.fixture
def cloud(server: Cloud) -> Iterator[Cloud]:
    yield server
    server.rules.clear()


@pytest.fixture(scope="module")
def wheelhouse(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheelhouse of two small wheels, which have what wheels can have."""
    folder = tmp_path_factory.mktemp("wheelhouse") / "emr-7.14.0"
    make_wheelhouse(folder)
    return folder


def make_wheelhouse(folder: Path, python: str = PYTHON) -> None:
    (folder / "check").mkdir(parents=True)
    (folder / "check" / "photo.jpg").write_bytes(b"a photo")
    (folder / "requirements.txt").write_text(
        f"# release: emr-7.14.0\n# python: {python}\n# glibc: 2.34\n"
    )
    with zipfile.ZipFile(folder / "apple-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("apple/__init__.py", "COLOUR = 'red'\n")
        wheel.writestr("orchard/apple.py", "")  # a part of a namespace package
        program = zipfile.ZipInfo("apple/core")
        program.external_attr = 0o100775 << 16
        wheel.writestr(program, "#!/bin/sh\n")
    with zipfile.ZipFile(folder / "pear-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("orchard/pear.py", "")
        wheel.writestr(
            "pear-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: pear\nVersion: 1.0\n"
        )
        wheel.writestr("pear-1.0.dist-info/entry_points.txt", "[fruits]\npear = orchard.pear\n")
        wheel.writestr("pear-1.0.data/purelib/pip_of_pear.py", "")
        wheel.writestr("pear-1.0.data/data/share/pear.txt", "")
        wheel.writestr("pear-1.0.data/scripts/pear", "#!python\n")
        wheel.writestr("pear-1.0.data/headers/pear.h", "")
    sums = "".join(
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(folder)}\n"
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    )
    (folder / "SHA256SUMS").write_text(sums)


def command(verb: str, *words: str) -> list[str]:
    return [sys.executable, "-m", "emr", f"serverless-{verb}", *words, "EVERY=0.05"]


def run(cloud: Cloud, verb: str, *words: str) -> Done:
    calls = len(cloud.calls)
    done = subprocess.run(
        command(verb, *words),
        cwd=ROOT,
        env=cloud.environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    return Done(done.returncode, done.stdout, done.stderr, cloud.calls[calls:])


@pytest.fixture(scope="module")
def words(wheelhouse: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The settings of a first run, with a folder of photos."""
    photos = tmp_path_factory.mktemp("photos") / "Test"
    (photos / "Apple").mkdir(parents=True)
    (photos / "Apple" / "1.jpg").write_bytes(b"a photo")
    model = "MODEL=tests/data/tiny.onnx"
    return [f"BUCKET={BUCKET}", f"WHEELHOUSE={wheelhouse}", model, f"IMAGES={photos}"]


def keys_of(cloud: Cloud) -> list[str]:
    listing = cloud.aws("s3api", "list-objects-v2", "--bucket", BUCKET)
    return [each["Key"] for each in listing["Contents"]]


def job_of(*runs: dict[str, Any]):
    """A rule: the descriptions of a job, one for each request; the last one repeats."""
    left = list(runs)

    def rule(call: Call, said: Said) -> Said:
        if of(call) != GET_JOB or not isinstance(said, dict):
            return None
        said["jobRun"].update(left.pop(0) if len(left) > 1 else left[0])
        return said

    return rule


def refusing(action: str, *refusals: Answer):
    """A rule: the first calls of an action are refused."""
    left = list(refusals)

    def rule(call: Call, said: Said) -> Said:
        return left.pop(0) if said is None and of(call) == action and left else None

    return rule


BILLED = {"vCPUHour": 0.5, "memoryGBHour": 1.0, "storageGBHour": 0.0}
SUCCESS = {"state": "SUCCESS", "billedResourceUtilization": BILLED}


@pytest.fixture(scope="module")
def first(server: Cloud, words: list[str]) -> Done:
    """The first run in an empty account."""
    states = [{"state": state} for state in ("SUBMITTED", "SCHEDULED", "RUNNING", "RUNNING")]
    server.rules.append(job_of(*states, {"state": "SUCCESS"}, SUCCESS))
    try:
        done = run(server, "run", *words, "ARGS=--variance 0.9")
    finally:
        server.rules.clear()
    assert done.code == 0, done.output + done.errors
    return done


def test_a_first_run_needs_an_empty_account_only(first: Done, server: Cloud):
    states = [line.split()[-1] for line in first.output.splitlines() if line[2:4].isdigit()]
    assert states[-4:] == ["SUBMITTED", "SCHEDULED", "RUNNING", "SUCCESS"]
    keys = {
        each["Key"]
        for each in server.aws("s3api", "list-objects-v2", "--bucket", BUCKET)["Contents"]
    }
    assert keys == {
        "Test/Apple/1.jpg",
        "models/tiny.onnx",
        "pomona_job.py",
        "serverless/emr-7.14.0.tar.gz",
    }
    assert "The results are in s3://fruits-paris/results" in first.output
    assert "Nothing but the bucket's content costs money." in first.output


def test_the_application_has_a_limit_and_stops_when_idle(first: Done):
    (create,) = first.called("POST /applications")
    token = create.body.pop("clientToken")
    assert token
    assert create.body == {
        "name": "pomona-fruits-paris",
        "type": "SPARK",
        "architecture": "X86_64",
        "releaseLabel": "emr-7.14.0",
        "maximumCapacity": {"cpu": "10 vCPU", "memory": "24 GB", "disk": "60 GB"},
        "autoStartConfiguration": {"enabled": True},
        "autoStopConfiguration": {"enabled": True, "idleTimeoutMinutes": 1},
        "tags": {"project": "pomona"},
    }
    assert first.called("POST /applications/*/stop"), "it does not even wait for the idle minute"


def test_the_template_creates_the_same_application_for_the_console():
    """The file is checked as text: CloudFormation's tags need a reader of their own."""
    template = (ROOT / "bootstrap" / "serverless.yaml").read_text()
    assert 'MaximumCapacity: {Cpu: "10 vCPU", Memory: "24 GB", Disk: "60 GB"}' in template
    assert "AutoStopConfiguration: {Enabled: true, IdleTimeoutMinutes: 1}" in template
    assert 'Name: !Sub "pomona-${Bucket}"' in template


def test_the_stack_says_what_to_paste_in_the_console(first: Done, server: Cloud):
    named = ("--stack-name", "pomona-serverless-fruits-paris")
    (stack,) = server.aws("cloudformation", "describe-stacks", *named)["Stacks"]
    outputs = {each["OutputKey"]: each["OutputValue"] for each in stack["Outputs"]}
    (start,) = first.called(START_JOB)
    submit = start.body["jobDriver"]["sparkSubmit"]
    assert outputs["JobRole"] == start.body["executionRoleArn"]
    assert outputs["JobScript"] == submit["entryPoint"]
    assert outputs["SparkProperties"] == submit["sparkSubmitParameters"]
    arguments = [word.replace("tiny", "mobilenet_v2") for word in submit["entryPointArguments"]]
    assert json.loads(outputs["JobArguments"]) == arguments[:6]


def test_the_job_uses_the_environment_and_one_bucket(first: Done):
    (start,) = first.called(START_JOB)
    assert start.body["executionRoleArn"].startswith(
        f"{ROLE}pomona-serverless-fruits-paris-JobRole"
    )
    assert start.body["executionTimeoutMinutes"] == 120
    submit = start.body["jobDriver"]["sparkSubmit"]
    assert submit["entryPoint"] == "s3://fruits-paris/pomona_job.py"
    assert submit["entryPointArguments"] == [
        *("--images", "s3://fruits-paris/Test", "--output", "s3://fruits-paris/results"),
        *("--model", "s3://fruits-paris/models/tiny.onnx", "--variance", "0.9"),
    ]
    flags = submit["sparkSubmitParameters"].split(" --conf ")
    properties = dict(flag.replace("--conf ", "").split("=", 1) for flag in flags)
    python = "./environment/bin/python"
    assert properties == {
        "spark.archives": "s3://fruits-paris/serverless/emr-7.14.0.tar.gz#environment",
        "spark.emr-serverless.driverEnv.PYSPARK_DRIVER_PYTHON": python,
        "spark.emr-serverless.driverEnv.PYSPARK_PYTHON": python,
        "spark.executorEnv.PYSPARK_PYTHON": python,
        "spark.hadoop.fs.s3a.endpoint.region": REGION,
        **plan.serverless_settings(2),
    }
    assert start.body["configurationOverrides"] == {
        "monitoringConfiguration": {
            "s3MonitoringConfiguration": {"logUri": "s3://fruits-paris/logs/serverless/"},
            "managedPersistenceMonitoringConfiguration": {"enabled": False},
        }
    }


def test_the_role_can_use_one_bucket_and_nothing_else(first: Done, server: Cloud):
    (start,) = first.called(START_JOB)
    role = start.body["executionRoleArn"].rpartition("/")[2]
    named = ("--role-name", role)
    assert server.aws("iam", "list-attached-role-policies", *named)["AttachedPolicies"] == []
    (policy,) = server.aws("iam", "list-role-policies", *named)["PolicyNames"]
    found = server.aws("iam", "get-role-policy", *named, "--policy-name", policy)
    statements = found["PolicyDocument"]["Statement"]
    assert {each["Resource"] for each in statements} == {
        "arn:aws:s3:::fruits-paris",
        "arn:aws:s3:::fruits-paris/*",
    }
    actions = [action for each in statements for action in each["Action"]]
    assert all(action.startswith("s3:") and "*" not in action for action in actions)
    trust = server.aws("iam", "get-role", *named)["Role"]["AssumeRolePolicyDocument"]["Statement"]
    assert [each["Principal"] for each in trust] == [{"Service": "emr-serverless.amazonaws.com"}]


def test_the_bill_is_awaited_and_has_its_price(first: Done):
    prices = plan.serverless_prices(REGION)
    dollars = f"{0.5 * prices.vcpu.usd + prices.gb.usd:.3f} (prices of {prices.vcpu.date})"
    assert f"Billed: 0.500 vCPU-hours and 1.000 GB-hours of memory, ${dollars}." in first.output


def test_a_second_run_uploads_no_environment_and_creates_nothing(
    cloud: Cloud, first: Done, words: list[str]
):
    cloud.rules.append(job_of(SUCCESS))
    done = run(cloud, "run", *words)
    assert done.code == 0, done.errors
    assert "s3://fruits-paris/serverless/emr-7.14.0.tar.gz is up to date" in done.output
    assert done.called("POST /applications") == []
    assert done.called("PATCH /applications/*") == []
    assert [
        call.action for call in done.calls if call.action.startswith("PUT /fruits-paris/serverless")
    ] == []


def test_more_executors_change_the_limit_of_the_application(
    cloud: Cloud, first: Done, words: list[str]
):
    cloud.rules.append(job_of(SUCCESS))
    done = run(cloud, "run", *words, "WORKERS=3", "TIMEOUT=30")
    assert done.code == 0, done.errors
    (change,) = done.called("PATCH /applications/*")
    assert change.body["maximumCapacity"] == {"cpu": "14 vCPU", "memory": "33 GB", "disk": "80 GB"}
    (start,) = done.called(START_JOB)
    assert start.body["executionTimeoutMinutes"] == 30
    assert (
        "spark.executor.instances=3"
        in start.body["jobDriver"]["sparkSubmit"]["sparkSubmitParameters"]
    )


def put_log(cloud: Cloud, text: str):
    """A rule: when the job is started, its driver's log is on S3."""

    def rule(call: Call, said: Said) -> None:
        if of(call) == START_JOB and isinstance(said, dict):
            place = f"applications/{said['applicationId']}/jobs/{said['jobRunId']}/SPARK_DRIVER"
            log = cloud.folder / "stderr.gz"
            log.write_bytes(gzip.compress(text.encode()))
            key = f"logs/serverless/{place}/stderr.gz"
            cloud.aws("s3api", "put-object", "--bucket", BUCKET, "--key", key, "--body", str(log))

    return rule


class Work(NamedTuple):
    """A run that has come to its job, in this process."""

    aws: Aws
    settings: Settings
    stack: Stack

    def __call__(self) -> None:
        application = serverless.find(self.aws, self.settings)
        serverless.work(self.aws, self.settings, self.stack, application, A_ROLE)


@pytest.fixture
def work(cloud: Cloud, first: Done, words: list[str], monkeypatch: pytest.MonkeyPatch) -> Work:
    for name, value in cloud.environment.items():
        monkeypatch.setenv(name, value)
    settings = Settings.of([*words, "RELEASE=emr-7.14.0", "EVERY=0"], ["BUCKET"])
    return Work(Aws(REGION), settings, Stack(Aws(REGION), settings, "serverless"))


@pytest.mark.parametrize(
    ("job", "log", "said"),
    [
        (
            {"state": "FAILED", "stateDetails": "Job failed, please check complete logs"},
            "Traceback\nValueError: no PCA",
            "the job ended as FAILED: Job failed, please check complete logs; the same command "
            "resumes from the features already written. Logs: s3://fruits-paris/logs/serverless/",
        ),
        (
            {"state": "FAILED", "stateDetails": "Job failed"},
            "OSError: s3://fruits-paris/Test: there are no credentials",
            "Pomona's own access to S3 has no credentials: let Spark read, ARGS=--no-paths",
        ),
        (
            {"state": "FAILED", "stateDetails": "The account's vCPU quota is exceeded"},
            "",
            "use fewer than WORKERS=2, wait for your other jobs, or raise 'Max concurrent vCPUs",
        ),
        (
            {"state": "CANCELLED"},
            "",
            "CANCELLED: EMR gave no reason; someone cancelled it, or it took more than TIMEOUT",
        ),
    ],
    ids=["failed", "no credentials", "quota", "cancelled"],
)
def test_a_job_that_does_not_succeed_is_explained(
    cloud: Cloud,
    work: Work,
    capsys: pytest.CaptureFixture[str],
    job: dict[str, Any],
    log: str,
    said: str,
):
    cloud.rules.append(job_of({**job, "billedResourceUtilization": BILLED}))
    if log:
        cloud.rules.append(put_log(cloud, log))
    before = len(cloud.calls)
    with pytest.raises(Stop, match=re.escape(said)):
        work()
    assert work.stack.costs == "The job has ended. Nothing but the bucket's content costs money"
    assert "POST /applications/*/stop" in map(of, cloud.calls[before:])
    output = capsys.readouterr().out
    assert "Billed: 0.500 vCPU-hours" in output
    for line in log.splitlines():
        assert f"  | {line}\n" in output


def test_a_busy_aws_does_not_end_the_watch(cloud: Cloud, work: Work):
    busy = refusal("ThrottlingException", "Rate exceeded")
    cloud.rules += [refusing(GET_JOB, busy, busy), job_of(SUCCESS)]
    work()


def test_a_role_that_iam_has_not_made_known_is_tried_again(
    cloud: Cloud, work: Work, capsys: pytest.CaptureFixture[str]
):
    unknown = refusal("ValidationException", "The execution role cannot be assumed")
    cloud.rules += [refusing(START_JOB, unknown, unknown), job_of(SUCCESS)]
    work()
    assert capsys.readouterr().out.count("IAM has not made the new role known everywhere") == 2


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (
            refusal("ValidationException", "Unknown property"),
            "EMR Serverless refused the job: Unknown property",
        ),
        (
            Answer(403, b'{"__type": "AccessDeniedException", "message": "not authorized"}'),
            "your AWS user is not allowed to call StartJobRun (not authorized): give it the "
            "permissions in bootstrap/policies/user.json",
        ),
    ],
    ids=["refused", "not allowed"],
)
def test_a_job_that_cannot_start_is_explained(cloud: Cloud, work: Work, answer: Answer, said: str):
    cloud.rules.append(refusing(START_JOB, answer))
    with pytest.raises(Stop, match=re.escape(said)):
        work()


def test_an_interruption_says_that_the_job_goes_on(cloud: Cloud, first: Done, words: list[str]):
    cloud.rules.append(job_of({"state": "RUNNING"}))
    process = subprocess.Popen(
        command("run", *words),
        cwd=ROOT,
        env=cloud.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if "RUNNING" in line:
            break
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "serverless-run: interrupted.\nThe job " in errors
    assert "goes on, and costs money until it ends" in errors
    assert "aws emr-serverless cancel-job-run --application-id " in errors


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("RELEASE=emr-6.5.0", "EMR Serverless begins with emr-6.6.0. Use the default, emr-7.14.0"),
        ("IMAGES=no/such/folder", "IMAGES=no/such/folder is not a folder on this machine"),
        ("WHEELHOUSE=no/wheels", "no/wheels has no wheelhouse: make wheelhouse EMR=7.14.0"),
        ("BUCKET=Fruits", "3 to 63 lower-case letters, digits and hyphens"),
        ("REGION=eu-west-2", "REGION=eu-west-2 is not in the European Union"),
        ("IMAGES=s3://fruits-paris/results", "where Pomona or EMR keeps other files"),
        ("TIMEOUT=1", "TIMEOUT=1 must be a whole number from 5"),
    ],
)
def test_bad_input_is_refused_with_a_sentence_before_aws_is_asked(
    server: Cloud, words: list[str], word: str, said: str
):
    done = run(server, "run", *words, word)
    assert done.code in (1, 2)
    assert said in done.errors
    assert done.calls == []


def test_a_release_that_serverless_does_not_have_is_refused(cloud: Cloud, work: Work):
    error = refusal("ValidationException", "Type 'SPARK' is not supported for release label")
    cloud.rules.append(refusing("POST /applications", error))
    cloud.rules.append(
        lambda call, _: {"applications": []} if of(call) == "GET /applications" else None
    )
    with pytest.raises(Stop, match=r"EMR Serverless does not offer emr-7\.14\.0 in eu-west-3"):
        serverless.prepare(work.aws, work.settings)


def test_a_stack_that_fails_is_named_with_its_reason_and_removed(cloud: Cloud, words: list[str]):
    cloud.fail("JobRole", "CREATE", "You are not authorized to perform iam:CreateRole")
    done = run(cloud, "run", *words, "BUCKET=fruits-lyon")
    assert done.code == 1
    assert "because of JobRole: You are not authorized to perform iam:CreateRole" in done.errors
    assert "What the attempt had created was removed again" in done.errors
    assert "No job was started" in done.errors


def test_a_dry_run_prints_the_requests_without_aws(words: list[str], tmp_path: Path):
    nothing = {"PATH": "/usr/bin:/bin", "PYTHONPATH": os.environ.get("PYTHONPATH", "")}
    tool = os.pathsep.join([str(ROOT / "bootstrap"), str(ROOT / "python")])
    done = subprocess.run(
        command("run", *words, "DRY_RUN=1"),
        cwd=ROOT,
        env={**nothing, "PYTHONPATH": tool, "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "The stack pomona-serverless-fruits-paris in eu-west-3, from " in done.stdout
    create, start = printed(done.stdout)
    assert create[:3] == ["aws", "emr-serverless", "create-application"]
    assert "--execution-role-arn" in start


# The environment


@pytest.fixture(scope="module")
def unpacked(wheelhouse: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("unpacked")
    archive = folder / "environment.tar.gz"
    environment.build(wheelhouse, archive)
    (folder / "environment").mkdir()
    subprocess.run(["tar", "-xzf", archive, "-C", folder / "environment"], check=True)
    return folder / "environment"


def test_the_parts_of_a_wheel_go_where_pip_puts_them(unpacked: Path):
    files = {
        path.relative_to(unpacked).as_posix(): path.stat().st_mode & 0o777
        for path in unpacked.rglob("*")
        if path.is_file()
    }
    site = f"lib/python{PYTHON}/site-packages"
    assert files == {
        "bin/pear": 0o644,
        "bin/python": 0o755,
        "check/photo.jpg": 0o644,
        f"{site}/apple/__init__.py": 0o644,
        f"{site}/apple/core": 0o755,
        f"{site}/orchard/apple.py": 0o644,
        f"{site}/orchard/pear.py": 0o644,
        f"{site}/pear-1.0.dist-info/METADATA": 0o644,
        f"{site}/pear-1.0.dist-info/entry_points.txt": 0o644,
        f"{site}/pip_of_pear.py": 0o644,
        "share/pear.txt": 0o644,
    }


def test_the_archive_depends_on_the_files_only(wheelhouse: Path, tmp_path: Path):
    copy = tmp_path / "copy"
    shutil.copytree(wheelhouse, copy, copy_function=shutil.copyfile)
    archives = [tmp_path / "one.tar.gz", tmp_path / "another.tar.gz"]
    for source, archive in zip((wheelhouse, copy), archives):
        environment.build(source, archive)
    assert archives[0].read_bytes() == archives[1].read_bytes()
    assert environment.fingerprint(copy) == environment.fingerprint(wheelhouse)


@pytest.mark.parametrize("fault", ["corrupted", "missing", "unlisted"])
def test_a_wheelhouse_that_is_not_whole_is_refused(wheelhouse: Path, tmp_path: Path, fault: str):
    copy = tmp_path / "copy"
    shutil.copytree(wheelhouse, copy)
    wheel = copy / "pear-1.0-py3-none-any.whl"
    if fault == "corrupted":
        wheel.write_bytes(wheel.read_bytes()[:-1] + b"?")
    elif fault == "missing":
        wheel.unlink()
    else:
        wheel = wheel.rename(copy / "plum-1.0-py3-none-any.whl")
        (copy / "pear-1.0-py3-none-any.whl").write_bytes(wheel.read_bytes())
    with pytest.raises(Stop, match=rf"corrupted, missing or not in SHA256SUMS: {wheel.name}\. "):
        environment.build(copy, tmp_path / "environment.tar.gz")
    assert not (tmp_path / "environment.tar.gz").exists()


@pytest.fixture(scope="module")
def pythons(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders with programs that call themselves a version of Python."""
    folders = {}
    for name, version in (("python3.9", "3.9"), ("python3", "3.9"), ("python3.11", "3.11")):
        folder = tmp_path_factory.mktemp(name)
        program = folder / (name if version == PYTHON else "python3")
        program.write_text(
            f'#!/bin/sh\nif [ "$1" = -I ]; then echo {version}; else echo "$PYTHONPATH $*"; fi\n'
        )
        program.chmod(0o755)
        folders[name] = folder
    return folders


def launch(unpacked: Path, path: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["./environment/bin/python", "-m", "pyspark.daemon"],
        cwd=unpacked.parent,
        env={"PATH": path, "PYTHONPATH": "/spark", **more},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("name", ["python3.9", "python3"])
def test_the_releases_own_python_starts_with_the_packages(
    unpacked: Path, pythons: dict[str, Path], name: str
):
    done = launch(
        unpacked,
        f"{pythons['python3.11']}:{pythons[name]}" if name != "python3" else f"{pythons[name]}",
    )
    assert done.returncode == 0, done.stderr
    site = unpacked / "lib" / f"python{PYTHON}" / "site-packages"
    assert done.stdout == f"{site}:/spark -m pyspark.daemon\n"


@pytest.mark.parametrize(
    ("name", "seen"), [("", "there is no python3;"), ("python3.11", "/python3 is 3.11;")]
)
def test_without_that_python_it_says_which_one_it_needs(
    unpacked: Path, pythons: dict[str, Path], name: str, seen: str
):
    done = launch(unpacked, str(pythons[name]) if name else "/nonexistent")
    assert done.returncode == 127
    assert (
        "this environment is for Python 3.9 (emr-7.14.0), which is not on the PATH" in done.stderr
    )
    assert seen in done.stderr
    assert "pack the wheelhouse of the application's release" in done.stderr


class Credentials(BaseHTTPRequestHandler):
    """An address of credentials, as containers have one; it keeps the tokens that it is sent."""

    tokens: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.tokens.append(self.headers["Authorization"])
        keys = {"AccessKeyId": "ASIA", "SecretAccessKey": "secret", "Token": "of a session"}
        body = json.dumps({**keys, "Expiration": "2099-01-01T00:00:00Z"}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.parametrize("token", ["", "a token"])
def test_pomona_reads_s3_with_the_credentials_of_the_job(
    server: Cloud, first: Done, tmp_path: Path, token: str
):
    packages, packed = tmp_path / "emr-7.14.0", tmp_path / "environment.tar.gz"
    make_wheelhouse(packages, python=f"{sys.version_info[0]}.{sys.version_info[1]}")
    environment.build(packages, packed)
    (tmp_path / "environment").mkdir()
    subprocess.run(["tar", "-xzf", packed, "-C", tmp_path / "environment"], check=True)
    storage = {"": {"endpoint": server.url, "path_style": "true", "credentials": "chain"}}
    folder = f"s3://{BUCKET}/Test/Apple"
    code = "from pomona._native import list_folders; "
    code += f"print(list_folders([{folder!r}], storage={storage!r}))"
    container = ThreadingHTTPServer(("127.0.0.1", 0), Credentials)
    threading.Thread(target=container.serve_forever, daemon=True).start()
    try:
        done = subprocess.run(
            [tmp_path / "environment" / "bin" / "python", "-c", code],
            env={
                "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
                "PYTHONPATH": str(Path(pomona.__file__).parents[1]),
                "AWS_CONTAINER_CREDENTIALS_FULL_URI": f"http://127.0.0.1:{container.server_port}/",
                **({"AWS_CONTAINER_AUTHORIZATION_TOKEN": token} if token else {}),
            },
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        container.shutdown()
        container.server_close()
    assert done.returncode == 0, done.stderr
    assert f"{folder}/1.jpg" in done.stdout
    assert Credentials.tokens.pop() == token


def test_down_deletes_the_application_and_the_role_and_keeps_the_bucket(
    cloud: Cloud, first: Done, words: list[str]
):
    """Runs last, because it undoes the first run."""
    done = run(cloud, "down", f"BUCKET={BUCKET}")
    assert done.code == 0, done.errors
    assert done.called("DELETE /applications/*")
    assert "aws s3 rb s3://fruits-paris --force --region eu-west-3" in done.output
    roles = cloud.aws("iam", "list-roles")["Roles"]
    assert not [role for role in roles if role["RoleName"].startswith("pomona-serverless-fruits-p")]
    assert cloud.aws("s3api", "list-objects-v2", "--bucket", BUCKET)["Contents"]
    again = run(cloud, "down", f"BUCKET={BUCKET}")
    assert again.code == 0, "it can be repeated"
