"""The options of decoding, which are the same wherever photos are decoded."""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING

from pomona._arguments import unexpected
from pomona._native import MAX_PIXELS

if TYPE_CHECKING:
    from typing import Literal

    from typing_extensions import TypedDict

    DecodeMode = Literal["exact", "fast"]

    class DecodeKeywords(TypedDict, total=False):
        """The fields of `DecodeOptions` as keyword arguments."""

        apply_exif: bool
        strict: bool
        max_pixels: int
        decode: DecodeMode


#: The values of `DecodeOptions.decode`.
DECODE_MODES = ("exact", "fast")


@dataclass(frozen=True)
class DecodeOptions:
    """How photos are decoded.

    Every function that decodes photos takes these options as keyword arguments. They are part of
    what makes a feature set: features that were computed with different options are not mixed.

    Attributes
    ----------
    apply_exif : bool, default False
        Whether to turn a photo as its EXIF orientation says. The reference pipeline, Keras with
        Pillow, does not.
    strict : bool, default False
        Whether a photo that would have a warning, because a part of it is damaged, missing or out
        of range, is an error instead.
    max_pixels : int, default 178956970
        Photos of more pixels are refused before memory is allocated for them. The default is the
        limit at which Pillow raises its decompression-bomb error.
    decode : {"exact", "fast"}, default "exact"
        ``"exact"`` decodes every pixel. ``"fast"`` decodes a JPEG that is much larger than the
        model's input at 1/2, 1/4 or 1/8 of its size, as Pillow's ``draft`` does, but to at least
        twice the size of that input; the features differ slightly.

    Raises
    ------
    TypeError, ValueError
        If an option has a value of the wrong type or an invalid one.

    Examples
    --------
    >>> DecodeOptions(apply_exif=True)
    DecodeOptions(apply_exif=True, strict=False, max_pixels=178956970, decode='exact')
    """

    apply_exif: bool = False
    strict: bool = False
    max_pixels: int = MAX_PIXELS
    decode: DecodeMode = "exact"

    def __post_init__(self) -> None:
        for name in ("apply_exif", "strict"):
            value = getattr(self, name)
            if not isinstance(value, bool):
                raise TypeError(f"{name} is {value!r}: it must be True or False")
        if not isinstance(self.max_pixels, int) or isinstance(self.max_pixels, bool):
            raise TypeError(f"max_pixels is {self.max_pixels!r}: it must be an integer")
        if self.decode not in DECODE_MODES:
            raise ValueError(f'decode is {self.decode!r}: it must be "exact" or "fast"')
        if not self.max_pixels > 0:
            raise ValueError(f"max_pixels is {self.max_pixels!r}: it must be above 0")

    def keywords(self) -> DecodeKeywords:
        """Return the options as keyword arguments, and as they are stored in JSON."""
        return asdict(self)  # type: ignore[return-value]


def gather_options(function: str, keywords: DecodeKeywords) -> DecodeOptions:
    """Make options of the keyword arguments of the calling function, which a TypeError names.

    Examples
    --------
    >>> gather_options("predict", {"apply_exfi": True})
    Traceback (most recent call last):
    TypeError: predict() got an unexpected keyword argument 'apply_exfi'; did you mean 'apply_exif'?
    """
    known = [field.name for field in fields(DecodeOptions)]
    for name in keywords:
        if name not in known:
            # Its other arguments, of which one may be meant, are the first of its variables.
            caller = sys._getframe(1).f_code
            own = caller.co_varnames[: caller.co_argcount + caller.co_kwonlyargcount]
            raise TypeError(unexpected(function, name, [*known, *own]))
    return DecodeOptions(**keywords)


def changes_of_features(before: DecodeOptions, after: DecodeOptions) -> list[str]:
    """Name the options that differ and change features; the others only refuse photos.

    Examples
    --------
    >>> changes_of_features(DecodeOptions(), DecodeOptions(strict=True, decode="fast"))
    ['decode']
    """
    return [
        name for name in ("apply_exif", "decode") if getattr(before, name) != getattr(after, name)
    ]


def describe_changes(options: DecodeOptions) -> str:
    """Name the options that differ from the defaults.

    Examples
    --------
    >>> describe_changes(DecodeOptions(apply_exif=True, decode="fast"))
    "apply_exif=True, decode='fast'"
    >>> describe_changes(DecodeOptions())
    ''
    """
    defaults = asdict(DecodeOptions())
    changes = {name: value for name, value in asdict(options).items() if value != defaults[name]}
    return ", ".join(f"{name}={value!r}" for name, value in changes.items())
