"""`pomona plan`: time, cost and Spark's settings of a job on EMR, before anything is paid for."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from pomona import plan
from pomona._errors import ModelError
from pomona._images import one_line
from pomona.cli._arguments import above_zero, positive
from pomona.cli._errors import CommandError
from pomona.cli._terminal import count, show

if TYPE_CHECKING:
    import argparse

    from pomona.plan import Estimate, Price, Range

#: Kinds of clusters that are shown for a deadline.
_SHOWN = 5


@dataclass(frozen=True)
class _Throughput:
    """Photos a second of a core, and who says so."""

    images_per_second: float
    #: None if it was given.
    measured_with: str | None


def add(verbs: Any, common: argparse.ArgumentParser) -> None:
    """Declare the verb."""
    verb = verbs.add_parser(
        "plan",
        parents=[common],
        help="time, cost and settings of a job on EMR",
        description="Tell how long a job takes on an EMR cluster, what it costs, and the settings "
        "of Spark that fit its nodes. Nothing is asked of AWS: prices are those of a dated table, "
        "and what is assumed is said.",
        epilog="example: pomona plan --images 100000 --deadline 30",
    )
    verb.add_argument("--images", required=True, type=positive, metavar="N", help="photos")
    verb.add_argument(
        "--instance",
        metavar="TYPE",
        help=f"the kind of node (default: {plan.DEFAULT_INSTANCE}; with --deadline, the cheapest)",
    )
    verb.add_argument(
        "--workers",
        type=positive,
        metavar="W",
        help="nodes beside the primary one "
        f"(default: {plan.DEFAULT_WORKERS}; with --deadline, as many as it takes)",
    )
    rate = verb.add_mutually_exclusive_group()
    rate.add_argument(
        "--throughput",
        type=above_zero,
        metavar="IMG_S",
        help="photos a second of one of the cluster's cores, as `pomona bench --threads 1` tells "
        "on a node (default: measured on this machine)",
    )
    rate.add_argument("--model", metavar="MODEL", help="the model to measure on this machine")
    verb.add_argument(
        "--deadline",
        type=above_zero,
        metavar="MINUTES",
        help="find the cheapest cluster that is done in time, its start included",
    )
    verb.add_argument(
        "--reads-at-once",
        type=positive,
        default=plan.READS_AT_ONCE,
        metavar="K",
        help=f"photos that a task reads from S3 at once (default: {plan.READS_AT_ONCE})",
    )
    verb.add_argument(
        "--spot", action="store_true", help="all workers but one as spot instances (task nodes)"
    )
    verb.add_argument("--region", default=plan.DEFAULT_REGION, help="default: %(default)s")
    verb.add_argument("--release", default=plan.DEFAULT_RELEASE, help="default: %(default)s")
    verb.add_argument("--json", action="store_true", help="print JSON")
    verb.set_defaults(command=_plan, unfinished="nothing was planned")


def _plan(args: argparse.Namespace) -> int:
    # What is wrong with the rest is told before seconds go into measuring.
    _estimates(args, throughput=1.0, deadline=None)
    throughput = _throughput(args)
    chosen, in_time = _estimates(
        args, throughput=throughput.images_per_second, deadline=args.deadline
    )
    if args.json:
        show(json.dumps(_as_json(args, throughput, chosen, in_time), indent=2))
    else:
        show("\n".join(_describe(args, throughput, chosen, in_time)))
    return 0


def _estimates(
    args: argparse.Namespace, throughput: float, deadline: float | None
) -> tuple[Estimate, list[Estimate]]:
    """Estimate the cluster that is asked for, or the cheapest; and all kinds that are in time."""
    common = {
        "throughput": throughput,
        "spot": args.spot,
        "region": args.region,
        "release": args.release,
        "reads_at_once": args.reads_at_once,
    }
    in_time = plan.within(deadline, args.images, **common) if deadline else []
    fitting = [one for one in in_time if args.instance in (None, one.instance)]
    if fitting and args.workers is None:
        return fitting[0], in_time
    if in_time and args.workers is None:
        raise CommandError(
            f"no cluster of up to {plan.MAX_WORKERS} {args.instance} is done in {deadline:g} "
            f"minutes; the cheapest that is has {in_time[0].workers} {in_time[0].instance}"
        )
    asked = plan.estimate(
        args.images,
        instance=args.instance or plan.DEFAULT_INSTANCE,
        workers=args.workers or plan.DEFAULT_WORKERS,
        **common,
    )
    return asked, in_time


def _throughput(args: argparse.Namespace) -> _Throughput:
    if args.throughput:
        return _Throughput(args.throughput, None)
    from pomona import bench

    try:
        models = [args.model] if args.model else bench.default_models()[:1]
        (result,) = bench.measure(models, threads=[1]).results
    except ModelError as error:
        raise CommandError(
            f"{error} Or give the photos a second of a core: --throughput"
        ) from error
    return _Throughput(result.images_per_second_undisturbed, result.model)


def _as_json(
    args: argparse.Namespace, throughput: _Throughput, chosen: Estimate, in_time: list[Estimate]
) -> dict[str, Any]:
    ec2, emr = plan.prices_of(chosen.instance, args.region)
    settings = plan.spark_settings(chosen.instance)
    return {
        "images": args.images,
        "region": args.region,
        "release": args.release,
        "throughput": asdict(throughput),
        "reads_at_once": args.reads_at_once,
        "estimate": asdict(chosen),
        "prices": {"ec2": asdict(ec2), "emr": asdict(emr), "spot_share": plan.spot_share()},
        "settings": settings,
        "configurations": _configurations(settings),
        "deadline_minutes": args.deadline,
        "in_time": [asdict(one) for one in in_time],
    }


def _configurations(settings: dict[str, str]) -> list[dict[str, Any]]:
    """Put settings as `aws emr create-cluster --configurations` takes them."""
    return [{"Classification": "spark-defaults", "Properties": settings}]


def _describe(
    args: argparse.Namespace, throughput: _Throughput, chosen: Estimate, in_time: list[Estimate]
) -> list[str]:
    spot = f", {chosen.spot_workers} of them spot" if chosen.spot_workers else ""
    settings = plan.spark_settings(chosen.instance)
    options = [f"  --conf {name}={value}" for name, value in settings.items()]
    return [
        f"{count(args.images, 'photo')} on {count(chosen.workers, 'worker')}{spot}, and a primary "
        f"node: {chosen.instance}, {args.region}, {args.release}",
        "",
        *_times(args, throughput, chosen),
        "",
        *_costs(args, chosen),
        "",
        *_alternatives(args, chosen, in_time),
        "Spark on these nodes, for spark-submit:",
        " \\\n".join(options),
        "or for aws emr create-cluster --configurations:",
        f"  {json.dumps(_configurations(settings))}",
    ]


def _times(args: argparse.Namespace, throughput: _Throughput, chosen: Estimate) -> list[str]:
    node = plan.instances()[chosen.instance]
    fastest, slowest = (f"{seconds * 1000:.0f}" for seconds in plan.READ_SECONDS)
    tasks = chosen.workers * node.vcpus
    how = "one after another" if args.reads_at_once == 1 else f"{args.reads_at_once} at once"
    rate = f"{throughput.images_per_second:,.1f} photos/s a core"
    source = "given" if throughput.measured_with is None else "measured on this machine"
    lines = [
        ("the cluster starts", _minutes(chosen.provisioning_seconds), "assumed; billed"),
        ("Spark starts", _minutes(chosen.starting_seconds), "assumed"),
        (
            "reading",
            _minutes(chosen.reading_seconds.expected),
            f"{_minutes_range(chosen.reading_seconds)}: S3 takes {fastest} to {slowest} ms a "
            f"photo, {tasks} tasks, {how}",
        ),
        (
            "featurizing",
            _minutes(chosen.featurizing_seconds),
            f"{chosen.workers * node.cores} cores (2 vCPUs each), {rate}, {source}; "
            f"Spark leaves {plan.SPARK_SHARE:.0%}",
        ),
        ("PCA and writing", _minutes(chosen.finishing_seconds), "assumed"),
        (
            "in all",
            _minutes(chosen.total_seconds.expected),
            _minutes_range(chosen.total_seconds),
        ),
    ]
    table = [f"{what:<20}{minutes:>7} min  ({why})" for what, minutes, why in lines]
    every = "every" if node.vnni else "not every"
    table.append(f"int8 models: {every} {chosen.instance} has AVX-512 VNNI, which makes them pay")
    if throughput.measured_with is None:
        return table
    return [
        *table,
        "",
        f"The photos a second are those of {one_line(throughput.measured_with)} on a core of this "
        "machine, by processor time; the",
        "cluster's may be slower (the reference run's m5 featurized in 2.9 min what this reckoning "
        "puts at 2.0).",
        "Better: `pomona bench --threads 1` on a node, and --throughput.",
    ]


def _costs(args: argparse.Namespace, chosen: Estimate) -> list[str]:
    ec2, emr = plan.prices_of(chosen.instance, args.region)
    cost = chosen.cost
    nodes = chosen.workers + 1
    lines = [
        f"cost  ${cost.expected:,.2f} (${cost.low:,.2f} to {cost.high:,.2f}): {nodes} nodes at "
        f"${ec2.usd:.4f} (EC2) + ${emr.usd:.4f} (EMR) an hour, by the second",
        f"  EC2: {_source(ec2)}",
        f"  EMR: {_source(emr)}",
    ]
    if chosen.spot_workers:
        lines.append(
            f"  spot: taken as {plan.spot_share():.0%} of EC2's price; it changes by the hour, and "
            "a node that is taken back costs its work"
        )
    return [
        *lines,
        "  not in it: disks (EBS), S3's storage and requests, public IPv4 addresses, tax, and the "
        "time that a cluster idles",
        f"  quota: the cluster has {chosen.vcpus} vCPUs; new AWS accounts may have fewer",
    ]


def _source(price: Price) -> str:
    return f"{'' if price.read else 'UNVERIFIED: '}{price.source} ({price.date})"


def _alternatives(args: argparse.Namespace, chosen: Estimate, in_time: list[Estimate]) -> list[str]:
    if not in_time:
        return []
    late = chosen.total_seconds.high > args.deadline * 60
    verdict = "may be late" if late else "in time"
    head = (
        f"deadline {args.deadline:g} min: {verdict}. The cheapest of each kind that is in time, if "
        "their cores are equally fast:"
    )
    rows = [
        f"  {one.workers:>3} {one.instance:<12}{_minutes(one.total_seconds.expected):>6} min "
        f"(to {_minutes(one.total_seconds.high)})  ${one.cost.expected:,.2f}"
        for one in in_time[:_SHOWN]
    ]
    return [head, *rows, ""]


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:,.1f}"


def _minutes_range(seconds: Range) -> str:
    return f"{_minutes(seconds.low)} to {_minutes(seconds.high)}"
