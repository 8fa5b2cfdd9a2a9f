"""The commands up, run and down, and check, which validates the settings for up."""

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
    """Check everything that `up` checks, except what needs AWS or the wheelhouse."""
    configurations(settings)
    files.check_given(settings)


def up(aws: Aws, settings: Settings) -> None:
    """Create what a cluster needs, start it, and print how to connect."""
    configuration = configurations(settings)
    if not settings.dry_run:
        files.check(settings)
    number = checks.identity(aws)
    aws.say("Is the cluster already running? A second one is not started.")
    clusters = cluster.find(aws, settings)
    if clusters and not settings.dry_run:
        _join(aws, settings, clusters[0])
        return
    aws.script('if [ -n "$CLUSTER" ]; then echo "$CLUSTER is already running"; exit; fi')
    checks.check_release(aws, settings)
    checks.check_key(aws, settings)
    vpc, public = network.check_subnet(aws, settings)
    bucket.make(aws, settings, number)
    aws.say("Settings of Spark, YARN, Livy and JupyterHub.")
    aws.write(FILLED / "emr.json", configuration)
    bucket.upload(aws, settings)
    roles.make(aws, settings, number)
    groups = network.make(aws, settings, vpc, public=public)
    aws.say(f"The cluster. {price(settings)}")
    new = cluster.create(aws, settings, groups)
    cluster.wait_until_ready(aws, settings, new)
    guide.connect(aws, settings, new)


def _join(aws: Aws, settings: Settings, running: str) -> None:
    """Open a running cluster to the user's current address, and print how to connect."""
    aws.say(f"{running} is already running: nothing is started or uploaded.")
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
    """Run the job on the cluster and wait for it."""
    cluster.run(aws, settings, cluster.running(aws, settings))
    aws.say(f"The results are in {settings.output_uri}: features, pca, pca_model, summary.json.")
    aws.remark(f"The cluster is still running and costs money: make emr-down {settings.place}")


def down(aws: Aws, settings: Settings) -> None:
    """Terminate the cluster, and print what still costs money."""
    if not cluster.end(aws, settings):
        aws.say(f"No cluster {settings.cluster_name} is running in {aws.region}.")
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
        _report(aws, verb, str(error))
        return 1
    except KeyboardInterrupt:
        _report(aws, verb, "interrupted")
        return 130
    except Exception:
        # A bug in this tool. The user must still learn what is running.
        _report(aws, verb, "internal error, see below")
        raise
    return 0


def _report(aws: Aws, verb: str, text: str) -> None:
    """Print an error, and what exists now because of this command."""
    sys.stdout.flush()
    print(f"\nemr-{verb}: {text}.", file=sys.stderr)
    if not aws.made:
        print(
            "Nothing was terminated: a running cluster still costs money."
            if verb == "down"
            else "Nothing that costs money was created or started.",
            file=sys.stderr,
        )
        return
    print("Created or running now:", file=sys.stderr)
    for made in aws.made:
        print(f"  {made}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
