"""The parser of all commands: argparse, which says what was meant where something is misspelled."""

from __future__ import annotations

import argparse
from typing import Any, NoReturn, Sequence

from pomona._suggest import closest, did_you_mean


class Parser(argparse.ArgumentParser):
    """A parser whose usage errors suggest the command, the choice or the option that was meant.

    Parsers of commands refuse unknown arguments themselves, so that their own usage is shown.
    """

    _words: Sequence[str] = ()

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Parse arguments, and refuse those that are unknown."""
        self._words = args or ()
        parsed, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return parsed, unknown

    def error(self, message: str) -> NoReturn:
        """Exit with a usage error, and a question if an option seems to be misspelled."""
        options = {
            name: action.help != argparse.SUPPRESS
            for action in self._actions
            for name in action.option_strings
        }
        for word in self._words:
            name = word.partition("=")[0]
            # argparse accepts the beginning of an option.
            if name.startswith("--") and not any(each.startswith(name) for each in options):
                meant = did_you_mean(name, [each for each, shown in options.items() if shown])
                if meant:
                    message += ("" if name in message else f"; {name} is unknown") + meant
                break
        super().error(message)

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        try:
            super()._check_value(action, value)
        except argparse.ArgumentError as error:
            spellings = _spellings(action)
            similar = closest(str(value), spellings)
            if similar is not None:
                error.message += f"; did you mean {spellings[similar]!r}?"
            raise


def _spellings(action: argparse.Action) -> dict[str, str]:
    """Return what may be meant instead of a wrong choice, by how it may be spelled."""
    choices: Any = action.choices or ()
    spellings = {str(choice): str(choice) for choice in choices}
    if isinstance(action, argparse._SubParsersAction):
        spellings.update(help="--help", version="--version")
        # `pomona pull` means `pomona model pull`.
        for name, parser in action.choices.items():
            for inner in parser._actions:
                if isinstance(inner, argparse._SubParsersAction):
                    spellings.update((word, f"{name} {word}") for word in inner.choices)
    return spellings
