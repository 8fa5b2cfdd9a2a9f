"""Batches of encoded images in, a matrix and precise errors out."""

from __future__ import annotations

import inspect
import pickle
from pathlib import Path
from typing import Any, Iterator

import numpy as np
import pandas as pd
import pytest

import pomona
from pomona import Featurizer, ImageError, ModelError
from specimens import SPECIMENS, picture, saved

DIM = 16
PHOTOS = [saved(picture("RGB", 20 + at, 30, at), "JPEG") for at in range(12)]
BROKEN = PHOTOS[0][:99]


@pytest.fixture(scope="module")
def featurizer(tiny_model: Path) -> Featurizer:
    return Featurizer(tiny_model)


@pytest.fixture(scope="module")
def expected(featurizer: Featurizer) -> np.ndarray:
    """The features of `PHOTOS`, one call each."""
    return np.concatenate([featurizer.featurize([photo]) for photo in PHOTOS])


def test_the_result_is_a_float32_matrix_in_c_order(featurizer: Featurizer) -> None:
    features = featurizer.featurize(PHOTOS)
    assert features.shape == (len(PHOTOS), DIM)
    assert features.dtype == np.float32
    assert features.flags.c_contiguous
    assert features.flags.writeable
    assert np.isfinite(features).all()
    assert len(np.unique(features, axis=0)) == len(PHOTOS)


def as_objects(photos: list[bytes]) -> np.ndarray:
    array = np.empty(len(photos), object)
    array[:] = photos
    return array


def one_after_another(photos: list[bytes]) -> Iterator[bytes]:
    yield from photos


@pytest.mark.parametrize(
    "batch",
    [
        list,
        tuple,
        as_objects,
        pd.Series,
        lambda photos: pd.Series(photos, index=range(100, 100 + len(photos))),
        one_after_another,
        lambda photos: [bytearray(photo) for photo in photos],
        lambda photos: [memoryview(photo) for photo in photos],
        lambda photos: [memoryview(photo + photo)[: len(photo)] for photo in photos],
        lambda photos: [np.frombuffer(photo, np.uint8) for photo in photos],
        lambda photos: dict.fromkeys(photos),
    ],
    ids=[
        *["list", "tuple", "object array", "Series", "Series with its own index", "generator"],
        *["bytearray", "memoryview", "part of a memoryview", "uint8 arrays", "keys"],
    ],
)
def test_any_iterable_of_bytes_is_a_batch(
    featurizer: Featurizer, expected: np.ndarray, batch: Any
) -> None:
    np.testing.assert_array_equal(featurizer.featurize(batch(PHOTOS)), expected)


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("batch_size", [1, 5, 8, 100])
def test_threads_and_batch_size_change_no_bit(
    tiny_model: Path, expected: np.ndarray, threads: int, batch_size: int
) -> None:
    featurizer = Featurizer(tiny_model, threads=threads, batch_size=batch_size)
    for _ in range(2):
        np.testing.assert_array_equal(featurizer.featurize(PHOTOS), expected)


def test_every_kind_of_file_has_features(featurizer: Featurizer) -> None:
    features, errors = featurizer.try_featurize(SPECIMENS.values())
    assert errors == [None] * len(SPECIMENS)
    assert np.isfinite(features).all()


def test_the_features_are_those_of_the_pixels_of_load_image(featurizer: Featurizer) -> None:
    height, width = featurizer.image_size
    for photo in PHOTOS[:3]:
        pixels = pomona.load_image(photo, size=(height, width))
        as_png = saved_pixels(pixels)
        np.testing.assert_array_equal(featurizer.featurize([as_png]), featurizer.featurize([photo]))


def saved_pixels(pixels: np.ndarray) -> bytes:
    from PIL import Image

    return saved(Image.fromarray(pixels), "PNG")


@pytest.mark.parametrize("empty", [[], (), np.array([], object), pd.Series([], dtype=object)])
def test_no_image_is_no_row(featurizer: Featurizer, empty: Any) -> None:
    features = featurizer.featurize(empty)
    assert features.shape == (0, DIM)
    assert features.dtype == np.float32
    features, errors = featurizer.try_featurize(empty)
    assert (features.shape, errors) == ((0, DIM), [])


