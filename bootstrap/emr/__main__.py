"""The commands up, run and down, check, which validates the settings for up, and Serverless's."""

from __future__ import annotations

import json
import sys
from typing import Callable, Mapping, Sequence

from emr import access, checks, costs, files, job, serverless
from emr.aws import Aws, AwsError, Stop
from emr.checks import Bucket, Network
from emr.settings import Settings
from emr.stack import TEMPLATE, Failed, Stack

_FOR_A_CLUSTER = ("BUCKET", "KEY", "SUBNET", "MY_IP")
NEEDED = {"check": _FOR_A_CLUSTER, "up": _FOR_A_CLUSTER, "run": ("BUCKET",), "down": ("BUCKET",)}
_ALIVE = ("STARTING", "BOOTSTRAPPING", "RUNNING", "WAITING")
#: Parameters of a running cluster that need another cluster to change.
_FIXED = ("Release", "Instance", "Workers", "Tasks", "SessionManager", "Subnet")
_OLD_RELEASE = """
Recommended: RELEASE=emr-7.14.0. AWS no longer supports {release}: no fixes, security fixes
included, no help, and it may be withdrawn. Amazon Linux 2, its system, has had no updates since
30 June 2026. Pomona is tested on both."""


def parameters_of(settings: Settings, network: Network, bucket: Bucket) -> dict[str, str]:
    """Return the template's parameters, without the cluster."""
    return {
        "Bucket": settings.BUCKET,
        "NewBucket": "no" if bucket.exists else "yes",
        "KmsKey": bucket.key,
        "Vpc": network.vpc,
        "Subnet": settings.SUBNET,
        "PrivateSubnet": "no" if network.public else "yes",
        "KeyPair": settings.KEY,
        # Port 22 is of no use without a key pair.
        "MyAddress": settings.MY_IP if settings.KEY else "",
        "SessionManager": "yes" if settings.ssm else "no",
        "Cluster": "no",
        "Release": settings.RELEASE,
        "Instance": settings.INSTANCE,
        "Workers": settings.WORKERS,
        "Tasks": settings.TASKS,
        "IdleSeconds": settings.IDLE,
        "Model": settings.model_file.name,
        "AlarmEmail": settings.EMAIL,
        "MonthlyBudget": settings.BUDGET,
    }


def check(_aws: Aws, settings: Settings, _stack: Stack) -> None:
    """Check everything that `up` checks, except what needs AWS or the wheelhouse."""
    files.check(settings)


def up(aws: Aws, settings: Settings, stack: Stack) -> None:
    """Create what a cluster needs, start it, and print how to connect."""
    if settings.dry_run:
        _print_plan(settings, stack)
        return
    files.check(settings)
    wheels = files.wheelhouse(settings)
    _say("The AWS account, and the stack.")
    owner = checks.account(aws)
    stack.settle()
    if _cluster_is_running(aws, settings, stack):
        _join(aws, settings, stack)
        return
    if settings.RELEASE.startswith("emr-6."):
        print(_OLD_RELEASE.format(release=settings.RELEASE))
    _say("The release, the key pair, the subnet and the bucket.")
    checks.check_release(aws, settings)
    if settings.KEY:
        checks.check_key_pair(aws, settings)
    network = checks.check_subnet(aws, settings)
    bucket = checks.check_bucket(aws, settings, owner)
    if stack.status and not stack.sound:
        _say(f"The stack {stack.name} is {stack.status}: it is deleted and created again.")
        stack.delete()
    parameters = parameters_of(settings, network, bucket)
    if stack.status:
        # Otherwise the stack would give up its own bucket, or create one that exists.
        parameters["NewBucket"] = stack.parameters["NewBucket"]
    _say(f"The stack {stack.name}: bucket, roles and security groups.")
    stack.costs = (
        f"The stack {stack.name} may exist. Without a cluster, only the content of {settings.uri} "
        f"costs money. To delete the stack: make emr-down {settings.place}"
    )
    _deploy(aws, settings, stack, parameters)
    access.close_groups(aws, stack)
    _say("Files for the nodes and the job.")
    files.upload(aws, settings, wheels)
    _say(f"The cluster, in about ten minutes. {costs.price(settings)}")
    stack.costs = _running(settings, stack)
    _deploy(aws, settings, stack, {**parameters, "Cluster": "yes"})
    access.close_groups(aws, stack)
    access.connect(aws, settings, stack)


def _print_plan(settings: Settings, stack: Stack) -> None:
    print(f"The stack {stack.name} in {settings.REGION}, from {TEMPLATE}:")
    asked = parameters_of(settings, Network("asked of AWS", public=True), Bucket(exists=False))
    print("".join(f"  {name}={value}\n" for name, value in asked.items()), end="")
    print("AWS is asked for Vpc, PrivateSubnet, NewBucket and KmsKey. Uploaded to the bucket:")
    for source, target in files.uploads(settings, settings.wheelhouse):
        print(f"  {source} -> {target}")
    for name in files.NOTEBOOKS:
        print(f"  notebooks/{name} -> {files.notebook_uri(settings, name)}, with:")
    print("\n".join(files.cells(settings)))
    print(f"Then the stack is updated to Cluster=yes. {costs.price(settings)}")


def _running(settings: Settings, stack: Stack) -> str:
    cluster = stack.outputs.get("ClusterId", f"of the stack {stack.name} may run or start")
    return f"cluster {cluster}: IT COSTS MONEY until make emr-down {settings.place}"


