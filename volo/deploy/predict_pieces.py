"""Segmentation of an image of any size: whole, or in pieces that memory allows."""

import dataclasses
import math
from collections.abc import Callable, Iterator
from itertools import pairwise

import torch
from torch import Tensor

from .predict_windows import Band, resized_bands, slide_bands, source_columns
from .predictions import MaskBuilder, Segmentation

#: Estimated bytes that the features take for a pixel of the network's input.
_FEATURE_BYTES = 600

#: Bytes of the class scores that are handled at once.
_BAND_BYTES = 1 << 26


#: Height and width of windows where nothing tells the crops of the training.
DEFAULT_WINDOW = (512, 512)


def overlap(side: int) -> int:
    """Return the stride of windows that overlap by a third."""
    return max(side * 2 // 3, 1)


@dataclasses.dataclass(frozen=True)
class Pieces:
    """How the class scores of a segmentor become a mask, and in which pieces.

    Attributes:
        num_classes: Number of classes.
        channels: Channels of the scores: one for each class, or one that is compared
            with ``threshold``.
        slides: The model evaluates with slide inference.
        window: Height and width of a window.
        stride: Distance of the windows along both axes.
        memory: Bytes that an image may take in one piece.
        threshold: Probability from which on one channel means class 1.
        align_corners: As in ``F.interpolate``, where scores are resized.
    """

    num_classes: int
    channels: int
    slides: bool
    window: tuple[int, int]
    stride: tuple[int, int]
    memory: float
    threshold: float = 0.5
    align_corners: bool = False

    def total_bytes(
        self, size: tuple[int, int], to_size: tuple[int, int], views: int = 1
    ) -> int:
        """Estimate what an image takes in one piece.

        Args:
            size: Height and width of the network's input.
            to_size: Height and width of the image.
            views: Number of inputs for the image, of which ``size`` is the largest.
        """
        scores = 4 * self.channels * to_size[0] * to_size[1]
        return self._network_bytes(size) + scores * (2 if views == 1 else 4)

    def _network_bytes(self, size: tuple[int, int]) -> int:
        """Estimate what an input takes until its scores are resized."""
        height, width = size
        scores = 4 * self.channels * height * width
        if not self.slides:
            return _FEATURE_BYTES * height * width + scores
        window = min(height, self.window[0]) * min(width, self.window[1])
        # The sum, one window padded to the whole size, and the mean.
        return _FEATURE_BYTES * window + 3 * scores

    def classify(self, scores: Tensor, normalized: bool) -> Segmentation:
        """Return the classes of scores for a whole image.

        Args:
            scores: (channels, H, W).
            normalized: They are probabilities; one channel always is.
        """
        height, width = scores.shape[1:]
        mask = MaskBuilder(height, width, self.num_classes)
        rows = self._rows_at_once(width)
        for top in range(0, height, rows):
            band = Band(top, scores[:, top : top + rows])
            self._put(mask, band, 0, normalized)
        return mask.result()

    def predict(
        self,
        size: tuple[int, int],
        to_size: tuple[int, int],
        run: Callable[[slice, slice], Tensor],
    ) -> Segmentation:
        """Return the classes of an image whose scores do not fit into memory.

        Args:
            size: Height and width of the network's input.
            to_size: Height and width of the image.
            run: Logits (channels, h, w) of some rows and columns of the input.
        """
        window, stride = self.window, self.stride
        if not self.slides and self._network_bytes(size) <= self.memory:
            window = stride = size  # only the resized scores are too large
        height, width = min(window[0], size[0]), min(window[1], size[1])

        def run_window(top: int, left: int) -> Tensor:
            return run(slice(top, top + height), slice(left, left + width))

        mask = MaskBuilder(*to_size, self.num_classes)
        for strip in self._strips(height, size[1], to_size[1]):
            columns = source_columns(size[1], to_size[1], strip, self.align_corners)
            bands = slide_bands(run_window, size, window, stride, columns)
            for band in resized_bands(
                bands,
                size,
                to_size,
                columns,
                strip,
                self.align_corners,
                self._rows_at_once(strip[1] - strip[0]),
            ):
                if len(band.scores) == 1:
                    band = band._replace(scores=band.scores.sigmoid())
                self._put(mask, band, strip[0], normalized=False)
        return mask.result()

    def _put(self, mask: MaskBuilder, band: Band, left: int, normalized: bool) -> None:
        """Write the classes of a band into a mask."""
        scores = band.scores
        if len(scores) == 1:
            classes = scores[0] > self.threshold
            confidence = torch.where(classes, scores[0], 1 - scores[0]).float()
        else:
            classes = scores.argmax(dim=0)
            confidence = scores.gather(0, classes[None])[0].float()
            if not normalized:
                confidence = (confidence - scores.float().logsumexp(dim=0)).exp()
        mask.put(band.start, left, classes.cpu().numpy(), confidence.cpu().numpy())

    def _rows_at_once(self, width: int) -> int:
        return max(_BAND_BYTES // (4 * self.channels * width), 1)

    def _strips(
        self, rows: int, width: int, to_width: int
    ) -> Iterator[tuple[int, int]]:
        """Cut the columns of the image so that their windows fit into memory.

        Args:
            rows: Height of a window.
            width: Width of the network's input.
            to_width: Width of the image.
        """
        # The sum of the windows, and what is left of it for the next row of them.
        total = 2 * 4 * self.channels * rows * width
        count = math.ceil(total / (self.memory / 4))
        edges = [to_width * i // count for i in range(count + 1)]
        yield from (strip for strip in pairwise(edges) if strip[0] < strip[1])
