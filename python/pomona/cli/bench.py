"""`pomona bench`: the throughput of this machine, and the share of its peak."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from pomona._decode import DecodeOptions, describe_changes
from pomona._images import one_line
from pomona.bench import BUILT_IN_PHOTOS, DEFAULT_SECONDS, measure
from pomona.cli._arguments import above_zero, add_decode_options, add_json_option, positive
from pomona.cli._terminal import count, describe_undecodable, show, show_json

if TYPE_CHECKING:
    import argparse

    from pomona.bench import Bench, Result

#: A machine whose threads got less than this share of CPU time counts as busy.
_UNDISTURBED = 0.95


def add(verbs: Any, common: argparse.ArgumentParser) -> None:
    """Declare the verb."""
    verb = verbs.add_parser(
        "bench",
        parents=[common],
        help="measure images/s on this machine, and the share of its peak",
        description="Measure the throughput of decoding, resizing and the model on this machine, "
        "on one thread and on several, and compare it with the processor's peak arithmetic rate.",
        epilog="example: pomona bench --model mobilenet_v2 --threads 1 2",
    )
    verb.add_argument(
        "--model",
        action="append",
        metavar="MODEL",
        help="a model's name or file; repeat to compare several (default: the built-in model that "
        "has been pulled, and its int8 version)",
    )
    verb.add_argument(
        "--threads",
        nargs="+",
        type=positive,
        metavar="N",
        help="numbers of threads (default: 1, 2, 4 … up to the CPUs available)",
    )
    verb.add_argument(
        "--seconds",
        type=above_zero,
        default=DEFAULT_SECONDS,
        metavar="S",
        help=f"time for each model and number of threads (default: {DEFAULT_SECONDS:g})",
    )
    verb.add_argument(
        "--images",
        metavar="FOLDER",
        help="photos to use (default: rendered ones of 100 x 100 pixels, in the package)",
    )
    add_json_option(verb)
    add_decode_options(verb)
    verb.set_defaults(command=_bench, unfinished="no measurement was completed")


def _bench(args: argparse.Namespace) -> int:
    bench = measure(
        args.model,
        threads=args.threads,
        seconds=args.seconds,
        images=args.images,
        **args.decode_options,
    )
    if args.json:
        show_json(asdict(bench))
    else:
        show(_describe(bench))
    return 0


def _describe(bench: Bench) -> str:
    peaks = ", ".join(
        f"{peak.multiply_adds_per_second / 1e9:,.1f} on {count(peak.threads, 'thread')}"
        for peak in bench.peaks
    )
    own = bench.photos == str(BUILT_IN_PHOTOS)
    photos = "rendered, 100 x 100 pixels" if own else one_line(bench.photos)
    changes = describe_changes(DecodeOptions(**bench.decode))
    lines = [
        f"processor  {bench.processor}, {count(bench.processors, 'CPU')} available; "
        f"int8 instructions: {bench.int8_instructions or 'none'}",
        f"peak       {peaks}; billion float32 multiply-adds per second, {bench.vectors}",
        f"photos     {bench.photo_count:,}, {photos}" + (f"; {changes}" if changes else ""),
        *describe_undecodable(bench.failed),
        "",
        *_table(bench.results),
        "",
        f"images/s   from encoded photos to features: median of {bench.rounds} rounds, and slowest "
        "and fastest round",
        "alone      the same by CPU time: the rate without other load on this machine",
        "of peak    share of the float32 multiply-add peak, by CPU time; for int8 too, whose own "
        "peak is higher",
    ]
    if bench.processor_share < _UNDISTURBED:
        lines.append(
            f"This machine is busy: threads got as little as {bench.processor_share:.0%} of their "
            "CPU time. Compare the column `alone`, or measure again later."
        )
    unknown = sorted({result.model for result in bench.results if result.multiply_adds is None})
    lines += [
        f"{one_line(model)} does not record its multiply-adds; to count them: "
        "pip install 'pomona[models]'"
        for model in unknown
    ]
    return "\n".join(lines)


def _table(results: list[Result]) -> list[str]:
    head = ("model", "threads", "images/s", "from - to", "alone", "of peak", "times")
    rows = [
        (
            one_line(result.model),
            str(result.threads),
            f"{result.images_per_second:,.1f}",
            f"{result.lowest:,.1f} - {result.highest:,.1f}",
            f"{result.images_per_second_undisturbed:,.1f}",
            "unknown" if result.share_of_peak is None else f"{result.share_of_peak:.0%}",
            f"{result.times_first_model:.2f}x",
        )
        for result in results
    ]
    # The last column compares models.
    columns = len(head) if len({result.path for result in results}) > 1 else len(head) - 1
    table = [row[:columns] for row in (head, *rows)]
    widths = [max(map(len, column)) for column in zip(*table)]
    return [
        "  ".join([row[0].ljust(widths[0])] + [c.rjust(w) for c, w in zip(row[1:], widths[1:])])
        for row in table
    ]
