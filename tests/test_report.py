"""The report of a run, as a file and as a page in a real browser."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import itertools
import json
import re
import shutil
import subprocess
import sys
import zlib
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
from pomona import DecodeOptions, plots, report
from pomona.cli import main
from pomona.decisions import read_decisions
from pomona.report import LANGUAGES, content, write_report
from pomona.results import LocalResults
from pomona.results.metrics import Mistake, Training, measure
from pomona.results.thumbnails import jpeg
from services import PATIENCE
from specimens import damaged, turned

CLASSES = 141
PHONE, WIDE = 360, 1300
# What a browser may ask for while it shows a file.
LOCAL = ("file:", "data:", "blob:")
HOSTILE = [
    "</script><script>window.hacked = 1</script>",
    '<img src=x onerror="window.hacked = 2">',
    "Pêche & \"abricot\" 'mûr' <b>",
    "{{script}} ${1} %s \\u003c",
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


def kind_of(data: dict, kind: str) -> dict:
    """The findings of a kind."""
    return next(each for each in data["findings"]["kinds"] if each["kind"] == kind)


def write_metrics(output: Path, labels: list[str]) -> None:
    """Write what `pomona train` writes: in each class 5 photos, one of the first mixed up."""
    counts = {(label, label): 5 for label in labels[1:]}
    counts.update({(labels[0], labels[0]): 4, (labels[0], labels[1]): 1})
    photos = LocalResults(str(output)).vectors("pca")
    rows = (row for block in photos for row in zip(block.labels, block.paths))
    first = min((path for label, path in rows if label == labels[0]), default="file:/gone.jpg")
    found = measure(
        counts,
        dict.fromkeys(labels, 15),
        how="25% of each class, drawn at random",
        mistakes=[Mistake(first, labels[0], labels[1])],
    )
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
        "--force-prefers-reduced-motion",  # a click does not wait until a page has scrolled
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
    page.find_element(By.TAG_NAME, "body").send_keys(Keys.ESCAPE)
    page.find_element(By.ID, "all").click()
    for name in ("pca", "flat", "solid"):
        drawing(page, name).send_keys("0", Keys.ESCAPE)
    if page.find_element(By.ID, "forget").is_displayed():
        page.find_element(By.ID, "forget").click()


@pytest.fixture
def phone(clean: webdriver.Chrome) -> Iterator[webdriver.Chrome]:
    """The page on a screen of 360 pixels that is touched."""
    metrics = {"width": PHONE, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    clean.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    clean.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": True})
    until(clean, lambda: clean.execute_script("return innerWidth") == PHONE)
    until(clean, lambda: canvas_fits(clean, "flat"))
    yield clean
    clean.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": False})
    clean.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    until(clean, lambda: clean.execute_script("return innerWidth") != PHONE)


def canvas_fits(browser: webdriver.Chrome, name: str) -> bool:
    """Whether a map was drawn in the size that it has now."""
    return browser.execute_script(
        "const box = document.querySelector(arguments[0]);"
        "const width = Math.round(box.clientWidth * devicePixelRatio);"
        "return box.querySelector('canvas').width === width",
        f'[data-map="{name}"]',
    )


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
    return int(dataset(browser, name)["shown"])


def view(browser: webdriver.Chrome, name: str) -> dict[str, float]:
    """The part of a map that is shown, once it is drawn."""
    frames = "requestAnimationFrame(() => requestAnimationFrame(arguments[0]))"
    browser.execute_async_script(frames)
    return json.loads(dataset(browser, name)["view"])


def dataset(browser: webdriver.Chrome, name: str) -> dict[str, str]:
    return browser.execute_script(
        "return {...document.querySelector(arguments[0]).dataset}", f'[data-map="{name}"]'
    )


def labels(browser: webdriver.Chrome, name: str) -> list[dict]:
    """The labels of a map, with the boxes around them."""
    view(browser, name)
    texts = boxes_of(browser, f'[data-map="{name}"] text')
    boxes = boxes_of(browser, f'[data-map="{name}"] rect')
    return [{**box, "text": text["text"]} for box, text in zip(boxes, texts)]


# Where the mark is that is farthest from all others and from labels, in pixels from the middle of
# the map as it is drawn at first, and its row.
LONELIEST = """
const box = document.querySelector('[data-map="flat"]');
const {clientWidth: wide, clientHeight: tall} = box;
const data = JSON.parse(document.getElementById("data").textContent);
const [x, y] = data.maps.flat.map((axis) => {
  const low = Math.min(...axis), half = (Math.max(...axis) - low) / 2;
  return axis.map((value) => (value - low) / half - 1);
});
const places = x.map((value, row) => [value * wide / 2 * 0.94, -y[row] * tall / 2 * 0.94]);
const frame = box.getBoundingClientRect();
const labels = [...box.querySelectorAll("rect")].map((each) => each.getBoundingClientRect());
const covered = ([a, b]) => labels.some((each) => {
  const [left, top] = [frame.left + wide / 2 + a, frame.top + tall / 2 + b];
  return left > each.left - 2 && left < each.right + 2
      && top > each.top - 2 && top < each.bottom + 2;
});
const gap = (one) => covered(one) ? 0 : Math.min(...places.filter((each) => each !== one).map(
    (other) => Math.hypot(one[0] - other[0], one[1] - other[1])));
