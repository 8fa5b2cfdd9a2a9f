"""The cluster: request it, wait until it is ready, run the job, terminate it."""

from __future__ import annotations

import gzip
import json
import re
import shlex
import time
from typing import Any, Sequence

from emr.aws import FILLED, Aws
from emr.errors import AwsError, Stop
from emr.files import JOB, SCRIPT
from emr.network import TAG, Network
from emr.settings import Settings

APPLICATIONS = ("Hadoop", "Spark", "Livy", "JupyterHub", "JupyterEnterpriseGateway")
#: Folder of the nodes' Python: for bootstrap-emr.sh to install, and for Spark's settings.
NODE_FOLDER = "/opt/pomona"
#: GiB. EMR's default of 10 is for its own programs; the nodes' Python needs more.
ROOT_VOLUME = 20
LOGS = "logs"

#: States of a cluster that runs or starts.
ALIVE = ("STARTING", "BOOTSTRAPPING", "RUNNING", "WAITING")
READY = ("RUNNING", "WAITING")
_ENDED = ("TERMINATED", "TERMINATED_WITH_ERRORS")
_STEP_ENDED = ("COMPLETED", "FAILED", "CANCELLED", "INTERRUPTED")
#: Error codes after which the request may have succeeded: none, or an internal error of AWS.
_UNCERTAIN = re.compile(r"|5\d\d|Internal.*")
#: Attempts to create the cluster: AWS takes a while to make a new role known everywhere.
ATTEMPTS = 5
#: How often to look for logs, which EMR copies to S3 every five minutes.
LOG_CHECKS = 13
SHOWN_LINES = 30


def find(aws: Aws, settings: Settings) -> list[str]:
    """Return the ids of the clusters of this name that run or start."""
    answer = aws.text(
        "CLUSTER",
        "emr",
        "list-clusters",
        "--cluster-states",
        *ALIVE,
        query=f"Clusters[?Name=='{settings.cluster_name}'].Id",
    )
    return answer.split()


def running(aws: Aws, settings: Settings) -> str:
    """Return the id of the running cluster; Stop if there is none."""
    aws.say(f"The cluster {settings.cluster_name}.")
    clusters = find(aws, settings)
    if not clusters:
        raise Stop(
            f"no cluster {settings.cluster_name} is running in {aws.region}: start one with "
            f"make emr-up BUCKET={settings.BUCKET} KEY=… SUBNET=… MY_IP=…"
        )
    aws.demand('[ -n "$CLUSTER" ]', "the cluster is not running")
    aws.made.append(price_of(clusters[0], settings))
    return clusters[0]


def price_of(cluster: str, settings: Settings) -> str:
    """Describe a running cluster."""
    return f"cluster {cluster}: IT COSTS MONEY until make emr-down {settings.place}"


def create(aws: Aws, settings: Settings, network: Network) -> str:
    """Create the cluster and return its id."""
    words = request(settings, network)
    # If this is interrupted or the network fails, EMR may have created the cluster anyway.
    possible = (
        f"possibly a cluster {settings.cluster_name}, which would cost money: make emr-down "
        f"{settings.place}"
    )
    aws.made.append(possible)
    for attempts_left in reversed(range(ATTEMPTS)):
        try:
            cluster = aws.text(
                "CLUSTER",
                *words,
                query="ClusterId",
                makes=price_of("<id>", settings),
            )
        except Stop:  # noqa: PERF203 - every attempt can fail
            # The request did not reach EMR, or the user lacks the permission.
            aws.made.remove(possible)
            raise
        except AwsError as error:
            new_role = re.search("instance ?profile|service ?role", error.message, re.I)
            if _UNCERTAIN.fullmatch(error.code):
                raise Stop(
                    f"{error}. A cluster may have been started; to see: aws emr "
                    f"list-clusters --active --region {aws.region}"
                ) from error
            if not (new_role and attempts_left):
                aws.made.remove(possible)
                raise Stop(
                    f"EMR rejected the cluster ({error.code}: {error.message}), so none is running"
                ) from error
            aws.remark(f"AWS does not know the new roles yet; retrying in {settings.EVERY} s")
            time.sleep(float(settings.EVERY))
        else:
            aws.made.remove(possible)
            return cluster
    raise AssertionError("the last attempt returns or raises")


