"""The `pomona` command, which spark-submit runs as well."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
import traceback
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any, Iterator, Sequence

from pomona.cli._arguments import DEFAULT_MODEL
from pomona.cli._errors import (
    FAILED,
    SIGNALLED,
    SOME_FINDINGS,
    SOME_PHOTOS_FAILED,
    USAGE,
    OutputClosedError,
    explain,
)
from pomona.cli._parser import Parser
from pomona.cli._terminal import complain, warnings_as_lines

if TYPE_CHECKING:
    from types import FrameType

#: The verbs, in the order of the help; each is a module of this package.
_VERBS = [
    "featurize",
    "run",
    "pca",
    "report",
    "check",
    "similar",
    "train",
    "predict",
    "model",
    "info",
    "bench",
    "plan",
    "completion",
]

_EPILOG = f"""\
examples:
  pomona model pull                             download the default model, {DEFAULT_MODEL}
  pomona model convert mine.h5 -o mine.onnx     convert your own weights to a model
  pomona model info {DEFAULT_MODEL}                show a model's input, output and origin
  pomona model quantize {DEFAULT_MODEL} --images fruits
                                                make an int8 version, twice as fast with VNNI
  pomona featurize fruits -o features.parquet   featurize a folder on this machine
  pomona run s3://bucket/Test -o s3://bucket/results
                                                compute features and a PCA on Spark
  pomona pca features.parquet                   fit a PCA to the features of either
  pomona report results                         write a report, to view in a browser
  pomona check results -o findings.csv          list label errors, duplicates and bad photos
  pomona similar results new.jpg                find the photos most similar to one
  pomona train results --classifier svm         train and evaluate a classifier
  pomona predict results/classifier/svm/model new -o labels.parquet
                                                predict the labels of new photos
  pomona bench                                  measure the throughput of this machine
  pomona plan --photos 100000 --deadline 30     estimate the cost of a job on EMR
  pomona completion bash                        print a script for the Tab key in a shell

exit codes:
  0    success; the summary counts photos that failed
  {FAILED}    failure; standard error has the reason
  {USAGE}    invalid command line
  {SOME_PHOTOS_FAILED}    success, but a photo or folder failed and --fail-on-error was given
  {SOME_FINDINGS}    success, but there are findings and --fail-on-findings was given
  {SIGNALLED + signal.SIGINT}  interrupted (Ctrl-C)
  {SIGNALLED + signal.SIGTERM}  terminated

--debug, or POMONA_DEBUG=1 in the environment, shows the traceback of an error.
"""


class _Terminated(BaseException):
    """A signal asked the process to end. Raised so that cleanup code runs."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    argv
        Arguments, without the program's name; by default those of the process.

    Returns
    -------
    int
        The exit code.
    """
    if hasattr(sys.stdout, "reconfigure"):
        # Where the encoding is not UTF-8, characters that it lacks are printed as escapes.
        sys.stdout.reconfigure(errors="backslashreplace")
    argv = sys.argv[1:] if argv is None else argv
    parser = _parser(argv)
    try:
        args = parser.parse_args(argv)
    except SystemExit as stop:  # --help, --version or a usage error, already printed
        return stop.code if isinstance(stop.code, int) else 0
    if "command" not in args:
        parser.print_help(sys.stderr)
        return USAGE
    try:
        with _terminable(), warnings_as_lines():
            return int(args.command(args))
    except KeyboardInterrupt:
        complain(f"interrupted: {args.unfinished.format(**vars(args))}")
        return SIGNALLED + signal.SIGINT
    except _Terminated as stop:
        complain(f"terminated: {args.unfinished.format(**vars(args))}")
        return SIGNALLED + stop.number
    except OutputClosedError:
        return SIGNALLED + signal.SIGPIPE
    except Exception as error:
        if "debug" in args or os.environ.get("POMONA_DEBUG", "") not in ("", "0"):
            traceback.print_exc()
        complain(explain(error))
        return FAILED


class _ShowVersion(argparse.Action):
    """Prints the version. The extension, which holds it, is loaded for this option only."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        from pomona import __version__

        print(f"pomona {__version__}")  # noqa: T201
        parser.exit()


def _parser(argv: Sequence[str] = ()) -> argparse.ArgumentParser:
    """Build the parser: with the one verb that `argv` names, or with all of them.

    A verb's module loads only if it is needed, so `pomona plan` starts without numpy.
    """
    named = next((word for word in argv if not word.startswith("-")), None)
    common = argparse.ArgumentParser(add_help=False)
    # No default, so that the verb's parser does not reset an option given before the verb.
    common.add_argument(
        "--debug", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS
    )
    parser = Parser(
        prog="pomona",
        description="Turn folders of photos into feature vectors.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        parents=[common],
    )
    parser.add_argument(
        "-V", "--version", action=_ShowVersion, nargs=0, help="show the version and exit"
    )
    verbs = parser.add_subparsers(title="commands", metavar="COMMAND")
    for verb in [named] if named in _VERBS else _VERBS:
        import_module(f"{__name__}.{verb}").add(verbs, common)
    return parser


@contextmanager
def _terminable() -> Iterator[None]:
    """Turn the signals that end a process into an exception, so that cleanup code runs."""

    def terminate(number: int, frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_IGN)  # a second signal must not interrupt cleanup
        raise _Terminated(number)

    before = {}
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGHUP):
            # nohup ignores SIGHUP, and that must not change.
            if signal.getsignal(number) == signal.SIG_DFL:
                before[number] = signal.signal(number, terminate)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
