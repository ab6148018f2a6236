"""Class frequencies, and class weights for the loss."""

from typing import Any

import numpy as np

from .samples import SampleReport


class ClassCounts:
    """Count the classes of a split.

    Args:
        classes: Names in label order.

    Attributes:
        unit: What is counted: ``pixels`` (of masks) or ``images`` (with labels).
        counts: Pixels or images of each class, (number of classes,).
        images: Number of images that show each class, (number of classes,).
        labeled: Labeled pixels of all images that show each class, (number of
            classes,).
    """

    def __init__(self, classes: tuple[str, ...]) -> None:
        self.classes = classes
        self.unit = 'images'
        self.counts, self.images, self.labeled = np.zeros((3, len(classes)), np.int64)

    def add(self, report: SampleReport) -> None:
        """Count a sample. Labels out of range do not count."""
        if report.counts is not None:
            self.unit = 'pixels'
            pixels = report.counts[: len(self.classes)]
            shown = pixels > 0
            # Masks of 8 bits cannot show more than the first 256 classes.
            self.counts[: len(pixels)] += pixels
            self.images[: len(pixels)] += shown
            self.labeled[: len(pixels)] += shown * pixels.sum()
        for label in report.labels:
            if 0 <= label < len(self.classes):
                self.counts[label] += 1
                self.images[label] += 1

    def shares(self) -> np.ndarray:
        """Return the share of each class in all pixels or images, from 0 to 1."""
        return self.counts / max(self.counts.sum(), 1)

    def weights(self) -> list[float | None]:
        """Return weights by median frequency balancing; None for an absent class.

        A class weighs median(f) / f, where f is its share of the labeled pixels of all
        images that show it (Eigen and Fergus, 2015, arXiv 1411.4734). With labels of
        images, f is its share of the images.
        """
        total = self.labeled if self.unit == 'pixels' else self.counts.sum()
        present = self.counts > 0
        if not present.any():
            return [None] * len(self.classes)
        frequency = self.counts / np.maximum(total, 1)
        median = np.median(frequency[present])
        return [round(float(median / f), 4) if f else None for f in frequency]

    def rows(self) -> list[dict[str, Any]]:
        """Return one dict per class, as in the JSON report."""
        return [
            {
                'name': name,
                self.unit: int(count),
                'shown_in': int(images),
                'share': round(float(share), 6),
                'weight': weight,
            }
            for name, count, images, share, weight in zip(
                self.classes,
                self.counts,
                self.images,
                self.shares(),
                self.weights(),
                strict=True,
            )
        ]
