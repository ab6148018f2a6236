"""Measure what a report shows, in one pass over a dataset."""

import dataclasses
import heapq
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner

from volo.errors import ConfigError, DataError
from volo.models.wrappers import unwrap

from .report_cost import count_gmac

#: Bins of the confidence, of equal width.
NUM_BINS = 15

#: Calibration uses a regular grid of at most this many pixels of an image.
MAX_CALIBRATION_PIXELS = 2**18

#: The longest side of an image in the report, in pixels.
EXAMPLE_SIZE = 400


@dataclasses.dataclass
class Example:
    """A sample to show.

    Attributes:
        path: The image file.
        score: What the samples are ranked by, from 0 to 1. Segmentation: mean IoU over
            the classes in the truth. Classification: probability of the true class.
        truth: Labels: (H, W), made smaller, in segmentation; () in classification.
        prediction: As ``truth``.
        confidence: Probability of the predicted class; classification only.
    """

    path: str
    score: float
    truth: np.ndarray
    prediction: np.ndarray
    confidence: float = float('nan')


class Ranking:
    """Keep the samples with the highest scores.

    Args:
        count: Number of samples to keep.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._heap: list[tuple[float, int, Example]] = []
        self._offered = 0

    def offer(self, score: float, example: Example) -> None:
        """Keep a sample if its score is among the highest so far."""
        self._offered += 1
        # Of equal scores, the first offered wins; examples have no order.
        heapq.heappush(self._heap, (score, -self._offered, example))
        if len(self._heap) > self.count:
            heapq.heappop(self._heap)

    def examples(self) -> list[Example]:
        """Return the samples, the highest score first."""
        return [example for *_, example in sorted(self._heap, reverse=True)]


class MeasureHook(Hook):
    """Measure a model during ``Runner.test``, in one process.

    Memory does not grow with the dataset: sums and the samples to show are kept.

    Args:
        num_examples: Number of best and of worst samples to keep.

    Attributes:
        task: ``segmentation`` or ``classification``.
        dataset: What was measured on; the first of several that are joined.
        ignore_index: Label of pixels without a label.
        classes: Their names.
        palette: RGB color of each class; empty if the dataset has none.
        num_samples: Samples of the dataset.
        confusion: Pixels or images by truth (rows) and prediction (columns).
        bins: Number, sum of confidences and number of correct predictions, in each
            bin of the confidence, (3, NUM_BINS).
        best: Samples with the highest scores.
        worst: Samples with the lowest scores.
        meta: ``meta`` of the checkpoint.
        seconds: Time in the model, for ``num_timed`` samples.
        batch_size: Images per batch.
        parameters: Number of parameters.
        gmac: Multiply-adds to predict an image of ``input_size``, in 10^9.
        input_size: Height and width of the model's input in pixels.
    """

    priority = 'VERY_LOW'

    def __init__(self, num_examples: int) -> None:
        self.num_examples = num_examples
        self.task = ''
        self.dataset: Any = None
        self.ignore_index = 255
        self.classes: list[str] = []
        self.palette: list[Sequence[int]] = []
        self.confusion = torch.zeros(0, 0, dtype=torch.int64)
        self.bins = torch.zeros(3, NUM_BINS, dtype=torch.float64)
        self.best: list[Example] = []
        self.worst: list[Example] = []
        self.meta: dict[str, Any] = {}
        self.seconds = 0.0
        self.num_samples = self.num_timed = self.batch_size = self.parameters = 0
        self.gmac = 0.0
        self.input_size: tuple[int, ...] = ()

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Keep the ``meta`` of the checkpoint."""
        self.meta = checkpoint.get('meta') or {}

    def before_test_epoch(self, runner: Runner) -> None:
        """Read the dataset's classes and start to time the model."""
        dataset = runner.test_dataloader.dataset
        self.num_samples = len(dataset)
        meta = getattr(dataset, 'metainfo', None) or {}
        self.classes = [str(name) for name in meta.get('classes') or ()]
        self.palette = list(meta.get('palette') or ())
        while not hasattr(dataset, 'pipeline'):  # in ConcatDataset and others
            parts = getattr(dataset, 'datasets', None)
            dataset = parts[0] if parts else dataset.dataset
        self.dataset = dataset
        self.ignore_index = getattr(dataset, 'ignore_index', 255)
        # A small dataset shows no sample twice.
        count = min(self.num_examples, max(1, self.num_samples // 2))
        self._highest, self._lowest = Ranking(count), Ranking(count)
        model = unwrap(runner.model)
        self.parameters = sum(p.numel() for p in model.parameters())
        self._timers = [
            model.register_forward_pre_hook(self._start_timer),
            model.register_forward_hook(self._stop_timer),
        ]

    def after_test_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Sequence | None = None,
    ) -> None:
        """Add the predictions of a batch.

        Raises:
            ConfigError: The samples have several labels.
            DataError: A sample has no label.
        """
        outputs = outputs or ()
        if batch_idx == 0:
            self.batch_size = len(outputs)
            self._first_batch = data_batch
        # The first batch pays for allocations, unless there is no other.
        if batch_idx <= 1:
            self.seconds, self.num_timed = 0.0, 0
        self.seconds += self._elapsed
        self.num_timed += len(outputs)
        for sample in outputs:
            if 'pred_sem_seg' in sample:
                self.task = 'segmentation'
                self._add_map(sample)
            else:
                self.task = 'classification'
                self._add_image(sample)

    def after_test_epoch(
        self, runner: Runner, metrics: dict[str, float] | None = None
    ) -> None:
        """Count the multiply-adds, and finish."""
        for handle in self._timers:
            handle.remove()
        self.gmac, self.input_size = count_gmac(unwrap(runner.model), self._first_batch)
        self.best = self._highest.examples()
        self.worst = self._lowest.examples()

    def _start_timer(self, *_: Any) -> None:
        _synchronize()
        self._started = time.perf_counter()

    def _stop_timer(self, *_: Any) -> None:
        _synchronize()
        self._elapsed = time.perf_counter() - self._started

    def _add_map(self, sample: Any) -> None:
        """Add a predicted label map, and its logits (C, H, W)."""
        _require(sample, 'gt_sem_seg')
        logits = sample.seg_logits.data.float()
        truth = sample.gt_sem_seg.data.squeeze(0).to(logits.device).long()
        prediction = sample.pred_sem_seg.data.squeeze(0).to(truth)
        valid = truth != self.ignore_index
        confusion = self._count(truth[valid], prediction[valid], len(logits))
        present = confusion.sum(1) > 0
        union = confusion.sum(0) + confusion.sum(1) - confusion.diagonal()
        iou = confusion.diagonal()[present] / union[present]

        step = int(np.ceil(np.sqrt(truth.numel() / MAX_CALIBRATION_PIXELS)))
        grid = (..., slice(None, None, step), slice(None, None, step))
        if len(logits) == 1:  # a sigmoid already
            confidence = torch.maximum(logits[grid][0], 1 - logits[grid][0])
        else:
            confidence = logits[grid].softmax(0).amax(0)
        kept = valid[grid]
        correct = truth[grid] == prediction[grid]
        self._add_confidences(confidence[kept], correct[kept])
        if present.any():
            truth_map, predicted_map = (
                shrink(labels.cpu().numpy()) for labels in (truth, prediction)
            )
            score = iou.mean().item()
            self._rank(Example(sample.img_path, score, truth_map, predicted_map))

    def _add_image(self, sample: Any) -> None:
        """Add a predicted class, and the scores (C,) of all classes."""
        _require(sample, 'gt_label')
        if sample.gt_label.numel() != 1:
            raise ConfigError(
                f'{sample.img_path} has {sample.gt_label.numel()} labels: a report is '
                'for images with one label each'
            )
        scores = sample.pred_score.float()
        truth = sample.gt_label.reshape(1).to(scores.device).long()
        confidence, prediction = scores.max(0, keepdim=True)
        self._count(truth, prediction, len(scores))
        self._add_confidences(confidence, truth == prediction)
        self._rank(
            Example(
                sample.get('img_path', '') or '',
                scores[truth].item(),
                truth.squeeze().cpu().numpy(),
                prediction.squeeze().cpu().numpy(),
                confidence.item(),
            )
        )

    def _count(
        self, truth: torch.Tensor, prediction: torch.Tensor, num_scores: int
    ) -> torch.Tensor:
        """Add labels (N,) to the confusion matrix and return what was added."""
        size = max(len(self.classes), num_scores)
        if not len(self.confusion):
            self.confusion = torch.zeros(size, size, dtype=torch.int64)
            self.classes += [str(i) for i in range(len(self.classes), size)]
        pairs = truth * size + prediction
        added = torch.bincount(pairs, minlength=size * size).reshape(size, size).cpu()
        self.confusion += added
        return added

    def _add_confidences(self, confidence: torch.Tensor, correct: torch.Tensor) -> None:
        place = (confidence * NUM_BINS).long().clamp(0, NUM_BINS - 1)
        for row, weights in enumerate((None, confidence.double(), correct.double())):
            self.bins[row] += torch.bincount(place, weights, NUM_BINS).cpu()

    def _rank(self, example: Example) -> None:
        self._highest.offer(example.score, example)
        self._lowest.offer(-example.score, example)


def shrink(labels: np.ndarray) -> np.ndarray:
    """Shrink a label map (H, W) to sides of at most EXAMPLE_SIZE pixels."""
    scale = min(1, EXAMPLE_SIZE / max(labels.shape))
    rows, columns = (
        ((np.arange(max(1, round(side * scale))) + 0.5) / scale).astype(int)
        for side in labels.shape
    )
    rows, columns = (
        rows.clip(max=len(labels) - 1),
        columns.clip(max=labels.shape[1] - 1),
    )
    return labels[rows][:, columns].astype(np.int32)


def _require(sample: Any, key: str) -> None:
    if key not in sample:
        raise DataError(
            f'{sample.get("img_path")} has no label ({key}): a report needs labels. '
            'Load annotations in the pipeline, or name another --split'
        )


def _synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
