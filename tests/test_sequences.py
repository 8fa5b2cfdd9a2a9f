"""What comes before a photo changes nothing: through each door, each has what it has alone.

A decoder that was kept between photos once gave good photos the errors of a bad one before them,
and decoded others with its tables. No test of single photos can find that, nor one of a batch that
is good or bad as a whole. So here everything that Pomona keeps between photos, calls and tasks
meets photos of all kinds in any order, and the reference is a new process for each photo.
"""

from __future__ import annotations

import io
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Iterator
from urllib.parse import unquote

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import pomona
from odd_photos import POOL, alone
from outcomes import Outcome, outcomes
from pomona import Featurizer, ImageError, ModelError
from pomona._native import PathFeaturizer
from specimens import picture, saved
from stores import Store, serving

NAMES = sorted(POOL)
BATCHES = st.lists(st.sampled_from(NAMES), min_size=1, max_size=64)
#: Threads and batch sizes.
WORKERS = [(threads, batch_size) for threads in (1, 2, 3, 4) for batch_size in (1, 2, 7, 64)]


class Serving(Store):
    """Serves the pool, each photo under its name."""

    def content(self) -> bytes:
        return POOL[unquote(self.path).split("/", 2)[2]]


@pytest.fixture(scope="module")
def expected(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Outcome]:
    return alone(tiny_model, POOL, tmp_path_factory.mktemp("alone"))


@pytest.fixture(scope="module")
def featurizers(tiny_model: Path) -> dict[tuple[int, int], Featurizer]:
    """Featurizers that all examples of a test use one after another."""
    return {
        (threads, batch_size): Featurizer(tiny_model, threads=threads, batch_size=batch_size)
        for threads, batch_size in WORKERS
    }


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The pool as files."""
    folder = tmp_path_factory.mktemp("files")
    paths = {name: folder / f"{number}.jpg" for number, name in enumerate(NAMES)}
    for name, path in paths.items():
        path.write_bytes(POOL[name])
    return {name: str(path) for name, path in paths.items()}


@pytest.fixture(scope="module")
def storage() -> Iterator[dict[str, dict[str, str]]]:
    handler: type[BaseHTTPRequestHandler] = Serving
    with serving(handler) as settings:
        yield settings


def test_the_pool_has_photos_of_every_kind(expected: dict[str, Outcome]) -> None:
    refused = [name for name, outcome in expected.items() if outcome.error]
    assert len(refused) > 100
    assert len(expected) - len(refused) > 150
    assert {outcome.error_kind for outcome in expected.values()} == {None, "image"}
    assert sum(outcome.warning is not None for outcome in expected.values()) > 10
    assert {outcome.orientation for outcome in expected.values()} > {None}
    # What the photo before used to lend its tables.
    assert "Quantization table 0x00 was not defined" in str(expected["head_no_dqt.jpg"].error)


def test_a_jpeg_without_huffman_tables_has_the_standard_ones_as_in_pillow() -> None:
    photo = POOL["head_no_dht_mjpeg.jpg"]
    with Image.open(io.BytesIO(photo)) as image:
        reference = np.asarray(image.convert("RGB"))
    np.testing.assert_array_equal(pomona.load_image(photo), reference)


@settings(max_examples=400)
@given(batch=BATCHES, worker=st.sampled_from(WORKERS))
def test_a_batch_of_bytes(
    expected: dict[str, Outcome],
    featurizers: dict[tuple[int, int], Featurizer],
    batch: list[str],
    worker: tuple[int, int],
) -> None:
    found = outcomes(featurizers[worker].try_featurize([POOL[name] for name in batch]))
    assert found == [expected[name] for name in batch]


@pytest.mark.filterwarnings("ignore::pomona.ImageWarning")
@settings(max_examples=300)
@given(batch=BATCHES)
def test_a_call_that_raises(
    expected: dict[str, Outcome], tiny_model: Path, batch: list[str]
) -> None:
    photos = [POOL[name] for name in batch]
    bad = [index for index, name in enumerate(batch) if expected[name].error]
    if bad:
        with pytest.raises(ImageError) as caught:
            pomona.featurize(photos, model=tiny_model)
        assert (caught.value.index, caught.value.reason) == (bad[0], expected[batch[bad[0]]].error)
    good = [name for name in batch if not expected[name].error]
    features = pomona.featurize([POOL[name] for name in good], model=tiny_model)
    assert features.tolist() == [expected[name].features for name in good]


@pytest.mark.parametrize("way", ["local", "s3"])
def test_steps_of_paths(
    expected: dict[str, Outcome],
    featurizers: dict[tuple[int, int], Featurizer],
    files: dict[str, str],
    storage: dict[str, dict[str, str]],
    way: str,
) -> None:
    streams = {
        worker: PathFeaturizer(featurizer, storage=storage, concurrency=5)
        for worker, featurizer in featurizers.items()
    }

    @settings(max_examples=100)
    @given(
        steps=st.lists(BATCHES, min_size=1, max_size=3),
        worker=st.sampled_from(WORKERS),
        broken=st.booleans(),
    )
    def check(steps: list[list[str]], worker: tuple[int, int], broken: bool) -> None:
        stream = streams[worker]
        for batch in steps:
            stream.submit(files[name] if way == "local" else f"s3://b/{name}" for name in batch)
        for batch in steps:
            results = stream.next()
            assert results is not None
            assert outcomes(results) == [expected[name] for name in batch]
        if broken:
            stream.submit([files[steps[0][0]], "hdfs://name/1.jpg", *files.values()])
            with pytest.raises(ValueError, match="photos are read by their paths from"):
                stream.next()

    check()


def test_a_run_of_the_model_that_fails(tiny_model: Path, tmp_path: Path) -> None:
    grey = [saved(picture().point(lambda value, n=n: value // 2 + n), "PNG") for n in range(9)]
    white = saved(picture().point(lambda _: 255), "PNG")
    paths = [tmp_path / f"{number}.png" for number in range(len(grey))]
    for path, photo in zip(paths, grey):
        path.write_bytes(photo)
    (tmp_path / "white.png").write_bytes(white)
    picky = tiny_model.with_name("picky.onnx")
    features = [Featurizer(picky).featurize([photo]).tolist()[0] for photo in grey]
    featurizer = Featurizer(picky, threads=2)
    stream = PathFeaturizer(featurizer)
    for index in range(len(grey)):
        with pytest.raises(ModelError, match=r"ONNX Runtime failed on .*picky\.onnx"):
            featurizer.featurize([*grey[:index], white, *grey[index:]])
        assert featurizer.featurize(grey).tolist() == features
        stream.submit(map(str, [*paths[:index], tmp_path / "white.png", *paths[index:]]))
        with pytest.raises(ModelError, match=r"ONNX Runtime failed on .*picky\.onnx"):
            stream.next()
        stream.submit(map(str, paths))
        results = stream.next()
        assert results is not None
        assert results[0].tolist() == features
