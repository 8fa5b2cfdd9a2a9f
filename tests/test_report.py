"""The report of a run, as a file and as a page in a real browser."""

from __future__ import annotations

import base64
import dataclasses
import itertools
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Callable, Iterator
from urllib.parse import unquote

import numpy as np
import pytest
from PIL import Image
from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

import outputs
import pomona
from pomona import DecodeOptions, plots
from pomona.cli import main
from pomona.report import content, write_report
from pomona.results import LocalResults
from pomona.results.metrics import Training, measure
from services import PATIENCE
from specimens import damaged, turned

CLASSES = 141
NARROW, WIDE = 480, 1300
# What a browser may ask for while it shows a file.
LOCAL = ("file:", "data:", "blob:")
HOSTILE = [
    "</script><script>window.hacked = 1</script>",
    '<img src=x onerror="window.hacked = 2">',
    "Pêche & \"abricot\" 'mûr' <b>",
    "{{plotly}} ${1} %s \\u003c",
    "苹果 🍎",
]


def data_of(page: Path) -> dict:
    """The JSON that a page shows."""
    text = page.read_text(encoding="utf-8")
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.S)
    assert found
    return json.loads(found.group(1))


def write(output: Path, **options: object) -> Path:
    write_report(LocalResults(str(output)), **options)
    return output / "report/index.html"


