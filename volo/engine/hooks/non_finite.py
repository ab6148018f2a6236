"""Skip training steps whose loss or gradients are not finite."""

import logging
import math
from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from mmengine.dist import all_gather_object, all_reduce
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.optim import OptimWrapper
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import nn

from volo.errors import ConfigError, TrainingError
from volo.models.wrappers import unwrap

from .buffers import Buffers
from .skipped_steps import (
    Findings,
    Report,
    any_non_finite,
    broken_files,
    describe_files,
    describe_reason,
    sample_files,
)

#: The message hub's name for the number of skipped steps; checkpoints keep it.
COUNTER = 'skipped_steps'

#: What FSDP and recomputation insert into the names of parameters.
_WRAPPERS = ('_fsdp_wrapped_module.', '_checkpoint_wrapped_module.')


class _Batch(NamedTuple):
    losses: list[torch.Tensor]
    files: list[str]
    broken: list[str]


@HOOKS.register_module()
class SkipNonFiniteHook(Hook):
    """Skip steps whose loss or gradients are not finite; stop after too many in a row.

    Weights, optimizer state and the statistics of batch norms stay as they were before
    the batches of that step, on all ranks. The log names the files of these batches and
    counts the skipped steps; so does the scalar ``skipped_steps``. With gradient
    accumulation a step has several batches.

    Gradients that overflow under a loss scale (``AmpOptimWrapper``) belong to the
    search for that scale: the scaler skips the step, which counts only once the scale
    is below 1 or no longer falls. Clipping by value
    (``clip_grad=dict(type='value', ...)``) makes infinite gradients finite before this
    hook sees them; NaN stays NaN.

    The optimizer wrapper is unchanged: the hook checks the loss that the model returns
    and the gradients that the optimizer is about to apply. Once a step it waits for the
    device and synchronizes with the other ranks.

    Args:
        max_in_a_row: Steps that may be skipped in a row before training stops.

    Raises:
        ConfigError: ``max_in_a_row`` is less than 1.
    """

    #: Before the hooks that log the losses and average the weights.
    priority = 'HIGHEST'

    def __init__(self, max_in_a_row: int = 10) -> None:
        if max_in_a_row < 1:
            raise ConfigError(
                f'SkipNonFiniteHook: max_in_a_row is {max_in_a_row}, it must be at '
                'least 1'
            )
        self.max_in_a_row = max_in_a_row
        self._handles: list[torch.utils.hooks.RemovableHandle] = []

    def before_train(self, runner: Runner) -> None:
        """Attach to the model and the optimizer."""
        self.after_train(runner)  # an error may have ended an earlier training
        self._model: Any = unwrap(runner.model)
        self._device = next(self._model.parameters()).device
        self._buffers = Buffers(runner.model)
        self._in_a_row = 0
        self._last_scale: float | None = None
        self._start_step()
        self._handles = [
            runner.model.register_forward_hook(self._note_loss, with_kwargs=True),
            runner.optim_wrapper.optimizer.register_step_pre_hook(self._judge_step),
        ]

    def after_train(self, runner: Runner) -> None:
        """Detach from the model and the optimizer."""
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None
    ) -> None:
        """Copy the buffers before the first batch of a step."""
        if not self._batches:
            self._buffers.save()

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | None = None,
        outputs: dict | None = None,
    ) -> None:
        """Undo what a skipped step changed, log and count it.

        Raises:
            TrainingError: ``max_in_a_row`` steps were skipped in a row.
        """
        wrapper = runner.optim_wrapper
        if not wrapper.should_update():
            # The step comes later, but hooks that average buffers run now.
            bad = any(self._find(gradients=[], everywhere=False))
            self._note_batch(data_batch, bad)
            if bad:
                self._undo(outputs)
            return
        found = self._found
        if found is None:  # the loss scaler kept the optimizer from stepping
            found = self._find(gradients=[])._replace(gradients=True)
        if not any(found):
            self._in_a_row = 0
            self._last_scale = None
        elif found.loss or found.buffers or not self._searches_scale(wrapper):
            self._note_batch(data_batch, bad=True)
            self._undo(outputs)
            self._count(runner, found)
        self._start_step()

    def _start_step(self) -> None:
        self._batches: list[_Batch] = []
        self._losses: list[torch.Tensor] = []
        self._found: Findings | None = None
        self._parameters: list[str] = []

    @torch.no_grad()
    def _note_loss(
        self, module: nn.Module, args: tuple, kwargs: dict, output: Any
    ) -> None:
        """Keep the loss without waiting for the device: the model's forward hook."""
        if module.training and kwargs.get('mode') == 'loss':
            self._losses.append(self._model.parse_losses(output)[0])

    def _note_batch(self, data_batch: dict | None, bad: bool) -> None:
        """Keep the files of a batch, in case a later one of this step is bad."""
        seen = sum(len(batch.losses) for batch in self._batches)
        broken = broken_files(data_batch) if bad else []
        batch = _Batch(self._losses[seen:], sample_files(data_batch), broken)
        self._batches.append(batch)

    def _judge_step(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        """Remove the gradients of a bad step: the optimizer's pre-hook.

        Torch's optimizers skip parameters without a gradient.
        """
        gradients = [
            parameter.grad
            for group in optimizer.param_groups
            for parameter in group['params']
            if parameter.grad is not None
        ]
        self._found = self._find(gradients)
        if any(self._found):
            if not self._found.loss:
                self._parameters = self._bad_parameters()
            optimizer.zero_grad(set_to_none=True)

    @torch.no_grad()
    def _find(self, gradients: list[torch.Tensor], everywhere: bool = True) -> Findings:
        """Look for NaN and infinity, on this rank or on all of them."""
        buffers = self._buffers.checked()
        # A norm is cheap, but also infinite where squares of large numbers overflow:
        # only then check every gradient.
        norm = torch.nn.utils.get_total_norm(gradients)
        good = _all_finite(self._losses), torch.isfinite(norm), _all_finite(buffers)
        suspicious = torch.stack([g.to(self._device) for g in good]).logical_not()
        if not any(self._agree(suspicious, everywhere)):
            return Findings(False, False, False)
        checked = self._losses, gradients, buffers
        bad = torch.tensor([any_non_finite(tensors) for tensors in checked])
        return Findings(*self._agree(bad, everywhere))

    def _agree(self, flags: torch.Tensor, everywhere: bool) -> list[bool]:
        """Return the flags that are set on this rank, or on any rank."""
        flags = flags.float().to(self._device)  # some backends cannot reduce bool
        if everywhere:
            all_reduce(flags, 'max')
        return list(map(bool, flags.tolist()))

    def _bad_parameters(self) -> list[str]:
        names = []
        for name, parameter in self._model.named_parameters():
            if parameter.grad is not None and any_non_finite([parameter.grad]):
                for wrapper in _WRAPPERS:
                    name = name.replace(wrapper, '')
                names.append(name)
        return names

    def _searches_scale(self, wrapper: OptimWrapper) -> bool:
        """Tell whether the gradients overflowed because the loss scale is too large.

        A fixed scale does not fall after an overflow.
        """
        scaler = getattr(wrapper, 'loss_scaler', None)
        if scaler is None or not scaler.is_enabled():
            return False
        scale, last = scaler.get_scale(), self._last_scale
        self._last_scale = scale
        return scale >= 1 and (last is None or scale < last)

    def _undo(self, outputs: dict | None) -> None:
        """Restore the buffers, and drop logged values that would spoil averages."""
        self._buffers.restore()
        outputs = outputs if outputs is not None else {}
        for key, value in list(outputs.items()):
            if isinstance(value, torch.Tensor) and any_non_finite([value]):
                del outputs[key]

    def _count(self, runner: Runner, found: Findings) -> None:
        """Count and log a skipped step.

        Raises:
            TrainingError: It is one too many.
        """
        skipped = runner.message_hub.get_info(COUNTER, 0) + 1
        runner.message_hub.update_info(COUNTER, skipped)
        runner.message_hub.update_scalar(f'train/{COUNTER}', skipped)
        self._in_a_row += 1
        reports = all_gather_object(self._report())
        reason = describe_reason(found, reports, self._last_scale)
        print_log(
            f'Iteration {runner.iter + 1}: {reason}: step skipped ({skipped} so far, '
            f'{self._in_a_row} in a row). {describe_files(reports)}',
            logger='current',
            level=logging.WARNING,
        )
        if self._in_a_row >= self.max_in_a_row:
            raise TrainingError(
                f'{self._in_a_row} steps in a row were skipped, the last at iteration '
                f'{runner.iter + 1}: {reason}. {describe_files(reports, most=3)}. '
                'Look for bad files with tools/check_dataset.py. If there are none, '
                'train without --amp or lower the learning rate, and continue from a '
                'checkpoint with --resume --hyperparams-from config'
            )

    def _report(self) -> Report:
        """Report the bad batches of this rank, or all of them if none stands out."""
        chosen = [batch for batch in self._batches if any_non_finite(batch.losses)]
        losses = [loss.item() for batch in chosen for loss in batch.losses]
        chosen = chosen or self._batches
        files = [name for batch in chosen for name in batch.files]
        broken = [name for batch in chosen for name in batch.broken]
        return Report(
            [loss for loss in losses if not math.isfinite(loss)],
            self._parameters,
            broken or files,
            bool(broken),
        )


def _all_finite(tensors: Iterable[torch.Tensor]) -> torch.Tensor:
    """Check a few small tensors without waiting for the device."""
    flat = [tensor.flatten() for tensor in tensors] or [torch.zeros(1)]
    return torch.isfinite(torch.cat(flat)).all()
