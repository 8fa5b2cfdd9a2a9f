"""`pomona model`: get, make and inspect models."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from pomona._images import one_line
from pomona.bench import measure
from pomona.cli._arguments import (
    DEFAULT_MODEL,
    add_decode_options,
    add_json_option,
    add_old_name,
    height_and_width,
    numbers,
    positive,
)
from pomona.cli._errors import USAGE, CommandError
from pomona.cli._terminal import complain, count, describe_undecodable, show, show_json, size
from pomona.models.store import BUILT_IN_NAMES, DEFAULT_PHOTOS, NAME_SUFFIX

if TYPE_CHECKING:
    import argparse

    from pomona.bench import Bench
    from pomona.models.int8.quantizer import Quantized


def add(verbs: Any, common: argparse.ArgumentParser) -> None:
    """Declare the verb."""
    group = verbs.add_parser(
        "model",
        help="get, make and inspect models",
        description="Get, make and inspect models. They are stored in $POMONA_HOME, by default "
        "the folder pomona in the user's cache folder.",
    )
    actions = group.add_subparsers(title="commands", metavar="COMMAND")
    group.set_defaults(command=lambda _: group.print_help(sys.stderr) or USAGE, unfinished="")

    pull = actions.add_parser(
        "pull",
        parents=[common],
        help="download a model's published weights and convert them",
        description="Download a model's published weights and convert them.",
        epilog=f"example: pomona model pull {DEFAULT_MODEL}",
    )
    pull.add_argument(
        "name",
        nargs="?",
        default=DEFAULT_MODEL,
        metavar="MODEL",
        help=f"{' or '.join(BUILT_IN_NAMES)} (default: {DEFAULT_MODEL})",
    )
    pull.add_argument("--weights", metavar="FILE", help="the published weights, if downloaded")
    pull.add_argument("--overwrite", action="store_true", help="replace the model if it exists")
    add_old_name(pull, "--force", "--overwrite", nargs=0)
    add_json_option(pull)
    pull.set_defaults(command=_model_pull, unfinished="run the same command to resume")

    convert = actions.add_parser(
        "convert",
        parents=[common],
        help="make a model from your own weights",
        description="Make a model from Keras MobileNetV2 weights (.h5, .keras) or from an ONNX "
        "classifier.",
        epilog="example: pomona model convert mine.h5 -o mine.onnx",
    )
    convert.add_argument("weights", metavar="WEIGHTS", help="an .h5, .keras or .onnx file")
    convert.add_argument(
        "-o",
        "--output",
        metavar="FILE.onnx",
        help="the model to write (default: store it with the pulled models under its --name)",
    )
    convert.add_argument("--name", metavar="NAME", help="the model's name (default: the file's)")
    convert.add_argument(
        "--input-size",
        type=height_and_width,
        metavar="N | HxW",
        help="size of the images in pixels, if the file leaves it open (default: 224)",
    )
    convert.add_argument(
        "--output-tensor", metavar="NAME", help="the tensor of an ONNX file that holds the features"
    )
    convert.add_argument(
        "--pooling",
        choices=["avg", "max"],
        help="global pooling of the last map (default: that of a Keras model, else avg)",
    )
    for option, meaning in (
        ("--mean", "what the model subtracts from the pixels, which are 0 to 255"),
        ("--std", "what the model then divides the pixels by"),
    ):
        convert.add_argument(option, type=numbers, metavar="N | R,G,B", help=meaning)
    convert.add_argument("--license", metavar="TEXT", help="the weights' licence, for the metadata")
    add_json_option(convert)
    convert.set_defaults(command=_model_convert, unfinished="no model was written")

    quantize = actions.add_parser(
        "quantize",
        parents=[common],
        help="make a model's int8 version: about twice as fast on a CPU with VNNI",
        description="Make the int8 version of a model. Some photos set its ranges; others measure "
        "how close its features are to those of float32. The speed of both on this machine is "
        "measured as well, with a warning if int8 is slower.",
        epilog=f"example: pomona model quantize {DEFAULT_MODEL} --images fruits",
    )
    quantize.add_argument("model", metavar="MODEL", help="the float32 model's name or file")
    quantize.add_argument(
        "--images",
        required=True,
        metavar="FOLDER",
        help="photos like those that the model will be used for; their folders are their labels",
    )
    quantize.add_argument(
        "-o",
        "--output",
        metavar="FILE.onnx",
        help="the model to write (default: store it with the pulled models under its name)",
    )
    quantize.add_argument(
        "--name",
        metavar="NAME",
        help=f"the new model's name (default: that of MODEL, with {NAME_SUFFIX})",
    )
    quantize.add_argument(
        "--photos",
        type=positive,
        default=DEFAULT_PHOTOS,
        metavar="N",
        help=f"photos that set the ranges, from all over the folder (default: {DEFAULT_PHOTOS})",
    )
    quantize.add_argument(
        "--threads",
        type=positive,
        metavar="N",
        help="threads (default: one for each core that this process may use)",
    )
    quantize.add_argument("--overwrite", action="store_true", help="replace the file if it exists")
    add_json_option(quantize)
    add_decode_options(quantize)
    quantize.set_defaults(
        command=_model_quantize, unfinished="the model may exist, but was not measured"
    )

    info = actions.add_parser(
        "info",
        parents=[common],
        help="describe a model",
        description="Show a model's input size, features, source and licence.",
        epilog=f"example: pomona model info {DEFAULT_MODEL}",
    )
    info.add_argument("model", metavar="MODEL", help="a model's name or file")
    add_json_option(info)
    info.set_defaults(command=_model_info, unfinished="nothing was shown")

    listing = actions.add_parser(
        "list",
        parents=[common],
        help="list the models",
        description="List the models in $POMONA_HOME and those that can be pulled.",
    )
    add_json_option(listing)
    listing.set_defaults(command=_model_list, unfinished="nothing was shown")


def _model_pull(args: argparse.Namespace) -> int:
    from pomona import models

    path = models.pull(args.name, weights=args.weights, force=args.overwrite)
    _show_model(models.info(path), args)
    return 0


def _model_convert(args: argparse.Namespace) -> int:
    from pomona import models

    path = models.convert(
        args.weights,
        args.output,
        name=args.name,
        input_size=args.input_size,
        output_tensor=args.output_tensor,
        mean=args.mean,
        std=args.std,
        pooling=args.pooling,
        license=args.license,
    )
    _show_model(models.info(path), args)
    return 0


def _model_quantize(args: argparse.Namespace) -> int:
    from pomona import models
    from pomona.models.int8 import quantizer

    try:
        made = models.quantize(
            args.model,
            args.images,
            args.output,
            name=args.name,
            photos=args.photos,
            threads=args.threads,
            overwrite=args.overwrite,
            **args.decode_options,
        )
    except FileExistsError as error:
        raise CommandError(f"{error.filename} exists already; --overwrite replaces it") from error
    if made.calibration_photos < quantizer.ENOUGH_PHOTOS:
        complain(
            f"warning: {count(made.calibration_photos, 'photo')} set the ranges; "
            f"{quantizer.ENOUGH_PHOTOS} or more are better"
        )
    bench = measure([made.float32, made.path], threads=[1])
    float32, int8 = bench.results
    if int8.times_first_model < 1:
        complain(
            f"warning: int8 is slower than float32 on this machine, {int8.times_first_model:.2f}x; "
            f"keep using {float32.model} here"
        )
    if args.json:
        show_json({**asdict(made), "bench": asdict(bench)})
    else:
        show(_describe_quantized(made, bench, models.info(made.path)))
    return 0


def _describe_quantized(made: Quantized, bench: Bench, facts: dict[str, Any]) -> str:
    fidelity = made.fidelity
    float32, int8 = bench.results
    seen = ", also used for calibration" if fidelity.seen_in_calibration else ""
    lines = describe_undecodable(made.failed)
    compared = f"{count(fidelity.photos, 'photo')} in {count(fidelity.labels, 'folder')}"
    lines += [
        _describe_model(facts),
        "",
        f"compared    {compared}{seen}",
        f"cosine      median {fidelity.cosine_median:.4f}, 1st percentile "
        f"{fidelity.cosine_1_percent:.4f}, minimum {fidelity.cosine_min:.4f}",
    ]
    if fidelity.agreement is not None:
        lines.append(f"neighbour   the same nearest photo for {fidelity.agreement:.1%}")
    if fidelity.accuracy_float32 is not None and fidelity.accuracy_int8 is not None:
        lines.append(
            f"accuracy    {fidelity.accuracy_int8:.2%}, float32 {fidelity.accuracy_float32:.2%}: "
            "the nearest photo is in the same folder"
        )
    lines.append(
        f"speed       {int8.images_per_second_undisturbed:,.1f} images/s, float32 "
        f"{float32.images_per_second_undisturbed:,.1f}: {int8.times_first_model:.2f}x, "
        "one thread, by CPU time"
    )
    return "\n".join(lines)


def _model_info(args: argparse.Namespace) -> int:
    from pomona import models

    _show_model(models.info(args.model), args)
    return 0


def _show_model(facts: dict[str, Any], args: argparse.Namespace) -> None:
    if args.json:
        show_json(facts)
    else:
        show(_describe_model(facts))


def _describe_model(facts: dict[str, Any]) -> str:
    height, width = facts["input_size"]
    lines = {
        "name": facts["name"],
        "file": f"{facts['path']} ({size(facts['file_size'])})",
        "sha256": facts["sha256"],
        "images": f"{height} x {width} pixels, resized {facts['resize']}",
        "features": f"{facts['dim']:,} per photo",
        "parameters": f"{facts['parameters']:,}",
        "source": facts["source"],
        "license": facts["license"],
        "notes": facts.get("notes"),
        "precision": facts["precision"],
        "calibrated": facts.get("calibration"),
        "made from": facts.get("quantized_from"),
    }
    return "\n".join(f"{name:11} {one_line(value)}" for name, value in lines.items() if value)


def _model_list(args: argparse.Namespace) -> int:
    from pomona.models.store import home, names

    present = names()
    missing = [name for name in BUILT_IN_NAMES if name not in present]
    if args.json:
        show_json({"models_folder": str(home()), "models": present, "available": missing})
        return 0
    lines = [f"models in {one_line(str(home()))}:"]
    lines += [f"  {name}" for name in present] or ["  none yet"]
    if missing:
        lines.append("available with `pomona model pull MODEL`:")
        lines += [f"  {name}" for name in missing]
    show("\n".join(lines))
    return 0
