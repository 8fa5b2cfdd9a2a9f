"""The `pomona` command; also what spark-submit starts."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import threading
import traceback
from contextlib import contextmanager, suppress
from itertools import takewhile
from typing import TYPE_CHECKING, Any, Iterator, Sequence

from pomona._images import IMAGE_EXTENSIONS, one_line
from pomona.models.store import BUILT_IN_NAMES

if TYPE_CHECKING:
    from types import FrameType

    from pomona.local import Summary
    from pomona.pipeline import Summary as RunSummary

DEFAULT_MODEL = BUILT_IN_NAMES[0]

FAILED = 1
USAGE = 2
SOME_PHOTOS_FAILED = 3
#: Shells report a program that a signal ended as this plus the signal's number.
SIGNALLED = 128

_KIB = 1 << 10
_MIB = 1 << 20

_EPILOG = f"""\
examples:
  pomona model pull                             fetch the default model, {DEFAULT_MODEL}
  pomona model convert mine.h5 -o mine.onnx     make a model of your own weights
  pomona model info {DEFAULT_MODEL}                what a model expects and gives
  pomona featurize fruits -o features.parquet   a folder to features, on this machine
  pomona run --images s3://bucket/Test --output s3://bucket/results
                                                features and PCA, on Spark

exit codes:
  0    done; photos that failed are counted in the summary
  {FAILED}    failed, for the reason on standard error
  {USAGE}    the command line is wrong
  {SOME_PHOTOS_FAILED}    done, but photos or folders failed and --strict was given
  {SIGNALLED + signal.SIGINT}  interrupted (Ctrl-C)
  {SIGNALLED + signal.SIGTERM}  terminated

