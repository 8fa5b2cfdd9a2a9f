"""`pomona similar`: find the nearest neighbours of a photo, or near-duplicates."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pomona._images import one_line
from pomona.cli._arguments import add_decode_options, add_json_option, number, positive
from pomona.cli._errors import CommandError
from pomona.cli._results import add_results, open_results
from pomona.cli._terminal import complain, count, show, show_json
from pomona.similar import DUPLICATE_DISTANCE, METRIC, duplicates, nearest

if TYPE_CHECKING:
    import argparse

    import numpy as np
    from numpy.typing import NDArray

    from pomona._decode import DecodeKeywords
    from pomona.results import Results

#: Neighbours and pairs shown by default.
_NEIGHBOURS = 10
_PAIRS = 100


def add(verbs: Any, common: argparse.ArgumentParser) -> None:
    """Declare the verb."""
    verb = verbs.add_parser(
        "similar",
        parents=[common],
        help="find the nearest neighbours of a photo, or near-duplicates",
        description="Find the photos that are nearest to PHOTO or, with --duplicates, all "
        "pairs of near-duplicates. The search is exact. Distances are cosine distances of the "
        "features, from 0 (identical) to 2.",
        epilog="examples: pomona similar results new.jpg -k 5; "
        "pomona similar results --duplicates --threshold 0.005",
    )
    add_results(verb)
    verb.add_argument(
        "photo",
        nargs="?",
        metavar="PHOTO",
        help="the path of a photo of RESULTS, or of any other photo, which is featurized first "
        "with the same model and decode options",
    )
    verb.add_argument(
        "-k",
        type=positive,
        metavar="N",
        help=f"maximum number of results (default: {_NEIGHBOURS} photos or {_PAIRS} pairs)",
    )
    verb.add_argument(
        "--duplicates", action="store_true", help="find pairs of near-duplicates in the whole set"
    )
    verb.add_argument(
        "--threshold",
        type=number(float, lambda x: 0 <= x <= 2, "a cosine distance from 0 to 2"),
        metavar="D",
        help=f"maximum distance of near-duplicates (default: {DUPLICATE_DISTANCE})",
    )
    verb.add_argument(
        "--model",
        metavar="MODEL",
        help="the image model that the run used, if it is not available under its name",
    )
    add_json_option(verb)
    add_decode_options(verb)
    verb.set_defaults(command=_similar, unfinished="nothing was changed")


def _similar(args: argparse.Namespace) -> int:
    if args.duplicates == (args.photo is not None):
        raise CommandError("give either a PHOTO or --duplicates")
    if args.threshold is not None and not args.duplicates:
        raise CommandError("--threshold applies to --duplicates; use -k to limit the neighbours")
    with open_results(args.results, "similar", args.unfinished) as results:
        answer = _duplicates(results, args) if args.duplicates else _nearest(results, args)
    if args.json:
        show_json(answer)
    else:
        show(_describe(answer))
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
    path, vector = _query(results, args.photo, args.model, args.decode_options)
    k = args.k or _NEIGHBOURS
    # One more, because a photo of the set finds itself.
    others = [each for each in nearest(results, vector, k + 1) if each.path != path][:k]
    return {
        "metric": METRIC,
        "photo": path or args.photo,
        "in_set": path is not None,
        "neighbours": [each._asdict() for each in others],
    }


def _query(
    results: Results, photo: str, model: str | None, options: DecodeKeywords
) -> tuple[str | None, NDArray[np.float32]]:
    """Return a photo's path in the set and its features; None and computed ones otherwise."""
    for block in results.vectors("features", paths=results.paths_of(photo)):
        return block.paths[0], block.matrix[0]
    return None, _compute(results, photo, model, options)


def _compute(
    results: Results, photo: str, model: str | None, options: DecodeKeywords
) -> NDArray[np.float32]:
    from pomona import Featurizer, ModelError
    from pomona.models.store import resolve, sha256_of

    try:
        # A local photo can be compared with results on a cluster.
        local = Path(photo)
        content = local.read_bytes() if local.is_file() else results.photo(photo)
    except OSError as error:
        raise CommandError(
            f"{photo} has no features in these results, and cannot be read: "
            f"{error.strerror or error}"
        ) from error
    expected = results.summary["model"]
    try:
        file = resolve(model or expected["name"])
    except ModelError as error:
        if model is not None:
            raise
        raise ModelError(
            f"{error} The features were computed with {expected['name']}: give its file with "
            "--model"
        ) from error
    sha256 = sha256_of(file)
    if sha256 != expected["sha256"]:
        raise ModelError(
            f"{file} is not the model of this run: its sha256 is {sha256[:16]}… and the features "
            f"were computed with {expected['name']} ({expected['sha256'][:16]}…); give the right "
            "file with --model"
        )
    decode = _decode_options(results, options)
    (vector,), (failure,) = batch = Featurizer(file, **decode).try_featurize([content])
    if failure is not None:
        raise CommandError(f"{photo}: {failure.reason}") from failure
    if batch.warnings[0] is not None:
        complain(f"warning: {one_line(photo)}: {batch.warnings[0]}")
    features: NDArray[np.float32] = vector
    return features


def _decode_options(results: Results, given: DecodeKeywords) -> DecodeKeywords:
    """Return the options of the run, changed by those given; warn if that changes features."""
    from pomona._decode import changes_of_features

    options = replace(results.decode, **given)
    changed = changes_of_features(results.decode, options)
    if changed:
        names = " and ".join(changed)
        complain(f"warning: the photo is decoded with another {names} than the run")
    return options.keywords()


def _describe(answer: dict[str, Any]) -> str:
    if "pairs" in answer:
        pairs = answer["pairs"]
        lines = [
            f"{each['distance']:.6f}  {one_line(each['path'])}  {one_line(each['other'])}"
            for each in pairs
        ]
        lines.append(
            f"{count(answer['found'], 'pair')} among {count(answer['photos'], 'photo')} within "
            f"{answer['metric']} {answer['threshold']:g}"
        )
        if len(pairs) < answer["found"]:
            lines[-1] += f"; the closest {len(pairs):,} are shown, use -k for more"
        return "\n".join(lines)
    lines = [f"{answer['metric']} to {one_line(answer['photo'])}:"]
    lines += [
        f"{each['distance']:.6f}  {one_line(each['label'])}  {one_line(each['path'])}"
        for each in answer["neighbours"]
    ]
    return "\n".join(lines)
