"""The commands: up, run, down; and check, which refuses what `up` would before it is built."""

from __future__ import annotations

import sys
from typing import Callable, Sequence

from emr import bucket, checks, cluster, files, guide, network, roles
from emr.aws import FILLED, Aws
from emr.configuration import configurations, price
from emr.errors import AwsError, Stop
from emr.settings import Settings

_FOR_A_CLUSTER = ("BUCKET", "KEY", "SUBNET", "MY_IP")
NEEDED = {
    "check": _FOR_A_CLUSTER,
    "up": _FOR_A_CLUSTER,
    "run": ("BUCKET",),
    "down": ("BUCKET",),
}


def check(_: Aws, settings: Settings) -> None:
    """Stop where `up` would, as far as that can be told without AWS and without a wheelhouse."""
    configurations(settings)
    files.check_given(settings)


def up(aws: Aws, settings: Settings) -> None:
    """Make what a cluster needs, start it, and say how to reach it."""
    configuration = configurations(settings)
    if not settings.dry_run:
        files.check(settings)
    number = checks.identity(aws)
    aws.say("A second cluster is not started.")
    found = cluster.find(aws, settings)
    if found and not settings.dry_run:
        _join(aws, settings, found[0])
        return
    aws.script('if [ -n "$CLUSTER" ]; then echo "$CLUSTER runs already"; exit; fi')
    checks.check_release(aws, settings)
    checks.check_key(aws, settings)
    vpc, public = network.check_subnet(aws, settings)
    bucket.make(aws, settings, number)
    aws.say("The settings of Spark, YARN, Livy and JupyterHub.")
    aws.write(FILLED / "emr.json", configuration)
    bucket.upload(aws, settings)
    roles.make(aws, settings, number)
    groups = network.make(aws, settings, vpc, public=public)
    aws.say(f"The cluster. {price(settings)}")
    new = cluster.create(aws, settings, groups)
    cluster.wait_until_ready(aws, settings, new)
    guide.connect(aws, settings, new)


def _join(aws: Aws, settings: Settings, running: str) -> None:
    """Let the user's present address into the cluster that runs, and say how to reach it."""
    aws.say(f"{running} runs already: nothing is started or uploaded.")
    aws.made.append(cluster.price_of(running, settings))
    group = aws.text(
        "PRIMARY_GROUP",
        *("emr", "describe-cluster", "--cluster-id", running),
        query="Cluster.Ec2InstanceAttributes.EmrManagedMasterSecurityGroup",
    )
    network.open_ssh(aws, settings, group)
    cluster.wait_until_ready(aws, settings, running)
    guide.connect(aws, settings, running)


def run(aws: Aws, settings: Settings) -> None:
    """Run the job on the cluster, to its end."""
    cluster.run(aws, settings, cluster.running(aws, settings))
    aws.say(f"The results are in {settings.output_uri}: features, pca, pca_model, summary.json.")
    aws.remark(f"The cluster still runs, and costs money: make emr-down {settings.place}")


def down(aws: Aws, settings: Settings) -> None:
    """End the cluster, and say what still costs money."""
    if not cluster.end(aws, settings):
        aws.say(f"No cluster {settings.cluster_name} runs in {aws.region}: there is none to end.")
    guide.costs(aws, settings)


VERBS: dict[str, Callable[[Aws, Settings], None]] = {
    "check": check,
    "up": up,
    "run": run,
    "down": down,
}


def main(arguments: Sequence[str]) -> int:
    """Run a command and return its exit code."""
    verb, *words = arguments or [""]
    if verb not in VERBS:
        print(f"usage: python -m emr {'|'.join(VERBS)} NAME=VALUE …", file=sys.stderr)
        return 2
    try:
        settings = Settings.of(words, NEEDED[verb])
    except Stop as stop:
        print(f"emr-{verb}: {stop}.", file=sys.stderr)
        return 2
    aws = Aws(settings.REGION, dry_run=settings.dry_run)
    aws.begin(f"make emr-{verb}")
    try:
        VERBS[verb](aws, settings)
    except (Stop, AwsError) as error:
        _tell(aws, verb, str(error))
        return 1
    except KeyboardInterrupt:
        _tell(aws, verb, "interrupted")
        return 130
    except Exception:
        # A mistake of this tool's own: whoever reports it must still know what runs.
        _tell(aws, verb, "it cannot go on, for the reason below")
        raise
    return 0


def _tell(aws: Aws, verb: str, text: str) -> None:
    """Say what happened, and what was made before that or runs."""
    sys.stdout.flush()
    print(f"\nemr-{verb}: {text}.", file=sys.stderr)
    if not aws.made:
        print(
            "Nothing was ended: a cluster that runs goes on costing money."
            if verb == "down"
            else "Nothing was made or started that costs money.",
            file=sys.stderr,
        )
        return
    print("There is now:", file=sys.stderr)
    for made in aws.made:
        print(f"  {made}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
