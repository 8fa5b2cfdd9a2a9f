"""`pomona featurize`: featurize photos into a file or folder, on this machine."""

from __future__ import annotations

import argparse
import os
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from pomona._images import IMAGE_EXTENSIONS, one_line
from pomona.cli._arguments import (
    add_decisions,
    add_decode_options,
    add_fail_on_error_option,
    add_images_argument,
    add_json_option,
    add_model_option,
    positive,
)
from pomona.cli._errors import SOME_PHOTOS_FAILED, CommandError
from pomona.cli._terminal import (
    complain,
    count,
    describe_errors,
    describe_turned,
    describe_warnings,
    show,
    show_json,
    size,
)
from pomona.decisions import describe_listing

if TYPE_CHECKING:
    from pomona.local import Summary


def add(verbs: Any, common: argparse.ArgumentParser) -> None:
    """Declare the verb."""
    endings = " ".join(ending[1:] for ending in IMAGE_EXTENSIONS)
    verb = verbs.add_parser(
        "featurize",
        parents=[common],
        help="featurize photos, on this machine",
        description="Write the features of photos to a Parquet file or a folder of results, on "
        "this machine and without Spark. Folders are searched recursively for files ending in "
        f"{endings}; hidden files are skipped. Each row has the photo's path, the name of its "
        "folder as its label, and either its features or an error, and a warning if the photo is "
        "damaged.",
        epilog="example: pomona featurize fruits -o features.parquet",
    )
    add_images_argument(verb, "folders or photos")
    verb.add_argument(
        "-o",
        "--output",
        required=True,
        metavar="OUTPUT",
        help="the Parquet file to write, ending in .parquet; any other name is that of a folder "
        "for results",
    )
    add_model_option(verb)
    verb.add_argument(
        "--threads",
        type=positive,
        metavar="N",
        help="threads (default: the number of CPU cores available to this process)",
    )
    add_fail_on_error_option(
        verb, "a photo failed or a folder could not be listed (implied by --strict)"
    )
    verb.add_argument(
        "--overwrite",
        action="store_true",
        help="replace OUTPUT if it exists: a file, or a folder from `pomona featurize`",
    )
    add_decisions(verb)
    add_json_option(verb)
    add_decode_options(verb)
    verb.add_argument("--allow-trailing", action=_Ignored, nargs=0, help=argparse.SUPPRESS)
    verb.set_defaults(command=_featurize, unfinished="{output} was not written")


class _Ignored(argparse.Action):
    """An option that has no effect any more."""

    def __call__(self, *_: Any) -> None:
        complain("--allow-trailing is deprecated and ignored: bytes after a photo are accepted")


def _featurize(args: argparse.Namespace) -> int:
    from pomona.local import featurize_folder

    try:
        summary = featurize_folder(
            args.images,
            args.output,
            model=args.model,
            threads=args.threads or len(os.sched_getaffinity(0)),
            overwrite=args.overwrite,
            decisions=args.decisions,
            **args.decode_options,
        )
    except FileExistsError as error:
        # The function names its own argument.
        reason = str(error.strerror).replace("overwrite=True", "--overwrite")
        raise CommandError(f"{args.output} {reason}") from error
    if args.json:
        show_json(_answer(summary))
    else:
        show(_describe(summary))
    failed = summary.errors or summary.unreadable
    # Before 0.2.0, --strict had no other effect than this.
    wanted = args.fail_on_error or args.decode_options.get("strict")
    return SOME_PHOTOS_FAILED if wanted and failed else 0


def _answer(summary: Summary) -> dict[str, Any]:
    return {
        **asdict(summary),
        "labels": sorted(summary.labels),
        "images_per_second": summary.images_per_second,
    }


def _describe(summary: Summary) -> str:
    lines = describe_errors(summary.errors, summary.first_errors)
    lines += describe_warnings(summary.warnings, summary.first_warnings)
    lines += describe_turned(summary.turned)
    if summary.unreadable:
        lines.append(f"{count(len(summary.unreadable), 'folder')} could not be listed:")
        lines += [f"  {one_line(path)}: {one_line(why)}" for path, why in summary.unreadable]
    lines += describe_listing(summary.left_out, summary.decided)
    lines.append(
        f"{count(summary.photos, 'photo')}, {count(len(summary.labels), 'label')}, "
        f"{count(summary.errors, 'error')}: {summary.seconds:.1f} s, "
        f"{summary.images_per_second:,.1f} images/s"
    )
    lines.append(
        f"{one_line(summary.output)}: {summary.dim:,} features per photo, "
        + size(summary.output_bytes)
    )
    return "\n".join(lines)
