"""Draw `report.png`, the README's picture: the report about the photos that the README draws.

Usage: python docs/images/make_report.py

Needs the model `efficientnet_lite0`, Chromium, and Pomona with its extra `report`.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
TARGET = Path(__file__).with_name("report.png")
WIDTH, HEIGHT = 1240, 1180
CHROMIUM = (
    "chromium --headless=new --no-sandbox --disable-dev-shm-usage --enable-unsafe-swiftshader "
    "--hide-scrollbars --virtual-time-budget=20000"
)
#: The page is mostly flat colour, so a palette looks the same and takes a third of the bytes.
COLOURS = 128
MOST_BYTES = 200_000


def main() -> None:
    """Write the picture."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        report = folder / "fruits-results/report/index.html"
        for command in (
            f"{ROOT}/tests/support/photos.py fruits --per-class 24 --faults",
            "-m pomona featurize fruits -o fruits.parquet --model efficientnet_lite0",
            "-m pomona report fruits.parquet",
        ):
            subprocess.run([sys.executable, *command.split()], cwd=folder, check=True)
        # The page names the folder of the photos, which is elsewhere for everyone.
        text = report.read_text(encoding="utf-8").replace(f"{folder}/", "/data/")
        report.write_text(text, encoding="utf-8")
        picture = [f"--window-size={WIDTH},{HEIGHT}", "--screenshot=page.png", str(report)]
        subprocess.run([*CHROMIUM.split(), *picture], cwd=folder, check=True)
        page = Image.open(folder / "page.png").convert("RGB")
        page.quantize(COLOURS, dither=Image.Dither.NONE).save(TARGET, optimize=True)
    size = TARGET.stat().st_size
    print(f"{TARGET}: {size:,} bytes")
    if size > MOST_BYTES:
        sys.exit(f"that is more than {MOST_BYTES:,}: use fewer colours or a smaller window")


if __name__ == "__main__":
    main()
