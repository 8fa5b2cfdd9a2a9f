"""EMR Serverless: the job without a cluster, followed to its end, and what it cost."""

from __future__ import annotations

import json
import re
import shlex
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Sequence

from emr import checks, environment, files, job
from emr.aws import Aws, AwsError, Stop
from emr.settings import ROOT, Settings
from emr.stack import Failed, Stack
from emr.wheelhouse import sha256
from pomona import plan

TEMPLATE = ROOT / "bootstrap" / "serverless.yaml"
#: The newest release of the line that is locked and tested.
DEFAULT_RELEASE = "emr-7.14.0"

_PYTHON = "./environment/bin/python"
#: What an application is created with, besides its release and its limit.
_KIND = ("--type", "SPARK", "--architecture", "X86_64", "--tags", "project=pomona")
#: It starts with a job and, if this command cannot stop it, stops by itself.
_IDLE = "enabled=true,idleTimeoutMinutes=1"
_EXISTING = ("CREATING", "CREATED", "STARTING", "STARTED", "STOPPING", "STOPPED")
_AT_REST = ("CREATED", "STOPPED")

_UNFINISHED = ("SUBMITTED", "PENDING", "SCHEDULED", "RUNNING", "QUEUED")
_ENDED = ("SUCCESS", "FAILED", "CANCELLED")
#: Error codes of requests that are worth repeating.
_PASSING = re.compile("Throttl|TooManyRequests|Internal|Unavailable")
#: Attempts to start a job with a role that IAM has not made known everywhere yet.
_ATTEMPTS = 5
#: How often to look for the logs, which EMR copies every 15 seconds, and for the bill.
_CHECKS = 4