def _cluster_is_running(aws: Aws, settings: Settings, stack: Stack) -> bool:
    cluster = stack.outputs.get("ClusterId")
    if not cluster:
        return False
    try:
        words = ("emr", "describe-cluster", "--cluster-id", cluster)
        state = aws(*words, query="Cluster.Status.State")
    except AwsError as error:
        # EMR forgets a cluster two months after its end.
        if error.code != "InvalidRequestException":
            raise
        state = "no longer known to EMR"
    if state in _ALIVE:
        stack.costs = _running(settings, stack)
        return True
    print(f"  The cluster {cluster} has ended ({state}): the stack gets a new one.")
    return False


def _join(aws: Aws, settings: Settings, stack: Stack) -> None:
    """Open a running cluster to the user's current address, and print how to connect."""
    _say(f"{stack.outputs['ClusterId']} is already running: nothing is started or uploaded.")
    if not stack.sound:
        raise Stop(f"the stack {stack.name} is {stack.status} and cannot be changed")
    wanted = parameters_of(settings, Network("", public=True), Bucket(exists=True))
    for name in _FIXED:
        if wanted[name] != stack.parameters[name]:
            print(
                f"  It keeps {name}={stack.parameters[name]}. For {wanted[name]}, first end it: "
                f"make emr-down {settings.place}"
            )
    if stack.parameters["MyAddress"] != wanted["MyAddress"]:
        stack.change({"MyAddress": wanted["MyAddress"]})
    access.close_groups(aws, stack)
    access.connect(aws, settings, stack)


def _deploy(aws: Aws, settings: Settings, stack: Stack, parameters: Mapping[str, str]) -> None:
    """Deploy, and if that fails, remove or keep the stack, as ON_FAILURE says."""
    keep = settings.ON_FAILURE == "keep"
    try:
        stack.deploy_patiently(parameters, keep=keep)
    except Stop as error:
        if isinstance(error, Failed) and error.cluster:
            job.show_bootstrap_log(aws, settings, error.cluster, error.reason)
        if stack.read(quiet=True) and keep:
            stack.costs = f"ON_FAILURE=keep: the stack stays, as {stack.status}. {stack.costs}"
        elif stack.status:
            _say(f"ON_FAILURE=remove: the stack {stack.name} is deleted; keep would leave it.")
            stack.delete()
            stack.costs = (
                f"The stack {stack.name} was deleted, with everything in it. The bucket "
                f"{settings.uri} stays, if it was created, and only its content costs money"
            )
        raise


def run(aws: Aws, settings: Settings, stack: Stack) -> None:
    """Run the job on the cluster and wait for it."""
    if settings.dry_run:
        print(f"A step of the cluster of the stack {stack.name}, in {settings.REGION}:")
        print(json.dumps(job.step_of(settings), indent=2, ensure_ascii=False))
        return
    stack.costs = "A cluster that is running still costs money"
    _say("The job.")
    stack.read()
    cluster = stack.outputs.get("ClusterId")
    if not cluster:
        raise Stop(
            f"no cluster of the stack {stack.name} is running in {aws.region}: start one with "
            f"make emr-up BUCKET={settings.BUCKET} KEY=… SUBNET=… MY_IP=…"
        )
    stack.costs = _running(settings, stack)
    job.run(aws, settings, cluster)
    _say(f"The results are in {settings.output_uri}: features, pca, pca_model, summary.json.")
    print(f"The cluster still runs and costs money: make emr-down {settings.place}")


def down(aws: Aws, settings: Settings, stack: Stack) -> None:
    """Delete the stack, and print what still costs money."""
    if settings.dry_run:
        print(
            f"The stack {stack.name} in {settings.REGION} would be deleted: the cluster, the "
            f"roles, the security groups and the budget. The bucket {settings.uri} stays."
        )
        return
    stack.costs = "Nothing was terminated: a running cluster still costs money"
    _say(f"The stack {stack.name}.")
    if stack.read():
        stack.costs = _running(settings, stack)
        try:
            stack.delete()
        except Failed as error:
            raise Stop(
                f"{error}. Remove what uses {error.resource} (a security group: machines, network "
                "interfaces and rules of other groups that refer to it), and repeat make emr-down "
                f"{settings.place}"
            ) from error
    else:
        print(f"  There is no such stack in {aws.region}.")
    stack.costs = "No cluster of this stack is running"
    _say("What still costs money in this region?")
    print("\n".join(costs.left(aws, settings)), flush=True)


VERBS: dict[str, Callable[[Aws, Settings, Stack], None]] = {
    "check": check,
    "up": up,
    "run": run,
    "down": down,
}


def main(arguments: Sequence[str]) -> int:
    """Run a command and return its exit code."""
    verb, *words = arguments or [""]
    if verb in serverless.VERBS:
        return serverless.main(verb, words)
    if verb not in VERBS:
        verbs = "|".join([*VERBS, *serverless.VERBS])
        print(f"usage: python -m emr {verbs} NAME=VALUE …", file=sys.stderr)
        return 2
    try:
        settings = Settings.of(words, NEEDED[verb])
    except Stop as stop:
        print(f"emr-{verb}: {stop}.", file=sys.stderr)
        return 2
    aws = Aws(settings.REGION)
    stack = Stack(aws, settings)
    try:
        VERBS[verb](aws, settings, stack)
    except Stop as error:
        _report(verb, str(error), stack.costs)
        return 1
    except KeyboardInterrupt:
        _report(verb, "interrupted", stack.costs)
        return 130
    except Exception:
        # A bug in this tool. The user must still learn what is running.
        _report(verb, "internal error, see below", stack.costs)
        raise
    return 0


def _say(text: str) -> None:
    print(f"\n{text}", flush=True)


def _report(verb: str, text: str, left: str) -> None:
    """Print an error, and what costs money now."""
    sys.stdout.flush()
    print(f"\nemr-{verb}: {text}.\n{left}.", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
