"""The commands up, run and down, check, which validates the settings for up, and Serverless's."""

from __future__ import annotations

import json
import re
import sys
from typing import Callable, Mapping, Sequence

from emr import access, checks, costs, files, job, serverless
from emr.aws import Aws, Stop, one_line, say
from emr.settings import NEWEST_RELEASE, Settings
from emr.stack import Failed, Stack

_ALIVE = ("STARTING", "BOOTSTRAPPING", "RUNNING", "WAITING")
#: Parameters of a running cluster that need another cluster to change.
_FIXED = ("Release", "Instance", "Workers", "Tasks", "SessionManager", "Subnet")
_OLD_RELEASE = """
Recommended: RELEASE={newest}. AWS no longer supports {release}: no fixes, security fixes
included, no help, and it may be withdrawn. Amazon Linux 2, its system, has had no updates since
30 June 2026. Pomona is tested on both."""


def parameters_of(settings: Settings) -> dict[str, str]:
    """Return the template's parameters without the cluster, and without what AWS is asked for."""
    return {
        "Bucket": settings.BUCKET,
        "Subnet": settings.SUBNET,
        "KeyPair": settings.KEY,
        # Port 22 is of no use without a key pair.
        "MyAddress": settings.MY_IP if settings.KEY else "",
        "SessionManager": "yes" if settings.SSM else "no",
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


def up(aws: Aws, settings: Settings, stack: Stack) -> None:
    """Create what a cluster needs, start it, and print how to connect."""
    parameters = parameters_of(settings)
    if settings.DRY_RUN:
        _print_plan(settings, stack, parameters)
        return
    files.check(settings)
    wheels = files.wheelhouse(settings)
    say("\nThe stack.")
    stack.settle()
    if _join(aws, settings, stack, parameters):
        access.connect(aws, settings, stack)
        return
    if settings.RELEASE.startswith("emr-6."):
        print(_OLD_RELEASE.format(newest=NEWEST_RELEASE, release=settings.RELEASE))
    say("\nThe release, the key pair, the subnet and the bucket.")
    parameters.update(checks.account(aws, settings))
    if stack.status and not stack.sound:
        say(f"\nThe stack {stack.name} is {stack.status}: it is deleted and created again.")
        stack.delete()
    if stack.status:
        # Otherwise the stack would give up its own bucket, or create one that exists.
        parameters["NewBucket"] = stack.parameters["NewBucket"]
    say(f"\nThe stack {stack.name}: bucket, roles and security groups.")
    stack.costs = f"""The stack {stack.name} may exist. Without a cluster, only the content of
        {settings.uri} costs money. To delete the stack: make emr-down {settings.place}"""
    _deploy(aws, settings, stack, parameters)
    access.close_groups(aws, stack)
    say("\nFiles for the nodes and the job.")
    files.upload(aws, settings, wheels)
    say(f"\nThe cluster, in about ten minutes. {costs.price(settings)}")
    stack.costs = _running(settings, stack)
    _deploy(aws, settings, stack, {**parameters, "Cluster": "yes"})
    access.connect(aws, settings, stack)


def _print_plan(settings: Settings, stack: Stack, parameters: Mapping[str, str]) -> None:
    print(f"The stack {stack.name} in {settings.REGION}, from {stack.template}:")
    print("".join(f"  {name}={value}\n" for name, value in parameters.items()), end="")
    print("AWS is asked for Vpc, PrivateSubnet, NewBucket and KmsKey. Uploaded to the bucket:")
    for source, target in files.uploads(settings, settings.wheelhouse):
        print(f"  {source} -> {target}")
    print("\n".join(["The notebooks, with:", *files.cells(settings)]))
    print(f"Then the stack is updated to Cluster=yes. {costs.price(settings)}")


def _running(settings: Settings, stack: Stack) -> str:
    cluster = stack.outputs.get("ClusterId", f"of the stack {stack.name} may run or start")
    return f"cluster {cluster}: IT COSTS MONEY until make emr-down {settings.place}"


def _join(aws: Aws, settings: Settings, stack: Stack, wanted: Mapping[str, str]) -> bool:
    """Return whether a cluster is running; open it to the user's current address."""
    cluster, has = stack.outputs.get("ClusterId"), stack.parameters
    if not cluster:
        return False
    words = ("emr", "describe-cluster", "--cluster-id", cluster)
    # EMR forgets a cluster two months after its end.
    state = aws(*words, query="Cluster.Status.State", absent="InvalidRequestException")
    if state not in _ALIVE:
        state = state or "no longer known to EMR"
        say(f"  The cluster {cluster} has ended ({state}): the stack gets a new one.")
        return False
    stack.costs = _running(settings, stack)
    say(f"\n{cluster} is already running: nothing is started or uploaded.")
    kept = [f"{name}={has[name]}" for name in _FIXED if wanted[name] != has[name]]
    if kept:
        say(f"  It keeps {', '.join(kept)}. To change that, first make emr-down {settings.place}")
    if has["MyAddress"] != wanted["MyAddress"]:
        stack.deploy({**has, "MyAddress": wanted["MyAddress"]}, same=True)
    return True


def _deploy(aws: Aws, settings: Settings, stack: Stack, parameters: Mapping[str, str]) -> None:
    """Deploy, and if that fails, remove or keep the stack, as ON_FAILURE says."""
    keep = settings.ON_FAILURE == "keep"
    try:
        stack.deploy_patiently(parameters, keep=keep)
    except Stop as error:
        if isinstance(error, Failed) and error.cluster:
            node = re.search(r"\bi-[0-9a-f]+\b", error.reason)
            folder = f"{settings.uri}/logs/{error.cluster}/node/{node.group() if node else ''}"
            job.tail(aws, settings, folder, r"bootstrap-actions/\d+/stderr\.gz$", 1)
        if stack.read(quiet=True) and keep:
            stack.costs = f"ON_FAILURE=keep: the stack stays, as {stack.status}. {stack.costs}"
        elif stack.status:
            say(f"\nON_FAILURE=remove: the stack {stack.name} is deleted; keep would leave it.")
            stack.delete()
            stack.costs = f"""The stack {stack.name} was deleted, with everything in it. The bucket
                {settings.uri} stays, if it was created, and only its content costs money"""
        raise


def run(aws: Aws, settings: Settings, stack: Stack) -> None:
    """Run the job on the cluster and wait for it."""
    if settings.DRY_RUN:
        print(f"A step of the cluster of the stack {stack.name}, in {settings.REGION}:")
        print(json.dumps(job.step_of(settings), indent=2, ensure_ascii=False))
        return
    stack.costs = "A cluster that is running still costs money"
    say("\nThe job.")
    stack.read()
    cluster = stack.outputs.get("ClusterId")
    if not cluster:
        raise Stop(f"""no cluster of the stack {stack.name} is running in {aws.region}: start one
            with make emr-up BUCKET={settings.BUCKET} KEY=… SUBNET=… MY_IP=…""")
    stack.costs = _running(settings, stack)
    job.run(aws, settings, cluster)
    say(f"\nThe results are in {settings.output_uri}: features, pca, pca_model, summary.json.")
    print(f"The cluster still runs and costs money: make emr-down {settings.place}")


def down(aws: Aws, settings: Settings, stack: Stack) -> None:
    """Delete the stack, and print what still costs money."""
    if settings.DRY_RUN:
        say(f"""The stack {stack.name} in {settings.REGION} would be deleted: the cluster, the
            roles, the security groups and the budget. The bucket {settings.uri} stays.""")
        return
    stack.costs = "Nothing was terminated: a running cluster still costs money"
    say(f"\nThe stack {stack.name}.")
    if stack.read():
        stack.costs = _running(settings, stack)
        try:
            stack.delete()
        except Failed as error:
            raise Stop(f"""{error}. Remove what uses {error.resource} (a security group: machines,
                network interfaces and rules of other groups that refer to it), and repeat make
                emr-down {settings.place}""") from error
    else:
        print(f"  There is no such stack in {aws.region}.")
    stack.costs = "No cluster of this stack is running"
    say("\nWhat still costs money in this region?")
    print("\n".join(costs.left(aws, settings)), flush=True)


VERBS: dict[str, Callable[[Aws, Settings, Stack], None]] = {
    # Checks what `up` checks, except what needs AWS or the wheelhouse.
    "check": lambda _aws, settings, _stack: files.check(settings),
    "up": up,
    "run": run,
    "down": down,
    "serverless-run": serverless.run,
    "serverless-down": serverless.down,
}


def main(arguments: Sequence[str]) -> int:
    """Run a command and return its exit code."""
    verb, *words = arguments or [""]
    if verb not in VERBS:
        print(f"usage: python -m emr {'|'.join(VERBS)} NAME=VALUE …", file=sys.stderr)
        return 2
    needed = ["BUCKET", "KEY", "SUBNET", "MY_IP"] if verb in ("check", "up") else ["BUCKET"]
    name, template = f"emr-{verb}", "cluster"
    if verb.startswith("serverless-"):
        name, template = verb, "serverless"
        words = [f"RELEASE={NEWEST_RELEASE}", *words]
    try:
        settings = Settings.of(words, needed)
    except Stop as stop:
        print(f"{name}: {stop}.", file=sys.stderr)
        return 2
    aws = Aws(settings.REGION)
    stack = Stack(aws, settings, template)
    said = "internal error, see below"
    try:
        VERBS[verb](aws, settings, stack)
        said = ""
        return 0
    except Stop as error:
        said = str(error)
        return 1
    except KeyboardInterrupt:
        said = "interrupted"
        return 130
    finally:
        # Also after a bug in this tool, the user must learn what is running.
        if said:
            sys.stdout.flush()
            print(f"\n{name}: {said}.\n{one_line(stack.costs)}.", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