class Application:
    """The EMR Serverless application of a bucket, and its jobs."""

    def __init__(self, aws: Aws, settings: Settings) -> None:
        self._aws, self._settings = aws, settings
        # EMR allows 64 characters, and S3 63 for the bucket alone.
        self._name = f"pomona-{settings.BUCKET}"[:64]
        self.id = ""

    @property
    def named(self) -> tuple[str, str]:
        """The option of all calls about the application."""
        return "--application-id", self.id

    def call(self, verb: str, *words: str, query: str = "", quiet: bool = False) -> Any:
        """Make a call of EMR Serverless."""
        return self._aws("emr-serverless", verb, *words, query=query, quiet=quiet)

    def find(self) -> bool:
        """Return whether the application exists."""
        query = f"applications[?name=='{self._name}'].id"
        found = self.call("list-applications", "--states", *_EXISTING, query=query)
        self.id = found[0] if found else ""
        return bool(found)

    def limit(self) -> dict[str, str]:
        """Return the most that all jobs together may use: the driver and the executors."""
        number = int(self._settings.WORKERS)
        driver, executor = plan.SERVERLESS_DRIVER, plan.SERVERLESS_EXECUTOR
        return {
            "cpu": f"{driver.vcpus + number * executor.vcpus} vCPU",
            "memory": f"{driver.memory_gb + number * executor.memory_gb} GB",
            "disk": f"{(1 + number) * plan.SERVERLESS_DISK_GB} GB",
        }

    def creation(self) -> list[str]:
        """Return the call that creates the application."""
        return ["create-application", "--name", self._name, *_KIND, *self._changeable()]

    def _changeable(self) -> list[str]:
        return [
            *("--release-label", self._settings.RELEASE),
            *("--maximum-capacity", json.dumps(self.limit())),
            *("--auto-start-configuration", "enabled=true"),
            *("--auto-stop-configuration", _IDLE),
        ]

    def prepare(self) -> None:
        """Create the application, or change it to this release and this limit."""
        release = self._settings.RELEASE
        try:
            if not self.find():
                self.id = self.call(*self.creation(), query="applicationId")
                self._wait_until(*_AT_REST, "STARTED")
                return
            now = self.call("get-application", *self.named, query="application")
            if (now["releaseLabel"], now.get("maximumCapacity")) != (release, self.limit()):
                self.stop()
                self.call("update-application", *self.named, *self._changeable())
        except AwsError as error:
            if "release" not in error.message.lower():
                raise
            raise Stop(
                f"EMR Serverless does not offer {release} in {self._aws.region} "
                f"({error.message}): use another, such as RELEASE={DEFAULT_RELEASE}"
            ) from error

    def stop(self) -> None:
        """Stop the application, which can then be changed or deleted."""
        self.call("stop-application", *self.named)
        self._wait_until(*_AT_REST)

    def _wait_until(self, *states: str) -> None:
        words = ("get-application", *self.named)
        quiet = False
        while self.call(*words, query="application.state", quiet=quiet) not in states:
            quiet = True
            time.sleep(float(self._settings.EVERY))

    def delete(self) -> None:
        """Cancel the jobs that run, and delete the application."""
        words = ("list-job-runs", *self.named, "--states", *_UNFINISHED)
        for run in self.call(*words, query="jobRuns[].id") or []:
            self.call("cancel-job-run", *self.named, "--job-run-id", run)
            self.follow(run)
        self.stop()
        self.call("delete-application", *self.named)

    def start(self, role: str) -> str:
        """Start the job and return its id; repeat that while IAM does not know the role."""
        words = ("start-job-run", *self.named, "--execution-role-arn", role)
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                return str(self.call(*words, *request(self._settings), query="jobRunId"))
            except AwsError as error:  # noqa: PERF203 - every attempt can fail
                if attempt == _ATTEMPTS or not re.search("role|assume", error.message, re.I):
                    raise Stop(f"EMR Serverless refused the job: {error.message}") from error
                print(f"  IAM has not made the new role known everywhere: {error.message}")
                time.sleep(float(self._settings.EVERY))
        raise AssertionError("the last attempt returns or raises")

    def follow(self, run: str) -> dict[str, Any]:
        """Poll a job until it ends, print changes of its state, and return its description."""
        last = ""
        while True:
            try:
                words = ("get-job-run", *self.named, "--job-run-id", run)
                said: dict[str, Any] = self.call(*words, query="jobRun", quiet=bool(last))
            except AwsError as error:
                if not _PASSING.search(error.code):
                    raise
                said = {"state": last}
            if said["state"] != last:
                last = said["state"]
                print(f"  {time.strftime('%H:%M:%S')} {last}", flush=True)
            if last in _ENDED:
                return said
            time.sleep(float(self._settings.EVERY))