class TestBrokenImages:
    BATCH = (PHOTOS[0], BROKEN, None, PHOTOS[1], b"", b"text")
    BAD = (1, 2, 4, 5)

    def test_the_first_one_raises_with_its_index_and_reason(self, featurizer: Featurizer) -> None:
        with pytest.raises(ImageError, match=r"^image 1: truncated JPEG: ") as caught:
            featurizer.featurize(self.BATCH)
        assert caught.value.index == 1
        assert caught.value.reason.startswith("truncated JPEG: ")
        assert isinstance(caught.value, ValueError)

    def test_nan_fills_their_rows_on_request(
        self, featurizer: Featurizer, expected: np.ndarray
    ) -> None:
        features = featurizer.featurize(self.BATCH, on_error="nan")
        assert np.isnan(features).all(axis=1).nonzero()[0].tolist() == list(self.BAD)
        np.testing.assert_array_equal(features[[0, 3]], expected[:2])

    @pytest.mark.parametrize("threads", [1, 3])
    @pytest.mark.parametrize("batch_size", [1, 2, 8])
    def test_try_featurize_gives_each_its_slot(
        self, tiny_model: Path, expected: np.ndarray, threads: int, batch_size: int
    ) -> None:
        featurizer = Featurizer(tiny_model, threads=threads, batch_size=batch_size)
        features, errors = featurizer.try_featurize(self.BATCH * 5)
        np.testing.assert_array_equal(features[[0, 3]], expected[:2])
        assert len(errors) == len(features) == 5 * len(self.BATCH)
        for index, (row, error) in enumerate(zip(features, errors)):
            if index % len(self.BATCH) in self.BAD:
                assert isinstance(error, ImageError)
                assert error.index == index
                assert np.isnan(row).all()
            else:
                assert error is None
                assert np.isfinite(row).all()
        reasons = [error.reason for error in errors[: len(self.BATCH)] if error]
        assert reasons[1] == "no image (null)"
        kinds = [error.kind for error in errors[: len(self.BATCH)] if error]
        assert kinds == ["image", "missing", "image", "image"]
        assert reasons[2] == "empty: 0 bytes"
        assert reasons[3].startswith(
            "not a JPEG, PNG, WebP, GIF, BMP, TIFF, HEIC or AVIF image: 4 bytes"
        )

    def test_nothing_but_broken_images_is_a_matrix_of_nan(self, featurizer: Featurizer) -> None:
        assert np.isnan(featurizer.featurize([None, b"", BROKEN], on_error="nan")).all()

    def test_an_image_error_survives_pickling(self, featurizer: Featurizer) -> None:
        _, errors = featurizer.try_featurize([BROKEN])
        copy = pickle.loads(pickle.dumps(errors[0]))  # noqa: S301
        assert type(copy) is ImageError
        assert (copy.index, copy.reason, str(copy)) == (0, errors[0].reason, str(errors[0]))
        assert copy.kind == errors[0].kind == "image"

    def test_on_error_knows_two_words(self, featurizer: Featurizer) -> None:
        with pytest.raises(ValueError, match="on_error must be 'raise' or 'nan', not \"skip\""):
            featurizer.featurize([], on_error="skip")


class TestWrongTypes:
    @pytest.mark.parametrize("photo", [PHOTOS[0], bytearray(PHOTOS[0]), memoryview(PHOTOS[0])])
    def test_one_photo_is_no_batch(self, featurizer: Featurizer, photo: Any) -> None:
        with pytest.raises(TypeError, match=r"takes a batch of images, not one: pass \[image\]"):
            featurizer.featurize(photo)

    @pytest.mark.parametrize(
        ("item", "name"), [("apple.jpg", "str"), (3, "int"), (Path("apple.jpg"), "PosixPath")]
    )
    def test_an_item_that_is_no_bytes_is_named_with_its_index(
        self, featurizer: Featurizer, item: Any, name: str
    ) -> None:
        with pytest.raises(TypeError, match=f"image 2 must be bytes or None, not {name}"):
            featurizer.featurize([PHOTOS[0], None, item])

    @pytest.mark.parametrize("batch", ["apple.jpg", 3, None])
    def test_what_holds_no_images_is_a_type_error(self, featurizer: Featurizer, batch: Any) -> None:
        with pytest.raises(TypeError):
            featurizer.featurize(batch)

    def test_an_exception_of_the_iterable_comes_through(self, featurizer: Featurizer) -> None:
        def photos() -> Iterator[bytes]:
            yield PHOTOS[0]
            raise KeyError("the next one")

        with pytest.raises(KeyError, match="the next one"):
            featurizer.featurize(photos())

    def test_a_bytearray_may_change_during_the_call(self, featurizer: Featurizer) -> None:
        # It is copied, so resizing it is not refused and changes nothing.
        photo = bytearray(PHOTOS[0])

        def photos() -> Iterator[bytearray]:
            yield photo
            photo.clear()

        assert np.isfinite(featurizer.featurize(photos())).all()


