"""How often classes occur, and what that suggests for the loss."""

import numpy as np

from .samples import SampleReport


class ClassCounts:
    """Counts of a split.

    Args:
        classes: Names in label order.

    Attributes:
        unit: What is counted: ``pixels`` of masks or ``images`` of labels.
        counts: Pixels or images of each class, (number of classes,).
        images: Images that show each class, (number of classes,).
        seen: Labelled pixels of those images together, (number of classes,).
    """

    def __init__(self, classes: tuple[str, ...]) -> None:
        self.classes = classes
        self.unit = 'images'
        self.counts, self.images, self.seen = np.zeros((3, len(classes)), np.int64)

    def add(self, report: SampleReport) -> None:
        """Count a sample; labels that are no class do not count."""
        if report.counts is not None:
            self.unit = 'pixels'
            pixels = report.counts[: len(self.classes)]
            there = pixels > 0
            # Fewer than the classes if there are more than 256 of them.
            self.counts[: len(pixels)] += pixels
            self.images[: len(pixels)] += there
            self.seen[: len(pixels)] += there * pixels.sum()
        for label in report.labels:
            if 0 <= label < len(self.classes):
                self.counts[label] += 1
                self.images[label] += 1

    def shares(self) -> np.ndarray:
        """Return the share of each class in all that is labelled, in 0..1."""
        return self.counts / max(self.counts.sum(), 1)

    def weights(self) -> list[float | None]:
        """Return weights by median frequency balancing; None for an absent class.

        Eigen and Fergus, 2015 (arXiv 1411.4734): a class that takes the share f of the
        pixels of the images that show it weighs median(f) / f. Of images with one
        label each, f is the share of the images.
        """
        of = self.seen if self.unit == 'pixels' else self.counts.sum()
        there = self.counts > 0
        if not there.any():
            return [None] * len(self.classes)
        frequency = self.counts / np.maximum(of, 1)
        median = np.median(frequency[there])
        return [round(float(median / f), 4) if f else None for f in frequency]

    def rows(self) -> list[dict[str, object]]:
        """Return a dict a class, as it stands in the JSON report."""
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
