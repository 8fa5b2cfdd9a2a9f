"""`pomona similar`: photos that look like one, and photos that look alike."""

from __future__ import annotations

import argparse
import json
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pomona._images import one_line
from pomona.cli._arguments import positive
from pomona.cli._errors import CommandError
from pomona.cli._results import open_results
from pomona.cli._terminal import count, show
from pomona.similar import DUPLICATE_DISTANCE, METRIC, duplicates, nearest, vector_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pomona.results import Results

#: Neighbours, and pairs, that are shown unless -k says otherwise.
_NEIGHBOURS = 10
_PAIRS = 100


def add(verbs: Any, common: argparse.ArgumentParser) -> None:
    """Declare the verb."""
    verb = verbs.add_parser(
        "similar",
        parents=[common],
        help="the photos of a run that look like one, or like each other",
        description="Find the photos of a run that are nearest to PHOTO, or with --duplicates all "
        "pairs of its photos that are nearly the same. Exact: every photo is compared. Distances "
        "are cosine distances of the features, from 0 (the same) to 2.",
        epilog="examples: pomona similar results new.jpg -k 5; "
        "pomona similar results --duplicates --threshold 0.005",
    )
    verb.add_argument("output", metavar="OUTPUT", help="the --output of `pomona run`")
    verb.add_argument(
        "photo",
        nargs="?",
        metavar="PHOTO",
        help="a photo of the set, by its path, or any other, which goes through the run's model",
    )
    verb.add_argument(
        "-k",
        type=positive,
        metavar="N",
        help=f"how many to show (default: {_NEIGHBOURS} photos, {_PAIRS} pairs)",
    )
    verb.add_argument(
        "--duplicates", action="store_true", help="pairs of near-duplicates in the whole set"
    )
    verb.add_argument(
        "--threshold",
        type=_distance,
        metavar="D",
        help="with --duplicates: the farthest that two photos of a pair may be "
        f"(default: {DUPLICATE_DISTANCE})",
    )
    verb.add_argument(
        "--model",
        metavar="MODEL",
        help="where the run's model is, if not under its name (default: the name in summary.json)",
    )
    verb.add_argument("--json", action="store_true", help="print JSON")
    verb.set_defaults(command=_similar, unfinished="nothing was changed")


def _similar(args: argparse.Namespace) -> int:
    if args.duplicates == (args.photo is not None):
        raise CommandError("name a PHOTO, or ask for --duplicates: one of them")
    if args.threshold is not None and not args.duplicates:
        raise CommandError("--threshold belongs to --duplicates; -k says how many photos to show")
    with open_results(args.output, "similar", args.unfinished) as results:
        found = _duplicates(results, args) if args.duplicates else _nearest(results, args)
    show(json.dumps(found, indent=2) if args.json else _describe(found))
    return 0


def _duplicates(results: Results, args: argparse.Namespace) -> dict[str, Any]:
    threshold = DUPLICATE_DISTANCE if args.threshold is None else args.threshold
    found = duplicates(results.vectors("features"), threshold=threshold, most=args.k or _PAIRS)
    return {
        "metric": METRIC,
        "threshold": threshold,
        "photos": found.photos,
        "found": found.found,
        "pairs": [pair._asdict() for pair in found.pairs],
    }


def _nearest(results: Results, args: argparse.Namespace) -> dict[str, Any]:
    path, vector = _query(results, args.photo, args.model)
    k = args.k or _NEIGHBOURS
    # One more: a photo of the set finds itself.
    found = [each for each in nearest(results, vector, k + 1) if each.path != path][:k]
    return {
        "metric": METRIC,
        "photo": path or args.photo,
        "in_set": path is not None,
        "neighbours": [each._asdict() for each in found],
    }


def _query(
    results: Results, photo: str, model: str | None
) -> tuple[str | None, NDArray[np.float32]]:
    """Take a photo's features from the set, with its path there, or compute them."""
    # As Spark writes the paths of local files.
    for path in (photo, f"file:{Path(photo).absolute()}"):
        vector = vector_of(results, path)
        if vector is not None:
            return path, vector
    return None, _compute(results, photo, model)


def _compute(results: Results, photo: str, model: str | None) -> NDArray[np.float32]:
    from pomona import Featurizer, ImageError, ModelError
    from pomona.models.store import resolve, sha256_of

    try:
        # On a cluster the set is elsewhere, and the photo may be here.
        here = Path(photo)
        content = here.read_bytes() if here.is_file() else results.photo(photo)
    except OSError as error:
        raise CommandError(
            f"{photo} is no photo of the set with features, and cannot be read: "
            f"{error.strerror or error}"
        ) from error
    wanted = results.summary["model"]
    file = resolve(model or wanted["name"])
    found = sha256_of(file)
    if found != wanted["sha256"]:
        raise ModelError(
            f"{file} is not the model of this run: its sha256 is {found[:16]}… and the features "
            f"are of {wanted['name']} with {wanted['sha256'][:16]}…; name the right file with "
            "--model"
        )
    try:
        features = Featurizer(file).featurize([content])
    except ImageError as error:
        raise CommandError(f"{photo}: {error.reason}") from error
    vector: NDArray[np.float32] = features[0]
    return vector


def _describe(found: dict[str, Any]) -> str:
    if "pairs" in found:
        pairs = found["pairs"]
        lines = [
            f"{each['distance']:.6f}  {one_line(each['path'])}  {one_line(each['other'])}"
            for each in pairs
        ]
        lines.append(
            f"{count(found['found'], 'pair')} of {count(found['photos'], 'photo')} within "
            f"{found['metric']} {found['threshold']:g}"
        )
        if len(pairs) < found["found"]:
            lines[-1] += f"; the closest {len(pairs):,} are shown, -k shows more"
        return "\n".join(lines)
    lines = [f"{found['metric']} to {one_line(found['photo'])}:"]
    lines += [
        f"{each['distance']:.6f}  {one_line(each['label'])}  {one_line(each['path'])}"
        for each in found["neighbours"]
    ]
    return "\n".join(lines)


def _distance(text: str) -> float:
    with suppress(ValueError):
        if 0 <= float(text) <= 2:
            return float(text)
    raise argparse.ArgumentTypeError(f"{text!r} is not a cosine distance of 0 to 2")
