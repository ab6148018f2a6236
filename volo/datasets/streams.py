"""The stream of training samples: who comes when, and what is drawn for it.

A run that is resumed must see what it would have seen: the same samples in the same
order, augmented alike, whatever the number of workers and wherever it was interrupted.
So the samplers here hand out indices that know their place in the stream, and the
random generators are set by (seed, place) before a sample is made.
"""

import itertools
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from mmengine.dataset import DefaultSampler, InfiniteSampler
from mmengine.registry import DATA_SAMPLERS, DATASETS
from torch.utils.data import Dataset

#: What seeds are derived for, before all else: samples, or iterations of the model.
SAMPLES, ITERATIONS = 0, 1


def seed_generators(seed: int, *place: int) -> int:
    """Set the generators of Python, numpy and torch (on the CPU).

    Args:
        seed: Of the run.
        place: Numbers from 0 on that say what is drawn for.

    Returns:
        A seed for the generators of other devices.
    """
    words = np.random.SeedSequence(seed, spawn_key=place).generate_state(6)
    number = int(words[4]) << 32 | int(words[5])
    random.seed(number)
    np.random.seed(words[:4])
    torch.default_generator.manual_seed(number)
    return number


class StreamIndex(int):
    """Index of a sample in its dataset that knows its place in the stream.

    Attributes:
        seed: Of the run.
        place: How many samples all processes were given before it.
    """

    seed: int
    place: int

    def __new__(cls, index: int, seed: int, place: int) -> 'StreamIndex':  # noqa: D102
        self = super().__new__(cls, index)
        self.seed, self.place = seed, place
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return StreamIndex, (int(self), self.seed, self.place)


def seed_for(index: int) -> None:
    """Let what is drawn next depend on a sample's place in the stream alone.

    Args:
        index: A :class:`StreamIndex`; with any other number nothing is changed.
    """
    if isinstance(index, StreamIndex):
        seed_generators(index.seed, SAMPLES, index.place)


class DrawsByPlace:
    """Mixin in front of a dataset: samples are augmented as their place says."""

    def __getitem__(self, idx: int) -> dict:
        """Return a sample."""
        seed_for(idx)
        return super().__getitem__(idx)


class _Wrapper:
    """A dataset that is another one."""

    def __init__(self, dataset: dict | Dataset) -> None:
        if isinstance(dataset, dict):
            dataset = DATASETS.build(dataset)
        self.dataset = dataset

    def __getattr__(self, name: str) -> Any:
        if name == 'dataset':  # while it is unpickled
            raise AttributeError(name)
        return getattr(self.dataset, name)

    def __getitem__(self, idx: int) -> dict:
        return self.dataset[idx]

    def __len__(self) -> int:
        return len(self.dataset)


@DATASETS.register_module()
class StreamDataset(DrawsByPlace, _Wrapper):
    """Lets any dataset augment by the place in the stream, as those of VOLO do.

    For the datasets of other libraries and for mmengine's ``RepeatDataset`` and the
    like: ``dict(type='StreamDataset', dataset=dict(type='RepeatDataset', ...))``.

    Args:
        dataset: All but ``[]`` and ``len`` is left to it.
    """


class _StartsAnywhere:
    """Mixin in front of a sampler whose indices are to know their place."""

    _first = 0

    def skip(self, num_samples: int) -> None:
        """Leave out this process's first samples, the next time it is iterated over."""
        self._first = num_samples

    def _place(self, indices: Iterator[int], start: int) -> Iterator[StreamIndex]:
        """Say where this process's indices are; the first of all is at ``start``."""
        first, self._first = self._first, 0
        for number, index in itertools.islice(enumerate(indices), first, None):
            place = start + self.rank + number * self.world_size
            yield StreamIndex(index, self.seed, place)


@DATA_SAMPLERS.register_module()
class StreamSampler(_StartsAnywhere, DefaultSampler):
    """mmengine's ``DefaultSampler``, of :class:`StreamIndex`; starts within an epoch.

    Args:
        args: As in ``DefaultSampler``.
        kwargs: As in ``DefaultSampler``.
    """

    def __iter__(self) -> Iterator[StreamIndex]:
        yield from self._place(super().__iter__(), self.epoch * self.total_size)


@DATA_SAMPLERS.register_module()
class InfiniteStreamSampler(_StartsAnywhere, InfiniteSampler):
    """mmengine's ``InfiniteSampler``, of :class:`StreamIndex`.

    Args:
        args: As in ``InfiniteSampler``.
        kwargs: As in ``InfiniteSampler``.
    """

    def __iter__(self) -> Iterator[StreamIndex]:
        yield from self._place(self._indices_of_rank(), 0)
