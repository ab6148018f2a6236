"""Semantic segmentation with PyTorch, of images of any size."""

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, Literal

import torch
from mmseg.structures import SegDataSample
from torch import Tensor

from volo.errors import DataError

from .predict_torch import TorchPredictor
from .predict_windows import Band, resized_bands, slide_bands, source_columns
from .predictions import MaskBuilder, Sample, Segmentation

#: Estimated bytes that the features take for a pixel of the network's input.
_FEATURE_BYTES = 600

#: Bytes of the class scores that are handled at once.
_BAND_BYTES = 1 << 26


class TorchSegmentor(TorchPredictor):
    """A segmentor of mmsegmentation.

    An image runs as the config says, in one piece, where that takes at most
    ``memory``. A larger one takes little memory: its class scores are computed in rows
    of windows. Those are the config's where it has slide inference, so that the result
    is the same, and of the side ``window`` otherwise.

    Args:
        args: As in :func:`build_torch_predictor`.
        memory: Bytes.
        window: Side of the windows in pixels, for configs without slide inference.
    """

    task: Literal['segmentation'] = 'segmentation'

    def __init__(self, *args: Any, memory: float, window: int) -> None:
        super().__init__(*args)
        self._memory = memory
        test_cfg = self.model.test_cfg or {}
        self._slides = test_cfg.get('mode') == 'slide'
        self._window = (window, window)
        self._stride = (max(window * 2 // 3, 1),) * 2
        if self._slides:
            self._window = tuple(test_cfg['crop_size'])
            self._stride = tuple(test_cfg['stride'])

    def weigh(self, sample: Sample) -> Sample:
        """Estimate the memory that a sample takes in one piece.

        Raises:
            DataError: It is too large for test-time augmentation.
        """
        views = len(sample.inputs)
        height, width = sample.image.shape[:2]
        scores = 4 * self.model.out_channels * height * width
        network = max(self._network_bytes(inputs) for inputs, _ in sample.inputs)
        sample.bytes = network + scores * (2 if views == 1 else 4)
        if views > 1 and sample.bytes > self._memory:
            raise DataError(
                f'{width}x{height} pixels take {sample.bytes / 1e9:.1f} GB with --tta. '
                'Raise --memory, or leave out --tta'
            )
        return sample

    def predict(self, samples: Sequence[Sample]) -> list[Segmentation]:
        """Predict a batch of samples with equal keys."""
        with self.inference():
            if samples[0].bytes <= self._memory:
                return self._predict_whole(samples)
            return [self._predict_in_bands(sample) for sample in samples]

    def _network_bytes(self, inputs: Tensor) -> int:
        """Estimate what an input (C, H, W) takes until its scores are resized."""
        height, width = inputs.shape[1:]
        scores = 4 * self.model.out_channels * height * width
        if not self._slides:
            return _FEATURE_BYTES * height * width + scores
        window = min(height, self._window[0]) * min(width, self._window[1])
        # The sum, one window padded to the whole size, and the mean.
        return _FEATURE_BYTES * window + 3 * scores

    def _predict_whole(self, samples: Sequence[Sample]) -> list[Segmentation]:
        views = list(zip(*(sample.inputs for sample in samples), strict=True))
        totals: list[Tensor] = []
        for view in views:
            inputs, data = (list(part) for part in zip(*view, strict=True))
            outputs = self.model.test_step({'inputs': inputs, 'data_samples': data})
            scores = [output.seg_logits.data for output in outputs]
            if len(views) > 1:  # the mean of the views, as in mmseg's SegTTAModel
                scores = [_probabilities(s) / len(views) for s in scores]
            totals = [a + b for a, b in zip(totals, scores, strict=False)] or scores
        return [self._finish(total, normalized=len(views) > 1) for total in totals]

    def _finish(self, scores: Tensor, normalized: bool) -> Segmentation:
        mask = MaskBuilder(scores.shape[1], scores.shape[2], len(self.classes))
        rows = self._rows_at_once(scores.shape[2])
        for top in range(0, scores.shape[1], rows):
            self._put(mask, Band(top, scores[:, top : top + rows]), 0, normalized)
        return mask.result()

    def _put(self, mask: MaskBuilder, band: Band, left: int, normalized: bool) -> None:
        """Write the classes of a band into a mask."""
        scores = band.scores
        if len(scores) == 1:
            classes = scores[0] > self.model.decode_head.threshold
            confidence = torch.where(classes, scores[0], 1 - scores[0]).float()
        else:
            classes = scores.argmax(dim=0)
            confidence = scores.gather(0, classes[None])[0].float()
            if not normalized:
                confidence = (confidence - scores.float().logsumexp(dim=0)).exp()
        mask.put(band.start, left, classes.cpu().numpy(), confidence.cpu().numpy())

    def _rows_at_once(self, width: int) -> int:
        return max(_BAND_BYTES // (4 * self.model.out_channels * width), 1)

    def _predict_in_bands(self, sample: Sample) -> Segmentation:
        ((inputs, data),) = sample.inputs
        size, to_size = (
            (x.shape[-2], x.shape[-1]) for x in (inputs, sample.image[..., 0])
        )
        window, stride = self._window, self._stride
        if not self._slides and self._network_bytes(inputs) <= self._memory:
            window = stride = size  # only its resized scores are too large
        height, width = min(window[0], size[0]), min(window[1], size[1])

        def run(top: int, left: int) -> Tensor:
            piece = inputs[:, top : top + height, left : left + width]
            return self._run_window(piece, data)

        mask = MaskBuilder(*to_size, len(self.classes))
        for strip in self._strips(height, size[1], to_size[1]):
            columns = source_columns(
                size[1], to_size[1], strip, self.model.align_corners
            )
            bands = resized_bands(
                slide_bands(run, size, window, stride, columns),
                size,
                to_size,
                columns,
                strip,
                self.model.align_corners,
                self._rows_at_once(strip[1] - strip[0]),
            )
            for band in bands:
                if self.model.out_channels == 1:
                    band = band._replace(scores=band.scores.sigmoid())
                self._put(mask, band, strip[0], normalized=False)
        return mask.result()

    def _strips(
        self, rows: int, width: int, to_width: int
    ) -> Iterator[tuple[int, int]]:
        """Cut the columns of the output so that their windows fit into memory.

        Args:
            rows: Height of a window.
            width: Width of the network's input.
            to_width: Width of the output.
        """
        # The sum of the windows, and what is left of it for the next row of them.
        column = 2 * 4 * self.model.out_channels * rows * width / to_width
        count = math.ceil(column * to_width / (self._memory / 4))
        edges = [to_width * i // count for i in range(count + 1)]
        yield from (edge for edge in pairwise(edges) if edge[0] < edge[1])

    def _run_window(self, inputs: Tensor, data: SegDataSample) -> Tensor:
        """Return the logits (classes, H, W) of a window."""
        packed = self.model.data_preprocessor(
            {'inputs': [inputs], 'data_samples': [data.new()]}, False
        )
        images = packed['inputs']
        meta = {**data.metainfo, 'img_shape': images.shape[2:]}
        scores = self.model.encode_decode(images, [meta])[0]
        # The preprocessor may have padded it at the right and at the bottom.
        return scores[:, : inputs.shape[1], : inputs.shape[2]]


def _probabilities(scores: Tensor) -> Tensor:
    """Return the probabilities of what mmseg calls logits."""
    # Of one channel, mmseg returns the sigmoid.
    return scores.softmax(dim=0) if len(scores) > 1 else scores
