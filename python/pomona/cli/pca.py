"""`pomona pca`: fit a PCA to results."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from pomona._images import one_line
from pomona.cli._arguments import add_json_option, positive, share
from pomona.cli._results import add_engine, add_results, open_results
from pomona.cli._terminal import count, show, show_json
from pomona.results import LocalResults

if TYPE_CHECKING:
    import argparse

    from pomona.pca import Fit
    from pomona.results import Results
    from pomona.spark.results import SparkResults


def add(verbs: Any, common: argparse.ArgumentParser) -> None:
    """Declare the verb."""
    verb = verbs.add_parser(
        "pca",
        parents=[common],
        help="fit a PCA to features, and project them",
        description="Fit a PCA to the features of results and write pca (one vector per photo), "
        "pca_model (which PySpark loads) and summary.json beside them. For a file such as "
        "fruits.parquet, they are in the folder fruits-results next to it.",
        epilog="example: pomona pca fruits.parquet --variance 0.9",
    )
    add_results(verb)
    add_pca_options(verb)
    add_engine(verb)
    add_json_option(verb)
    verb.set_defaults(command=_pca, unfinished="repeat the command to finish the PCA")


def add_pca_options(verb: argparse.ArgumentParser) -> None:
    """Add the options that say what to fit."""
    size = verb.add_mutually_exclusive_group()
    size.add_argument(
        "--variance",
        type=share,
        metavar="SHARE",
        help="keep enough components to explain this share of the variance (default: 0.95)",
    )
    size.add_argument("--components", type=positive, metavar="K", help="keep this many components")
    verb.add_argument(
        "--standardize",
        action="store_true",
        help="divide each feature by its standard deviation before the PCA",
    )


def _pca(args: argparse.Namespace) -> int:
    options = {
        "variance": args.variance,
        "components": args.components,
        "standardize": args.standardize,
    }
    with open_results(args.results, "pca", args.unfinished, engine=args.engine) as results:
        if isinstance(results, LocalResults):
            from pomona.pca import write_pca

            pca: Fit = write_pca(results, **options)
        else:
            from pomona.spark import pca as on_spark

            pca = on_spark.write_pca(cast("SparkResults", results), **options)
        answer = _answer(results, pca)
    if args.json:
        show_json(answer)
    else:
        show(_describe(answer))
    return 0


def _answer(results: Results, pca: Fit) -> dict[str, Any]:
    keys = ("k", "dim", "variance", "variance_explained", "variance_curve", "standardize")
    stages = ("pca", "projection", "model")
    return {
        "output": results.uri,
        "rows": pca.rows,
        "empty": pca.empty,
        "nonfinite": pca.nonfinite,
        **{key: results.summary[key] for key in keys},
        "seconds": {stage: results.summary["seconds"][stage] for stage in stages},
    }


def _describe(answer: dict[str, Any]) -> str:
    left_out = [
        f"{count(answer[key], 'photo')} {why}"
        for key, why in (("empty", "without features"), ("nonfinite", "with NaN or infinity"))
        if answer[key]
    ]
    photos = f"{count(answer['rows'], 'photo')}" + "".join(f"; left out: {one}" for one in left_out)
    return "\n".join(
        [
            f"PCA of {photos}",
            f"{answer['k']:,} of {answer['dim']:,} components explain "
            f"{answer['variance_explained']:.2%} of the variance",
            "seconds: " + ", ".join(f"{key} {s:.1f}" for key, s in answer["seconds"].items()),
            f"{one_line(answer['output'])}: pca, pca_model, summary.json",
        ]
    )