def request(settings: Settings, network: Network) -> list[str]:
    """Return the call that creates the cluster."""
    instance = f"InstanceType={settings.INSTANCE}"
    groups = [
        f"Name=primary,InstanceGroupType=MASTER,InstanceCount=1,{instance}",
        f"Name=core,InstanceGroupType=CORE,InstanceCount={settings.WORKERS},{instance}",
    ]
    if int(settings.TASKS):
        # Makes it a spot group, and limits the price to that on demand.
        groups.append(
            f"Name=task,InstanceGroupType=TASK,InstanceCount={settings.TASKS},{instance},"
            "BidPrice=OnDemandPrice"
        )
    attributes = {
        "KeyName": settings.KEY,
        "InstanceProfile": settings.nodes_role,
        "SubnetId": settings.SUBNET,
        "EmrManagedMasterSecurityGroup": network.primary,
        "EmrManagedSlaveSecurityGroup": network.core,
    }
    if network.service:
        attributes["ServiceAccessSecurityGroup"] = network.service
    arguments = [settings.wheelhouse_uri, "--model", settings.model_uri, "--target", NODE_FOLDER]
    bootstrap = f"Path={settings.uri}/{SCRIPT},Name=pomona,Args=[{','.join(arguments)}]"
    return [
        "emr",
        "create-cluster",
        *("--name", settings.cluster_name),
        *("--release-label", settings.RELEASE),
        *("--applications", *(f"Name={name}" for name in APPLICATIONS)),
        *("--service-role", settings.service_role),
        *("--ec2-attributes", ",".join(f"{name}={value}" for name, value in attributes.items())),
        *("--instance-groups", *groups),
        *("--ebs-root-volume-size", str(ROOT_VOLUME)),
        *("--bootstrap-actions", bootstrap),
        *("--configurations", f"file://{FILLED / 'emr.json'}"),
        *("--log-uri", f"{settings.uri}/{LOGS}/"),
        *("--auto-termination-policy", f"IdleTimeout={settings.IDLE}"),
        "--no-auto-terminate",
        "--no-termination-protected",
        *("--tags", f"{TAG}=true", f"Name={settings.cluster_name}", "project=pomona"),
    ]


def wait_until_ready(aws: Aws, settings: Settings, cluster: str) -> None:
    """Wait until the cluster is ready; Stop with the reason if it fails to start."""
    aws.say("Waiting until the cluster is ready, in about ten minutes.")
    named = ("--cluster-id", cluster)
    status = _follow(aws, settings, "cluster-running", named, (*READY, *_ENDED))
    if status["State"] in READY:
        return
    # The cluster no longer exists and costs nothing.
    aws.made = [made for made in aws.made if cluster not in made]
    reason = status.get("StateChangeReason") or {}
    logs = f"{settings.uri}/{LOGS}/{cluster}/"
    _show_bootstrap_log(aws, logs, reason.get("Message", ""))
    raise Stop(
        f"cluster {cluster} did not start: {status['State']}, {reason.get('Code', 'no code')}: "
        f"{reason.get('Message', 'EMR gave no reason')}. It is terminated and costs nothing. "
        f"Its logs are in {logs}node/*/bootstrap-actions/ (they may take five minutes to appear)"
    )


