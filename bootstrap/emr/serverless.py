"""EMR Serverless: the job without a cluster, followed to its end, and what it cost."""

from __future__ import annotations

import json
import re
import shlex
import tempfile
import time
from pathlib import Path
from typing import Any

from emr import checks, environment, files, job
from emr.aws import Aws, AwsError, Stop, say
from emr.settings import NEWEST_RELEASE, Settings
from emr.stack import Failed, Stack
from emr.wheelhouse import sha256
from pomona import plan

_PYTHON = "./environment/bin/python"
_EXISTING = ("CREATING", "CREATED", "STARTING", "STARTED", "STOPPING", "STOPPED")
_UNFINISHED = ("SUBMITTED", "PENDING", "SCHEDULED", "RUNNING", "QUEUED")
#: Attempts to start a job with a role that IAM has not made known everywhere yet.
_ATTEMPTS = 5
#: How often to look for the logs, which EMR copies every 15 seconds, and for the bill.
_CHECKS = 4


def run(aws: Aws, settings: Settings, stack: Stack) -> None:
    """Run the job without a cluster; Stop if it does not succeed."""
    stack.costs = "No job was started, so nothing but the bucket's content costs money"
    _check_release(settings)
    if settings.DRY_RUN:
        _print_plan(settings, stack)
        return
    files.check(settings, model=False)
    wheels = files.wheelhouse(settings)
    role = _deploy(aws, settings, stack)
    _upload(aws, settings, wheels)
    job.check_inputs(aws, settings)
    work(aws, settings, stack, prepare(aws, settings), role)


def down(aws: Aws, settings: Settings, stack: Stack) -> None:
    """Cancel the jobs, and delete the application, the role and the stack."""
    stack.costs = "An application costs nothing while no job runs; a job that runs does"
    if settings.DRY_RUN:
        print(f"The application and the stack {stack.name} in {settings.REGION} would go.")
        return
    application = find(aws, settings)
    if application:
        named = ("--application-id", application)
        words = ("list-job-runs", *named, "--states", *_UNFINISHED)
        for run in aws("emr-serverless", *words, query="jobRuns[].id") or []:
            aws("emr-serverless", "cancel-job-run", *named, "--job-run-id", run)
            _follow(aws, settings, application, run)
        _stop(aws, settings, application)
        aws("emr-serverless", "delete-application", *named)
    stack.settle()
    if stack.status:
        stack.delete()
    say(f"""The application and its role are gone. The bucket stays, and its content costs money; to
        delete the photos, the results and the bucket: aws s3 rb {settings.uri} --force --region
        {settings.REGION}""")


def _check_release(settings: Settings) -> None:
    wanted, first = (
        [int(number) for number in re.findall(r"\d+", release)]
        for release in (settings.RELEASE, plan.SERVERLESS_RELEASE)
    )
    if wanted < first:
        raise Stop(f"""RELEASE={settings.RELEASE}: EMR Serverless begins with
            {plan.SERVERLESS_RELEASE}. Use the default, {NEWEST_RELEASE}, or run the job on a
            cluster: make emr-up""")


def _print_plan(settings: Settings, stack: Stack) -> None:
    """Print what would be deployed, and the requests."""
    print(f"The stack {stack.name} in {settings.REGION}, from {stack.template}:")
    for name, value in _parameters(settings).items():
        print(f"  {name}={value}")
    print("AWS is asked for NewBucket and KmsKey. Uploaded to the bucket:")
    print(f"  {settings.wheelhouse}, packed -> {_archive(settings)}")
    for source, target in files.uploads(settings):
        print(f"  {source} -> {target}")
    print("The application and the job:")
    start = ["start-job-run", "--application-id", "ID", "--execution-role-arn", "ROLE"]
    for words in (_creation(settings), [*start, *request(settings)]):
        command = ["aws", "emr-serverless", *words, "--region", settings.REGION]
        print("$", *map(shlex.quote, command))


def _parameters(settings: Settings) -> dict[str, str]:
    """Return the template's parameters. The application is not the stack's: runs change it."""
    return {"Bucket": settings.BUCKET, "Application": "no", "Release": settings.RELEASE}


def _deploy(aws: Aws, settings: Settings, stack: Stack) -> str:
    """Create or update the stack, and return the ARN of the jobs' role."""
    stack.settle()
    if stack.status and not stack.sound:
        print(f"  {stack.name} is {stack.status}, which cannot be updated: it is deleted")
        stack.delete()
    parameters = _parameters(settings)
    if stack.parameters.get("NewBucket") == "yes":
        # Called an existing bucket, the stack's own would be forgotten by the stack.
        parameters.update({name: stack.parameters[name] for name in ("NewBucket", "KmsKey")})
    else:
        parameters.update(checks.check_bucket(aws, settings))
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


