"""A step whose loss or gradients are not finite leaves no trace in the model."""

import logging
import math
from collections.abc import Iterable, Sequence
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

#: Under which the message hub counts the skipped steps; checkpoints carry it along.
COUNTER = 'skipped_steps'

#: What FSDP and recomputation put into the names of parameters.
_WRAPPERS = ('_fsdp_wrapped_module.', '_checkpoint_wrapped_module.')


class Findings(NamedTuple):
    """What is not finite, on any of the ranks."""

    loss: bool
    gradients: bool
    buffers: bool


class Report(NamedTuple):
    """What a rank has to say about a step that is skipped.

    Attributes:
        losses: Those of its batches that are not finite.
        parameters: Names of those whose gradients are not finite.
        files: The samples, or those alone that are at fault, as far as that is known.
        broken: Whether the images in these files have values that are not finite.
    """

    losses: list[float]
    parameters: list[str]
    files: list[str]
    broken: bool


class _Batch(NamedTuple):
    losses: list[torch.Tensor]
    files: list[str]
    broken: list[str]


class _Buffers:
    """The buffers of a model, which a forward pass changes, and what they were before.

    Those that are not finite to begin with, as some masks, are not looked at.
    """

    def __init__(self, model: nn.Module) -> None:
        self._buffers = list(model.buffers())
        self._saved = [buffer.clone() for buffer in self._buffers]
        self._watched = [
            buffer
            for buffer in self._buffers
            if buffer.is_floating_point() and not _non_finite([buffer])
        ]
        self._spoilt: list[torch.Tensor] = []

    def watched(self) -> list[torch.Tensor]:
        """Return those that must be finite, and what others were since ``save``."""
        return self._watched + self._spoilt

    def save(self) -> None:
        """Remember them as they are."""
        self._spoilt = []
        if self._buffers:
            torch._foreach_copy_(self._saved, self._buffers)

    def restore(self) -> None:
        """Put back what was remembered."""
        self._spoilt += [b.clone() for b in self._watched if _non_finite([b])]
        if self._buffers:
            torch._foreach_copy_(self._buffers, self._saved)


