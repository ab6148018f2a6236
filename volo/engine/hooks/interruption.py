"""SIGTERM and Ctrl-C end a training after it has been saved."""

import functools
import os
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

import torch
from mmengine.dist import all_gather_object, barrier, is_distributed
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import EpochBasedTrainLoop, Runner
from torch.utils.data import DataLoader

from volo.errors import ConfigError, Interrupted

from .saving import SafeCheckpointHook

SIGNALS = (signal.SIGTERM, signal.SIGINT)


@HOOKS.register_module()
class InterruptionHook(Hook):
    """Save at the end of the current iteration when a signal asks to stop.

    Where gradients are accumulated, at the end of the current update. In validation, at
    once if what is trained is on disk already; else after it and one more iteration.
    A signal to one process stops all of them, after the same iteration. A validation
    that an interruption took is made up for when training is resumed.

    Raises:
        Interrupted: What was trained is on disk.
        ConfigError: The checkpoint hook is not a :class:`SafeCheckpointHook`.
    """

    #: After the checkpoint hook, which may have saved already.
    priority = 'LOWEST'

    def __init__(self) -> None:
        self._signal: signal.Signals | None = None
        self._group: Any = None
        self._previous: dict[signal.Signals, Any] = {}
        self._val_batches = 0
        self._checkpoints: SafeCheckpointHook | None = None

    def before_train(self, runner: Runner) -> None:
        """Listen to the signals, and let the loaders' workers not hear them."""
        hooks = [hook for hook in runner.hooks if isinstance(hook, SafeCheckpointHook)]
        if not hooks:
            raise ConfigError(
                'default_hooks.interruption saves through default_hooks.checkpoint: '
                'make that a SafeCheckpointHook, or set default_hooks.interruption=None'
            )
        self._checkpoints = hooks[0]
        if is_distributed():
            # Of its own: flags on the CPU make no GPU wait.
            self._group = torch.distributed.new_group(backend='gloo')
        if threading.current_thread() is threading.main_thread():
            # Elsewhere Python does not let one listen.
            for number in SIGNALS:
                self._previous[number] = signal.signal(number, self._note)
        leave_group(runner.train_dataloader)
        if runner.val_loop is not None:
            leave_group(runner.val_dataloader)
        if validation_is_due(runner):
            runner.val_loop.run()

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | None = None,
        outputs: dict | None = None,
    ) -> None:
        """Stop if any process was asked to, once all of this one's work is applied."""
        if not self._any_process() or not runner.optim_wrapper.should_update():
            return
        if self._checkpoints.saved_iter != runner.iter + 1:
            self._checkpoints.save_now(runner)
        self._stop(runner)

    def before_val(self, runner: Runner) -> None:
        """Find out how many batches of the validation all processes have."""
        batches = all_gather_object(len(runner.val_dataloader))
        self._val_batches = min(batches)

    def after_val_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | None = None,
        outputs: Any = None,
    ) -> None:
        """Stop within the validation if nothing is lost by it."""
        if self._checkpoints is None or self._checkpoints.saved_iter != runner.iter:
            return
        if batch_idx < self._val_batches and self._any_process():
            self._stop(runner)

    def after_train(self, runner: Runner) -> None:
        """Leave the signals to whom they belonged."""
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self._signal is not None:
            return
        self._signal = signal.Signals(number)
        text = f'{self._signal.name}: saving after this iteration, then stopping.'
        if not is_distributed():
            # torchrun hands a Ctrl-C on: there it comes twice by itself.
            self._restore()
            text += ' Once more to stop at once.'
        # Not the log: the signal may have come in the middle of a line of it.
        os.write(2, f'{text}\n'.encode())

    def _any_process(self) -> bool:
        if not is_distributed():
            return self._signal is not None
        flag = torch.tensor(int(self._signal is not None))
        torch.distributed.all_reduce(flag, group=self._group)
        return bool(flag)

    def _stop(self, runner: Runner) -> None:
        # The first process to end takes the others along, by SIGTERM, which they are
        # still listening to: let the file be whole first.
        barrier()
        runner.visualizer.close()
        name = self._signal.name if self._signal else 'a signal to another process'
        raise Interrupted(
            f'interrupted by {name}: {self._checkpoints.last_ckpt} is saved, --resume '
            'goes on from there'
        )


def validation_is_due(runner: Runner) -> bool:
    """Tell whether a resumed run stands where it would have validated, and had not."""
    loop = runner.train_loop
    done, last = runner.iter, runner.max_iters
    if isinstance(loop, EpochBasedTrainLoop):
        if runner.iter != runner.epoch * len(loop.dataloader):
            return False
        done, last = runner.epoch, runner.max_epochs
    return (
        runner.val_loop is not None
        and done >= max(loop.val_begin, 1)
        and (done % loop.val_interval == 0 or done == last)
        and SafeCheckpointHook.validated_iter(runner) != runner.iter
    )


def leave_group(loader: DataLoader) -> None:
    """Let the workers of a loader be in process groups of their own.

    Ctrl-C and batch systems signal whole groups: a worker that died of it would take
    the training along before it has saved.
    """
    loader.worker_init_fn = functools.partial(_init_worker, loader.worker_init_fn)


def _init_worker(init: Callable[[int], None] | None, worker_id: int) -> None:
    os.setpgid(0, 0)
    if init is not None:
        init(worker_id)
