"""Which implementation of outlook attention runs, and why."""

import functools
import importlib.util
import os
from collections.abc import Callable

import torch
from mmengine.logging import print_log

from volo.errors import ConfigError

from .reference import reference_outlook_attention
from .windows import window_outlook_attention

#: ``reference`` is the definition, ``windows`` plain PyTorch for CPUs, ``fused``
#: Triton for GPUs.
BACKENDS = ('reference', 'windows', 'fused')

#: Names a backend for every call, in the place of the choice made here.
VARIABLE = 'VOLO_OUTLOOK_ATTENTION'


def choose_backend(value: torch.Tensor, dropout_p: float) -> tuple[str, str]:
    """Choose the fastest backend that can do it.

    Args:
        value: The values; device and dtype count.
        dropout_p: Probability to drop an attention weight.

    Returns:
        One of :data:`BACKENDS`, and the reason.

    Raises:
        ConfigError: The environment variable names a backend that cannot do it.
    """
    wanted = os.environ.get(VARIABLE)
    if wanted:
        obstacle = find_obstacle(wanted, value, dropout_p)
        if obstacle:
            raise ConfigError(
                f'{VARIABLE}={wanted}: {obstacle}; unset it to let volo choose'
            )
        return wanted, f'{VARIABLE} names it'
    first = 'windows' if value.device.type == 'cpu' else 'fused'
    obstacle = find_obstacle(first, value, dropout_p)
    if obstacle:
        return 'reference', obstacle
    return first, f'it is made for {value.device.type}'


def find_obstacle(backend: str, value: torch.Tensor, dropout_p: float) -> str:
    """Return why a backend cannot run, in words, or nothing where it can."""
    if backend not in BACKENDS:
        return f'there is no backend {backend!r}, only {", ".join(BACKENDS)}'
    if backend == 'reference':
        return ''
    if dropout_p > 0:
        return f'{backend} has no attention dropout'
    if torch.compiler.is_exporting():
        return f'{backend} has operations that cannot be exported'
    if backend == 'fused':
        return _find_obstacle_of_fused(value)
    return ''


def _find_obstacle_of_fused(value: torch.Tensor) -> str:
    if value.device.type != 'cuda':
        return f'fused runs on GPUs, not on {value.device.type}'
    if value.dtype not in (torch.float32, torch.float16, torch.bfloat16):
        return f'fused has no kernel for {value.dtype}'
    if not _has_triton():
        return 'fused needs triton, which is not installed'
    return ''


@functools.cache
def _has_triton() -> bool:
    return importlib.util.find_spec('triton') is not None


def get_backend(name: str) -> Callable[..., torch.Tensor]:
    """Return the function of a backend."""
    if name == 'fused':
        # Here, because it imports triton, which needs seconds and a GPU.
        from .fused import fused_outlook_attention

        return fused_outlook_attention
    return dict(
        reference=reference_outlook_attention, windows=window_outlook_attention
    )[name]


@functools.cache
def say_once(name: str, reason: str) -> None:
    """Log a choice the first time that it is made."""
    print_log(f'Outlook attention: {name}, because {reason}.', logger='current')
