"""Time the inference or the training step of networks, eager or compiled."""

import argparse
import contextlib
import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch._inductor import config as inductor_config

from volo.errors import ConfigError

from .measure import Spread, peak_bytes, speed_ratios, turn_seconds

MODES = ('inference', 'training')
DTYPES = {
    'float32': torch.float32,
    'bf16': torch.bfloat16,
    'fp16': torch.float16,
}
#: ``compiled`` is ``torch.compile``. ``frozen`` also turns the weights into constants,
#: for inference: inductor folds, casts and packs them once.
COMPILE = ('eager', 'compiled', 'frozen')


@dataclasses.dataclass(frozen=True, kw_only=True)
class StepOptions:
    """How to measure networks.

    Args:
        mode: One of :data:`MODES`.
        batch_size: Images per step.
        dtype: Dtype of autocast, a key of :data:`DTYPES`. Weights are float32.
        device: ``'cpu'`` or ``'cuda'``.
        compile: Some of :data:`COMPILE`. Each network is measured in each way.
        repeats: Number of timed turns.
        calls: Steps per turn.

    Raises:
        ConfigError: The options exclude each other.
    """

    mode: str = 'inference'
    batch_size: int = 1
    dtype: str = 'float32'
    device: str = 'cpu'
    compile: Sequence[str] = ('eager', 'compiled')
    repeats: int = 5
    calls: int = 1

    @classmethod
    def of(cls, args: argparse.Namespace) -> 'StepOptions':
        """Take the options from the command line."""
        return cls(**{f.name: getattr(args, f.name) for f in dataclasses.fields(cls)})

    def __post_init__(self) -> None:
        """Check that the options allow each other."""
        check_dtype(self.dtype, self.device)
        if self.mode == 'training' and 'frozen' in self.compile:
            raise ConfigError(
                '--compile frozen turns weights into constants: it needs '
                '--mode inference'
            )


def check_dtype(dtype: str, device: str) -> None:
    """Check that the device can compute in a dtype.

    Raises:
        ConfigError: The dtype is fp16 and the device a CPU.
    """
    if dtype == 'fp16' and device == 'cpu':
        raise ConfigError('--dtype fp16 needs --device cuda; use bf16 on a CPU')


def autocast(dtype: str, device: str) -> contextlib.AbstractContextManager:
    """Return autocast for a key of :data:`DTYPES`, switched off for float32."""
    return torch.autocast(device, DTYPES[dtype], enabled=dtype != 'float32')


def compile_forward(module: nn.Module, how: str) -> None:
    """Compile the ``forward`` of a module in place.

    Compiling the module instead would have no effect on the heads: mmseg calls their
    ``forward`` directly.

    Args:
        module: Changed in place.
        how: One of :data:`COMPILE`.
    """
    if how == 'eager':
        return
    compiled = torch.compile(module.forward, dynamic=False)

    def frozen(*args: object) -> object:
        # Around every call: the compiler runs in the first one. Freezing has no effect
        # as an option of torch.compile: dynamo reads the global setting.
        with inductor_config.patch(freezing=True):
            return compiled(*args)

    module.forward = frozen if how == 'frozen' else compiled


def inference_step(
    predict: Callable[[], object], options: StepOptions
) -> Callable[[], None]:
    """Return an inference step: ``predict`` without gradients."""

    def step() -> None:
        with torch.inference_mode(), autocast(options.dtype, options.device):
            predict()

    return step


def training_step(
    loss: Callable[[], torch.Tensor],
    parameters: Iterable[nn.Parameter],
    options: StepOptions,
) -> Callable[[], None]:
    """Return a training step: loss, gradient and an update by fused AdamW.

    In fp16, the loss is scaled.
    """
    optimizer = torch.optim.AdamW(parameters, lr=1e-5, fused=True)
    scaler = torch.amp.GradScaler(options.device, enabled=options.dtype == 'fp16')

    def step() -> None:
        with autocast(options.dtype, options.device):
            value = loss()
        scaler.scale(value).backward()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()

    return step


def compare(
    steps: Mapping[str, Callable[[], None]], reference: str, options: StepOptions
) -> dict[str, dict[str, Any]]:
    """Time steps in turns, then measure the peak memory of each once.

    Args:
        steps: Names and steps.
        reference: Name of the step to compare with. If it is not among the steps, the
            first one is.
        options: How to measure.

    Returns:
        For each name: ``seconds`` per step in all turns, ``images_per_second`` in the
        median turn, ``reference``, ``ratio``, ``ratio_low`` and ``ratio_high`` of
        :func:`.measure.speed_ratios`, and ``peak_mb`` beyond weights and optimizer, in
        10^6 bytes.
    """
    reference = reference if reference in steps else next(iter(steps))
    seconds = turn_seconds(steps, options.repeats, options.calls)
    ratios = speed_ratios(seconds, reference)
    return {
        name: dict(
            images_per_second=options.batch_size / Spread.of(seconds[name]).median,
            reference=reference,
            ratio=ratios[name].median,
            ratio_low=ratios[name].low,
            ratio_high=ratios[name].high,
            peak_mb=peak_bytes(step, options.device) / 1e6,
            seconds=seconds[name],
        )
        for name, step in steps.items()
    }
