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


def derive_seeds(seed: int, *place: int) -> tuple[np.ndarray, int]:
    """Mix a seed with numbers that say what it is for.

    Args:
        seed: Of the run.
        place: Numbers from 0 on; other numbers give unrelated seeds.

    Returns:
        Four words of 32 bits for numpy, and a number of 64 bits for the others.
    """
    words = np.random.SeedSequence(seed, spawn_key=place).generate_state(6)
    return words[:4], int(words[4]) << 32 | int(words[5])


class StreamIndex(int):
    """Index of a sample in its data set that knows its place in the stream.

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


def seed_generators(seed: int, *place: int) -> None:
    """Set the generators of Python, numpy and torch (on the CPU).

    Args:
        seed: Of the run.
        place: As in :func:`derive_seeds`.
    """
    words, number = derive_seeds(seed, *place)
    random.seed(number)
    np.random.seed(words)
    torch.default_generator.manual_seed(number)


def seed_for(index: int) -> None:
    """Let what is drawn next depend on a sample's place in the stream alone.

    Args:
        index: A :class:`StreamIndex`; with any other number nothing is changed.
    """
    if isinstance(index, StreamIndex):
        seed_generators(index.seed, SAMPLES, index.place)


class DrawsByPlace:
    """Mixin in front of a data set: samples are augmented as their place says."""

    def __getitem__(self, idx: int) -> dict:
        """Return a sample."""
        seed_for(idx)
        return super().__getitem__(idx)


class _Wrapper:
    """A data set that is another one."""

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
    """Lets any data set augment by the place in the stream, as those of VOLO do.

    For the data sets of other libraries and for mmengine's ``RepeatDataset`` and the
    like: ``dict(type='StreamDataset', dataset=dict(type='RepeatDataset', ...))``.

    Args:
        dataset: All but ``[]`` and ``len`` is left to it.
    """


@DATA_SAMPLERS.register_module()
class StreamSampler(DefaultSampler):
    """mmengine's ``DefaultSampler``, of :class:`StreamIndex`; starts within an epoch.

    Args:
        args: As in ``DefaultSampler``.
        kwargs: As in ``DefaultSampler``.
    """

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self._first = 0

    def skip(self, num_samples: int) -> None:
        """Leave out this process's first samples of the next epoch, and of no other."""
        self._first = num_samples

    def __iter__(self) -> Iterator[int]:
        first, self._first = self._first, 0
        start = self.epoch * self.total_size + self.rank
        indices = enumerate(super().__iter__())
        for number, index in itertools.islice(indices, first, None):
            yield StreamIndex(index, self.seed, start + number * self.world_size)


@DATA_SAMPLERS.register_module()
class InfiniteStreamSampler(InfiniteSampler):
    """mmengine's ``InfiniteSampler``, of :class:`StreamIndex`.

    Args:
        args: As in ``InfiniteSampler``.
        kwargs: As in ``InfiniteSampler``.
    """

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self._first = 0

    def skip(self, num_samples: int) -> None:
        """Start with another than this process's first sample of the stream."""
        self._first = num_samples

    def __iter__(self) -> Iterator[int]:
        indices = enumerate(self._indices_of_rank())
        for number, index in itertools.islice(indices, self._first, None):
            place = self.rank + number * self.world_size
            yield StreamIndex(index, self.seed, place)
