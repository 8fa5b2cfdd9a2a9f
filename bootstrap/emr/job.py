"""The job: a step of the cluster, followed to its end, and the logs of what failed."""

from __future__ import annotations

import gzip
import json
import re
import shlex
import time
from typing import Any, Sequence

from emr.aws import Aws, AwsError, Stop, say
from emr.files import JOB, listing, metadata
from emr.settings import Settings

#: States in which a step or a job of EMR Serverless ends.
ENDED = ("COMPLETED", "SUCCESS", "FAILED", "CANCELLED", "INTERRUPTED")
#: How often to look for a step's logs, which EMR copies to S3 every five minutes.
_LOG_CHECKS = 13
_SHOWN_LINES = 30


def arguments(settings: Settings) -> list[str]:
    """Return the options of `pomona run`."""
    folders = ["--images", settings.images_uri, "--output", settings.output_uri]
    return [*folders, "--model", settings.model_uri, *shlex.split(settings.ARGS)]


def step_of(settings: Settings) -> dict[str, Any]:
    """Return the step that runs the job, in cluster mode."""
    # YARN would name the application after the file.
    submit = ["spark-submit", "--deploy-mode", "cluster", "--name", "pomona run"]
    return {
        "Name": "pomona run",
        "Type": "CUSTOM_JAR",
        "ActionOnFailure": "CONTINUE",  # which keeps the cluster, for a retry and the notebook
        "Jar": "command-runner.jar",
        "Args": [*submit, f"{settings.uri}/{JOB}", *arguments(settings)],
    }


def check_inputs(aws: Aws, settings: Settings) -> None:
    """Stop if the model or the photos are missing, which the job would take minutes to report."""
    model, photos = settings.model_uri, settings.images_uri
    if metadata(aws, model, "404|403|NoSuchKey") is None:
        raise Stop(f"""the model {model} does not exist, or your AWS user may not read it: aws s3 cp
            {settings.model_file} {model}""")
    if not listing(aws, f"{photos}/", "--max-items", "1"):
        raise Stop(f"""{photos} has no photos: aws s3 sync FOLDER {photos}, or give another folder:
            IMAGES={settings.uri}/…""")


def run(aws: Aws, settings: Settings, cluster: str) -> None:
    """Run the job as a step and wait for it; Stop if it fails."""
    check_inputs(aws, settings)
    named = ("--cluster-id", cluster)
    steps = json.dumps([step_of(settings)], ensure_ascii=False)
    try:
        step = aws("emr", "add-steps", *named, "--steps", steps, query="StepIds[0]")
    except AwsError as error:
        raise Stop(f"""the cluster {cluster} does not take the job ({error.message}). If it has
            ended, make emr-up with {settings.place} starts another""") from error
    query = "Step.Status.{state: State, details: FailureDetails}"
    status = follow(aws, settings, "emr", "describe-step", *named, "--step-id", step, query=query)
    if status["state"] == "COMPLETED":
        return
    details = status["details"] or {}
    reason = " ".join(str(value) for name, value in details.items() if name != "LogFile")
    logs = f"{settings.uri}/logs/{cluster}/"
    say("Waiting for the logs, which EMR copies to S3 every five minutes.")
    said = tail(aws, settings, f"{logs}steps/{step}/", r"/stderr\.gz$", _LOG_CHECKS)
    for application in re.findall(r"application_\d+_\d+", said)[:1]:
        # In cluster mode the first container is the driver, and its stdout has Python's output.
        folder, driver = f"{logs}containers/{application}/", r"_000001/stdout\.gz$"
        tail(aws, settings, folder, driver, _LOG_CHECKS)
    raise Stop(f"""the job ended as {status["state"]}{": " + reason if reason else ""}. Its logs are
        in {logs}steps/{step}/, the driver's in {logs}containers/. The same command resumes from the
        features already written""")


def follow(
    aws: Aws, settings: Settings, *words: str, query: str, until: Sequence[str] = ENDED
) -> dict[str, Any]:
    """Poll until `state` is one of `until`, print changes, and return the last answer."""
    state = ""
    while True:
        # Errors that pass: the next answer tells.
        passing = "Throttl|TooManyRequests|Internal|(Service)?Unavailable"
        said = aws(*words, query=query, absent=passing, quiet=bool(state)) or {"state": state}
        if said["state"] != state:
            state = said["state"]
            say(f"  {time.strftime('%H:%M:%S')} {state}")
        if state in until:
            return dict(said)
        time.sleep(float(settings.EVERY))


def tail(aws: Aws, settings: Settings, folder: str, pattern: str, checks: int) -> str:
    """Wait for logs in a folder, print the end of the last two, and return their text."""
    try:
        for check in range(checks):
            time.sleep(float(settings.EVERY) if check else 0)
            uris = [uri for uri in listing(aws, folder) if re.search(pattern, uri)][-2:]
            packed = [aws.raw("s3", "cp", uri, "-", "--only-show-errors") for uri in uris]
            texts = [gzip.decompress(each).decode(errors="replace") for each in packed]
            for text in texts:
                print("\n".join(f"  | {line}" for line in text.splitlines()[-_SHOWN_LINES:]))
            if texts:
                return "".join(texts)
        say(f"  No logs yet; try later: aws s3 ls {folder} --region {aws.region}")
    except Stop as error:
        say(f"  The logs cannot be read: {error}")
    return ""
