"""What a predictor takes and returns, whatever runs its network."""

import colorsys
import dataclasses
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np


@dataclasses.dataclass
class Sample:
    """An image, prepared for the network.

    Attributes:
        image: As it is drawn, RGB, uint8 (H, W, 3).
        inputs: What the predictor made of it.
        batch_key: Samples with equal keys fit into one batch.
        bytes: Estimated memory that predicting takes.
    """

    image: np.ndarray
    inputs: Any
    batch_key: Hashable = None
    bytes: int = 0

    def batch_limit(self, batch_size: int, memory: float) -> int:
        """Return how many such samples a batch may have.

        Args:
            batch_size: The most that the user wants.
            memory: Bytes that a batch may take. One sample is always allowed.
        """
        return int(min(max(memory // max(self.bytes, 1), 1), batch_size))


@dataclasses.dataclass(frozen=True)
class Classification:
    """A probability for every class.

    Attributes:
        scores: Probability of each class, (classes,).
    """

    scores: np.ndarray

    def record(self, classes: Sequence[str], top_k: int) -> dict[str, Any]:
        """Return the fields of a JSON line: the best classes, best first."""
        best = np.argsort(-self.scores, kind='stable')[:top_k]
        return {
            'classes': [
                {
                    'name': classes[index],
                    'index': int(index),
                    'score': _rounded(self.scores[index]),
                }
                for index in best
            ]
        }


@dataclasses.dataclass(frozen=True)
class Segmentation:
    """A class for every pixel.

    Attributes:
        mask: Index of the class, uint8 (H, W).
        shares: Share of the pixels that each class has, (classes,).
        scores: Mean probability of each class over its pixels, (classes,). NaN where
            it has none.
    """

    mask: np.ndarray
    shares: np.ndarray
    scores: np.ndarray

    def record(self, classes: Sequence[str]) -> dict[str, Any]:
        """Return the fields of a JSON line: all classes in the order of the model."""
        return {
            'classes': [
                {
                    'name': name,
                    'index': index,
                    'share': _rounded(share),
                    'score': None if np.isnan(score) else _rounded(score),
                }
                for index, (name, share, score) in enumerate(
                    zip(classes, self.shares, self.scores, strict=True)
                )
            ]
        }


class Predictor(Protocol):
    """A trained model.

    Attributes:
        classes: Names of the classes.
        palette: Color of each class, RGB, uint8 (classes, 3).
        settings: What the predictions depend on, by a name for the user.
    """

    classes: tuple[str, ...]
    palette: np.ndarray
    settings: dict[str, str]

    @property
    def task(self) -> Literal['classification', 'segmentation']:
        """What it predicts."""

    def load(self, path: Path) -> Sample:
        """Read and prepare an image file. Threads call this.

        Raises:
            DataError: The file cannot be read as an image.
        """

    def prepare(self, image: np.ndarray) -> Sample:
        """Prepare an image in memory, RGB, uint8 (H, W, 3)."""

    def predict(
        self, samples: Sequence[Sample]
    ) -> Sequence[Classification | Segmentation]:
        """Predict a batch of samples with equal keys."""


class MaskBuilder:
    """A segmentation that is filled piece by piece.

    Args:
        height: Of the mask.
        width: Of the mask.
        num_classes: Number of classes.
    """

    def __init__(self, height: int, width: int, num_classes: int) -> None:
        self._mask = np.empty((height, width), np.uint8)
        self._num_classes = num_classes
        self._pixels = np.zeros(num_classes)
        self._scores = np.zeros(num_classes)

    def put(
        self, top: int, left: int, classes: np.ndarray, confidence: np.ndarray
    ) -> None:
        """Fill a piece.

        Args:
            top: First row of the piece.
            left: First column of the piece.
            classes: Index of the class, (H, W).
            confidence: Probability of that class, (H, W).
        """
        height, width = classes.shape
        part = self._mask[top : top + height, left : left + width]
        part[:] = classes
        labels, most = part.ravel(), self._num_classes
        self._pixels += np.bincount(labels, minlength=most)
        self._scores += np.bincount(labels, confidence.ravel(), most)

    def result(self) -> Segmentation:
        """Return the segmentation, after all of it was filled."""
        with np.errstate(invalid='ignore'):
            scores = self._scores / self._pixels
        return Segmentation(self._mask, self._pixels / self._mask.size, scores)


def default_palette(num_classes: int) -> np.ndarray:
    """Return distinct colors, uint8 (num_classes, 3)."""
    colors = [
        # Steps of the golden ratio spread the hues however many there are.
        colorsys.hsv_to_rgb(
            i * 0.618034 % 1, (0.75, 0.5)[i % 2], (0.95, 0.75)[i % 3 % 2]
        )
        for i in range(num_classes)
    ]
    return (np.array(colors).reshape(-1, 3) * 255).round().astype(np.uint8)


def _rounded(value: float) -> float:
    return round(float(value), 6)
