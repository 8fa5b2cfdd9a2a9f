"""The notebooks: what is committed, and what comes out when the local one is run.

They are tested on the Spark that `make notebooks` runs them on; `test_livy.py` runs the one for EMR
on the oldest.
"""

from __future__ import annotations

import ast
import base64
import io
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

import photos

pytest.importorskip("jupytext", reason="only the Spark of `make notebooks` has jupytext")

import notebooks
import run_notebook
from emr import files
from pomona import plan

ROOT = Path(__file__).resolve().parents[2]
LOCAL, ON_EMR = (notebooks.path_of(source, "en") for source in notebooks.SOURCES)
COMMITTED = [
    notebooks.path_of(source, language)
    for source in notebooks.SOURCES
    for language in notebooks.SUFFIXES
]
FIGURES = ["balance", "contact_sheet", "curve", "scatter"]
#: Photos with what is known of them: tables in Jupyter, text and a contact sheet through Livy.
TABLES = ["table", "predict", "nearest", "suspects"]
#: What only a laptop does: it ends its session itself, and has what draws the report.
LOCAL_ONLY = {"stop", "write_report"}
#: Cells of the contact sheets that stand below those texts.
SHEETS = [f"{name}_photos" for name in TABLES]
PER_CLASS = 6

pytestmark = [
    # The kernel's sockets, and what Jupyter's own packages say of each other.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings(
        "ignore::DeprecationWarning:(jupyter|zmq|traitlets|nbclient|nbformat)"
    ),
]

each_committed = pytest.mark.parametrize("path", COMMITTED, ids=lambda path: path.stem)

#: Words that are common in one language and do not exist in the other.
WORDS = {
    "en": re.compile(r"\b(the|of|and|is|with|which)\b", re.IGNORECASE),
    "fr": re.compile(r"\b(le|les|des|une|est|qui|avec)\b", re.IGNORECASE),
}
#: What is no prose: code, titles of Spark's jobs, links.
QUOTED = re.compile(r"`[^`]*`|(?<!\*)\*[^*]+\*(?!\*)|\[[^\]]*\]\([^)]*\)")


def read(path: Path) -> Any:
    return nbformat.read(str(path), as_version=4)


def cell(notebook: Any, name: str) -> Any:
    (found,) = [cell for cell in notebook.cells if cell.id == name]
    return found


def text(notebook: Any, name: str) -> str:
    return "".join(output.get("text", "") for output in cell(notebook, name).outputs)


def values(notebook: Any, name: str) -> dict[str, Any]:
    """The values that a cell prints as a dictionary, the last if there are several."""
    found: dict[str, Any] = ast.literal_eval(re.findall(r"\{[^{}]*\}", text(notebook, name))[-1])
    return found


def markdown(notebook: Any) -> str:
    cells = [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]
    return "\n\n".join(cells)


def python(notebook: Any) -> str:
    """The code of a notebook without its magics."""
    sources = [cell.source for cell in run_notebook.code_cells(notebook)]
    lines = [line for source in sources if source[:2] != "%%" for line in source.splitlines()]
    return "\n".join(line for line in lines if not line.startswith("%"))


