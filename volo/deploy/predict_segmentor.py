"""Semantic segmentation with PyTorch."""

from collections.abc import Sequence
from typing import Any, Literal

from mmseg.structures import SegDataSample
from torch import Tensor

from volo.errors import DataError

from .predict_pieces import DEFAULT_WINDOW, Pieces, overlap
from .predict_torch import TorchPredictor
from .predictions import Sample, Segmentation


class TorchSegmentor(TorchPredictor):
    """A segmentor of mmsegmentation.

    An image runs as the config says, in one piece, where that takes at most
    ``memory``. A larger one takes little memory: its class scores are computed in rows
    of windows. Those are the config's where it has slide inference, so that the result
    is the same. Otherwise they are as large as the crops in training, or as ``window``
    says, and overlap by a third.

    Args:
        args: As in :class:`TorchPredictor`.
        memory: Bytes.
        window: Side of the windows in pixels, for configs without slide inference.
    """

    task: Literal['segmentation'] = 'segmentation'

    def __init__(self, *args: Any, memory: float, window: int | None = None) -> None:
        super().__init__(*args)
        test_cfg = self.model.test_cfg or {}
        slides = test_cfg.get('mode') == 'slide'
        crop = getattr(self.model.data_preprocessor, 'size', None) or DEFAULT_WINDOW
        windows = (window, window) if window else tuple(crop)
        self._pieces = Pieces(
            len(self.classes),
            self.model.out_channels,
            slides,
            tuple(test_cfg['crop_size']) if slides else windows,
            tuple(test_cfg['stride'] if slides else map(overlap, windows)),
            memory,
            self.model.decode_head.threshold or 0.5,
            self.model.align_corners,
        )

    def weigh(self, sample: Sample) -> Sample:
        """Estimate the memory that a sample takes in one piece.

        Raises:
            DataError: It is too large for test-time augmentation.
        """
        height, width = sample.image.shape[:2]
        views = len(sample.inputs)
        sample.bytes = max(
            self._pieces.total_bytes(_size(inputs), (height, width), views)
            for inputs, _ in sample.inputs
        )
        if views > 1 and sample.bytes > self._pieces.memory:
            raise DataError(
                f'{width}x{height} pixels take {sample.bytes / 1e9:.1f} GB with --tta. '
                'Raise --memory, or leave out --tta'
            )
        return sample

    def predict(self, samples: Sequence[Sample]) -> list[Segmentation]:
        """Predict a batch of samples with equal keys."""
        with self.inference():
            if samples[0].bytes <= self._pieces.memory:
                return self._predict_whole(samples)
            return [self._predict_in_pieces(sample) for sample in samples]

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
        normalized = len(views) > 1
        return [self._pieces.classify(total, normalized) for total in totals]

    def _predict_in_pieces(self, sample: Sample) -> Segmentation:
        ((inputs, data),) = sample.inputs

        def run(rows: slice, columns: slice) -> Tensor:
            return self._run(inputs[:, rows, columns], data)

        height, width = sample.image.shape[:2]
        return self._pieces.predict(_size(inputs), (height, width), run)

    def _run(self, inputs: Tensor, data: SegDataSample) -> Tensor:
        """Return the logits (classes, H, W) of a part of the input."""
        packed = self.model.data_preprocessor(
            {'inputs': [inputs], 'data_samples': [data.new()]}, False
        )
        images = packed['inputs']
        meta = {**data.metainfo, 'img_shape': images.shape[2:]}
        scores = self.model.encode_decode(images, [meta])[0]
        # The preprocessor may have padded it at the right and at the bottom.
        return scores[:, : inputs.shape[1], : inputs.shape[2]]


def _size(inputs: Tensor) -> tuple[int, int]:
    return inputs.shape[1], inputs.shape[2]


def _probabilities(scores: Tensor) -> Tensor:
    """Return the probabilities of what mmseg calls logits."""
    # Of one channel, mmseg returns the sigmoid.
    return scores.softmax(dim=0) if len(scores) > 1 else scores
