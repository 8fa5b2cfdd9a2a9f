"""`pomona plan`: estimates the time and cost of a job on EMR, and the Spark settings for it.

The job runs on a cluster, or on EMR Serverless with as many vCPUs as the cluster's workers have.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from pomona import plan
from pomona._errors import ModelError
from pomona._images import one_line
from pomona.cli._arguments import above_zero, add_json_option, add_old_name, positive
from pomona.cli._errors import CommandError
from pomona.cli._terminal import count, describe_undecodable, show, show_json

if TYPE_CHECKING:
    import argparse

    from pomona.plan import Estimate, Price, Range, ServerlessEstimate

#: Number of alternatives to show for a deadline.
_SHOWN = 5


@dataclass(frozen=True)
class _Throughput:
    """Photos per second of one core, and the origin of the number."""

    images_per_second: float
    #: The model it was measured with; None if the user gave it.
    measured_with: str | None
    #: The photos of the sample that could not be decoded, and why.
    failed: dict[str, str] = field(default_factory=dict)


class _Plan(NamedTuple):
    """What is printed about a number of photos."""

    throughput: _Throughput
    chosen: Estimate
    #: The clusters that meet the deadline.
    in_time: list[Estimate]
    alone: ServerlessEstimate
    #: The number of photos from which the cluster costs less.
    cheaper_from: int | None


def add(verbs: Any, common: argparse.ArgumentParser) -> None:
    """Declare the verb."""
    verb = verbs.add_parser(
        "plan",
        parents=[common],
        help="estimate the time and cost of a job on EMR",
        description="Estimate the time and cost of a job on an EMR cluster and on EMR Serverless, "
        "and print Spark settings that fit the cluster's nodes. Makes no call to AWS: prices come "
        "from a table with dates, and the output marks what is assumed.",
        epilog="example: pomona plan --photos 100000 --deadline 30",
    )
    photos = verb.add_mutually_exclusive_group(required=True)
    photos.add_argument("--photos", type=positive, metavar="N", help="number of photos")
    photos.add_argument(
        "--table",
        type=positive,
        nargs="+",
        metavar="N",
        help="for these numbers of photos, print a table of a cluster on demand, one with spot "
        "nodes, and EMR Serverless",
    )
    add_old_name(photos, "--images", "--photos", type=positive)
    verb.add_argument(
        "--instance",
        metavar="TYPE",
        help=f"instance type (default: {plan.DEFAULT_INSTANCE}; with --deadline, the cheapest)",
    )
    verb.add_argument(
        "--workers",
        type=positive,
        metavar="W",
        help="nodes in addition to the primary node "
        f"(default: {plan.DEFAULT_WORKERS}; with --deadline, as many as needed)",
    )
    rate = verb.add_mutually_exclusive_group()
    rate.add_argument(
        "--throughput",
        type=above_zero,
        metavar="IMG_S",
        help="photos per second of one core of the cluster, as measured with `pomona bench "
        "--threads 1` on a node (default: measured on this machine)",
    )
    rate.add_argument("--model", metavar="MODEL", help="the model to measure on this machine")
    verb.add_argument(
        "--sample",
        metavar="FOLDER",
        help="photos like those of the job, to measure with on this machine (default: rendered "
        "JPEGs of 100 x 100 pixels); large photos, HEIC and AVIF take longer to decode",
    )
    verb.add_argument(
        "--deadline",
        type=above_zero,
        metavar="MINUTES",
        help="find the cheapest cluster that finishes in this time, including its start",
    )
    verb.add_argument(
        "--concurrency",
        type=positive,
        default=plan.CONCURRENCY,
        metavar="C",
        help="photos that a task reads from S3 concurrently (default: %(default)s)",
    )
    add_old_name(verb, "--reads-at-once", "--concurrency", type=positive)
    verb.add_argument(
        "--spot",
        action="store_true",
        help="run all workers but one on spot instances (a task fleet of several types)",
    )
    verb.add_argument(
        "--region", default=plan.DEFAULT_REGION, help="AWS region (default: %(default)s)"
    )
    verb.add_argument(
        "--release", default=plan.DEFAULT_RELEASE, help="EMR release (default: %(default)s)"
    )
    add_json_option(verb)
    verb.set_defaults(command=_plan, unfinished="nothing was planned")


def _plan(args: argparse.Namespace) -> int:
    if args.table:
        return _plan_table(args)
    # Report mistakes in the other arguments before spending seconds on a measurement.
    _estimates(args, throughput=1.0, deadline=None)
    throughput = _throughput(args)
    chosen, in_time = _estimates(
        args, throughput=throughput.images_per_second, deadline=args.deadline
    )
    alone = _serverless(args.photos, chosen, args, throughput.images_per_second)
    cheaper_from = plan.break_even(
        instance=chosen.instance,
        workers=chosen.workers,
        spot=args.spot,
        **_common(args, throughput.images_per_second),
    )
    found = _Plan(throughput, chosen, in_time, alone, cheaper_from)
    if args.json:
        show_json(_as_json(args, found))
    else:
        show("\n".join(_describe(args, found)))
    return 0


def _common(args: argparse.Namespace, throughput: float) -> dict[str, Any]:
    return {
        "throughput": throughput,
        "region": args.region,
        "release": args.release,
        "concurrency": args.concurrency,
    }


def _serverless(
    photos: int, cluster: Estimate, args: argparse.Namespace, throughput: float
) -> ServerlessEstimate:
    return plan.serverless(
        photos,
        throughput=throughput,
        executors=plan.executors_for(cluster),
        region=args.region,
        concurrency=args.concurrency,
    )


def _estimates(
    args: argparse.Namespace, throughput: float, deadline: float | None
) -> tuple[Estimate, list[Estimate]]:
    """Return the estimate for the chosen cluster, and those of all that meet the deadline."""
    common = {"spot": args.spot, **_common(args, throughput)}
    in_time = plan.within(deadline, args.photos, **common) if deadline else []
    fitting = [one for one in in_time if args.instance in (None, one.instance)]
    if fitting and args.workers is None:
        return fitting[0], in_time
    if in_time and args.workers is None:
        raise CommandError(
            f"no cluster of up to {plan.MAX_WORKERS} {args.instance} finishes in {deadline:g} "
            f"minutes; the cheapest that does has {in_time[0].workers} {in_time[0].instance}"
        )
    return plan.estimate(args.photos, **_cluster(args), **common), in_time


def _cluster(args: argparse.Namespace) -> dict[str, Any]:
    return {
        "instance": args.instance or plan.DEFAULT_INSTANCE,
        "workers": args.workers or plan.DEFAULT_WORKERS,
    }


def _throughput(args: argparse.Namespace) -> _Throughput:
    if args.throughput:
        if args.sample:
            raise CommandError("--sample has no effect with --throughput: give one of them")
        return _Throughput(args.throughput, None)
    from pomona import bench

    try:
        models = [args.model] if args.model else bench.default_models()[:1]
        measured = bench.measure(models, threads=[1], images=args.sample)
    except ModelError as error:
        raise CommandError(
            f"{error} Or give the photos per second of a core with --throughput."
        ) from error
    (result,) = measured.results
    return _Throughput(result.images_per_second_undisturbed, result.model, measured.failed)


def _as_json(args: argparse.Namespace, found: _Plan) -> dict[str, Any]:
    throughput, chosen, in_time, alone, cheaper_from = found
    settings = plan.spark_settings(chosen.instance)
    return {
        "photos": args.photos,
        "region": args.region,
        "release": args.release,
        "throughput": asdict(throughput),
        "sample": args.sample,
        "concurrency": args.concurrency,
        "estimate": asdict(chosen),
        "spot_types": _spot_types(chosen),
        "serverless": asdict(alone),
        "cluster_cheaper_from": cheaper_from,
        "prices": _prices_as_json(chosen.instance, args.region),
        "settings": settings,
        "configurations": _configurations(settings),
        "serverless_settings": plan.serverless_settings(alone.executors),
        "deadline_minutes": args.deadline,
        "in_time": [asdict(one) for one in in_time],
    }


def _prices_as_json(instance: str, region: str) -> dict[str, Any]:
    ec2, emr = plan.prices_of(instance, region)
    return {
        "ec2": asdict(ec2),
        "emr": asdict(emr),
        "spot_share": plan.spot_share(),
        "serverless": {
            unit: asdict(price) for unit, price in plan.serverless_prices(region)._asdict().items()
        },
    }


def _configurations(settings: dict[str, str]) -> list[dict[str, Any]]:
    """Format settings for `aws emr create-cluster --configurations`."""
    return [{"Classification": "spark-defaults", "Properties": settings}]


def _describe(args: argparse.Namespace, found: _Plan) -> list[str]:
    throughput, chosen, in_time, alone, cheaper_from = found
    spot = f", {chosen.spot_workers} of them spot" if chosen.spot_workers else ""
    settings = plan.spark_settings(chosen.instance)
    options = [f"  --conf {name}={value}" for name, value in settings.items()]
    return [
        f"{count(args.photos, 'photo')} on {count(chosen.workers, 'worker')}{spot}, and a primary "
        f"node: {chosen.instance}, {args.region}, {args.release}",
        "",
        *_times(args, throughput, chosen),
        "",
        *_costs(args, chosen),
        "",
        *_describe_serverless(args, chosen, alone, cheaper_from),
        "",
        *_alternatives(args, chosen, in_time),
        "Spark settings for these nodes, for spark-submit:",
        " \\\n".join(options),
        "or for aws emr create-cluster --configurations:",
        f"  {json.dumps(_configurations(settings))}",
    ]


def _times(args: argparse.Namespace, throughput: _Throughput, chosen: Estimate) -> list[str]:
    node = plan.instances()[chosen.instance]
    fastest, slowest = (f"{seconds * 1000:.0f}" for seconds in plan.READ_SECONDS)
    tasks = chosen.workers * node.vcpus
    each = "each reads one" if args.concurrency == 1 else f"each reads {args.concurrency}"
    rate = f"{throughput.images_per_second:,.1f} photos/s per core"
    source = "given" if throughput.measured_with is None else "measured on this machine"
    lines = [
        ("starting cluster", _minutes(chosen.provisioning_seconds), "assumed; billed"),
        ("starting Spark", _minutes(chosen.starting_seconds), "assumed"),
        (
            "reading",
            _minutes(chosen.reading_seconds.expected),
            f"{_minutes_range(chosen.reading_seconds)}: S3 takes {fastest} to {slowest} ms per "
            f"photo; {tasks} tasks, {each} at a time",
        ),
        (
            "featurizing",
            _minutes(chosen.featurizing_seconds),
            f"{chosen.workers * node.cores} cores (2 vCPUs each), {rate}, {source}; "
            f"{plan.SPARK_SHARE:.0%} of it on Spark",
        ),
        ("PCA and writing", _minutes(chosen.finishing_seconds), "assumed"),
        ("total", _minutes(chosen.total_seconds.expected), _minutes_range(chosen.total_seconds)),
    ]
    table = [f"{stage:<20}{minutes:>7} min  ({basis})" for stage, minutes, basis in lines]
    every = "every" if node.vnni else "not every"
    table.append(
        f"int8 models: {every} {chosen.instance} has AVX-512 VNNI, which they need to be fast"
    )
    return [*table, *_describe_throughput(args, throughput)]


def _describe_throughput(args: argparse.Namespace, throughput: _Throughput) -> list[str]:
    """Say what a measured throughput stands for; nothing about one that was given."""
    if throughput.measured_with is None:
        return []
    if args.sample:
        photos = [
            f"It was measured with the photos in {one_line(args.sample)}.",
            *describe_undecodable(throughput.failed),
        ]
    else:
        heic, avif = plan.DECODE_TIMES["HEIC"], plan.DECODE_TIMES["AVIF"]
        photos = [
            "It was measured with JPEGs of 100 x 100 pixels. Larger photos take longer to decode: "
            f"HEIC about {heic} times and AVIF",
            f"about {avif} times as long as a JPEG of the same size. Give a folder of photos like "
            "yours with --sample.",
        ]
    return [
        "",
        f"The rate is that of {one_line(throughput.measured_with)} on a core of this machine, by "
        "CPU time. The cluster's cores may be slower:",
        "the m5 nodes of the reference run took 2.9 min to featurize, and this estimate says 2.0. "
        "For a better one, run",
        "`pomona bench --threads 1` on a node and give the result with --throughput.",
        *photos,
    ]


def _costs(args: argparse.Namespace, chosen: Estimate) -> list[str]:
    ec2, emr = plan.prices_of(chosen.instance, args.region)
    cost = chosen.cost
    nodes = chosen.workers + 1
    lines = [
        f"cost  ${cost.expected:,.2f} (${cost.low:,.2f} to {cost.high:,.2f}): {nodes} nodes at "
        f"${ec2.usd:.4f} (EC2) + ${emr.usd:.4f} (EMR) per hour, billed by the second",
        f"  EC2: {_source(ec2)}",
        f"  EMR: {_source(emr)}",
    ]
    if chosen.spot_workers:
        lines.append(
            f"  spot: assumed to be {plan.spot_share():.0%} of EC2's price; it changes hourly, and "
            "an interrupted node loses its work"
        )
        lines.append(
            f"  spot nodes are {', '.join(_spot_types(chosen))}: those that EC2 has most of to "
            "spare; assumed to be equally fast; not all have AVX-512 VNNI"
        )
    return [
        *lines,
        "  not included: disks (EBS), storage and requests on S3, public IPv4 addresses, tax, and "
        "idle time of the cluster",
        f"  quota: the cluster needs {chosen.vcpus} vCPUs; new AWS accounts may have a lower one",
    ]


def _spot_types(cluster: Estimate) -> list[str]:
    if not cluster.spot_workers:
        return []
    return [cluster.instance, *plan.instances()[cluster.instance].alternatives]


def _describe_serverless(
    args: argparse.Namespace,
    chosen: Estimate,
    alone: ServerlessEstimate,
    cheaper_from: int | None,
) -> list[str]:
    prices = plan.serverless_prices(args.region)
    executor, driver = plan.SERVERLESS_EXECUTOR, plan.SERVERLESS_DRIVER
    cost, quota = alone.cost, plan.SERVERLESS_QUOTA_VCPUS
    more = ": ask for more" if alone.vcpus > quota else ""
    costs = sorted([chosen.cost.expected, cost.expected])
    return [
        f"EMR Serverless instead of the cluster: ${cost.expected:,.2f} (${cost.low:,.2f} to "
        f"{cost.high:,.2f}), {_minutes(alone.total_seconds.expected)} min "
        f"({_minutes_range(alone.total_seconds)})",
        f"  workers: {count(alone.executors, 'executor')} of {executor.vcpus} vCPUs and "
        f"{executor.memory_gb} GB, and a driver of {driver.vcpus} vCPUs and {driver.memory_gb} GB",
        f"  time: {_minutes(alone.provisioning_seconds)} min until they are ready (assumed; not "
        "billed), then as above; assumes that their vCPUs are as fast as the cluster's",
        f"  billed: {alone.vcpu_hours:,.2f} vCPU-hours at ${prices.vcpu.usd:.5f} and "
        f"{alone.gb_hours:,.2f} GB-hours at ${prices.gb.usd:.5f}, by the second and at least 1 "
        "minute for each worker",
        f"  prices: {_source(prices.vcpu)}",
        f"  not included: storage and requests on S3, logs, tax; {plan.SERVERLESS_DISK_GB} GB of "
        "storage for each worker are free",
        f"  quota: the job needs {alone.vcpus} vCPUs; AWS's default is {quota}{more}",
        f"  release: {plan.SERVERLESS_RELEASE} or later",
        *([f"  {_deadline(args.deadline, alone.total_seconds)}"] if args.deadline else []),
        f"  {'EMR Serverless' if cost.expected == costs[0] else 'the cluster'} is cheaper here, by "
        f"{1 - costs[0] / costs[1]:.0%}; {_describe_break_even('the cluster', cheaper_from)}",
    ]


def _describe_break_even(cluster: str, cheaper_from: int | None) -> str:
    if cheaper_from is None:
        return f"{cluster} costs more for any number of photos"
    return f"{cluster} costs less from {cheaper_from:,} photos on"


def _source(price: Price) -> str:
    return f"{'' if price.read else 'UNVERIFIED: '}{price.source} ({price.date})"


def _alternatives(args: argparse.Namespace, chosen: Estimate, in_time: list[Estimate]) -> list[str]:
    if not in_time:
        return []
    head = (
        f"{_deadline(args.deadline, chosen.total_seconds)}. The cheapest cluster of each instance "
        "type that meets it, if their cores are equally fast:"
    )
    rows = [
        f"  {one.workers:>3} {one.instance:<12}{_minutes(one.total_seconds.expected):>6} min "
        f"(to {_minutes(one.total_seconds.high)})  ${one.cost.expected:,.2f}"
        for one in in_time[:_SHOWN]
    ]
    return [head, *rows, ""]


def _deadline(minutes: float, total: Range) -> str:
    return f"deadline {minutes:g} min: {'may be missed' if total.high > minutes * 60 else 'met'}"


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:,.1f}"


def _minutes_range(seconds: Range) -> str:
    return f"{_minutes(seconds.low)} to {_minutes(seconds.high)}"


def _plan_table(args: argparse.Namespace) -> int:
    for option, given in (("--deadline", args.deadline), ("--spot", args.spot)):
        if given:
            raise CommandError(f"{option} has no effect with --table: give one of them")
    _table(args, throughput=1.0)
    throughput = _throughput(args)
    rows, cheaper_from = _table(args, throughput.images_per_second)
    if args.json:
        show_json(
            {
                "region": args.region,
                "release": args.release,
                "throughput": asdict(throughput),
                "sample": args.sample,
                "concurrency": args.concurrency,
                "rows": [
                    {"photos": photos, **{name: asdict(one) for name, one in row.items()}}
                    for photos, row in zip(args.table, rows)
                ],
                "cluster_cheaper_from": cheaper_from,
                "prices": _prices_as_json(_cluster(args)["instance"], args.region),
            }
        )
    else:
        show("\n".join(_describe_table(args, throughput, rows, cheaper_from)))
    return 0


def _table(
    args: argparse.Namespace, throughput: float
) -> tuple[list[dict[str, Any]], dict[str, int | None]]:
    """Return the estimates for every number of photos, and from which number a cluster is cheaper.

    The estimates are those of a cluster on demand, one with spot nodes, and EMR Serverless.
    """
    cluster = {**_cluster(args), **_common(args, throughput)}
    spots = {"on_demand": False, "spot": True}
    rows = []
    for photos in args.table:
        row: dict[str, Any] = {
            name: plan.estimate(photos, spot=spot, **cluster) for name, spot in spots.items()
        }
        row["serverless"] = _serverless(photos, row["on_demand"], args, throughput)
        rows.append(row)
    return rows, {name: plan.break_even(spot=spot, **cluster) for name, spot in spots.items()}


def _describe_table(
    args: argparse.Namespace,
    throughput: _Throughput,
    rows: list[dict[str, Any]],
    cheaper_from: dict[str, int | None],
) -> list[str]:
    cluster, alone = rows[0]["spot"], rows[0]["serverless"]
    ec2, emr = plan.prices_of(cluster.instance, args.region)
    vcpu = plan.serverless_prices(args.region).vcpu
    titles = ["cluster on demand", "cluster with spot", "EMR Serverless"]
    lines = ["     photos" + "".join(f"{title:>22}" for title in titles)]
    for photos, row in zip(args.table, rows):
        cells = (
            f"${one.cost.expected:,.2f} {_minutes(one.total_seconds.expected):>7} min"
            for one in row.values()
        )
        lines.append(f"{photos:>11,}" + "".join(f"{cell:>22}" for cell in cells))
    given = "given" if throughput.measured_with is None else "measured on this machine"
    on_demand = rows[0]["on_demand"]
    per_second = on_demand.cost.expected / on_demand.total_seconds.expected
    return [
        *lines,
        "",
        f"cluster: {count(cluster.workers, 'worker')} and a primary node, {cluster.instance}, "
        f"{args.region}; {_minutes(cluster.provisioning_seconds)} min to start are assumed, and "
        f"billed (${cluster.provisioning_seconds * per_second:,.2f} on demand)",
        f"spot: {cluster.spot_workers} of the workers, at an assumed {plan.spot_share():.0%} of "
        "EC2's price",
        f"EMR Serverless: {count(alone.executors, 'executor')}, with as many vCPUs as the workers, "
        f"and a driver; {_minutes(alone.provisioning_seconds)} min to start are assumed, and not "
        "billed",
        f"{throughput.images_per_second:,.1f} photos/s per core, {given}; cores are assumed to be "
        "equally fast everywhere",
        f"{_describe_break_even('The cluster on demand', cheaper_from['on_demand'])}; "
        f"{_describe_break_even('with spot, it', cheaper_from['spot'])}.",
        *_describe_throughput(args, throughput),
        "",
        "Prices, without disks (EBS), S3, addresses, logs, tax and a cluster's idle time:",
        f"  EC2: {_source(ec2)}",
        f"  EMR: {_source(emr)}",
        f"  EMR Serverless: {_source(vcpu)}",
    ]