const gaps = places.map(gap), best = gaps.indexOf(Math.max(...gaps));
return [...places[best], best];
"""


def lonely_mark(browser: webdriver.Chrome) -> tuple[WebElement, int, int, str, str]:
    """A map, a place on it in pixels from its middle, and the class and path of the photo there."""
    drawn = drawing(browser, "flat")
    view(browser, "flat")
    x, y, row = browser.execute_script(LONELIEST)
    label, path = browser.execute_script(
        "const {photos, classes} = JSON.parse(document.getElementById('data').textContent);"
        "return [classes[photos.label[arguments[0]]].label, photos.path[arguments[0]]]",
        row,
    )
    return drawn, round(x), round(y), label, path


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
        "pca.png",
        "photos.png",
        "tsne.png",
        "tsne_3d.png",
        "variance.png",
    ]
    assert report.pictures == names
    assert sorted(path.name for path in (small / "report").iterdir()) == sorted(
        [*names, "findings.csv", "index.html"]
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
    listed = kind_of(data, "unreadable")["listed"]
    assert [(each["path"], each["suggestion"]) for each in listed] == list(broken.items())
    assert data["classes"] == [{"label": "a", "photos": 12, "errors": 2}]
    # Nor is any other of them there any more: the report is made all the same, and says so.
    assert set(data["photos"]["thumbnail"]) == {""}
    assert data["missing"] == {
        "n": 10,
        "of": 10,
        "example": paths[0],
        "reason": "No such file or directory",
    }


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
    show(browser, write(output))
    totals = [each.text for each in browser.find_elements(By.CSS_SELECTOR, "#totals li")]
    assert "1 Photos with a warning" in totals
    assert "1,200 Turned photos" in totals
    browser.execute_script(
        "for (const each of document.querySelectorAll('.kind')) each.open = true"
    )
    lead = browser.find_element(By.CSS_SELECTOR, "#finding-warning .lead").text
    assert "--strict" in lead
    assert "--apply-exif" in browser.find_element(By.CSS_SELECTOR, "#finding-turned .lead").text
    cells = browser.find_elements(By.CSS_SELECTOR, "#finding-warning td")
    assert [each.text for each in cells[:2]] == [paths[3], "parts are missing <b>"]
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
    # The page says it in its language.
    assert told == {"n": 9, "of": 9, "example": paths[0], "reason": None}


def test_a_photo_among_others_of_another_class_is_a_stranger(tmp_path: Path) -> None:
    features = outputs.features_of(2, 12)
    features[3] = features[20] + 0.01
    labels = ["apple"] * 12 + ["pear"] * 12
    paths = [f"file:/photos/{label}/{number}.jpg" for number, label in enumerate(labels)]
    data = data_of(write(outputs.write_output(tmp_path / "o", paths, labels, features)))
    kinds = {kind["kind"]: kind for kind in data["findings"]["kinds"]}
    for name in ("label_error", "duplicate_across_classes"):
        (found,) = kinds[name]["listed"]
        assert (found["path"], found["label"]) == ("file:/photos/apple/3.jpg", "apple")
        assert (found["suggestion"], found["other_label"]) == ("relabel: pear", "pear")
        assert data["photos"]["path"][found["photo"]] == found["path"]
        assert data["photos"]["path"][found["other"]] == found["other_path"]
    assert found["other_path"] == "file:/photos/pear/20.jpg"


def test_the_findings_beside_the_page_keep_their_decisions(small: Path) -> None:
    table = write(small).with_name("findings.csv")
    lines = table.read_text("utf-8-sig").splitlines()
    assert len(lines) == 1 + 3 * 15  # thin, tiny and blank
    decided = lines[1].replace("thin_class,5,,", "thin_class,5,,leave out")
    table.write_text("\n".join([lines[0], decided]), "utf-8-sig")
    write(small)
    assert table.read_text("utf-8-sig").splitlines() == [lines[0], decided, *lines[2:]]
    table.write_text("path,decision\nx.jpg,maybe\n")
    with pytest.raises(ValueError, match=r"report/findings.csv, line 2: unknown decision 'maybe'"):
        write(small)
    assert table.read_text() == "path,decision\nx.jpg,maybe\n"


def test_a_report_against_another_shows_what_changed(tmp_path: Path) -> None:
    features = outputs.features_of(2, 12)
    labels = ["apple"] * 12 + ["pear"] * 12
    paths = [f"file:/photos/{label}/{number}.jpg" for number, label in enumerate(labels)]
    old = outputs.write_output(tmp_path / "old", paths[1:], labels[1:], features[1:])
    features[5] = -features[5]
    new = outputs.write_output(tmp_path / "new", paths[:-1], labels[:-1], features[:-1])
    write_report(LocalResults(str(new)), against=LocalResults(str(old)))
    data = data_of(new / "report/index.html")["against"]
    assert (data["uri"], data["photos"]) == (str(old), 23)
    assert [each["path"] for each in data["new"]["listed"]] == [paths[0], paths[5]]
    assert [each["path"] for each in data["gone"]["listed"]] == [paths[5], paths[-1]]
    assert [each["path"] for each in data["far"]["listed"]] == [paths[5]]
    shown = data_of(new / "report/index.html")["photos"]["path"]
    assert shown[data["far"]["listed"][0]["photo"]] == paths[5]
    assert [each["label"] for each in data["classes"]] == ["apple", "pear"]
    assert data_of(write(old))["against"] is None


def test_a_mistake_is_shown_beside_a_photo_of_the_predicted_class(small: Path) -> None:
    write_metrics(small, ["Fruit 0 of 3", "Fruit 1 of 3"])
    metrics = small / "classifier/forest/metrics.json"
    training = json.loads(metrics.read_text())
    data = data_of(write(small))
    path = data["photos"]["path"][0]
    training["holdouts"]["random"]["mistakes"] = [
        [path, "Fruit 0 of 3", "Fruit 1 of 3"],
        ["file:/gone.jpg", "Fruit 0 of 3", "Fruit 1 of 3"],
    ]
    metrics.write_text(json.dumps(training))
    data = data_of(write(small))
    (row, other), unknown = data["classifiers"][0]["holdouts"]["random"]["mistake_photos"]
    assert data["photos"]["path"][row] == path
    assert data["classes"][data["photos"]["label"][other]]["label"] == "Fruit 1 of 3"
    assert unknown == [None, None]


def test_thumbnails_get_smaller_where_a_page_would_get_too_large(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Noise is harder to compress than any photo.
    noise = np.random.RandomState(0).randint(0, 256, (96, 96, 3)).astype(np.uint8)
    pictures = [noise, "unreadable", *[noise] * 38]
    assert content._encoded(pictures)[:2] == [jpeg(noise), None]
    monkeypatch.setattr(content, "THUMBNAIL_BYTES", content.THUMBNAIL_BYTES // 115)
    thumbnails = content._encoded(pictures)
    assert sum(len(each or b"") for each in thumbnails) <= content.THUMBNAIL_BYTES


def test_a_photo_unlike_all_others_comes_first_of_the_odd_ones(tmp_path: Path) -> None:
    features = outputs.features_of(2, 12)
    features[5] = -features[5]
    paths = [f"file:/photos/{number}.jpg" for number in range(24)]
    output = outputs.write_output(tmp_path / "o", paths, ["a"] * 12 + ["b"] * 12, features)
    data = data_of(write(output))
    outliers = next(kind for kind in data["findings"]["kinds"] if kind["kind"] == "outlier")
    assert outliers["listed"][0]["path"] == "file:/photos/5.jpg"


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
    assert found["outdated"] == bool(since)


def test_pictures_of_the_report_before_are_not_left_beside_the_page(small: Path) -> None:
    write_metrics(small, ["a", "b"])
    assert "confusion_forest_random.png" in write_report(LocalResults(str(small))).pictures
    mine = small / "report/mine.png"
    mine.write_bytes(b"a picture")
    shutil.rmtree(small / "classifier")
    report = write_report(LocalResults(str(small)), sample=4)
    assert "tsne.png" not in report.pictures
    there = sorted(path.name for path in (small / "report").iterdir() if path != mine)
    assert there == sorted(["findings.csv", "index.html", *report.pictures])
    assert mine.exists()


@pytest.mark.parametrize("dimensions", [2, 3])
def test_copies_of_one_photo_stay_in_one_place(dimensions: int) -> None:
    # Their components are what rounding has left.
    pca = np.full((16, 6), -7.4e-07, np.float32)
    assert np.abs(content.tsne(pca, dimensions, seed=0)).max() < 1


def test_a_classifier_that_is_not_finished_is_left_out(small: Path) -> None:
    (small / "classifier/svm/model").mkdir(parents=True)
    assert data_of(write(small))["classifiers"] == []


@pytest.mark.parametrize("package", ["sklearn.manifold", "matplotlib.figure"])
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
    first, second, third = shown.out.splitlines()
    assert first.startswith(f"{small}/report/index.html: a sample of 9 photos of 15, ")
    assert second.startswith("figures next to it: classes.png, pca.png, ")
    assert third == "findings.csv next to it: 15 thin_class, 15 tiny, 15 blank"
    assert "pomona: arranging the photos on a map" in shown.err


@pytest.mark.parametrize("seed", ["-1", str(1 << 32), "one"])
def test_a_seed_that_is_none_is_told_before_anything_is_read(
    seed: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for command in (["report", "nowhere"], ["train", "nowhere", "--classifier", "svm"]):
        assert main([*command, "--seed", seed]) == 2
        assert f"'{seed}' is not a whole number from 0 to 4294967295" in capsys.readouterr().err


# The languages


def test_the_languages_have_the_same_sentences_with_the_same_values() -> None:
    english, french = (sentences(language) for language in LANGUAGES)
    assert list(english) == list(french)
    for key, entry in english.items():
        assert isinstance(entry, dict) == isinstance(french[key], dict), key
        assert values_in(entry) == values_in(french[key]), key


def test_the_page_uses_each_sentence_and_no_other() -> None:
    folder = Path(report.__file__).parent
    source = "\n".join(
        [path.read_text() for path in sorted(folder.glob("script/*.js"))]
        + [(folder / "template.html").read_text()]
    )
    keys = set(sentences("en"))
    families = set(re.findall(r"`([\w-]+)\.\$\{|known\(\"([\w-]+)", source))
    prefixes = {name for pair in families for name in pair}
    unused = {
        key
        for key in keys - {"title"}
        if f'"{key}"' not in source
        and f"{{{{text.{key}}}}}" not in source
        and key.partition(".")[0] not in prefixes
    }
    assert unused == set()
    assert set(re.findall(r'say\("([\w.-]+)"', source)) <= keys
    assert set(re.findall(r"\{\{text\.([\w.-]+)\}\}", source)) <= keys


def test_no_page_speaks_of_fruit() -> None:
    for language in LANGUAGES:
        assert "fruit" not in json.dumps(sentences(language)).lower()


def test_an_unknown_language_is_refused(small: Path) -> None:
    with pytest.raises(ValueError, match="language is 'de' and must be one of en, fr"):
        write(small, language="de")
    assert main(["report", str(small), "--language", "de"]) == 2
    assert not (small / "report").exists()


def sentences(language: str) -> dict:
    text = (Path(report.__file__).parent / f"text/{language}.json").read_text(encoding="utf-8")
    return json.loads(text)


def values_in(entry: str | dict[str, str]) -> set[str]:
    text = entry if isinstance(entry, str) else " ".join(entry.values())
    return set(re.findall(r"\{(\w+)\}", text)) - {"n"}


# In a browser


def test_the_page_opens_without_an_error_and_asks_no_network(
    browser: webdriver.Chrome, many: Path
) -> None:
    show(browser, many)
    for name in ("pca", "flat", "solid"):
        assert shown_marks(browser, name) == 3 * CLASSES
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


# Findings and decisions


def test_findings_come_first_with_their_totals_and_photos(clean: webdriver.Chrome) -> None:
    first = clean.find_element(By.CSS_SELECTOR, "main > section")
    assert first.get_attribute("id") == "findings"
    totals = [each.text for each in clean.find_elements(By.CSS_SELECTOR, "#totals li")]
    assert "423 Photos of small classes" in totals
    thin = open_kind(clean, "thin_class")
    assert "The first 200 of 423 are listed here." in thin.text
    tiles = thin.find_elements(By.CSS_SELECTOR, ".finding")
    assert len(tiles) == 24
    assert "One of 3 photos of its class." in tiles[0].text
    thin.find_element(By.CSS_SELECTOR, ".more").click()
    assert len(thin.find_elements(By.CSS_SELECTOR, ".finding")) == 48


def test_decisions_are_kept_and_go_back_into_a_run(clean: webdriver.Chrome, tmp_path: Path) -> None:
    thin = open_kind(clean, "thin_class")
    one, two = thin.find_elements(By.CSS_SELECTOR, ".finding")[:2]
    choose(one, "leave out")
    choose(two, "keep")
    left_out = one.find_element(By.CSS_SELECTOR, "figure").get_attribute("title")
    clean.find_elements(By.CSS_SELECTOR, "#sheets .shot")[-1].click()
    panel = clean.find_element(By.ID, "pin")
    relabelled = panel.find_element(By.CSS_SELECTOR, ".path").text
    choose(panel, "relabel: Fig 3")
    assert "You have decided about 3 photos." in clean.find_element(By.ID, "decisions").text

    clean.refresh()
    until(clean, lambda: clean.execute_script("return document.documentElement.dataset.ready"))
    clean.execute_cdp_cmd(
        "Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(tmp_path)}
    )
    clean.find_element(By.ID, "findings-save").click()
    file = tmp_path / "findings.csv"
    until(clean, lambda: file.exists() and file.stat().st_size)
    decisions = read_decisions(file)
    assert {(each.path, each.label) for each in decisions.by_key.values()} == {
        (left_out, None),
        (relabelled, "Fig 3"),
    }
    assert file.read_bytes().startswith(
        "\ufeffpath,finding,score,suggestion,decision,label,other_path,other_label\r\n".encode()
    )


def open_kind(browser: webdriver.Chrome, kind: str) -> WebElement:
    box = browser.find_element(By.ID, f"finding-{kind}")
    browser.execute_script("arguments[0].open = true; arguments[0].scrollIntoView()", box)
    return box


def choose(box: WebElement, decision: str) -> None:
    control = box.find_element(By.CSS_SELECTOR, "select.decision")
    control.find_element(By.CSS_SELECTOR, f'option[value="{decision}"]').click()


# A pinned photo


def test_a_click_pins_a_photo_with_its_nearest_ones(clean: webdriver.Chrome) -> None:
    drawn, x, y, label, path = lonely_mark(clean)
    mouse = ActionChains(clean, duration=20)
    mouse.move_to_element_with_offset(drawn, x, y).perform()
    shown = tip(clean, "flat")
    until(clean, shown.is_displayed)
    assert shown.text.startswith(label)
    picture = shown.find_element(By.TAG_NAME, "img")
    until(clean, lambda: picture.get_property("naturalWidth") == outputs.SIDE)
    mouse.click().perform()
    panel = clean.find_element(By.ID, "pin")
    assert panel.find_element(By.TAG_NAME, "h2").text == label
    assert panel.find_element(By.CSS_SELECTOR, ".path").text == path
    near = panel.find_elements(By.CSS_SELECTOR, ".strip .photo")
    assert len(near) == 6
    clean.execute_cdp_cmd("Browser.grantPermissions", {"permissions": ["clipboardSanitizedWrite"]})
    panel.find_element(By.XPATH, ".//button[text()='Copy path']").click()
    until(clean, lambda: "Copied." in panel.text)
    other = near[0].get_attribute("title")
    near[0].find_element(By.TAG_NAME, "button").click()
    assert panel.find_element(By.CSS_SELECTOR, ".path").text == other
    panel.find_element(By.CSS_SELECTOR, ".close").click()
    assert not panel.is_displayed()


def test_pointing_at_a_mark_in_space_shows_its_photo(clean: webdriver.Chrome) -> None:
    solid = drawing(clean, "solid")
    shown = tip(clean, "solid")

    def found() -> bool:
        for across, down in itertools.product(range(-120, 121, 24), range(-60, 61, 24)):
            mouse = ActionChains(clean, duration=5)
            mouse.move_to_element_with_offset(solid, across, down).perform()
            if shown.find_elements(By.TAG_NAME, "img"):
                return True
        return False

    assert found()
    assert shown.find_element(By.TAG_NAME, "img").get_attribute("src").startswith("data:image/jpeg")


def test_the_maps_work_from_the_keyboard(clean: webdriver.Chrome) -> None:
    drawn = drawing(clean, "flat")
    shown = tip(clean, "flat")
    before = view(clean, "flat")
    drawn.send_keys("n")
    assert shown.is_displayed()
    first = shown.text
    drawn.send_keys("n")
    assert shown.text != first
    drawn.send_keys("p")
    assert shown.text == first
    drawn.send_keys(Keys.ENTER)
    panel = clean.find_element(By.ID, "pin")
    assert panel.is_displayed()
    assert first.startswith(clean.switch_to.active_element.text)
    clean.switch_to.active_element.send_keys(Keys.ESCAPE)
    assert not panel.is_displayed()
    assert clean.switch_to.active_element == drawn
    drawn.send_keys(Keys.ESCAPE)
    assert not shown.is_displayed()
    drawn.send_keys(Keys.ARROW_RIGHT)
    moved = view(clean, "flat")
    assert moved["x"] > before["x"]
    assert moved["zoom"] == before["zoom"]
    drawn.send_keys("+")
    assert view(clean, "flat")["zoom"] > moved["zoom"]
    drawn.send_keys("0")
    assert view(clean, "flat") == before

    turned = drawing(clean, "solid")
    before = view(clean, "solid")
    turned.send_keys(Keys.ARROW_LEFT, "+")
    after = view(clean, "solid")
    assert after["zoom"] > before["zoom"]
    assert after["around"] != before["around"]


# Touch


def test_a_tap_pins_a_photo_and_a_swipe_scrolls_the_page(phone: webdriver.Chrome) -> None:
    drawn, x, y, label, _ = lonely_mark(phone)
    at = middle(phone, drawn)
    touch(phone, "touchStart", [(at[0] + x, at[1] + y)])
    touch(phone, "touchEnd", [])
    panel = phone.find_element(By.ID, "pin")
    until(phone, panel.is_displayed)
    assert panel.find_element(By.TAG_NAME, "h2").text == label
    panel.find_element(By.CSS_SELECTOR, ".close").click()

    before = view(phone, "flat")
    scrolled = phone.execute_script("return scrollY")
    swipe(phone, [(at[0], at[1] - by) for by in range(0, 200, 20)])
    until(phone, lambda: phone.execute_script("return scrollY") > scrolled + 100)
    assert view(phone, "flat") == before


def test_two_fingers_move_and_zoom_a_map_and_one_does_after_its_button(
    phone: webdriver.Chrome,
) -> None:
    drawn = drawing(phone, "flat")
    before = view(phone, "flat")
    x, y = middle(phone, drawn)
    touch(phone, "touchStart", [(x - 20, y), (x + 20, y)])
    for apart in (30, 45, 60):
        touch(phone, "touchMove", [(x - apart, y), (x + apart, y)])
    touch(phone, "touchEnd", [])
    assert view(phone, "flat")["zoom"] > 2 * before["zoom"]
    scrolled = phone.execute_script("return scrollY")
    phone.find_element(By.CSS_SELECTOR, "[data-mode=move]").click()
    before = view(phone, "flat")
    x, y = middle(phone, drawn)
    swipe(phone, [(x, y), (x, y - 30), (x, y - 60)])
    assert view(phone, "flat")["y"] < before["y"]
    assert phone.execute_script("return scrollY") == scrolled
    phone.find_element(By.CSS_SELECTOR, "[data-mode=move]").click()


def test_a_lasso_selects_photos_with_fingers_and_with_the_mouse(phone: webdriver.Chrome) -> None:
    drawn, x, y, label, path = lonely_mark(phone)
    at = middle(phone, drawn)
    lasso = phone.find_element(By.CSS_SELECTOR, "[data-mode=lasso]")
    phone.execute_script("arguments[0].click()", lasso)
    corners = [(-9, -9), (9, -9), (9, 9), (-9, 9)]
    swipe(phone, [(at[0] + x + dx, at[1] + y + dy) for dx, dy in corners])
    selection = phone.find_element(By.ID, "selection")
    assert "1 selected photo" in selection.text
    assert label in selection.find_element(By.CSS_SELECTOR, ".counts").text
    assert selection.find_element(By.CSS_SELECTOR, ".photo").get_attribute("title") == path
    box = phone.find_element(By.CSS_SELECTOR, "[data-mode=box]")
    phone.execute_script("arguments[0].click()", box)
    mouse = ActionChains(phone, duration=20)
    edge = drawn.size["width"] // 2 - 4, drawn.size["height"] // 2 - 4
    mouse.move_to_element_with_offset(drawn, -edge[0], -edge[1]).click_and_hold()
    mouse.move_to_element_with_offset(drawn, edge[0], edge[1]).release().perform()
    until(phone, lambda: f"{3 * CLASSES} selected photos" in selection.text)
    phone.execute_script("arguments[0].click()", box)
    drawing(phone, "flat").send_keys(Keys.ESCAPE)
    assert not selection.is_displayed()


def middle(browser: webdriver.Chrome, drawn: WebElement) -> tuple[float, float]:
    """The middle of an element, in pixels of the window."""
    return tuple(
        browser.execute_script(
            "const {x, y, width, height} = arguments[0].getBoundingClientRect();"
            "return [x + width / 2, y + height / 2]",
            drawn,
        )
    )


def touch(browser: webdriver.Chrome, kind: str, fingers: list[tuple[float, float]]) -> None:
    points = [{"x": x, "y": y, "id": number} for number, (x, y) in enumerate(fingers)]
    browser.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})


def swipe(browser: webdriver.Chrome, path: list[tuple[float, float]]) -> None:
    touch(browser, "touchStart", path[:1])
    for place in path[1:]:
        touch(browser, "touchMove", [place])
    touch(browser, "touchEnd", [])


# Maps


def test_the_labels_of_141_classes_overlap_nowhere(clean: webdriver.Chrome) -> None:
    for name in ("pca", "flat", "solid"):
        drawing(clean, name)
        boxes = labels(clean, name)
        assert len(boxes) >= 100
        assert overlaps(boxes) == []
    assert overlaps(boxes_of(clean, "#balance li")) == []
    assert overlaps(boxes_of(clean, ".sheet h3")) == []


def test_nothing_is_wider_than_a_phone(phone: webdriver.Chrome) -> None:
    phone.execute_script(
        "for (const each of document.querySelectorAll('details')) each.open = true"
    )
    wide = phone.execute_script("return document.documentElement.scrollWidth")
    assert wide == PHONE
    assert overlaps(labels(phone, "flat")) == []


def test_zooming_in_shows_names_in_place_of_numbers(clean: webdriver.Chrome) -> None:
    pca = drawing(clean, "pca")
    assert all(box["text"].isdigit() for box in labels(clean, "pca"))
    pca.send_keys("+++++++")
    boxes = labels(clean, "pca")
    assert boxes
    assert not any(box["text"].isdigit() for box in boxes)
    assert overlaps(boxes) == []


def test_the_filter_works_from_the_keyboard(clean: webdriver.Chrome) -> None:
    search = clean.find_element(By.ID, "search")
    search.send_keys("FÍG 3")  # case and accents do not matter
    listed = [
        each for each in clean.find_elements(By.CSS_SELECTOR, "#legend li") if each.is_displayed()
    ]
    assert [each.text.split("\n")[1] for each in listed] == ["Fig 3", "Fig 33", "Fig 38"]
    assert clean.find_element(By.ID, "tick-matches").text == "Select all 3 matches"
    search.send_keys(Keys.ENTER)
    for name in ("pca", "flat", "solid"):
        assert shown_marks(clean, name) == 9
    names = {box["text"] for box in labels(clean, "flat")}
    assert names == {"Fig 3", "Fig 33", "Fig 38"}
    assert {box["text"] for box in labels(clean, "solid")} == names
    listed[0].find_element(By.TAG_NAME, "input").send_keys(Keys.SPACE)
    assert clean.find_element(By.ID, "showing").text == "Showing 2 of 141 classes"
    search.send_keys("9999")
    assert clean.find_element(By.ID, "showing").text == "No class has this in its name."
    clean.find_element(By.ID, "all").click()
    assert shown_marks(clean, "flat") == 3 * CLASSES


def test_screen_readers_can_tell_the_maps_apart(page: webdriver.Chrome) -> None:
    names = {each.accessible_name for each in page.find_elements(By.CSS_SELECTOR, ".draw")}
    assert len(names) == 3
    assert "Map: The first two principal components (PCA), 423 photos" in names


# Classifiers


def test_the_classifier_shows_what_it_mixes_up(clean: webdriver.Chrome) -> None:
    until(clean, lambda: boxes_of(clean, "#tests .confusion td"))
    scores = clean.find_element(By.ID, "scores").text
    assert "Random forest" in scores
    assert "99.9%" in scores
    mixed = [box["text"] for box in boxes_of(clean, "#tests .test .scroll:first-of-type td")]
    assert mixed[:3] == ["Apple Crimson Snow 0", "Pear Forelle 1", "1"]
    pair = clean.find_elements(By.CSS_SELECTOR, ".mistakes .photo")
    assert len(pair) == 2
    assert pair[1].text.startswith("Pear Forelle 1")
    matrix = clean.find_element(By.CSS_SELECTOR, ".matrix")
    clean.execute_script("arguments[0].scrollTo(500, 500)", matrix)
    frame, corner = boxes_of(clean, ".matrix")[0], boxes_of(clean, ".confusion thead td")[0]
    assert corner["x"] == pytest.approx(frame["x"], abs=2)
    assert corner["y"] == pytest.approx(frame["y"], abs=2)
    row = boxes_of(clean, ".confusion tbody th")[100]
    assert row["x"] == pytest.approx(frame["x"], abs=2)
    assert errors_of(clean) == []


def test_every_part_that_does_something_is_reached_by_tab(page: webdriver.Chrome) -> None:
    # Of a strip of photos, Tab reaches one, and arrow keys the others.
    reached = page.execute_script(
        "return [...document.querySelectorAll('a, button, input, select, summary, .draw, .tall')]"
        ".filter((each) => each.offsetParent !== null && each.tabIndex < 0"
        " && !each.closest('.strip')?.querySelector('[tabindex=\"0\"]')).length"
    )
    assert reached == 0
    strip = page.find_element(By.CSS_SELECTOR, ".sheet .strip")
    strip.find_element(By.TAG_NAME, "button").send_keys(Keys.ARROW_RIGHT)
    assert page.switch_to.active_element == strip.find_elements(By.TAG_NAME, "button")[1]


# Colours and paper


def contrast(one: str, two: str) -> float:
    """The contrast of two colours, as WCAG defines it."""

    def luminance(colour: str) -> float:
        parts = np.array([int(colour[at : at + 2], 16) for at in (1, 3, 5)]) / 255
        linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    dark, light = sorted([luminance(one), luminance(two)])
    return (light + 0.05) / (dark + 0.05)


def test_dark_and_light_follow_the_system(clean: webdriver.Chrome) -> None:
    pixel = "document.querySelector('canvas').getContext('2d').getImageData(1, 1, 1, 1).data"
    style = "getComputedStyle(document.documentElement).getPropertyValue(`--${name}`)"
    try:
        for scheme, expected in (("light", [255, 255, 255]), ("dark", [22, 25, 22])):
            feature = {"name": "prefers-color-scheme", "value": scheme}
            clean.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
            until(
                clean,
                lambda to=expected: clean.execute_script(f"return [...{pixel}].slice(0, 3)") == to,
            )
        names = ["ground", "ink", "muted", *(f"mark-{number}" for number in range(6))]
        ground, *colours = clean.execute_script(
            f"return arguments[0].map((name) => {style}.trim())", names
        )
        assert min(contrast(ground, colour) for colour in colours[:2]) >= 7
        assert min(contrast(ground, colour) for colour in colours[2:]) >= 4.5
    finally:
        clean.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def test_the_maps_and_bars_are_on_paper_in_light_colours(clean: webdriver.Chrome) -> None:
    feature = {"name": "prefers-color-scheme", "value": "dark"}
    try:
        clean.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
        view(clean, "flat")
        options = {"printBackground": False, "transferMode": "ReturnAsBase64"}
        printed = base64.b64decode(clean.execute_cdp_cmd("Page.printToPDF", options)["data"])
    finally:
        clean.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    content = b"\n".join(streams_of(printed))
    # A page draws its marks as small images, so those of the maps are more than all thumbnails.
    assert content.count(b" Do") > 3 * 3 * CLASSES
    colours = set(re.findall(rb"([\d.]+ [\d.]+ [\d.]+) (?:rg|RG)", content))
    assert colours_of("#0072b2") in colours  # bars, and the frames of labels
    assert colours_of("#d55e00") in colours
    # Paper is light.
    assert colours_of("#161916") not in colours
    assert colours_of("#5f97ff") not in colours


def colours_of(colour: str) -> bytes:
    """A colour as Chromium writes it into a PDF file."""
    parts = (f"{int(colour[at : at + 2], 16) / 255:.4f}" for at in (1, 3, 5))
    return " ".join(part.strip("0").rstrip(".") or "0" for part in parts).encode()


def streams_of(pdf: bytes) -> Iterator[bytes]:
    """The streams of a PDF file: drawings and images."""
    for start in re.finditer(rb"stream\r?\n", pdf):
        with contextlib.suppress(zlib.error):  # the end of a stream, or one that is not compressed
            yield zlib.decompressobj().decompress(pdf[start.end() :])


# Other pages


def test_the_page_starts_with_the_decisions_that_were_made_before(
    browser: webdriver.Chrome, small: Path
) -> None:
    write(small)
    file = small / "report/findings.csv"
    head, first, *rest = file.read_text(encoding="utf-8-sig").splitlines()
    path, kind, score, suggestion, _, *others = first.split(",")
    decided = ",".join([path, kind, score, suggestion, "Leave out", *others])
    file.write_text("\n".join([head, decided, *rest]))
    show(browser, write(small))
    assert "You have decided about 1 photo." in browser.find_element(By.ID, "decisions").text
    chosen = browser.find_element(By.CSS_SELECTOR, "select.decided")
    assert chosen.get_property("value") == "leave out"


def test_a_page_in_french_compares_two_sets(
    browser: webdriver.Chrome, many: Path, tmp_path: Path
) -> None:
    data = data_of(many)
    for name in ("language", "text"):
        data.pop(name)
    path, label = data["photos"]["path"][0], data["classes"][0]["label"]
    listed = {"total": 1234, "listed": [{"path": path, "label": label, "photo": 0, "score": 0.5}]}
    gone = [{"path": "file:/x/gone.jpg", "label": label, "photo": None, "score": None}]
    data["against"] = {
        "uri": "octobre",
        "photos": 420,
        "new": listed,
        "gone": {"total": 1, "listed": gone},
        "far": listed,
        "classes": [
            {"label": label, "here": 3, "there": 2, "distance": 0.25, "far_share": 0.5},
            {"label": "x", "here": 0, "there": 2, "distance": None, "far_share": None},
        ],
    }
    page = tmp_path / "index.html"
    page.write_text(report._page(data, "fr"), encoding="utf-8")
    show(browser, page)
    assert browser.find_element(By.TAG_NAME, "html").get_attribute("lang") == "fr"
    assert browser.title.startswith("Rapport Pomona\u00a0: ")
    assert browser.find_element(By.TAG_NAME, "h1").text == "423 photos, 141 classes, 0 erreur"
    cells = [box["text"] for box in boxes_of(browser, "#against-classes td")]
    assert cells == [label, "3", "2", "0,250", "50,0\xa0%", "x", "0", "2", "\u2013", "\u2013"]
    totals = [box["text"] for box in boxes_of(browser, "#against-lists .total")]
    assert totals == ["1\u202f234", "1", "1\u202f234"]
    until(browser, lambda: boxes_of(browser, "#tests .note"))
    note = browser.find_element(By.CSS_SELECTOR, "#tests .note")
    assert (note.text, note.get_attribute("lang")) == ("25% of each class, drawn at random", "en")
    assert errors_of(browser) == []


def test_4000_photos_open_fast_in_a_page_of_less_than_15_mb(
    browser: webdriver.Chrome, many: Path, tmp_path: Path
) -> None:
    data = data_of(many)
    for name in ("language", "text"):
        data.pop(name)
    number, shown = 4000, 4600
    thumbnail = base64.b64encode(np.random.RandomState(0).bytes(6_500_000 // shown)).decode()
    row = [each % (3 * CLASSES) for each in range(shown)]
    data["photos"] = {
        "path": [f"file:/photos/of/a/large/set/{each}.jpg" for each in range(shown)],
        "label": [data["photos"]["label"][each] for each in row],
        "thumbnail": [thumbnail] * shown,
    }
    data["maps"] = {
        name: [[axis[each] for each in row[:number]] for axis in axes]
        for name, axes in data["maps"].items()
    }
    data["near"] = {"rows": [[1, 2, 3, 4, 5, 6]] * number, "distances": [[0.123] * 6] * number}
    data["sample"] = {"photos": number, "of": number, "seed": 0}
    page = tmp_path / "index.html"
    page.write_text(report._page(data, "en"), encoding="utf-8")
    assert page.stat().st_size < 15e6
    # Processor time, because tests share their machine.
    browser.execute_cdp_cmd("Performance.enable", {"timeDomain": "threadTicks"})
    show(browser, page)
    assert shown_marks(browser, "flat") == number
    metrics = browser.execute_cdp_cmd("Performance.getMetrics", {})["metrics"]
    browser.execute_cdp_cmd("Performance.disable", {})
    (took,) = [each["value"] for each in metrics if each["name"] == "TaskDuration"]
    assert took < 3


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
    rows = browser.execute_script(
        "return [...document.querySelectorAll('#finding-unreadable tbody tr')]"
        ".map((row) => [...row.cells].slice(0, 2).map((cell) => cell.textContent))"
    )
    assert sorted(rows) == sorted([path, reason] for path, reason in errors.items())
    assert browser.find_element(By.CSS_SELECTOR, ".photo .gone").text == (
        "This photo can no longer be read."
    )
