"""Save and stop training on SIGTERM and Ctrl-C."""

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

    Where gradients are accumulated, it saves at the end of the current update. During a
    validation it stops at once if the weights are on disk already, else after the
    validation and one more iteration. A signal to one process stops all processes after
    the same iteration. A resumed training repeats a validation that was interrupted.

    Raises:
        Interrupted: The progress is on disk.
        ConfigError: The checkpoint hook is not a :class:`SafeCheckpointHook`.
    """

    #: After the checkpoint hook, which may have saved already.
    priority = 'LOWEST'

    _checkpoints: SafeCheckpointHook

    def __init__(self) -> None:
        self._signal: signal.Signals | None = None
        self._group: Any = None
        self._previous: dict[signal.Signals, Any] = {}
        self._val_batches = 0
        self._training = False

    def before_train(self, runner: Runner) -> None:
        """Handle the signals here, and keep them from the workers of the loaders."""
        hooks = [hook for hook in runner.hooks if isinstance(hook, SafeCheckpointHook)]
        if not hooks:
            raise ConfigError(
                'default_hooks.interruption saves through default_hooks.checkpoint: '
                'make that a SafeCheckpointHook, or set default_hooks.interruption=None'
            )
        self._checkpoints = hooks[0]
        self._training = True
        if is_distributed():
            # A group of its own: flags on the CPU make no GPU wait.
            self._group = torch.distributed.new_group(backend='gloo')
        if threading.current_thread() is threading.main_thread():
            # Python allows signal handlers in the main thread only.
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
        """Stop if a process received a signal, once all gradients are applied."""
        if not self._any_process() or not runner.optim_wrapper.should_update():
            return
        if self._checkpoints.saved_iter != runner.iter + 1:
            self._checkpoints.save_now(runner)
        self._stop(runner)

    def before_val(self, runner: Runner) -> None:
        """Find the number of validation batches that all processes have."""
        batches = all_gather_object(len(runner.val_dataloader))
        self._val_batches = min(batches)

    def after_val_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | None = None,
        outputs: Any = None,
    ) -> None:
        """Stop within the validation if the weights are on disk."""
        if not self._training or self._checkpoints.saved_iter != runner.iter:
            return
        if batch_idx < self._val_batches and self._any_process():
            self._stop(runner)

    def after_train(self, runner: Runner) -> None:
        """Restore the previous signal handlers."""
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
            # Not under torchrun, which repeats a Ctrl-C to its processes.
            self._restore()
            text += ' Repeat it to stop at once, without saving.'
        # Not the log: the signal may have come while a line of it is written.
        os.write(2, f'{text}\n'.encode())

    def _any_process(self) -> bool:
        if not is_distributed():
            return self._signal is not None
        flag = torch.tensor(int(self._signal is not None))
        torch.distributed.all_reduce(flag, group=self._group)
        return bool(flag)

    def _stop(self, runner: Runner) -> None:
        # When the first process ends, the launcher sends SIGTERM to the others: let
        # them finish the file first.
        barrier()
        runner.visualizer.close()
        name = self._signal.name if self._signal else 'a signal to another process'
        raise Interrupted(
            f'interrupted by {name}: {self._checkpoints.last_ckpt} is saved, --resume '
            'continues from there'
        )


def validation_is_due(runner: Runner) -> bool:
    """Tell whether a resumed run owes a validation at its checkpoint."""
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
    """Put each worker of a loader into a process group of its own.

    Ctrl-C and batch systems signal whole groups. A worker that dies of the signal would
    end the training before it has saved.
    """
    loader.worker_init_fn = functools.partial(_init_worker, loader.worker_init_fn)


def _init_worker(init: Callable[[int], None] | None, worker_id: int) -> None:
    os.setpgid(0, 0)
    if init is not None:
        init(worker_id)