@HOOKS.register_module()
class SkipNonFiniteHook(Hook):
    """Skip a step whose loss or gradients are not finite, and stop where none is left.

    The weights, the optimizer's state and the statistics of batch norms stay as they
    were before the batches of that step, on all ranks. The log names the files of these
    batches and counts the skipped steps, and so does ``skipped_steps`` among the
    scalars. With gradient accumulation a step has several batches.

    Gradients that overflow under a loss scale (``AmpOptimWrapper``) are the search for
    that scale: the scaler skips the step, and that counts only once the scale is below
    1 or no longer falls. Clipping by value (``clip_grad=dict(type='value', ...)``)
    makes infinite gradients finite before they can be seen; NaN stays NaN.

    The optimizer wrapper is left as it is: the hook looks at the loss that the model
    returns, and at the gradients that the optimizer is about to apply. Once a step it
    waits for the device and, with several ranks, agrees with them.

    Args:
        max_in_a_row: How many steps may be skipped one after another, until training
            stops.

    Raises:
        ConfigError: ``max_in_a_row`` is not a number from 1 on.
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
        self._handles = []

    def before_train(self, runner: Runner) -> None:
        """Start to watch the model and the optimizer."""
        self.after_train(runner)  # Of a training that an error has ended.
        self._model = unwrap(runner.model)
        self._device = next(self._model.parameters()).device
        self._buffers = _Buffers(runner.model)
        self._in_a_row = 0
        self._last_scale = None
        self._start_step()
        self._handles = [
            runner.model.register_forward_hook(self._note_loss, with_kwargs=True),
            runner.optim_wrapper.optimizer.register_step_pre_hook(self._judge_step),
        ]

    def after_train(self, runner: Runner) -> None:
        """Leave model and optimizer as they were."""
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None
    ) -> None:
        """Remember the buffers as they are before the first batch of a step."""
        if not self._batches:
            self._buffers.save()

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | None = None,
        outputs: dict | None = None,
    ) -> None:
        """Undo what a skipped step has done, log and count it.

        Raises:
            TrainingError: ``max_in_a_row`` steps were skipped one after another.
        """
        wrapper = runner.optim_wrapper
        if not wrapper.should_update():
            # The step is to come, but who averages buffers does not wait for it.
            bad = any(self._find(gradients=[], everywhere=False))
            self._note_batch(data_batch, bad)
            if bad:
                self._undo(outputs)
            return
        found = self._found
        if found is None:  # The loss scaler kept the optimizer from stepping.
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
        """Keep the loss, without waiting for it: the model's forward hook."""
        if module.training and kwargs.get('mode') == 'loss':
            self._losses.append(self._model.parse_losses(output)[0])

    def _note_batch(self, data_batch: dict | None, bad: bool) -> None:
        """Keep the files of a batch: a step may turn out to be bad batches later."""
        seen = sum(len(batch.losses) for batch in self._batches)
        broken = broken_files(data_batch) if bad else []
        batch = _Batch(self._losses[seen:], sample_files(data_batch), broken)
        self._batches.append(batch)

    def _judge_step(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        """Take the gradients away from a bad step: the optimizer's pre-hook.

        Torch's optimizers leave parameters without a gradient as they are.
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
        """Look for what is not finite, on this rank or on all of them."""
        buffers = self._buffers.watched()
        # A norm is cheap, but infinite, too, where squares of large numbers overflow:
        # then, and only then, look at each.
        norm = torch.nn.utils.get_total_norm(gradients)
        good = _all_finite(self._losses), torch.isfinite(norm), _all_finite(buffers)
        suspicious = torch.stack([g.to(self._device) for g in good]).logical_not()
        if not any(self._agree(suspicious, everywhere)):
            return Findings(False, False, False)
        watched = self._losses, gradients, buffers
        bad = torch.tensor([_non_finite(tensors) for tensors in watched])
        return Findings(*self._agree(bad, everywhere))

    def _agree(self, flags: torch.Tensor, everywhere: bool) -> list[bool]:
        """Say what is true on this rank, or on any of them."""
        flags = flags.float().to(self._device)  # bool is not for every backend
        if everywhere:
            all_reduce(flags, 'max')
        return list(map(bool, flags.tolist()))

    def _bad_parameters(self) -> list[str]:
        names = []
        for name, parameter in self._model.named_parameters():
            if parameter.grad is not None and _non_finite([parameter.grad]):
                for wrapper in _WRAPPERS:
                    name = name.replace(wrapper, '')
                names.append(name)
        return names

    def _searches_scale(self, wrapper: OptimWrapper) -> bool:
        """Whether gradients overflowed because the loss scale is too large.

        A scale that is fixed does not fall when they do.
        """
        scaler = getattr(wrapper, 'loss_scaler', None)
        if scaler is None or not scaler.is_enabled():
            return False
        scale, last = scaler.get_scale(), self._last_scale
        self._last_scale = scale
        return scale >= 1 and (last is None or scale < last)

    def _undo(self, outputs: dict | None) -> None:
        """Put the buffers back, and keep the averages in the log finite."""
        self._buffers.restore()
        for key, value in list((outputs or {}).items()):
            if isinstance(value, torch.Tensor) and _non_finite([value]):
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
                'Look for bad files with tools/check_dataset.py; else the learning '
                'rate is too large or mixed precision (--amp) too coarse: change that '
                'and go on from a checkpoint with --resume'
            )

    def _report(self) -> Report:
        """Say which batches of this rank were bad, all of them if none stands out."""
        chosen = [batch for batch in self._batches if _non_finite(batch.losses)]
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
    """Look at a few small tensors, without waiting for the device."""
    flat = [tensor.flatten() for tensor in tensors] or [torch.zeros(1)]
    return torch.isfinite(torch.cat(flat)).all()


def _non_finite(tensors: Iterable[torch.Tensor]) -> bool:
    return any(not torch.isfinite(tensor).all() for tensor in tensors)


def sample_files(data_batch: dict | None) -> list[str]:
    """Name the files of a batch; a sample that does not say is left out."""
    samples = data_batch.get('data_samples') if isinstance(data_batch, dict) else None
    if not isinstance(samples, list | tuple):
        return []
    names = [s.get('img_path') for s in samples if hasattr(s, 'get')]
    return [str(name) for name in names if name is not None]


def broken_files(data_batch: dict | None) -> list[str]:
    """Name the files of a batch whose images have values that are not finite."""
    names = sample_files(data_batch)
    images = data_batch.get('inputs') if names else None
    if images is None or len(images) != len(names):
        return []
    return [
        name
        for name, image in zip(names, images, strict=True)
        if isinstance(image, torch.Tensor) and _non_finite([image])
    ]


def describe_reason(
    found: Findings, reports: Sequence[Report], loss_scale: float | None = None
) -> str:
    """Say why a step is skipped.

    Args:
        found: What is not finite.
        reports: Of all ranks.
        loss_scale: At which gradients overflowed.
    """
    if found.loss:
        losses = [loss for report in reports for loss in report.losses]
        return f'the loss is {losses[0]}'
    names = sorted({name for report in reports for name in report.parameters})
    if names:
        count = len(names)
        return f'the gradients of {count} parameters are not finite ({_join(names, 3)})'
    if found.buffers:
        return 'the statistics of a norm, or other buffers, are not finite'
    scale = f' at a loss scale of {loss_scale:g}' if loss_scale is not None else ''
    return f'the gradients are not finite{scale}'


def describe_files(reports: Sequence[Report], most: int | None = None) -> str:
    """Say which files were in the batches of a step, or in those that are at fault.

    Args:
        reports: Of all ranks.
        most: How many files of a rank are named; without, all of them.
    """
    ranks = list(range(len(reports)))
    for is_at_fault in (lambda r: reports[r].losses, lambda r: reports[r].broken):
        ranks = list(filter(is_at_fault, ranks)) or ranks
    parts = []
    for rank in ranks:
        report = reports[rank]
        what = 'Files with values that are not finite' if report.broken else 'Files'
        where = f', rank {rank}' if len(reports) > 1 else ''
        names = _join(report.files, most) or 'unknown, no sample has an img_path'
        parts.append(f'{what}{where}: {names}')
    return '. '.join(parts)


def _join(names: Sequence[str], most: int | None) -> str:
    shown = ', '.join(names[:most])
    hidden = len(names) - len(names[:most])
    return f'{shown} and {hidden} more' if hidden else shown
