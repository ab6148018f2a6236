"""Measure the backends of outlook attention, and how close they come to a copy.

A copy of a large tensor runs in the same turns. Its rate tells how long the bytes that
outlook attention must read and write would take:

    python -m benchmarks outlook-attention [--batch-size 64] [--device cuda]
"""

import argparse
import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch

from volo.errors import ConfigError
from volo.models.archs import PATCH_SIZE, resolve_arch
from volo.models.layers import OutlookAttention
from volo.ops.backends import BACKENDS, find_obstacle, get_backend

from .arguments import (
    add_device,
    add_dtype,
    add_network,
    add_number,
    add_out,
    add_repeats,
)
from .measure import Spread, peak_bytes, speed_ratios, turn_seconds
from .report import Report
from .steps import DTYPES, autocast, check_dtype

PASSES = ('forward', 'forward+backward')
#: Bytes of the tensor that is copied: more than a cache holds.
COPY_BYTES = {'cpu': 2**28, 'cuda': 2**30}

COLUMNS = {
    'backend': '{name}',
    'ms': '{milliseconds:.3f}',
    'ratio (range)': '{ratio:.2f} ({ratio_low:.2f}-{ratio_high:.2f})',
    'MB': '{moved_mb:.1f}',
    'copy ms': '{copy_milliseconds:.3f}',
    'of copy': '{times_copy:.2f}',
    'peak MB': '{peak_mb:.1f}',
}


@dataclasses.dataclass(frozen=True)
class Tensors:
    """Random inputs of outlook attention in the first stage of an arch.

    Attributes:
        value: Shape (B, H, W, C).
        logits: Shape (B, h, w, heads * K^4).
        grad: Gradient of the output, shape (B, H, W, C).
        window: Keyword arguments: heads, window size, stride, padding and scale.
    """

    value: torch.Tensor
    logits: torch.Tensor
    grad: torch.Tensor
    window: dict[str, Any]

    def moved_bytes(self, what: str) -> int:
        """Return the bytes that one of :data:`PASSES` must read and write.

        Forward reads value and logits and writes the output. Backward reads both and
        the gradient of the output, and writes two gradients.
        """
        value, logits = self.value.nbytes, self.logits.nbytes
        forward = 2 * value + logits
        return forward if what == 'forward' else forward + 3 * value + 2 * logits