def _archive(settings: Settings) -> str:
    return f"{settings.uri}/serverless/{settings.RELEASE}.tar.gz"


def _upload(aws: Aws, settings: Settings, wheels: Path) -> None:
    """Upload what the job reads; the environment only if it is not the one in the bucket."""
    for source, target in files.uploads(settings):
        if source.exists():  # the model may be in the bucket only
            files.copy(aws, source, target)
    made_of, uri = environment.fingerprint(wheels), _archive(settings)
    if (files.metadata(aws, uri) or {}).get("made-of") == made_of:
        print(f"  {uri} is up to date")
        return
    print(f"  packing {wheels}, in less than a minute", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        archive = Path(folder, "environment.tar.gz")
        environment.build(wheels, archive)
        marks = f"made-of={made_of},sha256={sha256(archive)}"
        files.copy(aws, archive, uri, "--metadata", marks)


def _name(settings: Settings) -> str:
    # EMR allows 64 characters, and S3 63 for the bucket alone.
    return f"pomona-{settings.BUCKET}"[:64]


def find(aws: Aws, settings: Settings) -> str:
    """Return the id of the bucket's application; nothing if there is none."""
    query = f"applications[?name=='{_name(settings)}'].id"
    words = ("list-applications", "--states", *_EXISTING)
    return str((aws("emr-serverless", *words, query=query) or [""])[0])


def _limit(settings: Settings) -> dict[str, str]:
    """Return the most that all jobs together may use: the driver and the executors."""
    number = int(settings.WORKERS)
    driver, executor = plan.SERVERLESS_DRIVER, plan.SERVERLESS_EXECUTOR
    return {
        "cpu": f"{driver.vcpus + number * executor.vcpus} vCPU",
        "memory": f"{driver.memory_gb + number * executor.memory_gb} GB",
        "disk": f"{(1 + number) * plan.SERVERLESS_DISK_GB} GB",
    }


def _changeable(settings: Settings) -> list[str]:
    return [
        *("--release-label", settings.RELEASE),
        *("--maximum-capacity", json.dumps(_limit(settings))),
        *("--auto-start-configuration", "enabled=true"),
        # It stops by itself if this command cannot stop it.
        *("--auto-stop-configuration", "enabled=true,idleTimeoutMinutes=1"),
    ]


def _creation(settings: Settings) -> list[str]:
    kind = ["--type", "SPARK", "--architecture", "X86_64", "--tags", "project=pomona"]
    return ["create-application", "--name", _name(settings), *kind, *_changeable(settings)]


def prepare(aws: Aws, settings: Settings) -> str:
    """Create the application, or change it to this release and limit; return its id."""
    application = find(aws, settings)
    try:
        if not application:
            words = _creation(settings)
            application = str(aws("emr-serverless", *words, query="applicationId"))
            _wait(aws, settings, application, "CREATED", "STARTED", "STOPPED")
            return application
        named = ("--application-id", application)
        now = aws("emr-serverless", "get-application", *named, query="application")
        wanted = (settings.RELEASE, _limit(settings))
        if (now["releaseLabel"], now.get("maximumCapacity")) != wanted:
            _stop(aws, settings, application)
            aws("emr-serverless", "update-application", *named, *_changeable(settings))
    except AwsError as error:
        if "release" not in error.message.lower():
            raise
        raise Stop(f"""EMR Serverless does not offer {settings.RELEASE} in {aws.region}
            ({error.message}): use another, such as RELEASE={NEWEST_RELEASE}""") from error
    return application


def _stop(aws: Aws, settings: Settings, application: str) -> None:
    """Stop the application, which can then be changed or deleted."""
    aws("emr-serverless", "stop-application", "--application-id", application)
    _wait(aws, settings, application, "CREATED", "STOPPED")


def _wait(aws: Aws, settings: Settings, application: str, *states: str) -> None:
    words = ("emr-serverless", "get-application", "--application-id", application)
    job.follow(aws, settings, *words, query="application", until=states)


def work(aws: Aws, settings: Settings, stack: Stack, application: str, role: str) -> None:
    """Start the job, and follow it to its end and its bill; Stop if it does not succeed."""
    named = f"--application-id {application}"
    stack.costs = f"""A job may have been started; to see: aws emr-serverless list-job-runs {named}
        --region {aws.region}"""
    run = _start(aws, settings, application, role)
    stack.costs = f"""The job {run} goes on, and costs money until it ends, at the latest after
        TIMEOUT={settings.TIMEOUT} minutes. To cancel it: aws emr-serverless cancel-job-run {named}
        --job-run-id {run} --region {aws.region}"""
    said = _follow(aws, settings, application, run)
    stack.costs = "The job has ended. Nothing but the bucket's content costs money"
    succeeded = said["state"] == "SUCCESS"
    folder = f"{settings.uri}/logs/serverless/applications/{application}/jobs/{run}/SPARK_DRIVER/"
    logs = r"/std(out|err)\.gz$"
    log = "" if succeeded else job.tail(aws, settings, folder, logs, _CHECKS)
    _print_bill(aws, settings, application, run)
    try:
        aws("emr-serverless", "stop-application", "--application-id", application)
    except Stop as error:
        print(f"  The application stops by itself when it is idle: {error}")
    if not succeeded:
        raise Stop(f"{_explain(settings, said, log)}. Logs: {folder}")
    say(f"\nThe results are in {settings.output_uri}: features, pca, pca_model, summary.json.")
    say(f"""{stack.costs}. To remove the application and the role: make serverless-down
        {settings.place}""")


def _start(aws: Aws, settings: Settings, application: str, role: str) -> str:
    """Start the job and return its id; repeat that while IAM does not know the role."""
    named = ("--application-id", application, "--execution-role-arn", role)
    words = ("emr-serverless", "start-job-run", *named, *request(settings))
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            return str(aws(*words, query="jobRunId"))
        except AwsError as error:  # noqa: PERF203 - every attempt can fail
            if attempt == _ATTEMPTS or not re.search("role|assume", error.message, re.I):
                raise Stop(f"EMR Serverless refused the job: {error.message}") from error
            print(f"  IAM has not made the new role known everywhere: {error.message}")
            time.sleep(float(settings.EVERY))
    raise AssertionError("the last attempt returns or raises")


def _follow(aws: Aws, settings: Settings, application: str, run: str) -> dict[str, Any]:
    words = ("get-job-run", "--application-id", application, "--job-run-id", run)
    return job.follow(aws, settings, "emr-serverless", *words, query="jobRun")


def _print_bill(aws: Aws, settings: Settings, application: str, run: str) -> None:
    """Print what EMR bills for the job, which it says a little after the job's end."""
    words = ("get-job-run", "--application-id", application, "--job-run-id", run)
    query = "jobRun.billedResourceUtilization"
    for check in range(_CHECKS):
        time.sleep(float(settings.EVERY) if check else 0)
        billed = aws("emr-serverless", *words, query=query, quiet=True) or {}
        if billed.get("vCPUHour"):
            break
    else:
        print("The bill is not known yet: the console has it on the job's page.")
        return
    vcpu, gb = billed["vCPUHour"], billed.get("memoryGBHour") or 0.0
    try:
        prices = plan.serverless_prices(settings.REGION)
        dollars = vcpu * prices.vcpu.usd + gb * prices.gb.usd
        cost = f"${dollars:.3f} (prices of {prices.vcpu.date})"
    except ValueError as error:
        cost = f"the price is unknown: {error}"
    print(f"Billed: {vcpu:.3f} vCPU-hours and {gb:.3f} GB-hours of memory, {cost}.")


def _explain(settings: Settings, said: dict[str, Any], log: str) -> str:
    """Return what happened to a job that did not succeed, and what to do."""
    details = said.get("stateDetails") or "EMR gave no reason"
    advice = "the same command resumes from the features already written"
    if said["state"] == "CANCELLED":
        advice = f"someone cancelled it, or it took more than TIMEOUT minutes; {advice}"
    elif "there are no credentials" in log:
        words = shlex.quote(f"{settings.ARGS} --no-paths".strip())
        advice = f"Pomona's own access to S3 has no credentials: let Spark read, ARGS={words}"
    elif re.search(r"max\w*capacity|quota|vcpus? ", f"{details} {log}", re.I):
        advice = f"""EMR refused workers: use fewer than WORKERS={settings.WORKERS}, wait for your
            other jobs, or raise 'Max concurrent vCPUs per account' of EMR Serverless in Service
            Quotas (a new account has {plan.SERVERLESS_QUOTA_VCPUS})"""
    return f"the job ended as {said['state']}: {details}; {advice}"


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
        "entryPointArguments": job.arguments(settings),
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