class Run:
    """`serverless-run`."""

    def __init__(self, aws: Aws, settings: Settings) -> None:
        self._aws, self._settings = aws, settings
        self._stack = _stack(aws, settings)
        self.application = Application(aws, settings)
        #: What costs money if the command ends now.
        self.costs = "No job was started, so nothing but the bucket's content costs money."

    def __call__(self) -> None:
        """Run the job; Stop if it does not succeed."""
        settings = self._settings
        _check_release(settings)
        if settings.dry_run:
            self._print_plan()
            return
        files.check_photos(settings)
        wheels = files.wheelhouse(settings)
        role = self._deploy()
        self._upload(wheels)
        job.check_inputs(self._aws, settings)
        self.application.prepare()
        self.work(role)

    def work(self, role: str) -> None:
        """Start the job, and follow it to its end and its bill; Stop if it does not succeed."""
        settings, application = self._settings, self.application
        self.costs = (
            "A job may have been started; to see: aws emr-serverless list-job-runs "
            f"{' '.join(application.named)} --region {self._aws.region}"
        )
        run = application.start(role)
        named = f"{' '.join(application.named)} --job-run-id {run} --region {self._aws.region}"
        self.costs = (
            f"The job {run} goes on, and costs money until it ends, at the latest after "
            f"TIMEOUT={settings.TIMEOUT} minutes. To cancel it: aws emr-serverless cancel-job-run "
            f"{named}"
        )
        said = application.follow(run)
        self.costs = "The job has ended. Nothing but the bucket's content costs money."
        log = "" if said["state"] == "SUCCESS" else self._show_logs(run)
        self._print_bill(run, said)
        try:
            application.call("stop-application", *application.named)
        except Stop as error:
            print(f"  The application stops by itself when it is idle: {error}")
        if said["state"] != "SUCCESS":
            raise Stop(self._explain(run, said, log))
        print(
            f"\nThe results are in {settings.output_uri}: features, pca, pca_model, summary.json.\n"
            f"{self.costs} To remove the application and the role: make serverless-down "
            f"{settings.place}"
        )

    def _print_plan(self) -> None:
        """Print what would be deployed, and the requests."""
        settings = self._settings
        print(f"The stack {self._stack.name} in {settings.REGION}, from {TEMPLATE}:")
        for name, value in _parameters(settings, checks.Bucket(exists=False)).items():
            print(f"  {name}={value}")
        print("AWS is asked for NewBucket and KmsKey. Uploaded to the bucket:")
        print(f"  {settings.wheelhouse}, packed -> {_archive(settings)}")
        for source, target in _uploads(settings):
            print(f"  {source} -> {target}")
        print("The application and the job:")
        of = ["start-job-run", "--application-id", "ID", "--execution-role-arn", "ROLE"]
        for words in (self.application.creation(), [*of, *request(settings)]):
            command = ["aws", "emr-serverless", *words, "--region", settings.REGION]
            print(f"$ {shlex.join(command)}")

    def _deploy(self) -> str:
        """Create or update the stack, and return the ARN of the jobs' role."""
        aws, settings, stack = self._aws, self._settings, self._stack
        owner = checks.account(aws)
        stack.settle()
        if stack.status and not stack.sound:
            print(f"  {stack.name} is {stack.status}, which cannot be updated: it is deleted")
            stack.delete()
        if stack.parameters.get("NewBucket") == "yes":
            # Called an existing bucket, the stack's own would be forgotten by the stack.
            parameters = {**_parameters(settings, checks.Bucket(exists=False)), **stack.parameters}
        else:
            parameters = _parameters(settings, checks.check_bucket(aws, settings, owner))
        parameters["Release"] = settings.RELEASE
        if stack.parameters.get("Application") == "yes":
            # It was created in the console, and stays in the stack; a run changes its release.
            parameters.update(Application="yes", Release=stack.parameters["Release"])
        keep = settings.ON_FAILURE == "keep"
        try:
            stack.deploy(parameters, keep=keep)
        except Failed as failed:
            stack.read(quiet=True)
            if keep:
                raise Stop(f"{failed}. ON_FAILURE=keep: the stack stays as it is") from failed
            if not stack.sound:
                stack.delete()
            raise Stop(f"{failed}. What the attempt had created was removed again") from failed
        return stack.outputs["JobRole"]

    def _upload(self, wheels: Path) -> None:
        """Upload what the job reads; the environment only if it is not the one in the bucket."""
        aws, settings = self._aws, self._settings
        for source, target in _uploads(settings):
            verb = "sync" if source.is_dir() else "cp"
            if source.exists():  # the model may be in the bucket only
                aws.raw("s3", verb, str(source), target, "--only-show-errors")
        made_of, uri = environment.fingerprint(wheels), _archive(settings)
        key = uri[len(settings.uri) + 1 :]
        try:
            words = ("s3api", "head-object", "--bucket", settings.BUCKET, "--key", key)
            there = aws(*words, query="Metadata") or {}
        except AwsError as error:
            if error.code not in ("404", "NoSuchKey"):
                raise
            there = {}
        if there.get("made-of") == made_of:
            print(f"  {uri} is up to date")
            return
        print(f"  packing {wheels}, in less than a minute", flush=True)
        with tempfile.TemporaryDirectory() as folder:
            archive = Path(folder, "environment.tar.gz")
            environment.build(wheels, archive)
            marks = f"made-of={made_of},sha256={sha256(archive)}"
            aws.raw("s3", "cp", str(archive), uri, "--metadata", marks, "--only-show-errors")

    def _logs(self, run: str) -> str:
        place = f"applications/{self.application.id}/jobs/{run}/SPARK_DRIVER"
        return f"{self._settings.uri}/logs/serverless/{place}/"

    def _show_logs(self, run: str) -> str:
        """Print the end of the driver's logs, and return them; nothing if there are none yet."""
        text = ""
        try:
            for check in range(_CHECKS):
                time.sleep(float(self._settings.EVERY) if check else 0)
                found = job.listing(self._aws, self._logs(run))
                for uri in found:
                    if uri.endswith(("/stdout.gz", "/stderr.gz")):
                        text += job.show(self._aws, uri)
                if found:
                    break
        except Stop as error:
            print(f"  The logs cannot be read: {error}")
        return text

    def _print_bill(self, run: str, said: dict[str, Any]) -> None:
        """Print what EMR bills for the job, which it says a little after the job's end."""
        billed: dict[str, float] = said.get("billedResourceUtilization") or {}
        words = ("get-job-run", *self.application.named, "--job-run-id", run)
        for _ in range(_CHECKS):
            if billed.get("vCPUHour"):
                break
            time.sleep(float(self._settings.EVERY))
            query = "jobRun.billedResourceUtilization"
            billed = self.application.call(*words, query=query, quiet=True) or {}
        vcpu, gb = billed.get("vCPUHour") or 0.0, billed.get("memoryGBHour") or 0.0
        if not vcpu:
            print("The bill is not known yet: the console has it on the job's page.")
            return
        try:
            prices = plan.serverless_prices(self._settings.REGION)
            dollars = vcpu * prices.vcpu.usd + gb * prices.gb.usd
            cost = f"${dollars:.3f} (prices of {prices.vcpu.date})"
        except ValueError as error:
            cost = f"the price is unknown: {error}"
        print(f"Billed: {vcpu:.3f} vCPU-hours and {gb:.3f} GB-hours of memory, {cost}.")

    def _explain(self, run: str, said: dict[str, Any], log: str) -> str:
        """Return what happened to a job that did not succeed, and what to do."""
        details = said.get("stateDetails") or "EMR gave no reason"
        advice = "the same command resumes from the features already written"
        if said["state"] == "CANCELLED":
            advice = f"someone cancelled it, or it took more than TIMEOUT minutes; {advice}"
        elif "there are no credentials" in log:
            words = shlex.quote(f"{self._settings.ARGS} --no-paths".strip())
            advice = f"Pomona's own access to S3 has no credentials: let Spark read, ARGS={words}"
        elif re.search(r"max\w*capacity|quota|vcpus? ", f"{details} {log}", re.I):
            advice = (
                f"EMR refused workers: use fewer than WORKERS={self._settings.WORKERS}, wait for "
                "your other jobs, or raise 'Max concurrent vCPUs per account' of EMR Serverless "
                f"in Service Quotas (a new account has {plan.SERVERLESS_QUOTA_VCPUS})"
            )
        return f"the job ended as {said['state']}: {details}; {advice}. Logs: {self._logs(run)}"


