"""int8 compared with float32, and float32 with the peak of the CPU.

Models are quantized as a user's are. Fidelity is measured on photos that calibration has not seen.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from harness import INT8_MODEL, MODEL, WORK, busy, command, run, verdict

CORES = 2
MOBILENET, EFFICIENTNET = "mobilenet_v2", "efficientnet_lite0"

PEAK = 0.7
"""Minimum share of the measured multiply-add peak that float32 reaches on one thread."""
TIMES = {MOBILENET: 2.3, EFFICIENTNET: 2.0}
"""Minimum speed of int8 on one thread, as a multiple of float32's images/s, where the CPU has int8
instructions."""
TIMES_WITHOUT = 1.0
"""The same where it has none."""
LOST_POINTS, MEDIAN_COSINE, LOWEST_COSINE = 0.5, 0.99, 0.97

Benches = dict[str, dict[str, Any]]
"""Results of `pomona.bench` for float32 and int8, by the model's name."""


def quantize(photos: Path) -> None:
    """Make the int8 version of the MobileNetV2 that the benchmark uses."""
    run(command(sys.executable, "quantize.py", MODEL, photos, INT8_MODEL))


def measure(photos: Path, seconds: float) -> list[str]:
    """Measure everything and return it as lines of Markdown."""
    model = efficientnet()
    int8 = model.with_name(f"{EFFICIENTNET}_int8.onnx")
    quantized = run(command(sys.executable, "quantize.py", model, real_photos(photos), int8))
    pairs = {MOBILENET: (MODEL, INT8_MODEL), EFFICIENTNET: (model, int8)}
    benches = {
        name: run(command(sys.executable, "peak.py", photos, str(seconds), *pair), CORES)
        for name, pair in pairs.items()
    }
    fidelity = quantized["fidelity"]
    return [
        *limits_table(benches, fidelity),
        "",
        *speed_table(benches),
        "",
        f"Bytes to features, as `pomona bench` measures them; peak: {peaks(benches)} billion "
        f"float32 multiply-adds a second, {benches[MOBILENET]['vectors']}; int8 instructions: "
        f"{benches[MOBILENET]['int8_instructions'] or 'none'}. Fidelity on "
        f"{fidelity['photos']} photos in {fidelity['labels']} folders, "
        f"{'' if fidelity['seen_in_calibration'] else 'none of them '}among the "
        f"{quantized['calibration_photos']} of the calibration; float32 and int8 agree on "
        f"the nearest neighbour of {fidelity['agreement']:.1%}.",
        *busy(min(bench["processor_share"] for bench in benches.values())),
    ]


def real_photos(photos: Path) -> Path:
    """Return the folder of all real photos, of any size, if there are any."""
    folder = os.environ.get("POMONA_PHOTOS")
    return Path(folder) if folder else photos


def efficientnet() -> Path:
    """Make the model, with the converter as it is now."""
    home = WORK / "models"
    pull = [sys.executable, "-m", "pomona", "model", "pull", EFFICIENTNET, "--force"]
    subprocess.run(pull, env={**os.environ, "POMONA_HOME": str(home)}, check=True)
    return home / f"{EFFICIENTNET}.onnx"


def limits_table(benches: Benches, fidelity: dict[str, float]) -> list[str]:
    lines = [
        "| | target | measured | by CPU time | |",
        "| --- | --- | --- | --- | --- |",
    ]
    float32 = result(benches[MOBILENET], threads=1)
    share = float32["share_of_peak"]
    by_wall = share * float32["images_per_second"] / float32["images_per_second_undisturbed"]
    lines.append(
        f"| float32, `{MOBILENET}`, 1 thread: share of the multiply-add peak | >= {PEAK:.0%} | "
        f"{by_wall:.0%} | {share:.0%} | {verdict(share >= PEAK)} |"
    )
    for threads in (1, 2):
        for name, target in TIMES.items():
            pair = [result(benches[name], threads, int8) for int8 in (False, True)]
            by_wall, by_cpu = (
                pair[1][unit] / pair[0][unit]
                for unit in ("images_per_second", "images_per_second_undisturbed")
            )
            shown, holds = "", ""
            if threads == 1:
                least = target if benches[name]["int8_instructions"] else TIMES_WITHOUT
                shown, holds = f">= {least}x", verdict(by_wall >= least)
            title = f"int8 compared with float32, `{name}`, {threads} thread{'s'[: threads - 1]}"
            lines.append(f"| {title} | {shown} | {by_wall:.2f}x | {by_cpu:.2f}x | {holds} |")
    lost = 100 * (fidelity["accuracy_float32"] - fidelity["accuracy_int8"])
    middle, lowest = fidelity["cosine_median"], fidelity["cosine_min"]
    rows = [
        ("1-NN accuracy lost", f"<= {LOST_POINTS} points", f"{lost:.2f}", lost <= LOST_POINTS),
        ("median cosine", f">= {MEDIAN_COSINE}", f"{middle:.4f}", middle >= MEDIAN_COSINE),
        ("lowest cosine", f">= {LOWEST_COSINE}", f"{lowest:.4f}", lowest >= LOWEST_COSINE),
    ]
    return lines + [
        f"| int8 fidelity, `{EFFICIENTNET}`: {title} | {target} | {measured} | | {verdict(holds)} |"
        for title, target, measured, holds in rows
    ]


def speed_table(benches: Benches) -> list[str]:
    lines = [
        "| | images/s, 1 thread | images/s, 2 threads | of the float32 peak, 1 thread |",
        "| --- | --- | --- | --- |",
    ]
    for name, bench in benches.items():
        for int8 in (False, True):
            one, two = (result(bench, threads, int8) for threads in (1, 2))
            share = one["share_of_peak"]
            lines.append(
                f"| `{name}`, {'int8' if int8 else 'float32'} | {one['images_per_second']:.0f} | "
                f"{two['images_per_second']:.0f} | {share:.0%} |"
            )
    return lines


def result(bench: dict[str, Any], threads: int, int8: bool = False) -> dict[str, Any]:
    """Return the result for a number of threads. The list has float32 first."""
    return [one for one in bench["results"] if one["threads"] == threads][int8]


def peaks(benches: Benches) -> str:
    one, two = (peak["multiply_adds_per_second"] / 1e9 for peak in benches[MOBILENET]["peaks"])
    return f"{one:.0f} on one thread and {two:.0f} on two"
