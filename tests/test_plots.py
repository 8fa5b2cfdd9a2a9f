"""Pictures of a run: what is on them, and whether it can be read."""

from __future__ import annotations

import doctest
import importlib
import io
import subprocess
import sys
from itertools import combinations
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from pomona import load_image, plots
from specimens import turned

MANY = [
    f"{fruit} {number}" for fruit in ("Apple Red Delicious", "Pear", "Kiwi") for number in range(47)
]
SMALLEST_FONT = 7


@pytest.fixture
def photos(photos_folder: Path) -> list[Path]:
    return sorted(photos_folder.glob("*/*.jpg"))


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in visible_texts(figure)]


def visible_texts(figure: Figure) -> list[Text]:
    shown = []
    for axes in figure.axes:
        # matplotlib keeps the texts of axes that are off, and of ticks beyond the ends of an axis.
        hidden = [] if axes.axison else [*axes.findobj(Text)]
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            hidden += [
                text
                for place, text in zip(axis.get_majorticklocs(), axis.get_ticklabels())
                if not low <= place <= high
            ]
        shown += axes.texts
        shown += [text for text in axes.findobj(Text) if text not in [*hidden, *axes.texts]]
    return [text for text in shown if text.get_visible() and text.get_text().strip()]


def assert_legible(figure: Figure) -> None:
    """Every text is large enough, on the page, and on no other text."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    page = figure.bbox
    shown = visible_texts(figure)
    boxes = [text.get_window_extent(canvas.get_renderer()) for text in shown]
    for text, box in zip(shown, boxes):
        assert text.get_fontsize() >= SMALLEST_FONT, text
        assert page.x0 <= box.x0 < box.x1 <= page.x1, text
        assert page.y0 <= box.y0 < box.y1 <= page.y1, text
    for (one, its), (other, others) in combinations(zip(shown, boxes), 2):
        assert not its.shrunk(0.9, 0.8).overlaps(others.shrunk(0.9, 0.8)), (one, other)


def pixels_of(figure: Figure) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(plots.to_png(figure))).convert("RGB"))


def test_the_variance_curve_marks_the_chosen_number_where_it_is_on_the_curve() -> None:
    curve = 1 - 0.98 ** np.arange(1, 401)
    figure = plots.variance_curve(curve, 149)
    (axes,) = figure.axes
    (line,) = [line for line in axes.lines if len(line.get_xdata()) > 100]
    (chosen,) = [line for line in axes.lines if line.get_gid() == "chosen"]
    x, y = chosen.get_xdata()[0], chosen.get_ydata()[0]
    assert (x, y) == (149, curve[148])
    assert y == line.get_ydata()[list(line.get_xdata()).index(x)]
    assert "149 components: 95.1%" in texts(figure)
    assert_legible(figure)


@pytest.mark.parametrize(
    ("curve", "k"),
    [
        ([1.0], 1),
        ([0.3, 0.6, 1.0], 3),
        ([0.9, 0.95, 0.99, 1.0], 2),
        (np.linspace(0.001, 1, 1280), 1216),
    ],
)
def test_short_and_straight_curves_are_legible(curve: list[float], k: int) -> None:
    assert_legible(plots.variance_curve(curve, k))


def test_the_flat_end_of_a_curve_is_left_out_but_never_the_chosen_number() -> None:
    curve = 1 - 0.9 ** np.arange(1, 1281)
    assert plots.variance_curve(curve, 29).axes[0].get_xlim()[1] < 100
    assert plots.variance_curve(curve, 1000).axes[0].get_xlim()[1] > 1000


def test_components_that_a_curve_does_not_have_are_refused() -> None:
    with pytest.raises(ValueError, match="5 components are not on a curve of 4"):
        plots.variance_curve([0.5, 0.7, 0.9, 1.0], 5)
    with pytest.warns(DeprecationWarning, match="use components="):
        plots.variance_curve([0.5, 0.7, 0.9, 1.0], k=2)


def test_classes_stand_in_order_of_size_and_small_ones_stand_out() -> None:
    figure = plots.class_balance({"Pear": 20, "Kiwi": 4, "Apple": 20, None: 30})
    (axes,) = figure.axes
    assert [label.get_text() for label in axes.get_yticklabels()] == [
        "(no label)",
        "Apple",
        "Pear",
        "Kiwi",
    ]
    assert [bar.get_width() for bar in axes.patches] == [30, 20, 20, 4]
    colours = [bar.get_facecolor() for bar in axes.patches]
    assert colours[0] == colours[1] == colours[2] != colours[3]
    assert axes.get_title(loc="left") == "74 photos in 4 classes; orange: less than half the median"
    assert_legible(figure)


@pytest.mark.parametrize("classes", [1, 2, 23, 141])
def test_class_balance_is_legible(classes: int) -> None:
    counts = {name: 1000 - 7 * number for number, name in enumerate(MANY[:classes])}
    figure = plots.class_balance(counts)
    assert sum(len(axes.patches) for axes in figure.axes) == classes
    assert_legible(figure)


def test_no_class_is_an_error() -> None:
    with pytest.raises(ValueError, match="no class to draw"):
        plots.class_balance({})


def test_a_contact_sheet_is_decoded_with_the_options() -> None:
    photo, label = turned("JPEG", 6), "Apple"
    sheets = [
        plots.contact_sheet([photo], [label], apply_exif=apply_exif).axes[0].images[0].get_array()
        for apply_exif in (False, True)
    ]
    assert (np.asarray(sheets[0]) != np.asarray(sheets[1])).any()
    with pytest.raises(TypeError, match=r"contact_sheet\(\) .* 'exif'"):
        plots.contact_sheet([photo], [label], exif=True)


def test_a_contact_sheet_shows_every_photo_as_it_is_under_its_label(photos: list[Path]) -> None:
    labels = [photo.parent.name for photo in photos]
    figure = plots.contact_sheet([photo.read_bytes() for photo in photos], labels)
    assert_legible(figure)
    assert {*labels} < {*texts(figure)}
    page = pixels_of(figure).astype(int)
    for photo in photos[::7]:
        assert found(load_image(photo.read_bytes()).astype(int), page)


def found(photo: np.ndarray, page: np.ndarray) -> bool:
    height, width = photo.shape[:2]
    middle = photo[height // 2, width // 2]
    rows, columns = np.nonzero((page == middle).all(axis=2))
    return any(
        np.array_equal(page[top : top + height, left : left + width], photo)
        for top, left in zip(rows - height // 2, columns - width // 2)
        if top >= 0 and left >= 0
    )


@pytest.mark.parametrize(("classes", "each"), [(1, 1), (1, 30), (23, 1), (6, 6), (141, 1)])
def test_contact_sheets_are_legible(photos: list[Path], classes: int, each: int) -> None:
    names = [name for name in MANY[:classes] for _ in range(each)]
    assert_legible(plots.contact_sheet([photos[0].read_bytes()] * len(names), names))


def test_photos_of_any_shape_keep_it(tmp_path: Path) -> None:
    Image.new("RGB", (900, 300), "red").save(tmp_path / "wide.png")
    Image.new("RGB", (1, 40), "blue").save(tmp_path / "narrow.png")
    figure = plots.contact_sheet(
        [(tmp_path / name).read_bytes() for name in ("wide.png", "narrow.png")], ["a", "b"]
    )
    page = pixels_of(figure)
    rows, columns = np.nonzero((page == (255, 0, 0)).all(axis=2))
    assert np.ptp(columns) + 1 == pytest.approx(3 * (np.ptp(rows) + 1), abs=3)
    rows, columns = np.nonzero((page == (0, 0, 255)).all(axis=2))
    assert (np.ptp(rows) + 1, np.ptp(columns) + 1) == (100, 2)


def test_a_photo_that_cannot_be_read_has_a_place_and_says_so(photos: list[Path]) -> None:
    figure = plots.contact_sheet([photos[0].read_bytes(), b"nothing"], ["Apple", "Apple"])
    assert "cannot\nbe read" in texts(figure)
    assert_legible(figure)


def test_a_scatter_has_a_point_for_each_photo_in_the_colour_of_its_class() -> None:
    points = np.random.RandomState(0).normal(size=(60, 5))
    labels = ["Pear", "apple", None] * 20
    figure = plots.components_scatter(list(points), labels, [0.31, 0.125, 0.1])
    (axes,) = figure.axes
    offsets = [np.asarray(dots.get_offsets()) for dots in axes.collections]
    assert [len(dots) for dots in offsets] == [20, 20, 20]
    expected = {"(no label)": points[2::3, :2], "apple": points[1::3, :2], "Pear": points[::3, :2]}
    for dots, of_class in zip(offsets, expected.values()):
        np.testing.assert_array_equal(dots, of_class)
    assert len({tuple(dots.get_facecolor()[0]) for dots in axes.collections}) == 3
    assert {*expected} < {*texts(figure)}
    assert axes.get_xlabel() == "component 1, 31.0% of the variance"
    assert axes.get_ylabel() == "component 2, 12.5% of the variance"
    assert_legible(figure)


@pytest.mark.parametrize("classes", [1, 2, 12, 23, 141])
def test_scatters_are_legible(classes: int) -> None:
    random = np.random.RandomState(0)
    labels = MANY[:classes] * 20
    middles = random.normal(size=(classes, 2)) * 10
    points = np.tile(middles, (20, 1)) + random.normal(size=(len(labels), 2))
    figure = plots.components_scatter(points, labels)
    assert_legible(figure)
    if classes > plots.NAMED_CLASSES:
        assert {*MANY[:classes]} < {*texts(figure)}


@pytest.mark.parametrize("classes", [2, 23, 141])
def test_scatters_in_space_are_legible(classes: int) -> None:
    points = np.random.RandomState(3).normal(size=(classes * 6, 3)) * [1, 5, 20]
    labels = [f"Fruit of kind {number % classes}" for number in range(classes * 6)]
    figure = plots.space_scatter(points, labels)
    assert_legible(figure)
    assert sum(len(each.get_offsets()) for each in figure.axes[0].collections) == len(points)
    with pytest.raises(ValueError, match=r"points must have 3 coordinates, but their shape is"):
        plots.space_scatter(points[:, :2], labels)


def test_a_strip_has_a_heading_and_a_line_below_each_photo(photos: list[Path]) -> None:
    strips = [
        ("Lemon", [(photos[0].read_bytes(), "this one"), (b"cut off", "0.125 Lime_of_Tahiti")])
    ]
    figure = plots.photo_strips(strips, "Look-alikes")
    assert_legible(figure)
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert texts[:2] == ["Lemon", "this one"]
    assert "cannot\nbe read" in texts
    assert texts[-1] == "Look-alikes"
    with pytest.raises(ValueError, match="no photos to draw"):
        plots.photo_strips([("Lemon", [])], "Look-alikes")


@pytest.mark.parametrize("classes", [2, 23, 141])
def test_confusion_matrices_are_legible(classes: int) -> None:
    matrix = np.diag(np.full(classes, 5))
    matrix[1, 0] = 3
    labels = [f"Fruit of kind {number}" for number in range(classes)]
    figure = plots.confusion_matrix(matrix, labels, "svm, random hold-out: 98.70% right")
    assert_legible(figure)
    pixels = np.asarray(figure.axes[0].images[0].get_array())
    red, _, blue = np.moveaxis(pixels, 2, 0)
    assert (blue > red)[np.eye(classes, dtype=bool)].all()
    assert np.argwhere(red > blue).tolist() == [[1, 0]]
    with pytest.raises(ValueError, match="the matrix of 1 classes has shape"):
        plots.confusion_matrix(matrix, ["Apple"], "")


def test_classes_on_one_spot_can_be_told_apart() -> None:
    labels = MANY[:30] * 2
    assert_legible(plots.components_scatter(np.zeros((60, 2)), labels))


def test_small_points_of_every_shape_are_drawn() -> None:
    """Of 20,000 photos each has a dot of a few pixels, whatever its class's shape."""
    for number in range(7):
        labels = np.array(MANY[:7])[np.full(20_000, number)]
        labels[:7] = MANY[:7]
        points = np.zeros((20_000, 2))
        points[-1] = 1
        page = pixels_of(plots.components_scatter(points, labels))
        corner = page[60:200, -150:-30].astype(int)
        assert (np.ptp(corner, axis=2) > 60).sum() >= 4, number


