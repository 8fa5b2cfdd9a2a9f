"""A cluster's life: asked for, followed until it can work, given the job, ended."""

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
#: Where bootstrap-emr.sh is told to put the nodes' Python, and Spark's settings find it.
NODE_FOLDER = "/opt/pomona"
#: GiB; EMR's default of 10 is for its own programs, and the nodes' Python comes on top.
ROOT_VOLUME = 20
LOGS = "logs"

#: States of a cluster that costs money and takes work, or soon will.
ALIVE = ("STARTING", "BOOTSTRAPPING", "RUNNING", "WAITING")
READY = ("RUNNING", "WAITING")
_ENDED = ("TERMINATED", "TERMINATED_WITH_ERRORS")
_STEP_ENDED = ("COMPLETED", "FAILED", "CANCELLED", "INTERRUPTED")
#: What a request ends in that may have been carried out: no code, or a fault of AWS's own.
_LOST = re.compile(r"|5\d\d|Internal.*")
#: A role that was just made is not known everywhere at once.
TRIES = 5
#: EMR copies logs to S3 every five minutes.
LOG_LOOKS = 13
SHOWN_LINES = 30


def find(aws: Aws, settings: Settings) -> list[str]:
    """Return the ids of the clusters of this name that run, or start."""
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
    """Return the id of the cluster that runs; Stop where there is none."""
    aws.say(f"The cluster {settings.cluster_name}.")
    found = find(aws, settings)
    if not found:
        raise Stop(
            f"no cluster {settings.cluster_name} runs in {aws.region}: start one with make emr-up "
            f"BUCKET={settings.BUCKET} KEY=… SUBNET=… MY_IP=…"
        )
    aws.demand('[ -n "$CLUSTER" ]', "it does not run")
    aws.made.append(price_of(found[0], settings))
    return found[0]


def price_of(cluster: str, settings: Settings) -> str:
    """Return what to tell of a cluster that runs."""
    return f"cluster {cluster}: IT COSTS MONEY until make emr-down {settings.place}"


def create(aws: Aws, settings: Settings, network: Network) -> str:
    """Ask for the cluster and return its id."""
    words = request(settings, network)
    # Until EMR has answered, whoever interrupts this, or whose network fails, may have one.
    perhaps = (
        f"perhaps a cluster {settings.cluster_name}, which would cost money: make emr-down "
        f"{settings.place}"
    )
    aws.made.append(perhaps)
    for left in reversed(range(TRIES)):
        try:
            found = aws.text(
                "CLUSTER",
                *words,
                query="ClusterId",
                makes=price_of("<id>", settings),
            )
        except Stop:  # noqa: PERF203 - each try is one
            # The request did not get through, or whoever made it may not.
            aws.made.remove(perhaps)
            raise
        except AwsError as error:
            new = re.search("instance ?profile|service ?role", error.message, re.I)
            if _LOST.fullmatch(error.code):
                raise Stop(
                    f"{error}. Whether a cluster was started is not known: look with aws emr "
                    f"list-clusters --active --region {aws.region}"
                ) from error
            if not (new and left):
                aws.made.remove(perhaps)
                raise Stop(
                    f"EMR refused the cluster ({error.code}: {error.message}), so none runs"
                ) from error
            aws.remark(f"AWS does not know the new roles yet; again in {settings.EVERY} s")
            time.sleep(float(settings.EVERY))
        else:
            aws.made.remove(perhaps)
            return found
    raise AssertionError("the last try returns or raises")


