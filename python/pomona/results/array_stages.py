"""Stages that turn a column of arrays into one of vectors, from plain Spark's own parts.

Spark ML's stages take vectors only, and its `array_to_vector` is no stage. A saved PCA therefore
begins with three stages that any Spark has, from 3.1 on:

1. SQL that spreads the numbers of an array over columns, one each, beside a struct of the photo's
   own columns;
2. a `VectorAssembler` over those columns;
3. SQL that unpacks the photo's columns again, which leaves out the numbers.

Vectors are taken as well. No SQL function takes both, except the cast to text, which writes arrays
and dense vectors alike. Text of a float is read as a float before it becomes a double, so that all
numbers stay exactly what they are.
"""

from __future__ import annotations

FEATURES = "features"
#: The column of vectors.
VECTORS = "features_vector"

_PARSED = f"from_json(CAST({FEATURES} AS STRING), 'array<double>')"
_NUMBERS = (
    f"IF(typeof({FEATURES}) = 'array<float>', "
    f"transform({_PARSED}, x -> CAST(CAST(x AS FLOAT) AS DOUBLE)), {_PARSED})"
)

#: Photos without features get vectors of NaN.
INVALID = "keep"
UNPACK = f"SELECT photo.*, {VECTORS} FROM __THIS__"  # noqa: S608 - all parts are ours


def columns(dimensions: int) -> list[str]:
    """Return the names of the columns between the first two stages."""
    return [f"feature_{number}" for number in range(dimensions)]


def spread(dimensions: int) -> str:
    """Return the SQL of the first stage.

    A lateral view is computed once for a row, where Spark would repeat a subquery's expression in
    each column that uses it. The outer ones are exempt from a rule of Spark's optimizer that checks
    for empty arrays with code too large to compile.
    """
    names = ", ".join(columns(dimensions))
    numbers = ", ".join(f"numbers[{number}]" for number in range(dimensions))
    refused = (
        f"raise_error('the PCA takes features that are dense and of length {dimensions}: it was "
        "fitted to those of one model')"
    )
    is_valid = f"size(numbers) = {dimensions} OR photo.{FEATURES} IS NULL"
    row = f"IF({is_valid}, array(struct({numbers})), {refused})"
    return (
        f"SELECT photo, {names} "  # noqa: S608 - all parts are ours
        f"FROM (SELECT struct(*) AS photo, {_NUMBERS} AS parsed FROM __THIS__) "
        "LATERAL VIEW OUTER explode(array(parsed)) AS numbers "
        f"LATERAL VIEW OUTER inline({row}) AS {names}"
    )
