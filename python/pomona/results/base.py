"""What can be read from the output folder of a run, wherever the folder is."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Iterable, Iterator, NamedTuple, Sequence

import numpy as np

from pomona._decode import DecodeOptions

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pomona.results.pixels import PixelStatistics
    from pomona.results.vectors import Through, Vectors

#: Photos that a sample takes of each class at least, where the class has as many.
LEAST_PER_CLASS = 3


class ClassCount(NamedTuple):
    """The photos of a class, and those among them that cannot be read."""

    label: str
    photos: int
    errors: int


@dataclass(frozen=True)
class Sample:
    """A stratified sample, ordered by label and path.

    Attributes
    ----------
    paths, labels
        One for each of n photos.
    features
        float32, shape (n, d).
    pca
        Principal components: float32, shape (n, k).
    """

    paths: list[str]
    labels: list[str]
    features: NDArray[np.float32]
    pca: NDArray[np.float32]


class Results(ABC):
    """What `pomona run` or `pomona featurize` wrote, and what was made of it.

    Attributes
    ----------
    uri
        The folder of the PCA, the classifiers and the report.
    summary
        The content of ``summary.json``, the fields of `pomona.pipeline.Summary`. ``k`` is 0 without
        a PCA; numbers that are not known are None.
    decode
        The options with which its photos were decoded; the defaults for a run of a version before
        0.2.0, which had no options.

    Raises
    ------
    FileNotFoundError
        The folder holds no finished run.
    """

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self.summary = self.read_summary()
        self.decode = DecodeOptions(**self.summary.get("decode", {}))

    @property
    def engine(self) -> str:
        """``spark`` for the results of `pomona run`, ``local`` for those of `pomona featurize`."""
        return str(self.summary.get("engine", "spark"))

    def read_summary(self) -> dict[str, Any]:
        """Read ``summary.json``."""
        summary: dict[str, Any] | None = self.read_json("summary.json")
        if summary is None:
            raise FileNotFoundError(
                f"{self.uri} holds no finished run (no complete summary.json): give the --output "
                "of `pomona run` or `pomona featurize`, or repeat the command to finish it"
            )
        return summary

    def write_summary(self, changes: dict[str, Any]) -> None:
        """Change some keys of the summary, and save it."""
        self.summary = {**self.summary, **changes}
        self.write("summary.json", json.dumps(self.summary, indent=2).encode())

    @abstractmethod
    def read_json(self, name: str) -> Any | None:
        """Read a JSON file of the folder; None if it does not exist or was cut short."""

    @abstractmethod
    def read(self, name: str) -> bytes | None:
        """Read a file of the folder; None if it does not exist."""

    @abstractmethod
    def folders(self, name: str) -> list[str]:
        """List the names of a subfolder's own subfolders, sorted; empty if it does not exist."""

    @abstractmethod
    def write(self, name: str, content: bytes) -> None:
        """Write a file atomically, creating the folders above it."""

    @abstractmethod
    def delete(self, name: str) -> None:
        """Delete a file if it exists."""

    @abstractmethod
    def columns(self) -> list[str]:
        """Return the names of the columns of the features, including those that users added."""

    @abstractmethod
    def classes(self) -> list[ClassCount]:
        """Count the photos of each class, sorted by label."""

    def broken(self, limit: int) -> list[tuple[str, str, str]]:
        """Return path, label and error of the first `limit` unreadable photos, by path."""
        return self.first_with("error", limit)

    def warned(self, limit: int) -> list[tuple[str, str, str]]:
        """Return path, label and warning of the first `limit` photos with a warning, by path."""
        return self.first_with("warning", limit)

    def turned(self, limit: int) -> list[tuple[str, str, int]]:
        """Return path, label and orientation of the first `limit` photos not turned, by path."""
        return self.first_with("orientation", limit)

    @abstractmethod
    def first_with(self, column: str, limit: int) -> list[tuple[str, str, Any]]:
        """Return path, label and value of the first `limit` photos with a value, by path.

        There are none if the features were written by a version that did not have the column.
        """

    @abstractmethod
    def choose(self, quotas: dict[str, int], seed: int) -> list[str]:
        """Return the paths of each label's quota of readable photos, those with lowest `draw`."""

    @abstractmethod
    def vectors(
        self, column: str, *, paths: Sequence[str] | None = None, through: Through | None = None
    ) -> Iterator[Vectors]:
        """Read vectors in blocks of at most `BLOCK_ROWS` rows.

        Photos without a vector are left out, and those whose vector is not finite.

        Parameters
        ----------
        column
            ``features`` or ``pca``.
        paths
            Read only these photos.
        through
            Applied to the blocks where the data is, to each partition on its own; Spark pickles it.
        """

    def paths_of(self, photo: str) -> list[str]:
        """Return the spellings under which these results may have a photo."""
        # Spark spells local paths as in the second one.
        return [photo, f"file:{Path(photo).absolute()}"]

    @abstractmethod
    def photo(self, path: str) -> bytes:
        """Read the file of a photo; raises OSError if that fails."""

    @abstractmethod
    def thumbnails(self, paths: Sequence[str], side: int) -> dict[str, NDArray[np.uint8] | str]:
        """Read photos and scale them down; the values are those of `thumbnail`.

        The photos are decoded with the options of the run, and so are turned as it turned them.
        """

    @abstractmethod
    def pixels(self, paths: Sequence[str]) -> dict[str, PixelStatistics | str]:
        """Read photos and measure their pixels; the values are those of `pixel_statistics`."""

    def draw_paths(self, size: int, seed: int = 0) -> list[str]:
        """Draw a stratified sample of the readable photos, as `sample` does, and return its paths.

        All of them if there are no more than `size`.
        """
        readable = [(each.label, each.photos - each.errors) for each in self.classes()]
        quotas = shares([number for _, number in readable], size)
        return self.choose({label: n for (label, _), n in zip(readable, quotas) if n}, seed)

    def sample(self, size: int, seed: int = 0) -> Sample:
        """Draw a stratified sample.

        Classes are represented in proportion, with at least `LEAST_PER_CLASS` photos each. A seed
        draws the same photos from a local copy as from the original, and mostly the same photos
        after others were added. Raises ValueError if no photo has both features and components.
        """
        chosen = self.draw_paths(size, seed)
        features = _by_path(self.vectors("features", paths=chosen))
        pca = _by_path(self.vectors("pca", paths=chosen))
        rows = sorted((features[path][0], path) for path in features if path in pca)
        if not rows:
            raise ValueError(
                f"no photo in {self.uri} has both features and principal components: repeat "
                "`pomona run`"
            )
        return Sample(
            paths=[path for _, path in rows],
            labels=[label for label, _ in rows],
            features=np.stack([features[path][1] for _, path in rows]),
            pca=np.stack([pca[path][1] for _, path in rows]),
        )


