"""Make everything random in training depend on the seed and the position alone."""

import logging

import torch
from mmengine.device import get_device
from mmengine.dist import broadcast_object_list, get_rank, get_world_size
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.registry import HOOKS
from mmengine.runner import EpochBasedTrainLoop, Runner

from volo.datasets.streams import ITERATIONS, SeededByPosition, seed_generators


@HOOKS.register_module()
class RandomStreamsHook(Hook):
    """Make a resumed run draw the same random numbers as an uninterrupted one.

    Before each iteration, the random generators of every process are seeded by (seed,
    iteration, rank), so that drop path, MixToken and the like need no saved state. The
    sampler starts at the checkpoint's position, also within an epoch. The checkpoint
    keeps the seed, the number of processes and their batch size.

    With another number of processes the samples are the same, as long as an iteration
    has as many samples in total; a warning tells when the run is not exactly the same.
    """

    #: Before the hooks that may draw.
    priority = 'VERY_HIGH'

    #: The key in a checkpoint's ``meta`` of seed, processes and batch size.
    META_KEY = 'random_streams'

    def __init__(self) -> None:
        self.streams: dict = {}
        self._resumed: dict = {}

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Keep the settings that the checkpoint was saved with."""
        self._resumed = (checkpoint.get('meta') or {}).get(self.META_KEY) or {}

    def before_train(self, runner: Runner) -> None:
        """Agree on the seed of rank 0, since others may have added their rank to it."""
        seeds = [runner.seed]
        broadcast_object_list(seeds)
        loader = runner.train_dataloader
        self.streams = dict(
            seed=seeds[0], num_processes=get_world_size(), batch_size=loader.batch_size
        )
        if hasattr(loader.sampler, 'seed'):
            loader.sampler.seed = seeds[0]
        if not isinstance(loader.dataset, SeededByPosition):
            name = type(loader.dataset).__name__
            _warn(
                f'The augmentation of {name} depends on the workers: resuming is not '
                'exact. To make it exact, use '
                f"dict(type='StreamDataset', dataset=dict(type='{name}', ...))."
            )
        if runner.iter and self._resumed not in ({}, self.streams):
            _warn(
                f'The checkpoint was trained with {self._resumed}, this run uses '
                f'{self.streams}: it is not exactly the run that was interrupted.'
            )

    def before_train_epoch(self, runner: Runner) -> None:
        """Skip the samples of the epoch that a resumed run has seen already.

        Iteration-based loops skip them without help.
        """
        loader = runner.train_dataloader
        if not isinstance(runner.train_loop, EpochBasedTrainLoop):
            return
        done = runner.iter - runner.epoch * len(loader)
        if done == 0:
            return
        if hasattr(loader.sampler, 'skip'):
            loader.sampler.skip(done * loader.batch_size)
        else:
            _warn(
                f'{type(loader.sampler).__name__} cannot start within an epoch: the '
                f'first {done} batches are seen twice. StreamSampler can.'
            )

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None
    ) -> None:
        """Seed the generators of Python, numpy and torch, on all devices."""
        seed = seed_generators(
            self.streams['seed'], ITERATIONS, runner.iter, get_rank()
        )
        # Ten times as slow as the rest, and needless without another device.
        if get_device() != 'cpu':
            torch.manual_seed(seed)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Save the settings that the random numbers follow from."""
        checkpoint['meta'][self.META_KEY] = dict(self.streams)


def _warn(text: str) -> None:
    print_log(text, logger='current', level=logging.WARNING)
