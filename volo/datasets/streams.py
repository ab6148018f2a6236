"""Samplers and seeding that make the stream of training samples reproducible.

A resumed run must see what the uninterrupted run would have seen: the same samples in
the same order with the same augmentation, whatever the number of workers and wherever
it was interrupted. So the samplers here yield indices that know their position in the
stream, and the random generators are seeded with (seed, position) before a sample is
loaded.
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

#: First word of a seed: is it for a sample, or for an iteration of the model?
SAMPLES, ITERATIONS = 0, 1


def seed_generators(seed: int, *key: int) -> int:
    """Seed the generators of Python, numpy and torch (on the CPU).

    Args:
        seed: Seed of the run.
        key: Numbers from 0 on. Different keys give independent streams.

    Returns:
        A seed for the generators of other devices.
    """
    words = np.random.SeedSequence(seed, spawn_key=key).generate_state(6)
    number = int(words[4]) << 32 | int(words[5])
    random.seed(number)
    np.random.seed(words[:4])
    torch.default_generator.manual_seed(number)
    return number


class StreamIndex(int):
    """Index of a sample in its dataset that knows its position in the stream.

    Attributes:
        seed: Seed of the run.
        position: Number of samples before it in the stream, over all processes.
    """

    seed: int
    position: int

    def __new__(cls, index: int, seed: int, position: int) -> 'StreamIndex':  # noqa: D102
        self = super().__new__(cls, index)
        self.seed, self.position = seed, position
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return StreamIndex, (int(self), self.seed, self.position)


def seed_for(index: int) -> None:
    """Seed the generators with the position of a sample in the stream.

    Args:
        index: A :class:`StreamIndex`. A plain number changes nothing.
    """
    if isinstance(index, StreamIndex):
        seed_generators(index.seed, SAMPLES, index.position)


class SeededByPosition(Dataset):
    """Mixin in front of a dataset that seeds the generators before every sample."""

    def __getitem__(self, idx: int) -> Any:
        """Return a sample."""
        seed_for(idx)
        return super().__getitem__(idx)


class _DatasetWrapper(Dataset):
    """Mixin that forwards everything to the wrapped dataset."""

    def __init__(self, dataset: dict | Dataset) -> None:
        self.dataset: Any = (
            DATASETS.build(dataset) if isinstance(dataset, dict) else dataset
        )

    def __getattr__(self, name: str) -> Any:
        if name == 'dataset':  # not there yet while unpickling
            raise AttributeError(name)
        return getattr(self.dataset, name)

    def __getitem__(self, idx: int) -> Any:
        return self.dataset[idx]

    def __len__(self) -> int:
        return len(self.dataset)


@DATASETS.register_module()
class StreamDataset(SeededByPosition, _DatasetWrapper):
    """Seed the augmentation of any dataset by the positions of its samples.

    For datasets of other libraries and for mmengine's ``RepeatDataset`` and the like:
    ``dict(type='StreamDataset', dataset=dict(type='RepeatDataset', ...))``.

    Args:
        dataset: The wrapped dataset, or its config.
    """


class _PositionedSampler:
    """Mixin in front of an mmengine sampler: yields positions, can skip samples."""

    rank: int
    world_size: int
    seed: int
    _first = 0

    def skip(self, num_samples: int) -> None:
        """Skip this process's first samples in the next iteration over the sampler."""
        self._first = num_samples

    def _stream(self, indices: Iterator[int], start: int) -> Iterator[StreamIndex]:
        """Add positions to this process's indices.

        Args:
            indices: All indices of this process.
            start: Position of the first index of rank 0.
        """
        first, self._first = self._first, 0
        for number, index in itertools.islice(enumerate(indices), first, None):
            position = start + self.rank + number * self.world_size
            yield StreamIndex(index, self.seed, position)


@DATA_SAMPLERS.register_module()
class StreamSampler(_PositionedSampler, DefaultSampler):
    """mmengine's ``DefaultSampler`` with :class:`StreamIndex` that can skip samples.

    Args:
        args: As in ``DefaultSampler``.
        kwargs: As in ``DefaultSampler``.
    """

    def __iter__(self) -> Iterator[StreamIndex]:
        yield from self._stream(super().__iter__(), self.epoch * self.total_size)


@DATA_SAMPLERS.register_module()
class InfiniteStreamSampler(_PositionedSampler, InfiniteSampler):
    """mmengine's ``InfiniteSampler`` with :class:`StreamIndex` that can skip samples.

    Args:
        args: As in ``InfiniteSampler``.
        kwargs: As in ``InfiniteSampler``.
    """

    def __iter__(self) -> Iterator[StreamIndex]:
        yield from self._stream(self._indices_of_rank(), 0)
