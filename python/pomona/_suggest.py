"""Suggestions for names that are spelled wrongly."""

from __future__ import annotations

import difflib
from typing import Iterable


def did_you_mean(word: str, words: Iterable[str]) -> str:
    """Return a question that names the most similar of `words`; nothing if none is similar.

    Examples
    --------
    >>> did_you_mean("mobilnet_v2", ["efficientnet_lite0", "mobilenet_v2"])
    "; did you mean 'mobilenet_v2'?"
    >>> did_you_mean("zebra", ["efficientnet_lite0", "mobilenet_v2"])
    ''
    """
    similar = closest(word, words)
    return "" if similar is None else f"; did you mean {similar!r}?"


def closest(word: str, words: Iterable[str]) -> str | None:
    """Return the most similar of `words`, regardless of case, ``-`` and ``_``."""
    spelled = {_plain(each): each for each in words}
    found = difflib.get_close_matches(_plain(word), spelled, n=1)
    return spelled[found[0]] if found else None


def _plain(word: str) -> str:
    return word.lower().replace("_", "-")
