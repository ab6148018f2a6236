import pickle
import random

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from volo.datasets.streams import (
    InfiniteStreamSampler,
    StreamDataset,
    StreamIndex,
    StreamSampler,
    seed_for,
)


class Drawn(Dataset):
    """Samples are what the three generators draw."""

    def __len__(self):
        return 10

    def __getitem__(self, index):
        seed_for(index)
        return int(index), random.random(), np.random.rand(), torch.rand(1).item()


def drawn(sampler, num_workers=0, batches=None):
    """Return the samples of a loader, in order."""
    loader = DataLoader(Drawn(), 4, sampler=sampler, num_workers=num_workers)
    return [
        sample
        for _, batch in zip(range(batches or len(loader)), loader, strict=False)
        for sample in zip(*(column.tolist() for column in batch), strict=True)
    ]


def ranks(sampler, world_size):
    """Return a sampler for each of several processes."""
    samplers = []
    for rank in range(world_size):
        one = sampler(Drawn(), seed=3)
        one.rank, one.world_size = rank, world_size
        if sampler is StreamSampler:
            one.num_samples = len(Drawn()) // world_size
        samplers.append(one)
    return samplers


@pytest.mark.parametrize('sampler', [StreamSampler, InfiniteStreamSampler])
def test_samples_depend_on_their_position_and_not_on_the_worker(sampler):
    alone = drawn(sampler(Drawn(), seed=3), 0, 2)
    assert alone == drawn(sampler(Drawn(), seed=3), 3, 2)
    assert alone != drawn(sampler(Drawn(), seed=4), 0, 2)
    assert len(set(alone)) == len(alone)


def test_epochs_repeat_neither_order_nor_augmentation():
    sampler = StreamSampler(Drawn(), seed=3)
    epochs = []
    for epoch in range(3):
        sampler.set_epoch(epoch)
        epochs.append(drawn(sampler, num_workers=1))
    assert all(sorted(i for i, *_ in epoch) == list(range(10)) for epoch in epochs)
    assert len({sample[1:] for epoch in epochs for sample in epoch}) == 30


@pytest.mark.parametrize('num_workers', [0, 2])
def test_skip_applies_to_one_epoch(num_workers):
    sampler = StreamSampler(Drawn(), seed=3)
    whole = drawn(sampler)
    sampler.skip(4)
    assert drawn(sampler, num_workers) == whole[4:]
    assert drawn(sampler) == whole


def test_the_infinite_stream_can_skip():
    whole = drawn(InfiniteStreamSampler(Drawn(), seed=3), 0, 8)
    sampler = InfiniteStreamSampler(Drawn(), seed=3)
    sampler.skip(20)
    assert drawn(sampler, 2, 3) == whole[20:32]


@pytest.mark.parametrize('sampler', [StreamSampler, InfiniteStreamSampler])
def test_two_processes_share_the_stream_of_one(sampler):
    positions = [
        [index.position for index, _ in zip(one, range(5), strict=False)]
        for one in ranks(sampler, 2)
    ]
    assert positions == [[0, 2, 4, 6, 8], [1, 3, 5, 7, 9]]


def test_a_plain_index_does_not_seed():
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    seed_for(7)
    assert torch.rand(1) == expected


class Plain(Dataset):
    """Draws, and knows nothing of positions."""

    metainfo = dict(classes=('a',))

    def __len__(self):
        return 10

    def __getitem__(self, index):
        return int(index), torch.rand(1).item()


def test_any_dataset_can_be_wrapped():
    wrapped = StreamDataset(Plain())
    assert wrapped.metainfo == Plain.metainfo and len(wrapped) == 10
    batches = [
        [batch[1].tolist() for batch in DataLoader(wrapped, 5, sampler=sampler, **how)]
        for how in (dict(), dict(num_workers=2))
        for sampler in [StreamSampler(wrapped, seed=3)]
    ]
    assert batches[0] == batches[1]
    assert pickle.loads(pickle.dumps(wrapped)).metainfo == Plain.metainfo


def test_indices_survive_pickling():
    index = pickle.loads(pickle.dumps(StreamIndex(1, 2, 3)))
    assert (index, index.seed, index.position) == (1, 2, 3)
