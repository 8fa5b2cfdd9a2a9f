"""`pomona info`: this machine's processor and models."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from pomona._images import one_line
from pomona.cli._arguments import add_json_option
from pomona.cli._terminal import count, show, show_json
from pomona.models.store import home, names
from pomona.processor import INT8_WITHOUT_INSTRUCTIONS, int8_instructions, processor

if TYPE_CHECKING:
    import argparse


def add(verbs: Any, common: argparse.ArgumentParser) -> None:
    """Declare the verb."""
    verb = verbs.add_parser(
        "info",
        parents=[common],
        help="show this machine's processor and models",
        description="Show this machine's processor, whether int8 models are faster on it, and the "
        "models in the store.",
    )
    add_json_option(verb)
    verb.set_defaults(command=_info, unfinished="nothing was shown")


def _info(args: argparse.Namespace) -> int:
    from pomona._native import __version__, vectors

    facts = {
        "version": __version__,
        "processor": processor(),
        "processors": len(os.sched_getaffinity(0)),
        "vectors": vectors(),
        "int8_instructions": int8_instructions(),
        "models_folder": str(home()),
        "models": names(),
    }
    if args.json:
        show_json(facts)
    else:
        show(_describe(facts))
    return 0


def _describe(facts: dict[str, Any]) -> str:
    int8 = facts["int8_instructions"]
    faster = f"{int8}: int8 models are about twice as fast as float32, see `pomona model quantize`"
    lines = {
        "pomona": facts["version"],
        "processor": f"{facts['processor']}, {count(facts['processors'], 'CPU')} available",
        "float32": facts["vectors"],
        "int8": faster if int8 else f"none: {INT8_WITHOUT_INSTRUCTIONS}",
        "models": f"{', '.join(facts['models']) or 'none yet'} (in {facts['models_folder']})",
    }
    return "\n".join(f"{name:11} {one_line(value)}" for name, value in lines.items())
