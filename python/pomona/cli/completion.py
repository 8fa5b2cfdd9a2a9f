"""`pomona completion`: a script with which a shell completes the command line."""

from __future__ import annotations

import argparse
from typing import Any, Iterator

from pomona._optional import require
from pomona.cli._terminal import show
from pomona.models.store import BUILT_IN_NAMES

#: The shells, and the files in which they look for the script.
_SHELLS = {
    "bash": "~/.local/share/bash-completion/completions/pomona",
    "zsh": '"${fpath[1]}/_pomona"',
    "fish": "~/.config/fish/completions/pomona.fish",
}

#: Arguments that are the name or the path of a model, a folder, or a file, by their metavars.
_MODELS = ("MODEL",)
_FOLDERS = ("CLASSIFIER", "FOLDER")
_FILES = ("CSV", "FILE", "FILE.onnx", "IMAGES", "OTHER", "OUTPUT", "PHOTO", "RESULTS", "WEIGHTS")

#: How each shell completes a model. The scripts list the folder of models themselves, because
#: starting Python would take too long.
_COMPLETE_MODEL = {
    "bash": "_pomona_model_or_file",
    "zsh": "_pomona_model_or_file",
    "fish": "(_pomona_model_or_file)",
}
_HOME = "${POMONA_HOME:-${XDG_CACHE_HOME:-$HOME/.cache}/pomona}"
_FUNCTIONS = {
    "bash": f"""\
_pomona_model_or_file() {{
  local names="{" ".join(BUILT_IN_NAMES)}" file
  for file in "{_HOME}"/*.onnx; do
    [ -e "$file" ] && file="${{file##*/}}" && names+=" ${{file%.onnx}}"
  done
  compgen -W "$names" -- "$1" | sort -u
  compgen -f -X '!*.onnx' -- "$1"
  compgen -d -- "$1"
}}
""",
    "zsh": f"""\
_pomona_model_or_file() {{
  compadd -- {" ".join(BUILT_IN_NAMES)} "{_HOME}"/*.onnx(N:t:r)
  _files -g '*.onnx'
}}
""",
    "fish": f"""\
function _pomona_model_or_file
  set -l home $HOME/.cache/pomona
  set -q XDG_CACHE_HOME; and set home $XDG_CACHE_HOME/pomona
  set -q POMONA_HOME; and set home $POMONA_HOME
  printf '%s\\n' {" ".join(BUILT_IN_NAMES)}
  for file in $home/*.onnx
    string replace -r '.*/(.*)\\.onnx$' '$1' $file
  end
  __fish_complete_suffix .onnx
end
""",
}


def add(verbs: Any, common: argparse.ArgumentParser) -> None:
    """Declare the verb."""
    verb = verbs.add_parser(
        "completion",
        parents=[common],
        help="print a script that completes the command line in a shell",
        description="Print a script with which a shell completes commands, options, choices, "
        "models and files when Tab is pressed.",
        epilog="to turn it on, for the next shell that starts:\n"
        + "".join(f"  pomona completion {shell} > {file}\n" for shell, file in _SHELLS.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verb.add_argument("shell", choices=tuple(_SHELLS), help="the shell")
    verb.set_defaults(command=_completion, unfinished="nothing was printed")


def _completion(args: argparse.Namespace) -> int:
    from pomona.cli import _parser

    shtab = require("shtab", "completion", "pomona completion")
    parser = _parser()
    for action in _actions(parser):
        completion = _completion_of(action, shtab)
        if completion is not None and not action.choices:
            action.complete = completion  # type: ignore[attr-defined]
    show(shtab.complete(parser, args.shell, preamble=_FUNCTIONS))
    return 0


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from _actions(command)
        else:
            yield action


def _completion_of(action: argparse.Action, shtab: Any) -> dict[str, str] | None:
    if action.metavar in _MODELS:
        return _COMPLETE_MODEL
    if action.metavar in _FOLDERS:
        return shtab.DIRECTORY  # type: ignore[no-any-return]
    return shtab.FILE if action.metavar in _FILES else None