class TestOptions:
    def test_the_signature_tells_the_defaults_that_are_in_force(self, tiny_model: Path) -> None:
        open_again, _ = Featurizer(tiny_model).__reduce__()
        parameters = inspect.signature(Featurizer).parameters
        assert open_again.keywords == {
            name: parameters[name].default for name in open_again.keywords
        }

    @pytest.mark.parametrize("size", [(0, 8), (8, -1), (1 << 20, 1 << 20), (8, 1 << 62)])
    def test_a_size_that_no_image_has_is_refused(self, size: tuple[int, int]) -> None:
        with pytest.raises(
            ValueError, match=r"^size must be 1 to 65,535 pixels high and wide, not"
        ):
            pomona.load_image(PHOTOS[0], size=size)

    @pytest.mark.parametrize("option", ["threads", "batch_size"])
    def test_zero_is_refused_by_name(self, tiny_model: Path, option: str) -> None:
        with pytest.raises(ValueError, match=f"^{option} must be at least 1, not 0$"):
            Featurizer(tiny_model, **{option: 0})

    @pytest.mark.parametrize("option", ["threads", "batch_size", "max_pixels"])
    def test_negative_numbers_are_refused(self, tiny_model: Path, option: str) -> None:
        with pytest.raises(ValueError, match=f"^{option} must be at least [01], not -1$"):
            Featurizer(tiny_model, **{option: -1})

    @pytest.mark.parametrize("option", ["threads", "batch_size", "max_pixels"])
    def test_no_number_is_refused(self, tiny_model: Path, option: str) -> None:
        with pytest.raises(TypeError, match=option):
            Featurizer(tiny_model, **{option: "many"})

    def test_unknown_ones_are_refused(self, tiny_model: Path) -> None:
        with pytest.raises(TypeError, match="cores"):
            Featurizer(tiny_model, cores=2)

    def test_max_pixels_holds_in_a_batch(self, tiny_model: Path) -> None:
        small = Featurizer(tiny_model, max_pixels=20 * 30)
        _, errors = small.try_featurize(PHOTOS[:2])
        assert errors[0] is None
        assert errors[1].reason == "too large: 21 x 30 pixels, the limit (max_pixels) is 600"

    def test_allow_trailing_is_deprecated(self, tiny_model: Path, expected: np.ndarray) -> None:
        with pytest.warns(DeprecationWarning, match="allow_trailing"):
            featurizer = Featurizer(tiny_model, allow_trailing=False)
        features = featurizer.featurize([PHOTOS[0] + b"<html>"])
        np.testing.assert_array_equal(features, expected[:1])

    def test_load_image_takes_every_kind_of_bytes(self) -> None:
        expected = pomona.load_image(PHOTOS[0])
        assert (pomona.load_image(bytearray(PHOTOS[0])) == expected).all()
        assert (pomona.load_image(memoryview(PHOTOS[0])) == expected).all()
        with pytest.raises(TypeError, match="must be bytes or None, not str"):
            pomona.load_image("apple.jpg")


