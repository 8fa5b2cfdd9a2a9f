"""The `pomona` command; also what spark-submit starts."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
import traceback
from contextlib import contextmanager
from typing import TYPE_CHECKING, Iterator, Sequence

from pomona.cli import bench, featurize, info, model, plan, predict, report, run, similar, train
from pomona.cli._arguments import DEFAULT_MODEL
from pomona.cli._errors import (
    FAILED,
    SIGNALLED,
    SOME_PHOTOS_FAILED,
    USAGE,
    OutputClosedError,
    explain,
)
from pomona.cli._terminal import complain

if TYPE_CHECKING:
    from types import FrameType

#: A module for each verb, in the order of the help.
_VERBS = (featurize, run, report, similar, train, predict, model, info, bench, plan)

_EPILOG = f"""\
examples:
  pomona model pull                             fetch the default model, {DEFAULT_MODEL}
  pomona model convert mine.h5 -o mine.onnx     make a model of your own weights
  pomona model info {DEFAULT_MODEL}                what a model expects and gives
  pomona model quantize {DEFAULT_MODEL} --images fruits
                                                its int8 version, twice as fast with VNNI
  pomona featurize fruits -o features.parquet   a folder to features, on this machine
  pomona run --images s3://bucket/Test --output s3://bucket/results
                                                features and PCA, on Spark
  pomona report results                         a page about a run, for a browser
  pomona similar results new.jpg                the photos that look like one
  pomona train results --classifier svm         a classifier, and how well it does
  pomona predict results/classifier/svm/model new -o labels.parquet
                                                labels for new photos
  pomona bench                                  how fast this machine is
  pomona plan --images 100000 --deadline 30     what a job costs on EMR

exit codes:
  0    done; photos that failed are counted in the summary
  {FAILED}    failed, for the reason on standard error
  {USAGE}    the command line is wrong
  {SOME_PHOTOS_FAILED}    done, but photos or folders failed and --strict was given
  {SIGNALLED + signal.SIGINT}  interrupted (Ctrl-C)
  {SIGNALLED + signal.SIGTERM}  terminated

--debug, or POMONA_DEBUG=1 in the environment, shows where an error came from.
"""


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
    for verb in _VERBS:
        verb.add(verbs, common)
    return parser


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