def request(settings: Settings, network: Network) -> list[str]:
    """Return the call that creates the cluster."""
    instance = f"InstanceType={settings.INSTANCE}"
    groups = [
        f"Name=primary,InstanceGroupType=MASTER,InstanceCount=1,{instance}",
        f"Name=core,InstanceGroupType=CORE,InstanceCount={settings.WORKERS},{instance}",
    ]
    if int(settings.TASKS):
        # The price of on demand is the most that is paid; it also says that this is for spot.
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
    """Follow a cluster until it takes work; Stop with the reason where it never will."""
    aws.say("Until it can work, in about ten minutes.")
    named = ("--cluster-id", cluster)
    status = _follow(aws, settings, "cluster-running", named, (*READY, *_ENDED))
    if status["State"] in READY:
        return
    # It is gone, and so is what it cost.
    aws.made = [made for made in aws.made if cluster not in made]
    reason = status.get("StateChangeReason") or {}
    logs = f"{settings.uri}/{LOGS}/{cluster}/"
    _show_bootstrap_log(aws, logs, reason.get("Message", ""))
    raise Stop(
        f"cluster {cluster} did not start: {status['State']}, {reason.get('Code', 'no code')}: "
        f"{reason.get('Message', 'EMR gave no reason')}. It has ended and costs nothing any more. "
        f"Its logs are in {logs}node/*/bootstrap-actions/ (they may take five minutes to be there)"
    )


def _follow(
    aws: Aws, settings: Settings, waiter: str, named: Sequence[str], until: Sequence[str]
) -> dict[str, Any]:
    """Look again and again until a state is one of those; print each change.

    A dry run's script has the CLI's own waiter, which does the same and says nothing.
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
            aws.remark(f"(again every {settings.EVERY} s)")
        state = status["State"]
        if state != last:
            aws.remark(f"{time.strftime('%H:%M:%S')} {state}")
            last = state
        if state in until:
            return dict(status)
        time.sleep(float(settings.EVERY))


def _show_bootstrap_log(aws: Aws, logs: str, message: str) -> None:
    """Print the end of the log of the node that failed, if it is on S3 already."""
    node = re.search(r"\bi-[0-9a-f]+\b", message)
    with aws.allowed_to_fail():
        there = _listing(aws, f"{logs}node/{node.group()}/" if node else f"{logs}node/")
        errors = [key for key in there if re.search(r"bootstrap-actions/\d+/stderr\.gz$", key)]
        for key in errors[:1]:
            _show(aws, key)


def _listing(aws: Aws, folder: str) -> list[str]:
    """Return the URIs of all objects in a folder; none where there is no such folder."""
    bucket, _, prefix = folder[len("s3://") :].partition("/")
    keys = aws.answer(
        "s3api", "list-objects-v2", "--bucket", bucket, "--prefix", prefix, query="Contents[].Key"
    )
    return [f"s3://{bucket}/{key}" for key in keys or []]


def _show(aws: Aws, uri: str) -> None:
    """Print the last lines of a packed log."""
    text = gzip.decompress(aws.raw("s3", "cp", uri, "-", "--only-show-errors"))
    lines = text.decode(errors="replace").splitlines()
    print("".join(f"  | {line}\n" for line in lines[-SHOWN_LINES:]), end="", flush=True)


def run(aws: Aws, settings: Settings, cluster: str) -> None:
    """Give the cluster the job as a step, and follow it to its end; Stop where it fails."""
    _check_inputs(aws, settings)
    aws.say("The job, as a step.")
    step = aws.text(
        "STEP",
        *("emr", "add-steps", "--cluster-id", cluster),
        *("--steps", json.dumps([step_of(settings)])),
        query="StepIds[0]",
        makes=f"step <id>: it goes on (aws emr cancel-steps --cluster-id {cluster} --step-ids <id> "
        f"--region {aws.region})",
    )
    aws.say("Until it has ended.")
    named = ("--cluster-id", cluster, "--step-id", step)
    status = _follow(aws, settings, "step-complete", named, _STEP_ENDED)
    aws.made.pop()
    if status["State"] != "COMPLETED":
        raise Stop(_why_it_failed(aws, settings, cluster, step, status))


def step_of(settings: Settings) -> dict[str, Any]:
    """Return the step that runs the job: its driver, too, is on the cluster."""
    job = [
        "spark-submit",
        *("--deploy-mode", "cluster"),
        # What YARN lists it as; by default, in cluster mode, the file's name.
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
        # The cluster stays, for another try and for the notebook.
        "ActionOnFailure": "CONTINUE",
        "Jar": "command-runner.jar",
        "Args": job,
    }


def _check_inputs(aws: Aws, settings: Settings) -> None:
    """Stop where the model or the photos are not there; the step would take minutes to say so."""
    aws.say("The model and the photos must be there.")
    key = settings.model_uri[len(settings.uri) + 1 :]
    try:
        aws.answer("s3api", "head-object", "--bucket", settings.BUCKET, "--key", key, query="ETag")
    except AwsError as error:
        if error.code not in ("404", "403", "NoSuchKey"):
            raise
        raise Stop(
            f"there is no model {settings.model_uri}, or your AWS user may not read it "
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
            f"there are no photos in {settings.images_uri}: aws s3 sync FOLDER "
            f"{settings.images_uri}, or say where they are: IMAGES={settings.uri}/…"
        )


def _why_it_failed(
    aws: Aws, settings: Settings, cluster: str, step: str, status: dict[str, Any]
) -> str:
    """Print the ends of a failed step's logs and return what happened."""
    logs = f"{settings.uri}/{LOGS}/{cluster}/"
    details = status.get("FailureDetails") or {}
    said = " ".join(str(value) for name, value in details.items() if name != "LogFile")
    with aws.allowed_to_fail():
        _show_step_logs(aws, settings, logs, step)
    return (
        f"the job ended as {status['State']}{': ' + said if said else ''}. Its logs are in "
        f"{logs}steps/{step}/, the driver's in {logs}containers/. The same command goes on with "
        "the features that are written"
    )


