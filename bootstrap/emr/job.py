"""The job: a step of the cluster, followed to its end, and the logs of what failed."""

from __future__ import annotations

import gzip
import json
import re
import shlex
import time
from typing import Any

from emr.aws import Aws, AwsError, Stop
from emr.files import JOB
from emr.settings import Settings

_STEP_ENDED = ("COMPLETED", "FAILED", "CANCELLED", "INTERRUPTED")
#: How often to look for logs, which EMR copies to S3 every five minutes.
_LOG_CHECKS = 13
_SHOWN_LINES = 30


def step_of(settings: Settings) -> dict[str, Any]:
    """Return the step that runs the job, in cluster mode."""
    return {
        "Name": "pomona run",
        "Type": "CUSTOM_JAR",
        # Keep the cluster for a retry and for the notebook.
        "ActionOnFailure": "CONTINUE",
        "Jar": "command-runner.jar",
        "Args": [
            "spark-submit",
            *("--deploy-mode", "cluster"),
            # The application's name in YARN, which in cluster mode defaults to the file's name.
            *("--name", "pomona run"),
            f"{settings.uri}/{JOB}",
            *("--images", settings.images_uri),
            *("--output", settings.output_uri),
            *("--model", settings.model_uri),
            *shlex.split(settings.ARGS),
        ],
    }


def check_inputs(aws: Aws, settings: Settings) -> None:
    """Stop if the model or the photos are missing, which the job would take minutes to report."""
    key = settings.model_uri[len(settings.uri) + 1 :]
    try:
        aws("s3api", "head-object", "--bucket", settings.BUCKET, "--key", key, query="ETag")
    except AwsError as error:
        if error.code not in ("404", "403", "NoSuchKey"):
            raise
        raise Stop(
            f"the model {settings.model_uri} does not exist, or your AWS user may not read it "
            f"({error.code}): aws s3 cp {settings.model_file} {settings.model_uri}"
        ) from error
    if not listing(aws, f"{settings.images_uri}/", "--max-items", "1"):
        raise Stop(
            f"{settings.images_uri} has no photos: aws s3 sync FOLDER {settings.images_uri}, or "
            f"give another folder: IMAGES={settings.uri}/…"
        )


def run(aws: Aws, settings: Settings, cluster: str) -> None:
    """Run the job as a step and wait for it; Stop if it fails."""
    check_inputs(aws, settings)
    words = ("emr", "add-steps", "--cluster-id", cluster)
    steps = json.dumps([step_of(settings)], ensure_ascii=False)
    try:
        step = aws(*words, "--steps", steps, query="StepIds[0]")
    except AwsError as error:
        raise Stop(
            f"the cluster {cluster} does not take the job ({error.message}). If it has ended, "
            f"make emr-up with {settings.place} starts another"
        ) from error
    named = ("--cluster-id", cluster, "--step-id", step)
    last = ""
    while last not in _STEP_ENDED:
        if last:
            time.sleep(float(settings.EVERY))
        status = aws("emr", "describe-step", *named, query="Step.Status", quiet=bool(last))
        if status["State"] != last:
            last = status["State"]
            print(f"  {time.strftime('%H:%M:%S')} {last}", flush=True)
    if last != "COMPLETED":
        details = status.get("FailureDetails") or {}
        reason = " ".join(str(value) for name, value in details.items() if name != "LogFile")
        logs = f"{settings.uri}/logs/{cluster}/"
        try:
            _show_step_logs(aws, settings, logs, step)
        except Stop as error:
            print(f"  The logs cannot be read: {error}")
        raise Stop(
            f"the job ended as {last}{': ' + reason if reason else ''}. Its logs are in "
            f"{logs}steps/{step}/, the driver's in {logs}containers/. The same command resumes "
            "from the features already written"
        )


def show_bootstrap_log(aws: Aws, settings: Settings, cluster: str, message: str) -> None:
    """Print the end of the log of the node that failed to start, if it is already on S3."""
    node = re.search(r"\bi-[0-9a-f]+\b", message)
    folder = f"{settings.uri}/logs/{cluster}/node/" + (f"{node.group()}/" if node else "")
    try:
        keys = listing(aws, folder)
        for key in [key for key in keys if re.search(r"bootstrap-actions/\d+/stderr\.gz$", key)]:
            show(aws, key)
            return
    except Stop as error:
        print(f"  The logs cannot be read: {error}")
    print(f"  Logs of the nodes appear in {folder} within five minutes.")


def _show_step_logs(aws: Aws, settings: Settings, logs: str, step: str) -> None:
    """Print the end of the driver's log, or of spark-submit's if no driver started."""
    print("\nWaiting for the logs, which EMR copies to S3 every five minutes.", flush=True)
    folder = f"{logs}steps/{step}/"
    submitted = _await_logs(aws, settings, folder, r"/stderr\.gz$")
    if not submitted:
        print(f"  no logs yet; try later: aws s3 ls {folder} --region {aws.region}")
        return
    text = gzip.decompress(aws.raw("s3", "cp", submitted[0], "-", "--only-show-errors")).decode()
    application = re.search(r"application_\d+_\d+", text)
    driver: list[str] = []
    if application:
        # In cluster mode the first container is the driver, and its stdout has Python's output.
        first = r"/container_\w*_000001/stdout\.gz$"
        driver = _await_logs(aws, settings, f"{logs}containers/{application.group()}/", first)
    show(aws, (driver or submitted)[-1])


def _await_logs(aws: Aws, settings: Settings, folder: str, pattern: str) -> list[str]:
    """Poll a folder for objects that match a pattern; return none if they do not appear."""
    for check in range(_LOG_CHECKS):
        if check:
            time.sleep(float(settings.EVERY))
        logs = [uri for uri in listing(aws, folder) if re.search(pattern, uri)]
        if logs:
            return logs
    return []


def listing(aws: Aws, folder: str, *options: str) -> list[str]:
    """Return the URIs of the objects in a folder; none if it does not exist."""
    bucket, _, prefix = folder[len("s3://") :].partition("/")
    words = ("s3api", "list-objects-v2", "--bucket", bucket, "--prefix", prefix, *options)
    return [f"s3://{bucket}/{key}" for key in aws(*words, query="Contents[].Key") or []]


def show(aws: Aws, uri: str) -> str:
    """Print the last lines of a compressed log, and return all of it."""
    packed = aws.raw("s3", "cp", uri, "-", "--only-show-errors")
    text = gzip.decompress(packed).decode(errors="replace")
    lines = text.splitlines()[-_SHOWN_LINES:]
    print("".join(f"  | {line}\n" for line in lines), end="", flush=True)
    return text