def _follow(
    aws: Aws, settings: Settings, waiter: str, named: Sequence[str], until: Sequence[str]
) -> dict[str, Any]:
    """Poll until the state is one of `until`, and print each change.

    The script of a dry run uses the CLI's own waiter, which prints nothing.
    """
    if aws.dry_run:
        aws.call("emr", "wait", waiter, *named)
        return {"State": until[0]}
    kind = waiter.partition("-")[0]
    last = ""
    while True:
        query = f"{kind.title()}.Status"
        status = aws.answer("emr", f"describe-{kind}", *named, query=query, quiet=bool(last))
        if not last:
            aws.remark(f"(repeated every {settings.EVERY} s)")
        state = status["State"]
        if state != last:
            aws.remark(f"{time.strftime('%H:%M:%S')} {state}")
            last = state
        if state in until:
            return dict(status)
        time.sleep(float(settings.EVERY))


def _show_bootstrap_log(aws: Aws, logs: str, message: str) -> None:
    """Print the end of the failed node's log, if it is already on S3."""
    node = re.search(r"\bi-[0-9a-f]+\b", message)
    with aws.allowed_to_fail():
        keys = _listing(aws, f"{logs}node/{node.group()}/" if node else f"{logs}node/")
        errors = [key for key in keys if re.search(r"bootstrap-actions/\d+/stderr\.gz$", key)]
        for key in errors[:1]:
            _show(aws, key)


def _listing(aws: Aws, folder: str) -> list[str]:
    """Return the URIs of all objects in a folder; none if it does not exist."""
    bucket, _, prefix = folder[len("s3://") :].partition("/")
    keys = aws.answer(
        "s3api", "list-objects-v2", "--bucket", bucket, "--prefix", prefix, query="Contents[].Key"
    )
    return [f"s3://{bucket}/{key}" for key in keys or []]


def _show(aws: Aws, uri: str) -> None:
    """Print the last lines of a compressed log."""
    text = gzip.decompress(aws.raw("s3", "cp", uri, "-", "--only-show-errors"))
    lines = text.decode(errors="replace").splitlines()
    print("".join(f"  | {line}\n" for line in lines[-SHOWN_LINES:]), end="", flush=True)


def run(aws: Aws, settings: Settings, cluster: str) -> None:
    """Run the job as a step and wait for it; Stop if it fails."""
    _check_inputs(aws, settings)
    aws.say("Submitting the job as a step.")
    step = aws.text(
        "STEP",
        *("emr", "add-steps", "--cluster-id", cluster),
        *("--steps", json.dumps([step_of(settings)])),
        query="StepIds[0]",
        makes=f"step <id>: still running (aws emr cancel-steps --cluster-id {cluster} --step-ids "
        f"<id> --region {aws.region})",
    )
    aws.say("Waiting until the job ends.")
    named = ("--cluster-id", cluster, "--step-id", step)
    status = _follow(aws, settings, "step-complete", named, _STEP_ENDED)
    aws.made.pop()
    if status["State"] != "COMPLETED":
        raise Stop(_explain_failure(aws, settings, cluster, step, status))


def step_of(settings: Settings) -> dict[str, Any]:
    """Return the step that runs the job, in cluster mode."""
    job = [
        "spark-submit",
        *("--deploy-mode", "cluster"),
        # The application's name in YARN, which in cluster mode defaults to the file's name.
        *("--name", "pomona run"),
        f"{settings.uri}/{JOB}",
        *("--images", settings.images_uri),
        *("--output", settings.output_uri),
        *("--model", settings.model_uri),
        *shlex.split(settings.ARGS),
    ]
    return {
        "Name": "pomona run",
        "Type": "CUSTOM_JAR",
        # Keep the cluster for a retry and for the notebook.
        "ActionOnFailure": "CONTINUE",
        "Jar": "command-runner.jar",
        "Args": job,
    }