def _show_step_logs(aws: Aws, settings: Settings, logs: str, step: str) -> None:
    """Print the end of the driver's log, or of spark-submit's where there was no driver."""
    aws.say("Its logs: EMR copies them to S3 every five minutes.")
    mine = f"{logs}steps/{step}/"
    submitted = _in_time(aws, settings, mine, r"/stderr\.gz$")
    if not submitted:
        aws.remark(f"none came; look later: aws s3 ls {mine} --region {aws.region}")
        return
    text = gzip.decompress(aws.raw("s3", "cp", submitted[0], "-", "--only-show-errors")).decode()
    application = re.search(r"application_\d+_\d+", text)
    driver: list[str] = []
    if application:
        # In cluster mode the first container is the driver's, and what Python prints is in stdout.
        first = r"/container_\w*_000001/stdout\.gz$"
        driver = _in_time(aws, settings, f"{logs}containers/{application.group()}/", first)
    _show(aws, (driver or submitted)[-1])


def _in_time(aws: Aws, settings: Settings, folder: str, pattern: str) -> list[str]:
    """Look into a folder until it holds objects of a name, or for long enough."""
    for look in range(LOG_LOOKS):
        if look:
            time.sleep(float(settings.EVERY))
        found = [uri for uri in _listing(aws, folder) if re.search(pattern, uri)]
        if found:
            return found
    return []


def end(aws: Aws, settings: Settings) -> bool:
    """End every cluster of this name; return whether there was one."""
    aws.say(f"The cluster {settings.cluster_name}.")
    found = find(aws, settings)
    aws.made += [price_of(cluster, settings) for cluster in found]
    for _ in aws.when(bool(found), '[ -n "$CLUSTER" ]'):
        aws.call("emr", "terminate-clusters", "--cluster-ids", *found)
        aws.made[:] = [
            f"cluster {cluster}: it is told to end; until then it costs money" for cluster in found
        ]
        for cluster in found:
            aws.say("Until it has ended, in a minute or two.")
            named = ("--cluster-id", cluster)
            _follow(aws, settings, "cluster-terminated", named, _ENDED)
    aws.made.clear()
    return bool(found)