def make_tensors(
    arch: str, img_size: int, batch_size: int, dtype: str, device: str
) -> Tensors:
    """Draw random tensors for a batch of images.

    Args:
        arch: Arch of VOLO.
        img_size: Side of the images in pixels, a multiple of 16.
        batch_size: Number of images B.
        dtype: A key of :data:`.steps.DTYPES`.
        device: Device of the tensors.

    Raises:
        ConfigError: The size is no multiple of 16.
    """
    if img_size % PATCH_SIZE:
        raise ConfigError(f'--img-size {img_size}: must be a multiple of {PATCH_SIZE}')
    fields = resolve_arch(arch)
    channels = fields.embed_dims[0]
    with torch.device('meta'):
        layer = OutlookAttention(channels, fields.num_heads[0])
    side, grid = 2 * img_size // PATCH_SIZE, img_size // PATCH_SIZE
    draw = functools.partial(torch.randn, dtype=DTYPES[dtype], device=device)
    torch.manual_seed(0)
    return Tensors(
        value=draw(batch_size, side, side, channels),
        logits=draw(batch_size, grid, grid, layer.logits.out_features),
        grad=draw(batch_size, side, side, channels),
        window=dict(
            num_heads=layer.num_heads,
            kernel_size=layer.kernel_size,
            stride=layer.stride,
            padding=layer.kernel_size // 2,
            scale=(channels // layer.num_heads) ** -0.5,
        ),
    )


def make_call(
    backend: Callable[..., torch.Tensor],
    what: str,
    tensors: Tensors,
    dtype: str,
    device: str,
) -> Callable[[], None]:
    """Return a function that runs one of :data:`PASSES` under autocast.

    Args:
        backend: The function of a backend.
        what: One of :data:`PASSES`.
        tensors: Its inputs.
        dtype: A key of :data:`.steps.DTYPES`.
        device: Device of the tensors.
    """

    def forward() -> None:
        with torch.inference_mode(), autocast(dtype, device):
            backend(tensors.value, tensors.logits, **tensors.window)

    if what == 'forward':
        return forward
    inputs = [t.clone().requires_grad_() for t in (tensors.value, tensors.logits)]

    def both() -> None:
        with autocast(dtype, device):
            output = backend(*inputs, **tensors.window)
        torch.autograd.grad(output, inputs, tensors.grad)

    return both


def measure_attention(
    backends: Sequence[str],
    arch: str,
    img_size: int,
    batch_size: int,
    dtype: str,
    device: str,
    repeats: int,
    calls: int,
) -> Report:
    """Measure backends and the copy of a large tensor in turns.

    Small tensors stay in a cache, which is faster than the memory of the copy: a
    backend may then be faster than the copy.

    Args:
        backends: Names in :data:`volo.ops.backends.BACKENDS`. Empty: all that run on
            the device.
        arch: Arch of VOLO.
        img_size: Side of the images in pixels.
        batch_size: Images per call.
        dtype: A key of :data:`.steps.DTYPES`.
        device: ``'cpu'`` or ``'cuda'``.
        repeats: Number of timed turns.
        calls: Calls per turn.

    Returns:
        A row for each backend and pass. The reference of the ratios is the first
        backend, in the same pass.

    Raises:
        ConfigError: The size is no multiple of 16, the device cannot compute in the
            dtype, or a backend does not run on it.
    """
    check_dtype(dtype, device)
    tensors = make_tensors(arch, img_size, batch_size, dtype, device)
    obstacles = {name: find_obstacle(name, tensors.value, 0.0) for name in BACKENDS}
    backends = backends or [name for name in BACKENDS if not obstacles[name]]
    for name in backends:
        if obstacles[name]:
            raise ConfigError(f'--backends {name}: {obstacles[name]}')
    rows = [(name, what) for what in PASSES for name in backends]
    steps: dict[object, Callable[[], object]] = {
        (name, what): make_call(get_backend(name), what, tensors, dtype, device)
        for name, what in rows
    }
    source = torch.ones(COPY_BYTES[device] // 4, device=device)
    target = torch.empty_like(source)
    seconds = turn_seconds(
        {**steps, 'copy': lambda: target.copy_(source)}, repeats, calls
    )
    # Seconds per byte that is read or written, in each turn.
    per_byte = [s / (2 * source.nbytes) for s in seconds['copy']]
    found = []
    for name, what in rows:
        times = seconds[name, what]
        ratio = speed_ratios(seconds, (backends[0], what))[name, what]
        moved = tensors.moved_bytes(what)
        copy_seconds = [moved * s for s in per_byte]
        found.append(
            dict(
                name=f'{name} {what}',
                backend=name,
                passes=what,
                milliseconds=1e3 * Spread.of(times).median,
                ratio=ratio.median,
                ratio_low=ratio.low,
                ratio_high=ratio.high,
                moved_mb=moved / 1e6,
                copy_milliseconds=1e3 * Spread.of(copy_seconds).median,
                times_copy=Spread.of(
                    [t / c for t, c in zip(times, copy_seconds, strict=True)]
                ).median,
                peak_mb=peak_bytes(steps[name, what], device) / 1e6,
                seconds=times,
                copy_gb_per_second=1e-9 / Spread.of(per_byte).median,
            )
        )
    side = tensors.value.shape[1]
    return Report(
        name=f'outlook_attention_{arch}',
        title=(
            f'outlook attention of VOLO-{arch}, {side} x {side} tokens, '
            f'{batch_size} images, {dtype}; the reference is {backends[0]}; '
            f'copies run at {found[0]["copy_gb_per_second"]:.1f} GB/s'
        ),
        options=dict(
            arch=arch,
            img_size=img_size,
            batch_size=batch_size,
            dtype=dtype,
            device=device,
            repeats=repeats,
            calls=calls,
        ),
        columns=COLUMNS,
        rows=found,
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument(
        '--backends',
        nargs='+',
        choices=BACKENDS,
        default=[],
        help='backends to compare (default: all that run on the device)',
    )
    add_network(parser)
    add_device(parser)
    add_dtype(parser)
    add_repeats(parser)
    add_number(parser, '--calls', 10, 'calls per turn')
    add_out(parser)


def run(args: argparse.Namespace) -> None:
    """Run the command."""
    report = measure_attention(
        args.backends,
        args.arch,
        args.img_size,
        args.batch_size,
        args.dtype,
        args.device,
        args.repeats,
        args.calls,
    )
    report.show(args.out)
