"""The outcome of featurizing a photo, in the same form for every function and command."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pomona._batch import FeaturizedBatch


class Outcome(NamedTuple):
    """Features, or the reason and kind of an error; and the notes on the photo."""

    features: list[float] | None
    error: str | None
    error_kind: str | None
    warning: str | None
    orientation: int | None


def outcomes(batch: FeaturizedBatch) -> list[Outcome]:
    errors = [(error and error.reason, error and error.kind) for error in batch.errors]
    return [
        Outcome(None if reason else row.tolist(), reason, kind, warning, orientation)
        for row, (reason, kind), warning, orientation in zip(
            batch.features, errors, batch.warnings, batch.orientations
        )
    ]
