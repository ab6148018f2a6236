"""The numbers of a report, from what was counted."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.device import get_device

from .report_data import NUM_BINS, Example, MeasureHook


def summarize(hook: MeasureHook) -> dict[str, Any]:
    """Return what the hook measured, as it stands in the JSON file."""
    segmentation = hook.task == 'segmentation'
    scores = class_scores(hook.confusion.numpy())
    shown: set[int] = set()
    for example in (*hook.best, *hook.worst):
        shown |= {*np.unique(example.truth), *np.unique(example.prediction)}
    device = get_device()
    return dict(
        unit='pixels' if segmentation else 'images',
        classes=[
            dict(name=name, **{key: scores[key][i] for key in scores})
            for i, name in enumerate(hook.classes)
        ],
        class_means={
            key: np.nanmean(values) if np.isfinite(values).any() else np.nan
            for key, values in scores.items()
            if key != 'count'
        },
        confusion_matrix=hook.confusion,
        calibration=calibration(hook.bins.numpy()),
        speed=dict(
            images_per_second=hook.num_timed / hook.seconds,
            batch_size=hook.batch_size,
            device=torch.cuda.get_device_name() if device == 'cuda' else device.upper(),
            threads=torch.get_num_threads(),
        ),
        model=dict(
            parameters=hook.parameters, gmac=hook.gmac, input_size=hook.input_size
        ),
        shown_classes=sorted(shown & set(range(len(hook.classes)))),
        best=[_example(e, hook.classes) for e in hook.best],
        worst=[_example(e, hook.classes) for e in hook.worst],
    )


def class_scores(confusion: np.ndarray) -> dict[str, np.ndarray]:
    """Return the scores of each class.

    Args:
        confusion: Counts by truth (rows) and prediction (columns), (C, C).

    Returns:
        ``count``, the size of the class in the truth, and from 0 to 1 ``iou``,
        ``accuracy``, ``precision``, ``recall`` and ``f1``, (C,) each. NaN: the class
        occurs nowhere.
    """
    right = confusion.diagonal().astype(float)
    truth, predicted = confusion.sum(1), confusion.sum(0)
    with np.errstate(invalid='ignore', divide='ignore'):
        recall = right / truth
        return dict(
            count=truth,
            iou=right / (truth + predicted - right),
            accuracy=recall,
            precision=right / predicted,
            recall=recall,
            f1=2 * right / (truth + predicted),
        )


def calibration(bins: np.ndarray) -> dict[str, Any]:
    """Return the accuracy at each confidence, and the expected calibration error.

    Args:
        bins: As :attr:`.report_data.MeasureHook.bins`.
    """
    count, confidence, correct = bins
    filled = np.maximum(count, 1)
    ece = np.abs(confidence - correct).sum() / max(count.sum(), 1)
    rows = [
        dict(
            low=i / NUM_BINS,
            high=(i + 1) / NUM_BINS,
            count=int(count[i]),
            confidence=confidence[i] / filled[i] if count[i] else None,
            accuracy=correct[i] / filled[i] if count[i] else None,
        )
        for i in range(NUM_BINS)
    ]
    return dict(ece=ece, count=int(count.sum()), bins=rows)


def to_plain(value: Any) -> Any:
    """Return a value as JSON can hold it: arrays as lists, NaN and infinity as None."""
    if isinstance(value, Mapping):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, torch.Tensor | np.ndarray | np.generic):
        return to_plain(value.tolist())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [to_plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return str(value) if isinstance(value, Path) else value


def _example(example: Example, classes: Sequence[str]) -> dict[str, Any]:
    row: dict[str, Any] = dict(path=example.path, score=example.score)
    if example.truth.ndim == 0:
        row.update(
            truth=classes[int(example.truth)],
            prediction=classes[int(example.prediction)],
            confidence=example.confidence,
        )
    return row