class TestModels:
    def test_its_promises_can_be_read(self, featurizer: Featurizer, tiny_model: Path) -> None:
        assert featurizer.dim == DIM
        assert featurizer.image_size == (8, 8)
        assert featurizer.model_name == "tiny"
        assert Path(featurizer.model_path).samefile(tiny_model)
        assert featurizer.metadata["pomona.license"] == "Apache-2.0"
        assert featurizer.threads == 1
        assert repr(featurizer) == 'Featurizer("tiny", threads=1): 8 x 8 pixels to 16 features'

    def test_a_path_may_be_a_string(self, tiny_model: Path) -> None:
        assert Featurizer(str(tiny_model)).dim == DIM

    def test_a_path_may_hold_spaces_and_accents(self, tiny_model: Path, tmp_path: Path) -> None:
        copy = tmp_path / "mes modèles" / "pêche 🍑.onnx"
        copy.parent.mkdir()
        copy.write_bytes(tiny_model.read_bytes())
        assert Featurizer(copy).featurize(PHOTOS[:1]).shape == (1, DIM)

    def test_a_missing_one_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(ModelError, match="nowhere"):
            Featurizer(tmp_path / "nowhere.onnx")

    @pytest.mark.parametrize("content", [b"", b"<html>Not Found</html>", bytes(100)])
    def test_a_file_that_is_no_model_is_refused_at_once(
        self, tmp_path: Path, content: bytes
    ) -> None:
        path = tmp_path / "model.onnx"
        path.write_bytes(content)
        with pytest.raises(ModelError, match=r"model\.onnx"):
            Featurizer(path)

    def test_a_truncated_one_is_refused_at_once(self, tiny_model: Path, tmp_path: Path) -> None:
        whole = tiny_model.read_bytes()
        path = tmp_path / "model.onnx"
        for length in range(0, len(whole) - 1, 50):
            path.write_bytes(whole[:length])
            with pytest.raises(ModelError, match=r"model\.onnx"):
                Featurizer(path)

    def test_a_broken_contract_says_which_part(self, tiny_model: Path, tmp_path: Path) -> None:
        whole = tiny_model.read_bytes()
        for part, other, reason in [
            (b"bicubic", b"nearest", "pomona.resize must be bicubic, found nearest"),
            (b"pomona.name", b"pomona.nome", "pomona.name must be in the metadata, found nothing"),
            (b"pomona.license", b"pomona.licence", "pomona.license must be in the metadata"),
            (b"images", b"photos", "the input must be uint8 images"),
            (b"features", b"logitsss", "the output must be float32 features"),
        ]:
            path = tmp_path / "model.onnx"
            path.write_bytes(whole.replace(part, other))
            with pytest.raises(ModelError) as caught:
                Featurizer(path)
            assert reason in str(caught.value)
            assert str(path) in str(caught.value)

    def test_one_that_lies_about_its_graph_fails_with_the_first_batch(
        self, tiny_model: Path, tmp_path: Path
    ) -> None:
        path = tmp_path / "model.onnx"
        path.write_bytes(
            tiny_model.read_bytes().replace(b"GlobalAveragePool", b"GlobalAveragePoop")
        )
        featurizer = Featurizer(path)
        with pytest.raises(ModelError, match=r"ONNX Runtime failed on .*model\.onnx"):
            featurizer.featurize(PHOTOS[:1])

    def test_one_deleted_before_the_first_batch_is_named(
        self, tiny_model: Path, tmp_path: Path
    ) -> None:
        path = tmp_path / "model.onnx"
        path.write_bytes(tiny_model.read_bytes())
        featurizer = Featurizer(path)
        path.unlink()
        with pytest.raises(ModelError, match=r"model\.onnx"):
            featurizer.featurize(PHOTOS[:1])


class TestFeaturize:
    def test_it_is_a_featurizer_in_one_call(self, tiny_model: Path, expected: np.ndarray) -> None:
        for model in (tiny_model, str(tiny_model)):
            np.testing.assert_array_equal(pomona.featurize(PHOTOS, model=model), expected)
        features = pomona.featurize(PHOTOS, model=tiny_model, threads=2)
        np.testing.assert_array_equal(features, expected)

    def test_a_broken_image_raises(self, tiny_model: Path) -> None:
        with pytest.raises(ImageError, match=r"^image 1: "):
            pomona.featurize([PHOTOS[0], BROKEN], model=tiny_model)