--debug, or POMONA_DEBUG=1 in the environment, shows where an error came from.
"""


class _CommandError(Exception):
    """A failure whose message is all that the user needs."""


class _OutputClosedError(Exception):
    """Whoever read standard output has gone."""


class _Terminated(BaseException):
    """A signal asked the process to end; raised so that what is half done is cleaned up."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    argv
        Arguments without the program's name; None takes those of the process.

    Returns
    -------
    int
        The exit code.
    """
    if hasattr(sys.stdout, "reconfigure"):
        # A terminal without UTF-8 shows escapes for the letters it lacks.
        sys.stdout.reconfigure(errors="backslashreplace")
    parser = _parser()
    try:
        args = parser.parse_args(argv)
    except SystemExit as stop:  # --help, --version or a usage error: all is printed
        return stop.code if isinstance(stop.code, int) else 0
    if "command" not in args:
        parser.print_help(sys.stderr)
        return USAGE
    try:
        with _terminable():
            return int(args.command(args))
    except KeyboardInterrupt:
        _complain(f"interrupted: {args.unfinished.format(**vars(args))}")
        return SIGNALLED + signal.SIGINT
    except _Terminated as stop:
        _complain(f"terminated: {args.unfinished.format(**vars(args))}")
        return SIGNALLED + stop.number
    except _OutputClosedError:
        return SIGNALLED + signal.SIGPIPE
    except Exception as error:
        if "debug" in args or os.environ.get("POMONA_DEBUG", "") not in ("", "0"):
            traceback.print_exc()
        _complain(_explain(error))
        return FAILED


def _featurize(args: argparse.Namespace) -> int:
    from pomona.local import featurize_folder

    try:
        summary = featurize_folder(
            args.images,
            args.output,
            model=args.model,
            threads=args.threads or len(os.sched_getaffinity(0)),
            apply_exif=args.apply_exif,
            allow_trailing=args.allow_trailing,
            max_pixels=args.max_pixels,
            overwrite=args.overwrite,
        )
    except FileExistsError as error:
        raise _CommandError(f"{args.output} exists already; --overwrite replaces it") from error
    _show(_describe(summary))
    failed = summary.errors or summary.unreadable
    return SOME_PHOTOS_FAILED if args.strict and failed else 0


def _describe(summary: Summary) -> str:
    lines = _describe_errors(summary.errors, summary.first_errors)
    if summary.unreadable:
        lines.append(f"{_count(len(summary.unreadable), 'folder')} could not be listed:")
        lines += [f"  {one_line(path)}: {one_line(why)}" for path, why in summary.unreadable]
    if summary.others:
        lines.append(f"{_count(summary.others, 'other file')} passed over")
    lines.append(
        f"{_count(summary.images, 'photo')}, {_count(len(summary.labels), 'label')}, "
        f"{_count(summary.errors, 'error')}: {summary.seconds:.1f} s, "
        f"{summary.images_per_second:,.1f} images/s"
    )
    lines.append(
        f"{one_line(summary.output)}: {summary.dim:,} features a photo, "
        + _size(summary.output_bytes)
    )
    return "\n".join(lines)


def _describe_errors(number: int, first: Sequence[tuple[str, str]]) -> list[str]:
    if not number:
        return []
    lines = [f"{_count(number, 'photo')} failed:"]
    lines += [f"  {one_line(path)}: {one_line(reason)}" for path, reason in first]
    if number > len(first):
        lines.append(f"  and {number - len(first):,} more; the column `error` has them all")
    return lines


def _model_pull(args: argparse.Namespace) -> int:
    from pomona import models

    path = models.pull(args.name, weights=args.weights, force=args.force)
    _show(_describe_model(models.info(path)))
    return 0


def _model_convert(args: argparse.Namespace) -> int:
    from pomona import models

    path = models.convert(
        args.weights,
        args.output,
        name=args.name,
        input_size=args.input_size,
        output_tensor=args.output_tensor,
        mean=args.mean,
        std=args.std,
        license=args.license,
    )
    _show(_describe_model(models.info(path)))
    return 0


def _model_info(args: argparse.Namespace) -> int:
    from pomona import models

    facts = models.info(args.model)
    _show(json.dumps(facts, indent=2) if args.json else _describe_model(facts))
    return 0


def _describe_model(facts: dict[str, Any]) -> str:
    height, width = facts["input_size"]
    lines = {
        "name": facts["name"],
        "file": f"{facts['path']} ({_size(facts['file_size'])})",
        "sha256": facts["sha256"],
        "images": f"{height} x {width} pixels, resized {facts['resize']}",
        "features": f"{facts['dim']:,} a photo",
        "parameters": f"{facts['parameters']:,}",
        "source": facts["source"],
        "license": facts["license"],
    }
    return "\n".join(f"{name:11} {one_line(value)}" for name, value in lines.items())


def _model_list(args: argparse.Namespace) -> int:
    from pomona.models.store import home, names

    present = names()
    lines = [f"models in {one_line(str(home()))}:"]
    lines += [f"  {name}" for name in present] or ["  none yet"]
    missing = [name for name in BUILT_IN_NAMES if name not in present]
    if missing:
        lines.append("to be had with `pomona model pull NAME`:")
        lines += [f"  {name}" for name in missing]
    _show("\n".join(lines))
    return 0


def _run(args: argparse.Namespace) -> int:
    try:
        from pyspark.sql import SparkSession
    except ImportError as error:
        raise _CommandError(
            "pomona run needs PySpark. A cluster has its own: start the command with spark-submit "
            "there. On this machine, install it and Java: pip install 'pyspark==3.5.*'"
        ) from error
    from py4j.protocol import Py4JJavaError

    from pomona import pipeline
    from pomona.spark._storage import with_remedy

    found = SparkSession.getActiveSession()
    # Spark's own progress bar would draw over ours.
    builder = SparkSession.builder.appName("pomona run")
    builder = builder.config("spark.ui.showConsoleProgress", "false")
    try:
        spark = found or builder.getOrCreate()
    except Exception as error:
        raise _CommandError(
            f"Spark did not start: {str(error).rstrip('.')}. It needs a Java runtime: set JAVA_HOME"
        ) from error
    try:
        summary = pipeline.run(
            spark,
            args.images,
            args.output,
            model=args.model,
            variance=args.variance,
            components=args.components,
            standardize=args.standardize,
            resume=not args.no_resume,
        )
    except Py4JJavaError as error:
        raise _CommandError(
            f"Spark failed: {with_remedy(_cause(str(error)))}; {args.unfinished}"
        ) from error
    finally:
        if found is None:
            spark.stop()
    _show(_describe_run(summary))
    return 0


def _describe_run(summary: RunSummary) -> str:
    lines = _describe_errors(summary.errors, summary.first_errors)
    if summary.vanished:
        lines.append(f"{_count(summary.vanished, 'photo')} vanished before being read")
    lines += [
        f"{_count(summary.photos, 'photo')}, {_count(summary.errors, 'error')}; "
        f"{summary.featurized:,} featurized now, {summary.images_per_second:,.1f} images/s",
        f"PCA: {summary.k:,} of {summary.dim:,} components explain "
        f"{summary.variance_explained:.2%} of the variance",
        "seconds: " + ", ".join(f"{stage} {took:.1f}" for stage, took in summary.seconds.items()),
        f"{one_line(summary.output)}: features, pca, pca_model, summary.json",
    ]
    return "\n".join(lines)


def _parser() -> argparse.ArgumentParser:
    from pomona import __version__

    common = argparse.ArgumentParser(add_help=False)
    # Suppressed, so that the verb's default does not undo what was given before the verb.
    common.add_argument(
        "--debug", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS
    )
    parser = argparse.ArgumentParser(
        prog="pomona",
        description="Turn folders of photos into feature vectors.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        parents=[common],
    )
    parser.add_argument("-V", "--version", action="version", version=f"pomona {__version__}")
    verbs = parser.add_subparsers(title="commands", metavar="COMMAND")
    _add_featurize(verbs, common)
    _add_model(verbs, common)
    _add_run(verbs, common)
    return parser


def _add_featurize(verbs: Any, common: argparse.ArgumentParser) -> None:
    endings = " ".join(ending[1:] for ending in IMAGE_EXTENSIONS)
    verb = verbs.add_parser(
        "featurize",
        parents=[common],
        help="photos to a Parquet file of features, on this machine",
        description="Write the features of photos to a Parquet file, on this machine, without "
        f"Spark. Folders are searched to the bottom for files ending in {endings}; hidden files "
        "are passed over. Each row has the photo's path, its folder's name as label, its features, "
        "or the error that kept it from having any.",
        epilog="example: pomona featurize fruits -o features.parquet",
    )
    verb.add_argument("images", nargs="+", metavar="IMAGES", help="folders of photos, or photos")
    verb.add_argument(
        "-o", "--output", required=True, metavar="FEATURES.parquet", help="the file to write"
    )
    _add_model_option(verb)
    verb.add_argument(
        "--threads",
        type=_positive,
        metavar="N",
        help="threads (default: one for each core that this process may use)",
    )
    verb.add_argument(
        "--strict",
        action="store_true",
        help=f"end with exit code {SOME_PHOTOS_FAILED} if any photo failed; the file is "
        "written all the same",
    )
    verb.add_argument("--overwrite", action="store_true", help="replace the file if it exists")
    verb.add_argument(
        "--apply-exif", action="store_true", help="turn photos as their EXIF orientation says"
    )
    verb.add_argument(
        "--allow-trailing", action="store_true", help="accept photos with bytes behind their end"
    )
    verb.add_argument(
        "--max-pixels", type=_positive, metavar="N", help="refuse photos with more pixels than this"
    )
    verb.set_defaults(command=_featurize, unfinished="{output} was not written")


def _add_model(verbs: Any, common: argparse.ArgumentParser) -> None:
    group = verbs.add_parser(
        "model",
        help="get, make and look into models",
        description="Get, make and look into models. They live in $POMONA_HOME, by default the "
        "user's cache folder.",
    )
    actions = group.add_subparsers(title="commands", metavar="COMMAND")
    group.set_defaults(command=lambda _: group.print_help(sys.stderr) or USAGE, unfinished="")

    pull = actions.add_parser(
        "pull",
        parents=[common],
        help="fetch a model's published weights and convert them",
        description="Fetch a model's published weights and convert them.",
        epilog=f"example: pomona model pull {DEFAULT_MODEL}",
    )
    pull.add_argument(
        "name",
        nargs="?",
        default=DEFAULT_MODEL,
        metavar="NAME",
        help=f"{' or '.join(BUILT_IN_NAMES)} (default: {DEFAULT_MODEL})",
    )
    pull.add_argument("--weights", metavar="FILE", help="the published weights, downloaded before")
    pull.add_argument("--force", action="store_true", help="fetch it again if it is there")
    pull.set_defaults(command=_model_pull, unfinished="the same command goes on where it stopped")

    convert = actions.add_parser(
        "convert",
        parents=[common],
        help="make a model of your own weights",
        description="Make a model of Keras MobileNetV2 weights (.h5, .keras) or of an ONNX "
        "classifier.",
        epilog="example: pomona model convert mine.h5 -o mine.onnx",
    )
    convert.add_argument("weights", metavar="WEIGHTS", help="an .h5, .keras or .onnx file")
    convert.add_argument(
        "-o",
        "--output",
        metavar="FILE.onnx",
        help="the model to write (default: keep it under its --name with the pulled models)",
    )
    convert.add_argument("--name", metavar="NAME", help="the model's name (default: the file's)")
    convert.add_argument(
        "--input-size",
        type=_height_and_width,
        metavar="N | HxW",
        help="size of the images in pixels, where the file leaves it open (default: 224)",
    )
    convert.add_argument(
        "--output-tensor",
        metavar="NAME",
        help="the tensor of an ONNX file that holds the features",
    )
    for option, meaning in (("--mean", "is subtracted from"), ("--std", "then divides")):
        convert.add_argument(
            option,
            type=_numbers,
            metavar="N | R,G,B",
            help=f"what {meaning} the pixels, which are 0 to 255",
        )
    convert.add_argument("--license", metavar="TEXT", help="the weights' licence, to be noted")
    convert.set_defaults(command=_model_convert, unfinished="no model was written")

    info = actions.add_parser(
        "info",
        parents=[common],
        help="what a model expects and gives",
        description="Show what a model expects and gives, and where it came from.",
        epilog=f"example: pomona model info {DEFAULT_MODEL}",
    )
    info.add_argument("model", metavar="MODEL", help="a model's name or file")
    info.add_argument("--json", action="store_true", help="print JSON")
    info.set_defaults(command=_model_info, unfinished="nothing was shown")

    listing = actions.add_parser(
        "list",
        parents=[common],
        help="the models there are",
        description="List the models that were pulled and those that can be.",
    )
    listing.set_defaults(command=_model_list, unfinished="nothing was shown")


def _add_run(verbs: Any, common: argparse.ArgumentParser) -> None:
    verb = verbs.add_parser(
        "run",
        parents=[common],
        help="photos to features and PCA, on Spark",
        description="Read photos, write their features, fit a PCA and write the projection, on "
        "Spark. Under spark-submit the cluster's settings hold; elsewhere Spark starts on this "
        "machine.",
        epilog="example: pomona run --images s3://bucket/Test --output s3://bucket/results",
    )
    verb.add_argument("--images", required=True, nargs="+", metavar="URI", help="folders of photos")
    verb.add_argument("--output", required=True, metavar="URI", help="the folder for the results")
    _add_model_option(verb)
    size = verb.add_mutually_exclusive_group()
    size.add_argument(
        "--variance",
        type=_share,
        metavar="SHARE",
        help="keep as many components as explain this share of the variance (default: 0.95)",
    )
    size.add_argument("--components", type=_positive, metavar="K", help="keep this many components")
    verb.add_argument(
        "--standardize",
        action="store_true",
        help="divide each feature by its standard deviation before the PCA",
    )
    verb.add_argument(
        "--no-resume", action="store_true", help="compute features anew that are there already"
    )
    verb.set_defaults(
        command=_run, unfinished="the same command goes on with the features it has written"
    )


def _add_model_option(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "--model",
        default=DEFAULT_MODEL,
        metavar="MODEL",
        help=f"a model's name or file (default: {DEFAULT_MODEL})",
    )


def _positive(text: str) -> int:
    with suppress(ValueError):
        if int(text) > 0:
            return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")


def _share(text: str) -> float:
    with suppress(ValueError):
        if 0 < float(text) <= 1:
            return float(text)
    raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0 and up to 1")


def _height_and_width(text: str) -> tuple[int, int]:
    sides = [_positive(side) for side in text.lower().split("x")]
    if len(sides) > 2:
        raise argparse.ArgumentTypeError(f"{text!r} is not a side or HEIGHTxWIDTH")
    return sides[0], sides[-1]


def _numbers(text: str) -> list[float]:
    try:
        return [float(number) for number in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number or R,G,B") from None


def _count(number: int, thing: str) -> str:
    return f"{number:,} {thing}" + ("" if number == 1 else "s")


def _size(number: int) -> str:
    return f"{number / _MIB:,.1f} MiB" if number >= _MIB else f"{number / _KIB:,.1f} KiB"


def _show(text: str) -> None:
    """Print a result; the flush shows now, and not at exit, whether it arrived."""
    try:
        print(text, flush=True)  # noqa: T201
    except OSError as error:
        # What is left in the buffer must not fail once more when the interpreter ends.
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            raise _OutputClosedError from error
        raise


def _complain(message: str) -> None:
    with suppress(OSError, ValueError):
        print(f"pomona: {message}", file=sys.stderr, flush=True)  # noqa: T201


def _explain(error: Exception) -> str:
    """Say in one line what went wrong."""
    if isinstance(error, OSError) and error.filename is not None:
        return one_line(f"{os.fsdecode(error.filename)}: {error.strerror}")
    message = one_line(_cause(str(error)))
    if isinstance(error, (_CommandError, OSError, ValueError, ImportError)):
        return message
    return f"{type(error).__name__}: {message} (--debug shows where)"


def _cause(message: str) -> str:
    """Find the sentence that matters in a message of Spark's, which holds the stacks of Java."""
    lines = message.splitlines()
    causes = [number for number, line in enumerate(lines) if line.startswith("Caused by: ")]
    if not causes:
        return " ".join(takewhile(lambda line: not line.startswith("\tat "), lines))
    cause, *stack = lines[causes[-1] :]
    if cause.endswith("Traceback (most recent call last):"):  # Python's, on a worker
        return next(line for line in stack if line and not line[0].isspace())
    return cause[len("Caused by: ") :]


@contextmanager
def _terminable() -> Iterator[None]:
    """Turn the signals that end a process into an exception, so that clean-up code runs."""

    def terminate(number: int, frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_IGN)  # once is enough: clean-up has begun
        raise _Terminated(number)

    before = {}
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGHUP):
            # What nohup ignores stays ignored.
            if signal.getsignal(number) == signal.SIG_DFL:
                before[number] = signal.signal(number, terminate)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
