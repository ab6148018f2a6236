"""The results of an evaluation as JSON, class by class."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner


class ClassScoresHook(Hook):
    """Keep the scores of each class, which mmsegmentation's ``IoUMetric`` only logs.

    Attributes:
        classes: Names of the dataset's classes.
        scores: From names such as ``IoU`` to one value per class, in percent.
    """

    def __init__(self) -> None:
        self.classes: tuple[str, ...] = ()
        self.scores: dict[str, np.ndarray] = {}

    def before_test_epoch(self, runner: Runner) -> None:
        """Listen to the metrics that compute scores from areas."""
        meta = getattr(runner.test_dataloader.dataset, 'metainfo', None) or {}
        self.classes = tuple(map(str, meta.get('classes') or ()))
        for metric in runner.test_evaluator.metrics:
            if hasattr(metric, 'total_area_to_metrics'):
                metric.total_area_to_metrics = self._kept(metric.total_area_to_metrics)

    def _kept(self, compute: Callable) -> Callable:
        @functools.wraps(compute)
        def compute_and_keep(*args: Any, **kwargs: Any) -> dict[str, np.ndarray]:
            scores = compute(*args, **kwargs)
            arrays = {key: np.asarray(value) * 100 for key, value in scores.items()}
            self.scores = {key: value for key, value in arrays.items() if value.ndim}
            return scores

        return compute_and_keep


def describe_results(
    metrics: Mapping[str, Any],
    classes: Sequence[str] = (),
    scores: Mapping[str, np.ndarray] | None = None,
) -> dict[str, Any]:
    """Return the results of an evaluation in types of JSON.

    Args:
        metrics: From :func:`volo.engine.launch.test`. Lists with one value per class
            become dicts by the class's name; matrices become nested lists.
        classes: Names of the classes, in the order of such lists.
        scores: More scores with one value per class.

    Returns:
        The metrics, and under ``per_class`` the scores of each class. NaN becomes None.
    """
    results = {
        name: _by_class(_plain(value), classes) for name, value in metrics.items()
    }
    if scores and all(len(values) == len(classes) for values in scores.values()):
        results['per_class'] = {
            name: {key: _plain(values[i]) for key, values in scores.items()}
            for i, name in enumerate(classes)
        }
    return results


def _plain(value: Any) -> Any:
    if isinstance(value, torch.Tensor | np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    return None if isinstance(value, float) and np.isnan(value) else value


def _by_class(value: Any, classes: Sequence[str]) -> Any:
    named = isinstance(value, list) and len(value) == len(classes)
    if named and not any(isinstance(item, list) for item in value):
        return dict(zip(classes, value, strict=True))
    return value
