"""`pomona plan`: estimates the time and cost of a job on EMR, and the Spark settings for it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from pomona import plan
from pomona._errors import ModelError
from pomona._images import one_line
from pomona.cli._arguments import above_zero, add_json_option, add_old_name, positive
from pomona.cli._errors import CommandError
from pomona.cli._terminal import count, describe_undecodable, show, show_json

if TYPE_CHECKING:
    import argparse

    from pomona.plan import Estimate, Price, Range

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


def add(verbs: Any, common: argparse.ArgumentParser) -> None:
    """Declare the verb."""
    verb = verbs.add_parser(
        "plan",
        parents=[common],
        help="estimate the time and cost of a job on EMR",
        description="Estimate the time and cost of a job on an EMR cluster, and print Spark "
        "settings that fit its nodes. Makes no call to AWS: prices come from a table with dates, "
        "and the output marks what is assumed.",
        epilog="example: pomona plan --photos 100000 --deadline 30",
    )
    photos = verb.add_mutually_exclusive_group(required=True)
    photos.add_argument("--photos", type=positive, metavar="N", help="number of photos")
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
        "--spot", action="store_true", help="run all workers but one on spot instances (task nodes)"
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
    # Report mistakes in the other arguments before spending seconds on a measurement.
    _estimates(args, throughput=1.0, deadline=None)
    throughput = _throughput(args)
    chosen, in_time = _estimates(
        args, throughput=throughput.images_per_second, deadline=args.deadline
    )
    if args.json:
        show_json(_as_json(args, throughput, chosen, in_time))
    else:
        show("\n".join(_describe(args, throughput, chosen, in_time)))
    return 0


def _estimates(
    args: argparse.Namespace, throughput: float, deadline: float | None
) -> tuple[Estimate, list[Estimate]]:
    """Return the estimate for the chosen cluster, and those of all that meet the deadline."""
    common = {
        "throughput": throughput,
        "spot": args.spot,
        "region": args.region,
        "release": args.release,
        "concurrency": args.concurrency,
    }
    in_time = plan.within(deadline, args.photos, **common) if deadline else []
    fitting = [one for one in in_time if args.instance in (None, one.instance)]
    if fitting and args.workers is None:
        return fitting[0], in_time
    if in_time and args.workers is None:
        raise CommandError(
            f"no cluster of up to {plan.MAX_WORKERS} {args.instance} finishes in {deadline:g} "
            f"minutes; the cheapest that does has {in_time[0].workers} {in_time[0].instance}"
        )
    chosen = plan.estimate(
        args.photos,
        instance=args.instance or plan.DEFAULT_INSTANCE,
        workers=args.workers or plan.DEFAULT_WORKERS,
        **common,
    )
    return chosen, in_time


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


def _as_json(
    args: argparse.Namespace, throughput: _Throughput, chosen: Estimate, in_time: list[Estimate]
) -> dict[str, Any]:
    ec2, emr = plan.prices_of(chosen.instance, args.region)
    settings = plan.spark_settings(chosen.instance)
    return {
        "photos": args.photos,
        "region": args.region,
        "release": args.release,
        "throughput": asdict(throughput),
        "sample": args.sample,
        "concurrency": args.concurrency,
        "estimate": asdict(chosen),
        "prices": {"ec2": asdict(ec2), "emr": asdict(emr), "spot_share": plan.spot_share()},
        "settings": settings,
        "configurations": _configurations(settings),
        "deadline_minutes": args.deadline,
        "in_time": [asdict(one) for one in in_time],
    }


def _configurations(settings: dict[str, str]) -> list[dict[str, Any]]:
    """Format settings for `aws emr create-cluster --configurations`."""
    return [{"Classification": "spark-defaults", "Properties": settings}]


def _describe(
    args: argparse.Namespace, throughput: _Throughput, chosen: Estimate, in_time: list[Estimate]
) -> list[str]:
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
    if throughput.measured_with is None:
        return table
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
        *table,
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
    return [
        *lines,
        "  not included: disks (EBS), storage and requests on S3, public IPv4 addresses, tax, and "
        "idle time of the cluster",
        f"  quota: the cluster needs {chosen.vcpus} vCPUs; new AWS accounts may have a lower one",
    ]


def _source(price: Price) -> str:
    return f"{'' if price.read else 'UNVERIFIED: '}{price.source} ({price.date})"


def _alternatives(args: argparse.Namespace, chosen: Estimate, in_time: list[Estimate]) -> list[str]:
    if not in_time:
        return []
    late = chosen.total_seconds.high > args.deadline * 60
    verdict = "may be missed" if late else "met"
    head = (
        f"deadline {args.deadline:g} min: {verdict}. The cheapest cluster of each instance type "
        "that meets it, if their cores are equally fast:"
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
