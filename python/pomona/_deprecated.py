"""Old names of arguments, kept as aliases that warn."""

from __future__ import annotations

import functools
import warnings
from typing import TYPE_CHECKING, Any, Callable, TypeVar, cast

if TYPE_CHECKING:
    F = TypeVar("F", bound=Callable[..., Any])


def renamed_arguments(**names: str) -> Callable[[F], F]:
    """Decorate a function so that it still accepts old names of keyword arguments.

    Examples
    --------
    >>> @renamed_arguments(images="photos")
    ... def double(photos):
    ...     return 2 * photos
    >>> with warnings.catch_warnings(record=True):
    ...     double(images=4)
    8
    """

    def decorate(function: F) -> F:
        @functools.wraps(function)
        def wrapper(*args: Any, **options: Any) -> Any:
            for old in names.keys() & options.keys():
                new = names[old]
                if new in options:
                    raise TypeError(
                        f"{function.__name__}() got both {new!r} and its old name {old!r}"
                    )
                message = f"{function.__name__}({old}=…) is deprecated: use {new}=…"
                warnings.warn(message, DeprecationWarning, stacklevel=2)
                options[new] = options.pop(old)
            return function(*args, **options)

        return cast("F", wrapper)

    return decorate
