"""The implementations of outlook attention, and which of them runs.

A new backend is a function with the signature of :class:`Compute` and one row in
:data:`BACKENDS`.
"""

import dataclasses
import functools
import importlib.util
import os
from collections.abc import Callable
from typing import Protocol

import torch
from mmengine.logging import print_log

from volo.errors import ConfigError, did_you_mean

from .reference import reference_outlook_attention
from .sliced import sliced_outlook_attention
from .windows import window_outlook_attention

#: Environment variable that names the backend of every call.
VARIABLE = 'VOLO_OUTLOOK_ATTENTION'


class Compute(Protocol):
    """The signature of every backend, see :func:`volo.ops.outlook_attention`."""

    def __call__(
        self,
        value: torch.Tensor,
        logits: torch.Tensor,
        num_heads: int,
        kernel_size: int,
        stride: int,
        padding: int,
        scale: float,
        dropout_p: float = 0.0,
    ) -> torch.Tensor:
        """Compute outlook attention; the shapes are checked already."""


@dataclasses.dataclass(frozen=True)
class Backend:
    """One implementation of outlook attention.

    Attributes:
        purpose: Given the values, return what the backend is made for if this call
            is such a case, and '' if it is not.
        obstacle: Given the values and the dropout probability, return why the backend
            cannot compute the call, and '' if it can.
        load: Return the function; imports what only this backend needs.
    """

    purpose: Callable[[torch.Tensor], str]
    obstacle: Callable[[torch.Tensor, float], str]
    load: Callable[[], Compute]


def is_exporting() -> bool:
    """Return whether the running code is recorded for a file.

    True in ``torch.export``, both kinds of ``torch.onnx.export`` and
    ``torch.jit.trace``. ``torch.compiler.is_exporting`` misses the last, and with it
    ``torch.onnx.export(dynamo=False)``.
    """
    return torch.compiler.is_exporting() or torch.jit.is_tracing()


def _find_obstacle_of_windows(value: torch.Tensor, dropout_p: float) -> str:
    if dropout_p > 0:
        return 'windows has no attention dropout'
    if is_exporting():
        return 'windows has an autograd function of its own, which cannot be exported'
    return ''


def _find_obstacle_of_fused(value: torch.Tensor, dropout_p: float) -> str:
    if dropout_p > 0:
        return 'fused has no attention dropout'
    if is_exporting():
        return 'fused has operators of its own, which cannot be exported'
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


def _load_fused() -> Compute:
    # Imported here because triton takes seconds to import and needs a GPU.
    from .fused import fused_outlook_attention

    return fused_outlook_attention


#: By name. ``reference`` is the definition and computes what no other backend can.
BACKENDS: dict[str, Backend] = dict(
    reference=Backend(
        lambda value: '',
        lambda value, dropout_p: '',
        lambda: reference_outlook_attention,
    ),
    windows=Backend(
        lambda value: 'cpu' if value.device.type == 'cpu' else '',
        _find_obstacle_of_windows,
        lambda: window_outlook_attention,
    ),
    fused=Backend(
        lambda value: 'cuda' if value.device.type == 'cuda' else '',
        _find_obstacle_of_fused,
        _load_fused,
    ),
    sliced=Backend(
        lambda value: 'exports' if is_exporting() else '',
        lambda value, dropout_p: '',
        lambda: sliced_outlook_attention,
    ),
)


def choose_backend(value: torch.Tensor, dropout_p: float) -> tuple[str, str]:
    """Choose the backend that is made for a call and can compute it, else reference.

    Args:
        value: The values; their device and dtype count.
        dropout_p: Probability to drop an attention weight.

    Returns:
        A key of :data:`BACKENDS`, and the reason.

    Raises:
        ConfigError: ``VOLO_OUTLOOK_ATTENTION`` names a backend that does not exist or
            cannot compute the call.
    """
    wanted = os.environ.get(VARIABLE)
    if wanted:
        obstacle = find_obstacle(wanted, value, dropout_p)
        if obstacle:
            raise ConfigError(
                f'{VARIABLE}={wanted}: {obstacle}; unset it to let volo choose'
            )
        return wanted, f'{VARIABLE} names it'
    obstacles = []
    for name, backend in BACKENDS.items():
        purpose = backend.purpose(value)
        if purpose:
            obstacle = backend.obstacle(value, dropout_p)
            if not obstacle:
                return name, f'it is made for {purpose}'
            obstacles.append(obstacle)
    device_type = value.device.type
    return 'reference', (*obstacles, f'no other is made for {device_type}')[0]


def find_obstacle(name: str, value: torch.Tensor, dropout_p: float) -> str:
    """Return why a backend cannot compute a call, or '' if it can.

    Args:
        name: Of the backend, known or not.
        value: The values; their device and dtype count.
        dropout_p: Probability to drop an attention weight.
    """
    if name not in BACKENDS:
        return (
            f'there is no backend {name!r}, only {", ".join(BACKENDS)}'
            f'{did_you_mean(name, BACKENDS)}'
        )
    return BACKENDS[name].obstacle(value, dropout_p)


def get_backend(name: str) -> Compute:
    """Return the function of a backend."""
    return BACKENDS[name].load()


@functools.cache
def log_once(name: str, reason: str) -> None:
    """Log a choice the first time that it is made."""
    print_log(f'Outlook attention: {name}, because {reason}.', logger='current')