class Down:
    """`serverless-down`."""

    def __init__(self, aws: Aws, settings: Settings) -> None:
        self._stack = _stack(aws, settings)
        self.application = Application(aws, settings)
        self._settings = settings
        self.costs = "An application costs nothing while no job runs; a job that runs does."

    def __call__(self) -> None:
        """Delete the application, the role and the stack."""
        settings, stack = self._settings, self._stack
        if settings.dry_run:
            print(f"The application and the stack {stack.name} in {settings.REGION} would go.")
            return
        if self.application.find():
            self.application.delete()
        stack.settle()
        if stack.status:
            stack.delete()
        print(
            f"The application and its role are gone. The bucket stays, and its content costs "
            f"money; to delete the photos, the results and the bucket: aws s3 rb {settings.uri} "
            f"--force --region {settings.REGION}"
        )


def _stack(aws: Aws, settings: Settings) -> Stack:
    return Stack(aws, settings, f"pomona-serverless-{settings.BUCKET}", TEMPLATE)


def _check_release(settings: Settings) -> None:
    numbers = [
        [int(number) for number in re.findall(r"\d+", release)]
        for release in (settings.RELEASE, plan.SERVERLESS_RELEASE)
    ]
    if numbers[0] < numbers[1]:
        raise Stop(
            f"RELEASE={settings.RELEASE}: EMR Serverless begins with {plan.SERVERLESS_RELEASE}. "
            f"Use the default, {DEFAULT_RELEASE}, or run the job on a cluster: make emr-up"
        )