def test_neighbouring_classes_differ_for_the_colour_blind() -> None:
    """Colours of classes next to each other differ in lightness or in blue, or else in shape."""
    figure = plots.components_scatter(np.eye(12, 2), MANY[:12])
    styles = [
        (tuple(dots.get_facecolor()[0][:3]), dots.get_paths()[0].vertices.tobytes())
        for dots in figure.axes[0].collections
    ]
    assert len(set(styles)) == 12
    assert all(one[0] != other[0] and one[1] != other[1] for one, other in zip(styles, styles[1:]))


@pytest.mark.parametrize(
    ("points", "labels", "message"),
    [
        ([], [], "no points to draw"),
        ([[1, 2]], ["a", "b"], "1 points but 2 labels"),
        ([[1], [2]], ["a", "b"], "fit the PCA with components >= 2"),
    ],
)
def test_what_cannot_be_drawn_says_why(points: list, labels: list, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plots.components_scatter(points, labels)


def test_names_are_no_formulas() -> None:
    assert_legible(plots.class_balance({"2 $ a kilo, 3 $ for two_": 3, r"\frac": 4, "_hidden": 2}))


def test_figures_are_drawn_into_pyplots_if_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    mpl.use("agg")
    from matplotlib import pyplot as plt

    figure = plt.figure()
    figure.text(0.5, 0.5, "of an earlier picture")
    try:
        assert plots.variance_curve([0.5, 1.0], 1, figure=figure) is plt.gcf()
        assert "of an earlier picture" not in [text.get_text() for text in figure.findobj(Text)]
        assert plots.variance_curve([0.5, 1.0], 1) is not plt.gcf()
        assert plt.get_fignums() == [figure.number]
    finally:
        plt.close(figure)


def test_the_same_figure_is_the_same_file_of_the_size_it_says() -> None:
    one, other = (plots.to_png(plots.class_balance({"Apple": 3})) for _ in range(2))
    assert one == other
    size = Image.open(io.BytesIO(one)).size
    assert size == tuple(plots.class_balance({"Apple": 3}).get_size_inches() * plots.DPI)


def test_without_matplotlib_the_error_names_the_extra() -> None:
    code = "import sys; sys.modules['matplotlib'] = None; import pomona.plots"
    done = subprocess.run(
        [sys.executable, "-c", code], stderr=subprocess.PIPE, text=True, check=False
    )
    message = done.stderr.splitlines()[-1]
    assert message.startswith("ImportError: pomona.plots needs matplotlib")
    assert message.endswith(": pip install 'pomona[report]'")


def test_the_examples_of_the_docstrings_work() -> None:
    for name in ("_page", "charts", "photos"):
        module = importlib.import_module(f"pomona.plots.{name}")
        results = doctest.testmod(module)
        assert results.attempted
        assert not results.failed
