"""Everything that is drawn in training depends on the seed and the place alone."""

import logging

import torch
from mmengine.device import get_device
from mmengine.dist import broadcast_object_list, get_rank, get_world_size
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.registry import HOOKS
from mmengine.runner import EpochBasedTrainLoop, Runner

from volo.datasets.streams import ITERATIONS, DrawsByPlace, seed_generators


@HOOKS.register_module()
class RandomStreamsHook(Hook):
    """Let a resumed run draw what it would have drawn.

    The generators of every process are set by (seed, iteration, rank) before each
    iteration, so that drop path, MixToken and the like need no state of their own, and
    the sampler starts where the checkpoint stands, in the middle of an epoch too. The
    checkpoint says what the streams of all processes follow from.

    The samples of a run are the same for other numbers of processes, as long as an
    iteration has as many samples in all; else a warning says that they are not.
    """

    #: Before the hooks that may draw.
    priority = 'VERY_HIGH'

    #: Where a checkpoint's ``meta`` has seed, processes and samples of each.
    META_KEY = 'random_streams'

    def __init__(self) -> None:
        self.streams: dict = {}
        self._resumed: dict = {}

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Keep what the streams were when the checkpoint was saved."""
        self._resumed = (checkpoint.get('meta') or {}).get(self.META_KEY) or {}

    def before_train(self, runner: Runner) -> None:
        """Agree on the seed: rank 0's, since others may have added their rank to it."""
        seeds = [runner.seed]
        broadcast_object_list(seeds)
        loader = runner.train_dataloader
        self.streams = dict(
            seed=seeds[0], num_processes=get_world_size(), batch_size=loader.batch_size
        )
        if hasattr(loader.sampler, 'seed'):
            loader.sampler.seed = seeds[0]
        if not isinstance(loader.dataset, DrawsByPlace):
            name = type(loader.dataset).__name__
            print_log(
                f'{name} augments as its workers happen to draw: resuming is not '
                f"exact: dict(type='StreamDataset', dataset=dict(type='{name}', ...)) "
                'mends it.',
                logger='current',
                level=logging.WARNING,
            )
        if runner.iter and self._resumed not in ({}, self.streams):
            print_log(
                f'The checkpoint was trained with {self._resumed}, this run is with '
                f'{self.streams}: it is not exactly the run that was interrupted.',
                logger='current',
                level=logging.WARNING,
            )

    def before_train_epoch(self, runner: Runner) -> None:
        """Leave out what a resumed epoch has seen already.

        An iteration-based loop does so itself.
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
            print_log(
                f'{type(loader.sampler).__name__} cannot start within an epoch: the '
                f'first {done} batches are seen twice. StreamSampler can.',
                logger='current',
                level=logging.WARNING,
            )

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None
    ) -> None:
        """Set the generators of Python, numpy and torch, on all devices."""
        seed = seed_generators(
            self.streams['seed'], ITERATIONS, runner.iter, get_rank()
        )
        # Where there is no other device, this takes ten times as long.
        if get_device() != 'cpu':
            torch.manual_seed(seed)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Say what the streams follow from."""
        checkpoint['meta'][self.META_KEY] = dict(self.streams)