def _parameters(settings: Settings, bucket: checks.Bucket) -> dict[str, str]:
    """Return the template's parameters. The application is not the stack's: runs change it."""
    new = "no" if bucket.exists else "yes"
    return {
        "Bucket": settings.BUCKET,
        "NewBucket": new,
        "KmsKey": bucket.key,
        "Application": "no",
        "Release": settings.RELEASE,
    }


def _archive(settings: Settings) -> str:
    return f"{settings.uri}/serverless/{settings.RELEASE}.tar.gz"


def _uploads(settings: Settings) -> list[tuple[Path, str]]:
    """Return the files and folders to upload as they are, and where to."""
    found = [
        (settings.model_file, settings.model_uri),
        (ROOT / "bootstrap" / files.JOB, f"{settings.uri}/{files.JOB}"),
    ]
    if settings.local_photos is not None:
        found.append((settings.local_photos, settings.images_uri))
    return found


def request(settings: Settings) -> list[str]:
    """Return the options that start the job."""
    properties = {
        "spark.archives": f"{_archive(settings)}#environment",
        "spark.emr-serverless.driverEnv.PYSPARK_DRIVER_PYTHON": _PYTHON,
        "spark.emr-serverless.driverEnv.PYSPARK_PYTHON": _PYTHON,
        "spark.executorEnv.PYSPARK_PYTHON": _PYTHON,
        # Otherwise Pomona would ask S3 outside the region, which workers may not reach.
        "spark.hadoop.fs.s3a.endpoint.region": settings.REGION,
        **plan.serverless_settings(int(settings.WORKERS)),
    }
    submit = {
        "entryPoint": f"{settings.uri}/{files.JOB}",
        "entryPointArguments": [
            *("--images", settings.images_uri),
            *("--output", settings.output_uri),
            *("--model", settings.model_uri),
            *shlex.split(settings.ARGS),
        ],
        "sparkSubmitParameters": " ".join(f"--conf {k}={v}" for k, v in properties.items()),
    }
    monitoring = {
        "s3MonitoringConfiguration": {"logUri": f"{settings.uri}/logs/serverless/"},
        # AWS would keep a copy of the logs, which have the names of photos.
        "managedPersistenceMonitoringConfiguration": {"enabled": False},
    }
    return [
        *("--name", "pomona run"),
        *("--job-driver", json.dumps({"sparkSubmit": submit}, ensure_ascii=False)),
        *("--configuration-overrides", json.dumps({"monitoringConfiguration": monitoring})),
        *("--execution-timeout-minutes", settings.TIMEOUT),
        *("--tags", "project=pomona"),
    ]


VERBS: dict[str, type[Run] | type[Down]] = {"serverless-run": Run, "serverless-down": Down}


def main(verb: str, words: Sequence[str]) -> int:
    """Run a command and return its exit code."""
    try:
        settings = Settings.of([f"RELEASE={DEFAULT_RELEASE}", *words], ("BUCKET",))
    except Stop as stop:
        print(f"{verb}: {stop}.", file=sys.stderr)
        return 2
    command = VERBS[verb](Aws(settings.REGION), settings)
    try:
        command()
    except (Stop, KeyboardInterrupt) as error:
        print(f"\n{verb}: {str(error) or 'interrupted'}.\n{command.costs}", file=sys.stderr)
        return 1 if isinstance(error, Stop) else 130
    except Exception:
        # A bug in this tool. The user must still learn what is running.
        print(f"\n{verb}: internal error, see below.\n{command.costs}", file=sys.stderr)
        raise
    return 0