def class_order(label: str) -> tuple[str, str]:
    """Return a sort key that orders classes without regard to case.

    Examples
    --------
    >>> sorted(["Cocos", "apple", "Apple"], key=class_order)
    ['Apple', 'apple', 'Cocos']
    """
    return label.casefold(), label


def draw(path: str, seed: int) -> str:
    """Hash a path; photos with the lowest hashes are sampled. Spark computes the same hash."""
    return hashlib.sha256(f"{seed} {path}".encode("utf-8", "surrogatepass")).hexdigest()


def shares(counts: Sequence[int], size: int) -> list[int]:
    """Divide a sample among classes: `LEAST_PER_CLASS` each if possible, the rest in proportion.

    Examples
    --------
    >>> shares([1000, 100, 2], 100), shares([5, 5], 100)
    ([87, 11, 2], [5, 5])
    """
    if sum(counts) <= size:
        return list(counts)
    least = min(LEAST_PER_CLASS, size // len(counts))
    taken = [min(count, least) for count in counts]
    left = size - sum(taken)
    rest = [count - own for count, own in zip(counts, taken)]
    exact = [left * each / sum(rest) for each in rest]
    order = sorted(range(len(counts)), key=lambda index: exact[index] % 1, reverse=True)
    over = left - sum(int(each) for each in exact)
    return [own + int(exact[index]) + (index in order[:over]) for index, own in enumerate(taken)]


def _by_path(blocks: Iterable[Vectors]) -> dict[str, tuple[str, NDArray[np.float32]]]:
    rows = chain.from_iterable(zip(*block) for block in blocks)
    return {path: (label, vector) for path, label, vector in rows}
