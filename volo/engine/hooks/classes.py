"""Compare the classes of a dataset with those of the model, and count which occur."""

import logging
import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from mmengine.dist import all_reduce, get_world_size
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import nn

from volo.errors import ConfigError, some
from volo.models.wrappers import unwrap


@HOOKS.register_module()
class ClassesHook(Hook):
    """Refuse a model for another number of classes, and warn of absent classes.

    A head with more classes than the dataset trains in silence, and a subset of a
    dataset is scored with wrong labels; one with fewer fails in a loss without naming a
    cause. Masks whose object is void (255) train in silence too.

    The labels of the first epoch are counted. Once, the log says which classes did not
    occur, and after 50 iterations already if there was no label but 0.
    """

    #: Iterations until the first look at the labels.
    EARLY = 50

    def __init__(self) -> None:
        self._seen: torch.Tensor | None = None
        self._classes: tuple[str, ...] = ()
        self._epoch = 0

    def before_train(self, runner: Runner) -> None:
        """Compare the classes, and start to count unless the training was resumed.

        Raises:
            ConfigError: Dataset and model have different numbers of classes.
        """
        loader = runner.train_dataloader
        self._classes = self._check(runner, loader.dataset, 'train')
        if len(self._classes) > 1 and runner.iter == 0:
            self._seen = torch.zeros(max(256, len(self._classes)), dtype=torch.long)
        step = loader.batch_size * get_world_size() if loader.batch_size else 1
        self._epoch = math.ceil(len(loader.dataset) / step)

    def before_val(self, runner: Runner) -> None:
        """Compare the classes.

        Raises:
            ConfigError: Dataset and model have different numbers of classes.
        """
        self._check(runner, runner.val_dataloader.dataset, 'val')

    def before_test(self, runner: Runner) -> None:
        """Compare the classes.

        Raises:
            ConfigError: Dataset and model have different numbers of classes.
        """
        self._check(runner, runner.test_dataloader.dataset, 'test')

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Any = None,
    ) -> None:
        """Count the labels of a batch of the first epoch."""
        if self._seen is None:
            return
        for labels in _labels(data_batch):
            counts = torch.bincount(labels, minlength=len(self._seen))
            self._seen += counts[: len(self._seen)]
        done = runner.iter + 1
        if done in (min(self.EARLY, self._epoch), self._epoch):
            all_reduce(self._seen)
            self._report(done, ended=done == self._epoch)

    def _report(self, iterations: int, ended: bool) -> None:
        """Warn of what was not seen, at most once."""
        assert self._seen is not None
        present = self._seen[: len(self._classes)] > 0
        if not present[1:].any():
            first = self._classes[0]
            _warn(
                f'The training samples of the first {iterations} iterations have no '
                f'label but 0 ({first!r}) and void (255): the model learns to predict '
                f'{first!r} everywhere. If the masks hold 0 and 255, set '
                'label_map={255: 1} in the dataset. `volo check CONFIG` examines the '
                'files'
            )
        elif ended and not present.all():
            absent = [
                name
                for name, found in zip(self._classes, present.tolist(), strict=True)
                if not found
            ]
            _warn(
                f'{len(absent)} of {len(self._classes)} classes did not occur in the '
                f'first epoch: {some(absent, 8)}. `volo check CONFIG` counts the '
                'classes of all files'
            )
        else:
            self._seen = None if ended else self._seen
            return
        self._seen = None

    @staticmethod
    def _check(runner: Runner, dataset: Any, split: str) -> tuple[str, ...]:
        """Return the classes of a dataset that fits the model, or () if it has none."""
        classes = tuple((getattr(dataset, 'metainfo', {}) or {}).get('classes') or ())
        for name, number in _heads(unwrap(runner.model)):
            if classes and number != len(classes):
                raise ConfigError(
                    f'model.{name}.num_classes is {number}, but the {split} dataset '
                    f'has {len(classes)} classes ({some(classes)}). Set num_classes to '
                    f'{len(classes)}. For a part of the classes that the model knows, '
                    "name all of them in the dataset's metainfo, and give the labels "
                    'in an ann_file: labels of folders follow the sorted folders'
                )
        return classes


def _heads(model: nn.Module) -> Iterator[tuple[str, int]]:
    """Yield name and number of classes of every head."""
    for name in ('head', 'decode_head', 'auxiliary_head'):
        head = getattr(model, name, None)
        for part in head if isinstance(head, nn.ModuleList) else [head]:
            number = getattr(part, 'num_classes', None)
            if isinstance(number, int):
                yield name, number


def _labels(batch: Any) -> Iterator[torch.Tensor]:
    """Yield the labels of every sample of a batch, 1-D."""
    samples = batch.get('data_samples') if isinstance(batch, Mapping) else None
    for sample in samples or ():
        label = sample.get('gt_label')
        if label is None and sample.get('gt_sem_seg') is not None:
            label = sample.gt_sem_seg.data
        if isinstance(label, torch.Tensor):
            labels = label.flatten().cpu().long()
            yield labels[labels >= 0]


def _warn(text: str) -> None:
    print_log(f'{text}.', logger='current', level=logging.WARNING)