def _check_inputs(aws: Aws, settings: Settings) -> None:
    """Stop if the model or the photos are missing, which the step would take minutes to report."""
    aws.say("Are the model and the photos in the bucket?")
    key = settings.model_uri[len(settings.uri) + 1 :]
    try:
        aws.answer("s3api", "head-object", "--bucket", settings.BUCKET, "--key", key, query="ETag")
    except AwsError as error:
        if error.code not in ("404", "403", "NoSuchKey"):
            raise
        raise Stop(
            f"the model {settings.model_uri} does not exist, or your AWS user may not read it "
            f"({error.code}): aws s3 cp {settings.model_file} {settings.model_uri}"
        ) from error
    photos = settings.images_uri[len(settings.uri) + 1 :]
    first = aws.text(
        "PHOTO",
        *("s3api", "list-objects-v2", "--bucket", settings.BUCKET),
        *("--prefix", f"{photos}/", "--max-items", "1"),
        query="Contents[0].Key",
    )
    if first.split()[:1] in ([], ["None"]):
        raise Stop(
            f"{settings.images_uri} has no photos: aws s3 sync FOLDER {settings.images_uri}, or "
            f"give another folder: IMAGES={settings.uri}/…"
        )


def _explain_failure(
    aws: Aws, settings: Settings, cluster: str, step: str, status: dict[str, Any]
) -> str:
    """Print the end of a failed step's logs, and return the reason."""
    logs = f"{settings.uri}/{LOGS}/{cluster}/"
    details = status.get("FailureDetails") or {}
    reason = " ".join(str(value) for name, value in details.items() if name != "LogFile")
    with aws.allowed_to_fail():
        _show_step_logs(aws, settings, logs, step)
    return (
        f"the job ended as {status['State']}{': ' + reason if reason else ''}. Its logs are in "
        f"{logs}steps/{step}/, the driver's in {logs}containers/. The same command resumes from "
        "the features already written"
    )


def _show_step_logs(aws: Aws, settings: Settings, logs: str, step: str) -> None:
    """Print the end of the driver's log, or of spark-submit's if no driver started."""
    aws.say("Waiting for the logs, which EMR copies to S3 every five minutes.")
    folder = f"{logs}steps/{step}/"
    submitted = _await_logs(aws, settings, folder, r"/stderr\.gz$")
    if not submitted:
        aws.remark(f"no logs yet; try later: aws s3 ls {folder} --region {aws.region}")
        return
    text = gzip.decompress(aws.raw("s3", "cp", submitted[0], "-", "--only-show-errors")).decode()
    application = re.search(r"application_\d+_\d+", text)
    driver: list[str] = []
    if application:
        # In cluster mode the first container is the driver, and its stdout has Python's output.
        first = r"/container_\w*_000001/stdout\.gz$"
        driver = _await_logs(aws, settings, f"{logs}containers/{application.group()}/", first)
    _show(aws, (driver or submitted)[-1])


def _await_logs(aws: Aws, settings: Settings, folder: str, pattern: str) -> list[str]:
    """Poll a folder for objects that match a pattern; return none if they do not appear."""
    for check in range(LOG_CHECKS):
        if check:
            time.sleep(float(settings.EVERY))
        logs = [uri for uri in _listing(aws, folder) if re.search(pattern, uri)]
        if logs:
            return logs
    return []


def end(aws: Aws, settings: Settings) -> bool:
    """Terminate every cluster of this name; return whether there was one."""
    aws.say(f"The cluster {settings.cluster_name}.")
    clusters = find(aws, settings)
    aws.made += [price_of(cluster, settings) for cluster in clusters]
    for _ in aws.when(bool(clusters), '[ -n "$CLUSTER" ]'):
        aws.call("emr", "terminate-clusters", "--cluster-ids", *clusters)
        aws.made[:] = [
            f"cluster {cluster}: terminating; it costs money until that is complete"
            for cluster in clusters
        ]
        for cluster in clusters:
            aws.say("Waiting until it is terminated, in a minute or two.")
            named = ("--cluster-id", cluster)
            _follow(aws, settings, "cluster-terminated", named, _ENDED)
    aws.made.clear()
    return bool(clusters)