@pytest.fixture(scope="module")
def photo_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few photos of each of six classes, real ones if there are any, and a broken one."""
    folder = tmp_path_factory.mktemp("laptop") / "fruits"
    real = os.environ.get("POMONA_PHOTOS")
    if real:
        for label in sorted(Path(real, "fruits-360-100x100", "Test").iterdir()):
            (folder / label.name).mkdir(parents=True)
            for photo in sorted(label.iterdir())[:PER_CLASS]:
                shutil.copy(photo, folder / label.name)
    else:
        photos.render(folder, classes=6, per_class=PER_CLASS)
    photos.break_one(sorted(folder.glob("*/*.jpg")))
    return folder


@pytest.fixture(scope="module")
def executed(photo_folder: Path, tiny_model: Path, java_options: str) -> Any:
    """The local notebook as it is after a run on the Spark of this environment."""
    # Looks for fonts, which a notebook would tell of if that took some seconds.
    subprocess.run([sys.executable, "-c", "import matplotlib.font_manager"], check=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JDK_JAVA_OPTIONS", java_options)
        notebook = run_notebook.execute(
            read(LOCAL),
            photo_folder.parent,
            parameters={"PHOTOS": photo_folder.name, "MODEL": str(tiny_model)},
        )
    run_notebook.normalise(notebook)
    return notebook


def test_the_local_notebook_ends_in_features_and_components_on_disk(
    executed: Any, photo_folder: Path
) -> None:
    results = photo_folder.parent / "results"
    features = pq.read_table(str(results / "features")).to_pydict()
    # The notebook decides to leave out the near-duplicates.
    kept = 6 * PER_CLASS - values(executed, "decide")["left out"]
    assert len(features["path"]) == kept + 1
    assert sum(error is not None for error in features["error"]) == 1
    pca = pq.read_table(str(results / "pca")).to_pydict()
    assert len(set(pca["path"])) == len(pca["path"]) == kept
    assert set(pca["label"]) == {label.name for label in photo_folder.iterdir()}

    matrix = np.array([each for each in features["features"] if each is not None], dtype=np.float64)
    variances = np.linalg.eigvalsh(np.cov(matrix.T))[::-1]
    k = int(np.argmax(np.cumsum(variances) / variances.sum() >= 0.95)) + 1
    assert {len(each) for each in pca["pca"]} == {k}
    assert f"'featurized': 0, 'k': {k}}}" in text(executed, "decide")
    assert values(executed, "fit")["of"] == 16
    assert (results / "pca_model" / "metadata").is_dir()


def test_the_local_notebook_says_what_it_does(executed: Any) -> None:
    count = 6 * PER_CLASS
    assert values(executed, "featurize") == {
        "photos": count + 1,
        "featurized": count + 1,
        "errors": 1,
    }
    assert "truncated" in text(executed, "read_features")
    assert [cell.id for cell in executed.cells] == [cell.id for cell in read(LOCAL).cells]
    for name in FIGURES:
        assert_picture(cell(executed, name))
    for name in TABLES:
        assert_photos(cell(executed, name))


def test_the_local_notebook_labels_photos_and_writes_a_report(
    executed: Any, photo_folder: Path
) -> None:
    count, results = 6 * PER_CLASS, photo_folder.parent / "results"
    assert values(executed, "run").items() >= {"photos": count + 1, "featurized": 0}.items()
    assert text(executed, "train").startswith("random {'photos': ")
    assert values(executed, "predict")["labels of folders"] == count
    labels = pq.read_table(str(results / "labels")).to_pydict()
    assert sum(label is not None for label in labels["predicted"]) == count
    assert (results / "report" / "index.html").stat().st_size > 100_000
    assert text(executed, "write_report").startswith("results/report/index.html {")


def test_the_local_notebook_can_be_shared_after_a_run(executed: Any) -> None:
    assert run_notebook.traces_of_machines(executed) == []
    streams = [output for cell in run_notebook.code_cells(executed) for output in cell.outputs]
    assert {output.name for output in streams if output.output_type == "stream"} == {"stdout"}


def assert_picture(cell: Any) -> None:
    (output,) = [output for output in cell.outputs if "image/png" in output.get("data", {})]
    image = Image.open(io.BytesIO(base64.b64decode(output.data["image/png"])))
    assert min(image.size) > 200
    assert len(image.convert("RGB").getcolors(maxcolors=1 << 24)) > 4


def assert_photos(cell: Any) -> None:
    (output,) = [output for output in cell.outputs if "text/html" in output.get("data", {})]
    assert output.data["text/html"].count("data:image/jpeg;base64,") > 4


@pytest.mark.parametrize("language", notebooks.SUFFIXES)
@pytest.mark.parametrize("source", notebooks.SOURCES, ids=lambda source: source.stem)
def test_a_committed_notebook_is_that_of_its_source(source: Path, language: str) -> None:
    executed = read(notebooks.path_of(source, "en"))
    committed = read(notebooks.path_of(source, language))
    assert committed == notebooks.translated(source, language, executed)
    assert [cell.id for cell in committed.cells] == [cell.id for cell in executed.cells]


@each_committed
def test_a_committed_notebook_is_in_one_language(path: Path) -> None:
    language = "fr" if path.stem.endswith(".fr") else "en"
    (other,) = set(WORDS) - {language}
    prose = QUOTED.sub("", markdown(read(path)))
    assert WORDS[other].findall(prose) == []
    assert len(WORDS[language].findall(prose)) > 50


@each_committed
def test_what_a_plot_or_a_table_shows_is_said_below_it(path: Path) -> None:
    cells = read(path).cells
    for name in [*FIGURES, *TABLES]:
        (place,) = [place for place, cell in enumerate(cells) if cell.id == name]
        below = next(cell for cell in cells[place:] if cell.cell_type == "markdown")
        assert not below.source.startswith("#"), name


@each_committed
def test_a_committed_notebook_has_the_outputs_of_a_whole_run(path: Path) -> None:
    notebook = read(path)
    cells = run_notebook.code_cells(notebook)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    for name in FIGURES:
        assert_picture(cell(notebook, name))
    outputs = [output for cell in cells for output in cell.outputs]
    assert "error" not in {output.output_type for output in outputs}
    assert "stderr" not in {output.get("name") for output in outputs}
    for cell_with_text in [
        *("imports", "read", "first_rows", "look", "featurize", "fit", "check"),
        *("run", "train", "predict", "findings", "decide"),
    ]:
        assert text(notebook, cell_with_text), cell_with_text


@each_committed
def test_a_committed_notebook_tells_of_no_machine_and_is_as_the_tool_leaves_it(path: Path) -> None:
    notebook = read(path)
    assert run_notebook.traces_of_machines(notebook) == []
    run_notebook.normalise(notebook)
    assert notebook == read(path)


@each_committed
def test_a_notebook_defines_nothing_that_the_package_should_own(path: Path) -> None:
    definitions = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)
    nodes = ast.walk(ast.parse(python(read(path))))
    assert [ast.dump(node) for node in nodes if isinstance(node, definitions)] == []


def test_both_notebooks_take_the_same_steps_to_the_same_result() -> None:
    local, on_emr = read(LOCAL), read(ON_EMR)
    on_emr_only = {"configure", *SHEETS}
    steps = [cell.id for cell in run_notebook.code_cells(on_emr) if cell.id not in on_emr_only]
    assert [
        cell.id for cell in run_notebook.code_cells(local) if cell.id not in LOCAL_ONLY
    ] == steps
    for name in ("read", "featurize", "fit"):
        assert text(local, name).strip() == text(on_emr, name).strip()


def test_the_committed_local_notebook_shows_its_rows_with_photos() -> None:
    for name in TABLES:
        assert_photos(cell(read(LOCAL), name))


def test_the_notebook_for_emr_shows_its_plots_as_livy_can() -> None:
    notebook = read(ON_EMR)
    assert notebook.metadata.kernelspec.name == "pysparkkernel"
    cells = run_notebook.code_cells(notebook)
    assert cells[0].source.startswith("%%configure -f")
    for name in [*FIGURES, *SHEETS]:
        assert cell(notebook, name).source.splitlines()[-1] == "%matplot plt"
        assert_picture(cell(notebook, name))
    for name in TABLES:
        assert re.search(r"^path +label", text(notebook, name), re.MULTILINE), name
    assert not any("%%local" in cell.source or "plt.show" in cell.source for cell in cells)


def test_the_session_on_emr_is_that_of_the_cluster() -> None:
    """Sparkmagic sends settings of its own, so the notebook repeats those of the cluster."""
    settings = run_notebook.settings_of(read(ON_EMR))
    assert settings == files.configure(plan.DEFAULT_INSTANCE)
    assert "target=/opt/pomona " in (ROOT / "bootstrap" / "bootstrap-emr.sh").read_text()


def test_what_is_of_the_moment_is_left_out_of_the_outputs() -> None:
    notebook = read(ON_EMR)
    display, stream = "display_data", "stream"
    java = "26/11/22 11:12:09 WARN NativeCodeLoader: Unable to load native-hadoop library\n"
    widget = {run_notebook.WIDGET: {"model_id": "1"}, "text/plain": "FloatProgress(value=0.0)"}
    table = {"text/html": "<table><tr><th>ID</th><th>YARN Application ID</th></tr></table>"}
    given = [
        nbformat.v4.new_output(stream, name="stderr", text=f"{java}Warning: look at this\n"),
        nbformat.v4.new_output(stream, name="stdout", text="36 of "),
        nbformat.v4.new_output(display, data=widget),
        nbformat.v4.new_output(stream, name="stdout", text="600\n"),
        nbformat.v4.new_output(display, data=widget),
        nbformat.v4.new_output(display, data=table),
        nbformat.v4.new_output(stream, name="stderr", text=java),
        nbformat.v4.new_output(display, data={"text/html": "<b>kept</b>"}),
    ]
    cell(notebook, "fit").outputs = given
    cell(notebook, "fit").metadata["execution"] = {"iopub.execute_input": "2026-11-22"}
    run_notebook.normalise(notebook)
    kept = cell(notebook, "fit").outputs
    assert [output.get("text") for output in kept] == [
        "Warning: look at this\n",
        "36 of 600\n",
        None,
    ]
    assert cell(notebook, "fit").metadata == {}


def test_settings_and_values_hold_for_one_run_only(tmp_path: Path) -> None:
    notebook = nbformat.v4.new_notebook(metadata=read(LOCAL).metadata)
    code = nbformat.v4.new_code_cell
    notebook.cells = [
        code(
            "BUCKET = 'YOUR-BUCKET'\nPLACE = f's3://{BUCKET}/Test'",
            metadata={"tags": ["parameters"]},
        ),
        code("print(PLACE)"),
    ]
    before = [cell.source for cell in notebook.cells]
    executed = run_notebook.execute(notebook, tmp_path, parameters={"BUCKET": "fruits"})
    assert executed.cells[1].outputs[0].text == "s3://fruits/Test\n"
    assert [cell.source for cell in executed.cells] == before
    with pytest.raises(ValueError, match="has no line that starts with BASKET ="):
        run_notebook.execute(notebook, tmp_path, parameters={"BASKET": "fruits"})
    with pytest.raises(ValueError, match="must have one cell for %%configure, not 0"):
        run_notebook.execute(notebook, tmp_path, configure={"driverMemory": "1g"})


@pytest.mark.parametrize(
    "output",
    [
        "file:/data/fruits/1.jpg",
        "no such folder: /home/me/fruits",
        "http://ip-172-31-0-1.eu-west-3.compute.internal:8088",
        "application_1700000000000_0001",
        "hdfs://localhost:9000/out",
        "s3 at 127.0.0.1:4566",
        "AKIAIOSFODNN7EXAMPLE",
    ],
)
def test_outputs_that_tell_of_a_machine_are_found(output: str) -> None:
    notebook = read(LOCAL)
    cell(notebook, "fit").outputs = [nbformat.v4.new_output("stream", name="stdout", text=output)]
    (trace,) = run_notebook.traces_of_machines(notebook)
    assert trace.startswith("cell fit: ")


def test_a_run_that_fails_saves_nothing_and_says_which_cell(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    notebook = nbformat.v4.new_notebook(
        cells=[
            nbformat.v4.new_code_cell(
                "PHOTOS = 1\nassert int(PHOTOS) == 2", metadata={"tags": ["parameters"]}
            )
        ],
        metadata=read(LOCAL).metadata,
    )
    path = tmp_path / "small.ipynb"
    nbformat.write(notebook, str(path))
    path_arguments = [str(path), "--folder", str(tmp_path)]
    assert run_notebook.main([*path_arguments, "--set", "PHOTOS=2"]) == 0
    assert cell(read(path), notebook.cells[0].id).source == notebook.cells[0].source
    saved = path.read_bytes()
    assert run_notebook.main(path_arguments) == 1
    assert path.read_bytes() == saved
    assert re.search(
        r"a cell failed, nothing is saved\n.*int\(PHOTOS\) == 2", capsys.readouterr().err, re.DOTALL
    )