def write_metrics(output: Path, labels: list[str]) -> None:
    """Write what `pomona train` writes: in each class 5 photos, one of the first mixed up."""
    counts = {(label, label): 5 for label in labels[1:]}
    counts.update({(labels[0], labels[0]): 4, (labels[0], labels[1]): 1})
    found = measure(counts, dict.fromkeys(labels, 15), how="25% of each class, drawn at random")
    summary = json.loads((output / "summary.json").read_text())
    training = Training(
        classifier="forest",
        features="pca",
        dimensions=6,
        photos=summary["photos"],
        left_out=0,
        image_model=summary["model"],
        holdout=0.25,
        group=None,
        seed=0,
        holdouts={"random": found, "blocked": None},
    )
    folder = output / "classifier/forest"
    folder.mkdir(parents=True)
    (folder / "metrics.json").write_text(json.dumps(dataclasses.asdict(training)))


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """The output of a run on three classes of five photos."""
    return outputs.write_classes(tmp_path, 3, 5)


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a run on as many classes as Fruits-360 has."""
    names = ["Apple Crimson Snow", "Pear Forelle", "Banana Lady Finger", "Fig", "Granadilla ripe"]
    labels = [f"{names[number % 5]} {number}" for number in range(CLASSES)]
    folder = tmp_path_factory.mktemp("many")
    output = outputs.write_classes(folder, CLASSES, 3, labels=labels)
    write_metrics(output, labels)
    return write(output)


@pytest.fixture(scope="module")
def browser() -> Iterator[webdriver.Chrome]:
    """Debian's Chromium, without a window and without a graphics card."""
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not chromium or not driver:
        pytest.skip("needs chromium and chromedriver: make browser")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in (
        "--headless=new",
        "--no-sandbox",  # tests may run as root
        "--disable-dev-shm-usage",
        "--enable-unsafe-swiftshader",
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    chrome = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    chrome.set_script_timeout(PATIENCE)
    yield chrome
    chrome.quit()


@pytest.fixture(scope="module")
def page(browser: webdriver.Chrome, many: Path) -> webdriver.Chrome:
    """A browser on the page of many classes; tests leave it as `clean` makes it."""
    show(browser, many)
    return browser


@pytest.fixture
def clean(page: webdriver.Chrome) -> Iterator[webdriver.Chrome]:
    yield page
    page.find_element(By.ID, "all").click()
    search = page.find_element(By.ID, "search")
    search.clear()
    for name in ("pca", "flat"):
        drawing(page, name).send_keys("0", Keys.ESCAPE)


def show(browser: webdriver.Chrome, page: Path, width: int = WIDE) -> None:
    browser.set_window_size(width, 900)
    browser.get_log("browser")
    browser.get_log("performance")
    browser.get(page.as_uri())
    until(browser, lambda: browser.execute_script("return document.documentElement.dataset.ready"))


def until(browser: webdriver.Chrome, what: Callable[[], object]) -> None:
    WebDriverWait(browser, PATIENCE, poll_frequency=0.05).until(lambda _: what())


def drawing(browser: webdriver.Chrome, name: str) -> WebElement:
    drawn = browser.find_element(By.CSS_SELECTOR, f'[data-map="{name}"] .draw')
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", drawn)
    return drawn


def tip(browser: webdriver.Chrome, name: str) -> WebElement:
    return browser.find_element(By.CSS_SELECTOR, f'[data-map="{name}"] .tip')


def shown_marks(browser: webdriver.Chrome, name: str) -> int:
    return browser.execute_script(
        f"return document.querySelector('[data-map={name}] .draw').data[1].x.length"
    )


def ranges(browser: webdriver.Chrome, name: str) -> list[float]:
    layout = f"document.querySelector('[data-map={name}] .draw').layout"
    return browser.execute_script(f"return [...{layout}.xaxis.range, ...{layout}.yaxis.range]")


def errors_of(browser: webdriver.Chrome) -> list[str]:
    return [line["message"] for line in browser.get_log("browser") if line["level"] == "SEVERE"]


def requests_of(browser: webdriver.Chrome) -> list[str]:
    messages = [json.loads(line["message"])["message"] for line in browser.get_log("performance")]
    asked = [m for m in messages if m["method"] == "Network.requestWillBeSent"]
    return [message["params"]["request"]["url"] for message in asked]


def overlaps(boxes: list[dict]) -> list[tuple[dict, dict]]:
    return [
        (one, two)
        for one, two in itertools.combinations(boxes, 2)
        if one["x"] < two["x"] + two["width"]
        and two["x"] < one["x"] + one["width"]
        and one["y"] < two["y"] + two["height"]
        and two["y"] < one["y"] + one["height"]
    ]


def boxes_of(browser: webdriver.Chrome, selector: str) -> list[dict]:
    return browser.execute_script(
        "return [...document.querySelectorAll(arguments[0])].map((each) => {"
        "const {x, y, width, height} = each.getBoundingClientRect();"
        "return {x, y, width, height, text: each.textContent}})",
        selector,
    )


# The files


def test_the_report_is_a_page_and_its_pictures(small: Path) -> None:
    report = write_report(LocalResults(str(small)))
    assert report.uri == f"{small}/report/index.html"
    assert (report.photos, report.of) == (15, 15)
    assert report.bytes == (small / "report/index.html").stat().st_size
    names = [
        "classes.png",
        "neighbours.png",
        "outliers.png",
        "pca.png",
        "photos.png",
        "tsne.png",
        "tsne_3d.png",
        "variance.png",
    ]
    assert report.pictures == names
    assert sorted(path.name for path in (small / "report").iterdir()) == sorted(
        [*names, "index.html"]
    )
    for name in names:
        with Image.open(small / "report" / name) as picture:
            assert min(picture.size) > 100


def test_neither_the_report_nor_the_verbs_load_spark() -> None:
    code = (
        "import sys, pomona.report.pictures, pomona.similar\n"
        "from pomona.cli import predict, report, similar, train\n"
        "print([name for name in sys.modules if name.startswith(('pyspark', 'pomona.spark'))])"
    )
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, check=True)
    assert done.stdout == b"[]\n"


def test_classes_have_one_order_and_one_colour_on_the_page_and_in_the_pictures(
    tmp_path: Path,
) -> None:
    output = outputs.write_classes(tmp_path, 3, 2, labels=["Cocos", "apple", "mango"])
    data = data_of(write(output))
    assert [each["label"] for each in data["classes"]] == ["apple", "Cocos", "mango"]
    first = [data["photos"]["label"][sheet[0]] for sheet in data["sheets"]]
    assert first == [0, 1, 2]
    points = np.random.RandomState(0).normal(size=(3, 2))
    (axes, *_) = plots.components_scatter(points, ["Cocos", "apple", "mango"]).axes
    drawn = [tuple(each.get_offsets()[0]) for each in axes.collections[:3]]
    assert drawn == [tuple(points[row]) for row in (1, 0, 2)]


def test_the_same_seed_gives_the_same_page(small: Path) -> None:
    first = write(small, seed=1).read_bytes()
    assert write(small, seed=1).read_bytes() == first
    assert write(small, seed=2).read_bytes() != first


