import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.dataset import DefaultSampler
from mmengine.runner import EpochBasedTrainLoop
from torch.utils.data import DataLoader

from volo.datasets.streams import StreamSampler
from volo.engine import RandomStreamsHook


class EpochLoop(EpochBasedTrainLoop):
    """A loop of epochs without any data."""

    def __init__(self):
        pass


@pytest.fixture
def logged(monkeypatch):
    """The lines that the hook logs."""
    lines = []
    monkeypatch.setattr(
        'volo.engine.hooks.random_streams.print_log',
        lambda text, **_: lines.append(text),
    )
    return lines


def make_runner(sampler=StreamSampler, iteration=0, seed=3, epoch=0):
    """Return a stand-in for a runner with five batches of four per epoch."""
    data = list(range(20))
    loader = DataLoader(data, 4, sampler=sampler(data, seed=99))
    return SimpleNamespace(
        seed=seed,
        iter=iteration,
        epoch=epoch,
        train_dataloader=loader,
        train_loop=EpochLoop(),
    )


def test_a_dataset_whose_workers_draw_is_warned_of(logged):
    started(make_runner())
    assert logged[0].startswith('The augmentation of list depends on the workers')


def draw(hook, runner):
    hook.before_train_iter(runner, 0)
    return random.random(), np.random.rand(), torch.rand(1).item()


def started(runner):
    hook = RandomStreamsHook()
    hook.before_train(runner)
    return hook


def test_random_numbers_depend_on_seed_iteration_and_rank(monkeypatch):
    runner = make_runner()
    hook = started(runner)
    first = draw(hook, runner)
    torch.rand(7)
    assert draw(hook, runner) == first
    assert draw(started(make_runner()), make_runner()) == first
    others = [make_runner(iteration=1), make_runner(seed=4)]
    drawn = {first, *(draw(started(other), other) for other in others)}
    monkeypatch.setattr('volo.engine.hooks.random_streams.get_rank', lambda: 1)
    drawn.add(draw(hook, runner))
    assert len(drawn) == 4


def test_the_order_follows_from_the_seed_of_the_run():
    orders = []
    for seed in (3, 3, 4):
        runner = make_runner(seed=seed)
        started(runner)
        orders.append([int(i) for i in runner.train_dataloader.sampler])
    assert orders[0] == orders[1] != orders[2]


@pytest.mark.parametrize('done', [0, 3])
def test_a_resumed_epoch_continues_where_it_was(done):
    runner = make_runner(iteration=5 + done, epoch=1)
    started(runner).before_train_epoch(runner)
    sampler = runner.train_dataloader.sampler
    rest = [int(index) for index in sampler]
    assert rest == [int(index) for index in sampler][4 * done :]


def test_a_sampler_that_cannot_start_there_is_warned_of(logged):
    runner = make_runner(DefaultSampler, iteration=3)
    started(runner).before_train_epoch(runner)
    assert 'the first 3 batches are seen twice' in logged[-1]


def test_the_checkpoint_keeps_what_the_random_numbers_follow_from(logged):
    runner = make_runner(iteration=2)
    checkpoint = dict(meta={})
    started(runner).before_save_checkpoint(runner, checkpoint)
    expected = dict(seed=3, num_processes=1, batch_size=4)
    assert checkpoint['meta']['random_streams'] == expected
    for processes, warned in ((1, False), (2, True)):
        checkpoint['meta']['random_streams']['num_processes'] = processes
        hook = RandomStreamsHook()
        hook.after_load_checkpoint(runner, checkpoint)
        hook.before_train(runner)
        assert ('it is not exactly the run' in logged[-1]) == warned