def test_counts_are_of_all_photos_and_pictures_of_a_sample(small: Path) -> None:
    data = data_of(write(small, sample=9))
    assert [each["photos"] for each in data["classes"]] == [5, 5, 5]
    assert data["sample"] == {"photos": 9, "of": 15, "seed": 0}
    assert len(data["maps"]["flat"][0]) == len(data["near"]["rows"]) == 9
    # The other photos are those of findings: classes of five are thin.
    assert len(data["photos"]["path"]) == len(data["photos"]["thumbnail"]) == 15
    assert sorted(data["photos"]["label"][:9]) == [0, 0, 0, 1, 1, 1, 2, 2, 2]


def test_the_photos_are_in_the_page_and_small(small: Path) -> None:
    data = data_of(write(small))
    photo = small.parent / "pic.jpg"
    photo.write_bytes(base64.b64decode(data["photos"]["thumbnail"][0]))
    with Image.open(photo) as image:
        assert image.size == (outputs.SIDE, outputs.SIDE * 3 // 4)
        colour = np.asarray(image).reshape(-1, 3).mean(axis=0)
    np.testing.assert_allclose(colour, [0, 0, 0], atol=3)


def test_large_photos_become_thumbnails_that_keep_their_shape(tmp_path: Path) -> None:
    output = outputs.write_classes(tmp_path, 1, 9)
    photo = min((tmp_path / "photos").rglob("*.jpg"))
    Image.new("RGB", (600, 200), "red").save(photo)
    found = LocalResults(str(output)).thumbnails([f"file:{photo}"], content.THUMBNAIL_SIDE)
    assert found[f"file:{photo}"].shape == (32, 96, 3)


def test_photos_that_cannot_be_read_are_listed_with_their_reasons(tmp_path: Path) -> None:
    paths = [f"file:/photos/a/{number}.jpg" for number in range(12)]
    broken = {paths[2]: "not a JPEG <b>", paths[7]: "cut off"}
    outputs.write_output(
        tmp_path / "o", paths, ["a"] * 12, outputs.features_of(1, 12), errors=broken
    )
    data = data_of(write(tmp_path / "o"))
    assert data["broken"] == [[paths[2], "a", "not a JPEG <b>"], [paths[7], "a", "cut off"]]
    assert data["classes"] == [{"label": "a", "photos": 12, "errors": 2}]
    # Nor is any other of them there any more: the report is made all the same, and says so.
    assert data["photos"]["thumbnail"] == [""] * 10
    assert data["missing"] == (
        f"10 of the 10 photos on this page cannot be shown, such as {paths[0]}: "
        "No such file or directory."
    )


def test_warnings_and_orientations_that_were_not_applied_are_counted(
    browser: webdriver.Chrome, tmp_path: Path
) -> None:
    paths = [f"file:/photos/a/{number}.jpg" for number in range(12)]
    output = outputs.write_output(
        tmp_path / "o",
        paths,
        ["a"] * 12,
        outputs.features_of(1, 12),
        warnings={paths[3]: "parts are missing <b>"},
        turned=1200,
        decode=DecodeOptions(decode="fast").keywords(),
    )
    page = write(output)
    data = data_of(page)
    assert data["warned"] == [[paths[3], "a", "parts are missing <b>"]]
    warning, orientation = data["notes"]
    assert warning.startswith("1 photo has a warning, ")
    assert "--strict" in warning
    assert orientation.startswith("1,200 photos have an EXIF orientation that was not applied")
    assert "--apply-exif" in orientation
    show(browser, page)
    assert [each.text for each in browser.find_elements(By.CSS_SELECTOR, "#notes p")] == [
        warning,
        orientation,
    ]
    cells = browser.find_elements(By.CSS_SELECTOR, "#warned-list td")
    assert [each.text for each in cells] == [paths[3], "parts are missing <b>"]
    names, values = (
        [each.text for each in browser.find_elements(By.CSS_SELECTOR, f"#facts {tag}")]
        for tag in ("dt", "dd")
    )
    facts = dict(zip(names, values))
    assert facts["Photos with a warning"] == "1"
    assert facts["Orientation not applied"] == "1,200"
    assert facts["Decode options"] == "decode='fast'"


def test_results_of_earlier_versions_have_no_counts_of_warnings(small: Path) -> None:
    data = data_of(write(small))
    assert data["notes"] == []
    assert (data["summary"]["warnings"], data["summary"]["turned"]) == (None, None)
    assert data["summary"]["decode"] == ""


def test_thumbnails_are_decoded_as_the_photos_of_the_run(tmp_path: Path) -> None:
    photo = tmp_path / "turned.jpg"
    photo.write_bytes(turned("JPEG", 6))
    path = f"file:{photo}"

    def shape(folder: str, **options: bool) -> tuple[int, ...]:
        output = outputs.write_output(
            tmp_path / folder,
            [path, "file:/nowhere.jpg"],
            ["a"] * 2,
            outputs.features_of(1, 2),
            decode=DecodeOptions(**options).keywords(),
        )
        return LocalResults(str(output)).thumbnails([path], content.THUMBNAIL_SIDE)[path].shape

    height, width, _ = shape("as stored")
    assert shape("upright", apply_exif=True) == (width, height, 3)


def test_thumbnails_of_damaged_photos_give_no_warning(tmp_path: Path) -> None:
    output = outputs.write_classes(tmp_path, 2, 6)
    photo = min((tmp_path / "photos").rglob("*.jpg"))
    photo.write_bytes(damaged())
    assert data_of(write(output))["missing"] is None


def test_photos_that_are_elsewhere_are_placeholders_and_the_page_says_how_to_get_them(
    tmp_path: Path,
) -> None:
    paths = [f"s3://fruits/a/{number}.jpg" for number in range(9)]
    outputs.write_output(tmp_path / "o", paths, ["a"] * 9, outputs.features_of(1, 9))
    told = data_of(write(tmp_path / "o"))["missing"]
    assert told.startswith(
        "9 of the 9 photos on this page cannot be shown: they are stored elsewhere"
    )
    assert "Copy the results to where the photos are, and run `pomona report` on that copy." in told


def test_a_photo_among_others_of_another_class_is_a_stranger(tmp_path: Path) -> None:
    features = outputs.features_of(2, 12)
    features[3] = features[20] + 0.01
    labels = ["apple"] * 12 + ["pear"] * 12
    paths = [f"file:/photos/{label}/{number}.jpg" for number, label in enumerate(labels)]
    data = data_of(write(outputs.write_output(tmp_path / "o", paths, labels, features)))
    row = data["photos"]["path"].index("file:/photos/apple/3.jpg")
    assert [each[0] for each in data["label_errors"]] == [row]
    assert data["photos"]["path"][data["label_errors"][0][1]].startswith("file:/photos/pear/")
    assert [data["photos"]["path"][each] for each in data["duplicates"]["pairs"][0][:2]] == [
        "file:/photos/apple/3.jpg",
        "file:/photos/pear/20.jpg",
    ]


def test_a_photo_unlike_all_others_comes_first_of_the_odd_ones(tmp_path: Path) -> None:
    features = outputs.features_of(2, 12)
    features[5] = -features[5]
    paths = [f"file:/photos/{number}.jpg" for number in range(24)]
    output = outputs.write_output(tmp_path / "o", paths, ["a"] * 12 + ["b"] * 12, features)
    data = data_of(write(output))
    assert data["photos"]["path"][data["outliers"][0][0]] == "file:/photos/5.jpg"


@pytest.mark.parametrize(("classes", "per_class", "components"), [(1, 2, 1), (2, 6, 2)])
def test_few_photos_and_few_components_have_a_report_too(
    tmp_path: Path, classes: int, per_class: int, components: int
) -> None:
    number = classes * per_class
    paths = [f"file:/photos/{each}.jpg" for each in range(number)]
    features = outputs.features_of(classes, per_class)
    output = outputs.write_output(
        tmp_path / "o", paths, [None] * number, features, components=components
    )
    data = data_of(write(output))
    assert data["maps"]["solid"] is None
    assert data["classes"] == [{"label": "", "photos": number, "errors": 0}]


def test_what_a_classifier_scored_is_in_the_report(small: Path) -> None:
    write_metrics(small, ["a", "b"])
    (found,) = data_of(write(small))["classifiers"]
    assert found["classifier"] == "forest"
    assert found["holdouts"]["random"]["confusion"] == [[4, 1], [0, 5]]


@pytest.mark.parametrize(
    "since", [{"photos": 16}, {"model": {"name": "other", "sha256": "1" * 64}}, {}]
)
def test_a_classifier_from_before_the_results_changed_is_marked(small: Path, since: dict) -> None:
    write_metrics(small, ["a", "b"])
    summary = small / "summary.json"
    summary.write_text(json.dumps({**json.loads(summary.read_text()), **since}))
    (found,) = data_of(write(small, sample=4))["classifiers"]
    assert [note.partition(":")[2] for note in found["notes"]] == [" train it again."] * bool(since)


def test_pictures_of_the_report_before_are_not_left_beside_the_page(small: Path) -> None:
    write_metrics(small, ["a", "b"])
    assert "confusion_forest_random.png" in write_report(LocalResults(str(small))).pictures
    mine = small / "report/mine.png"
    mine.write_bytes(b"a picture")
    shutil.rmtree(small / "classifier")
    report = write_report(LocalResults(str(small)), sample=4)
    assert "tsne.png" not in report.pictures
    there = sorted(path.name for path in (small / "report").iterdir() if path != mine)
    assert there == sorted(["index.html", *report.pictures])
    assert mine.exists()


@pytest.mark.parametrize("dimensions", [2, 3])
def test_copies_of_one_photo_stay_in_one_place(dimensions: int) -> None:
    # Their components are what rounding has left.
    pca = np.full((16, 6), -7.4e-07, np.float32)
    assert np.abs(content.tsne(pca, dimensions, seed=0)).max() < 1


def test_a_classifier_that_is_not_finished_is_left_out(small: Path) -> None:
    (small / "classifier/svm/model").mkdir(parents=True)
    assert data_of(write(small))["classifiers"] == []


@pytest.mark.parametrize("package", ["plotly.offline", "sklearn.manifold", "matplotlib.figure"])
def test_a_missing_package_names_the_extra(
    small: Path, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    drawing = ("pomona.plots", "pomona.report.pictures")
    for module in [name for name in sys.modules if name.startswith(drawing)]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.delattr(pomona, "plots", raising=False)
    with pytest.raises(ImportError, match=r"pip install 'pomona\[report\]'"):
        write(small)
    assert not (small / "report").exists()


def test_the_command_says_where_the_report_is(
    small: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", str(small), "--sample", "9"]) == 0
    shown = capsys.readouterr()
    first, second = shown.out.splitlines()
    assert first.startswith(f"{small}/report/index.html: a sample of 9 photos of 15, ")
    assert second.startswith(
        "figures next to it: classes.png, neighbours.png, outliers.png, pca.png, "
    )
    assert "pomona: arranging the photos on a map" in shown.err


@pytest.mark.parametrize("seed", ["-1", str(1 << 32), "one"])
def test_a_seed_that_is_none_is_told_before_anything_is_read(
    seed: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for command in (["report", "nowhere"], ["train", "nowhere", "--classifier", "svm"]):
        assert main([*command, "--seed", seed]) == 2
        assert f"'{seed}' is not a whole number from 0 to 4294967295" in capsys.readouterr().err


# In a browser


def test_the_page_opens_without_an_error_and_asks_no_network(
    browser: webdriver.Chrome, many: Path
) -> None:
    show(browser, many)
    for name in ("pca", "flat", "solid"):
        until(browser, lambda name=name: shown_marks(browser, name) == 3 * CLASSES)
    assert errors_of(browser) == []
    asked = requests_of(browser)
    assert unquote(asked[0]).endswith(str(many))
    assert [url for url in asked if not url.startswith(LOCAL)] == []
    assert browser.find_element(By.TAG_NAME, "h1").text == "423 photos of 141 classes, 0 errors"


def test_the_page_may_not_ask_the_network_even_if_it_tried(page: webdriver.Chrome) -> None:
    failed = page.execute_async_script(
        "const done = arguments[0];"
        "fetch('http://127.0.0.1:9/').then(() => done('sent'), (error) => done(String(error)))"
    )
    assert "Failed to fetch" in failed
    until(page, lambda: any("Content Security Policy" in line for line in errors_of(page)))


@pytest.mark.parametrize("width", [WIDE, NARROW])
def test_the_names_of_141_classes_overlap_nowhere(page: webdriver.Chrome, width: int) -> None:
    page.set_window_size(width, 900)
    until(page, lambda: page.execute_script("return innerWidth") == width)
    try:
        for name in ("pca", "flat"):
            drawing(page, name).send_keys("0")
            boxes = boxes_of(page, f'[data-map="{name}"] .names span')
            assert len(boxes) >= 20
            assert overlaps(boxes) == []
        assert overlaps(boxes_of(page, "#balance li")) == []
        assert overlaps(boxes_of(page, ".sheet h3")) == []
        # It does not scroll sideways, once every drawing has its new width.
        sizes = "const {scrollWidth, clientWidth} = document.documentElement;"
        until(page, lambda: page.execute_script(f"{sizes} return scrollWidth <= clientWidth"))
    finally:
        page.set_window_size(WIDE, 900)


def test_zooming_in_shows_names_that_had_no_room(clean: webdriver.Chrome) -> None:
    def names() -> set[str]:
        return {box["text"] for box in boxes_of(clean, '[data-map="pca"] .names span')}

    pca = drawing(clean, "pca")
    pca.send_keys("0")
    before = names()
    pca.send_keys("+++++")
    until(clean, lambda: names() - before)
    assert overlaps(boxes_of(clean, '[data-map="pca"] .names span')) == []


def test_the_legend_finds_and_filters_classes(clean: webdriver.Chrome) -> None:
    search = clean.find_element(By.ID, "search")
    search.send_keys("FÍG 3")  # case and accents do not matter
    listed = [
        each for each in clean.find_elements(By.CSS_SELECTOR, "#legend li") if each.is_displayed()
    ]
    assert [each.text.split("\n")[0] for each in listed] == ["Fig 3", "Fig 33", "Fig 38"]
    listed[0].find_element(By.TAG_NAME, "input").send_keys(Keys.SPACE)
    for name in ("pca", "flat", "solid"):
        assert shown_marks(clean, name) == 3
    assert [box["text"] for box in boxes_of(clean, '[data-map="flat"] .names span')] == ["Fig 3"]
    assert clean.find_element(By.ID, "showing").text == "Showing 1 of 141 classes"
    clean.find_element(By.ID, "all").click()
    assert shown_marks(clean, "flat") == 3 * CLASSES


# Where the mark is that is farthest from all others, in pixels from the middle, and its class.
LONELIEST = """
const drawn = arguments[0], {xaxis, yaxis} = drawn.layout, [, marks] = drawn.data;
const share = (value, [low, high]) => (value - low) / (high - low) - 0.5;
const places = Array.from(marks.x, (x, i) => [share(x, xaxis.range) * drawn.clientWidth,
                                             -share(marks.y[i], yaxis.range) * drawn.clientHeight]);
const gap = (one) => Math.min(...places.filter((each) => each !== one).map(
    (other) => Math.hypot(one[0] - other[0], one[1] - other[1])));
const gaps = places.map(gap), best = gaps.indexOf(Math.max(...gaps));
const data = JSON.parse(document.getElementById("data").textContent);
return [...places[best], data.classes[data.photos.label[marks.customdata[best]]].label];
"""


def test_pointing_at_a_mark_shows_its_photo(clean: webdriver.Chrome) -> None:
    drawn = drawing(clean, "flat")
    drawn.send_keys("0")
    shown = tip(clean, "flat")

    def pointed_at() -> bool:
        # The map may still be on its way to its whole size, so the place is asked for each time.
        x, y, label = clean.execute_script(LONELIEST, drawn)
        # From beside it, and again: plotly.js looks where the mouse is some times a second.
        for beside in (9, 1, 0):
            mouse = ActionChains(clean, duration=20)
            mouse.move_to_element_with_offset(drawn, round(x) + beside, round(y)).perform()
        return shown.is_displayed() and shown.text.startswith(label)

    until(clean, pointed_at)
    picture = shown.find_element(By.TAG_NAME, "img")
    until(clean, lambda: picture.get_property("naturalWidth") == outputs.SIDE)
    ActionChains(clean).move_to_element(clean.find_element(By.ID, "search")).perform()
    until(clean, lambda: not shown.is_displayed())


def test_pointing_at_a_mark_in_space_shows_its_photo(clean: webdriver.Chrome) -> None:
    solid = drawing(clean, "solid")
    shown = tip(clean, "solid")

    def pointed_at() -> bool:
        for across, down in itertools.product(range(-120, 121, 24), range(-60, 61, 24)):
            mouse = ActionChains(clean, duration=5)
            mouse.move_to_element_with_offset(solid, across, down).perform()
            if shown.is_displayed():
                return True
        return False

    # Again where it needs: how soon a mark in space is found depends on what draws it.
    until(clean, pointed_at)
    assert shown.find_element(By.TAG_NAME, "img").get_attribute("src").startswith("data:image/jpeg")


def test_the_maps_work_from_the_keyboard(clean: webdriver.Chrome) -> None:
    drawn = drawing(clean, "flat")
    shown = tip(clean, "flat")
    before = ranges(clean, "flat")
    drawn.send_keys("n")
    assert shown.is_displayed()
    first = shown.text
    drawn.send_keys("n")
    assert shown.text != first
    drawn.send_keys("p")
    assert shown.text == first
    drawn.send_keys(Keys.ESCAPE)
    assert not shown.is_displayed()
    drawn.send_keys(Keys.ARROW_RIGHT)
    moved = ranges(clean, "flat")
    assert moved[0] > before[0]
    assert moved[1] - moved[0] == pytest.approx(before[1] - before[0])
    drawn.send_keys("+")
    zoomed = ranges(clean, "flat")
    assert zoomed[1] - zoomed[0] < moved[1] - moved[0]
    drawn.send_keys("0")
    assert ranges(clean, "flat") == before

    turned = drawing(clean, "solid")
    camera = "return arguments[0].layout.scene.camera.eye"
    eye = clean.execute_script(camera, turned)
    turned.send_keys(Keys.ARROW_LEFT, "+")
    turned_eye = clean.execute_script(camera, turned)
    assert np.hypot(turned_eye["x"], turned_eye["y"]) < np.hypot(eye["x"], eye["y"])
    assert np.arctan2(turned_eye["y"], turned_eye["x"]) != np.arctan2(eye["y"], eye["x"])


def test_the_classifier_says_what_it_mixes_up_in_words_and_in_a_picture(
    page: webdriver.Chrome,
) -> None:
    until(page, lambda: boxes_of(page, "#tests .test > table td"))
    scores = page.find_element(By.ID, "scores").text
    assert "Random forest" in scores
    assert "99.9 %" in scores
    mixed = [box["text"] for box in boxes_of(page, "#tests .test > table td")]
    assert mixed == ["Apple Crimson Snow 0", "Pear Forelle 1", "1"]
    until(page, lambda: len(boxes_of(page, "#tests .matrix .ytick text")) == CLASSES)
    names = boxes_of(page, "#tests .matrix .ytick text")
    assert overlaps(names) == []
    assert errors_of(page) == []


def test_every_part_that_does_something_is_reached_by_tab(page: webdriver.Chrome) -> None:
    reached = page.execute_script(
        "return [...document.querySelectorAll('a, button, input, summary, .draw, .tall')]"
        ".filter((each) => each.offsetParent !== null && each.tabIndex < 0).length"
    )
    assert reached == 0


def test_dark_and_light_follow_the_system(page: webdriver.Chrome) -> None:
    ground = "getComputedStyle(document.body).backgroundColor"
    paper = "document.querySelector('[data-map=flat] .draw').layout.paper_bgcolor"
    try:
        for scheme, expected in (
            ("light", ["rgb(255, 255, 255)", "#ffffff"]),
            ("dark", ["rgb(22, 25, 22)", "#161916"]),
        ):
            feature = {"name": "prefers-color-scheme", "value": scheme}
            page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
            until(
                page, lambda to=expected: page.execute_script(f"return [{ground}, {paper}]") == to
            )
    finally:
        page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def test_names_and_reasons_of_others_stay_text(browser: webdriver.Chrome, tmp_path: Path) -> None:
    paths = [f"file:/photos/{label}/{turn}.jpg" for label in HOSTILE for turn in range(3)]
    labels = [label for label in HOSTILE for _ in range(3)]
    errors = {paths[1]: HOSTILE[0], paths[4]: HOSTILE[1]}
    output = tmp_path / "é & <out> 'x'"
    features = outputs.features_of(len(HOSTILE), 3)
    outputs.write_output(output, paths, labels, features, errors=errors)
    write_metrics(output, HOSTILE)
    show(browser, write(output))
    # The photos are not there.
    assert errors_of(browser) == []
    assert browser.execute_script("return window.hacked") is None
    assert "<out>" in browser.title
    named = {each["text"] for each in boxes_of(browser, "#legend .name")}
    assert named == set(HOSTILE)
    listed = [each["text"] for each in boxes_of(browser, "#broken-list td")]
    assert listed == [paths[4], HOSTILE[1], paths[1], HOSTILE[0]] or listed == [
        paths[1],
        HOSTILE[0],
        paths[4],
        HOSTILE[1],
    ]
    assert browser.find_element(By.CSS_SELECTOR, ".photo .gone").text == (
        "This photo can no longer be read."
    )
