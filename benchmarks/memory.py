"""Count the GPU memory of a config's training step on a machine without a GPU.

Compares the step with activation checkpointing (with_cp) and without, and finds the
largest batch that fits on a GPU:

    python -m benchmarks memory CONFIG [--fits 24 40 80]

The step runs on fake tensors, see benchmarks/fake_gpu.py. The CUDA context, workspaces
of kernels and libraries, and fragmentation are not counted: 10% of the GPU is kept free
for them.
"""

import argparse
import dataclasses
import functools
import math
from collections.abc import Callable, Sequence

from mmengine.config import Config

from volo.engine.launch import load_config
from volo_cli import positive

from .arguments import add_cfg_options, add_number, add_out
from .fake_training import FakeTraining, StepMemory, training_dtype
from .report import Report
from .steps import DTYPES

GIB = 2**30

#: Part of a GPU that is kept free for what is not counted.
MARGIN = 0.1


def _total(step: Callable[[int], StepMemory], batch_size: int) -> int:
    return step(batch_size).total


def largest_batch(total: Callable[[int], int], limit: float) -> int:
    """Find the largest batch that fits.

    A step has several moments that may be its peak, and the memory of each is linear
    in the batch size. So the next guess is where the line through the last two counts
    meets the limit.

    Args:
        total: Returns the bytes of a step with a batch size.
        limit: Bytes that are available.

    Returns:
        The batch size, 0 if not even 1 fits.
    """
    fits, last, batch = 0, 1, 2
    too_large: float = math.inf
    if total(1) > limit:
        return 0
    while too_large - fits > 1:
        if total(batch) <= limit:
            fits = max(fits, batch)
        else:
            too_large = min(too_large, batch)
        slope = (total(batch) - total(last)) / (batch - last)
        guess = batch + math.floor((limit - total(batch)) / max(slope, 1))
        last = batch
        # Lines get steeper with the batch size: do not follow a flat one too far.
        batch = int(min(max(guess, fits + 1), too_large - 1, 4 * batch))
    return fits


def measure_memory(
    cfg: Config,
    batch_sizes: Sequence[int] | None,
    dtype: str | None,
    cards: Sequence[int],
    gpus: int = 8,
) -> Report:
    """Count the memory of a config's training step, with and without ``with_cp``.

    Args:
        cfg: See :class:`FakeTraining`.
        batch_sizes: Images per GPU. None: the config's batch size.
        dtype: Dtype of autocast, a key of :data:`.steps.DTYPES`. None: the config's.
        cards: Memory of GPUs in GiB, for each of which the largest batch is found.
        gpus: Number of GPUs.

    Returns:
        A row for each batch size, without ``with_cp`` and with it.

    Raises:
        ConfigError: See :class:`FakeTraining`.
    """
    dtype = dtype or training_dtype(cfg)
    batch_sizes = batch_sizes or [cfg.train_dataloader.batch_size]
    training = FakeTraining(cfg, dtype, gpus)
    rows = []
    for with_cp in (False, True):
        step = functools.cache(functools.partial(training.step, with_cp=with_cp))
        fits = {
            f'fits_{card}': largest_batch(
                functools.partial(_total, step), card * GIB * (1 - MARGIN)
            )
            for card in cards
        }
        for batch_size in batch_sizes:
            found = dataclasses.asdict(step(batch_size))
            gib = {f'{key}_gib': value / GIB for key, value in found.items()}
            name = 'yes' if with_cp else 'no'
            row = dict(name=name, with_cp=with_cp, batch_size=batch_size)
            rows.append({**row, **found, **gib, **fits})
    shown = dict(
        weights='weights',
        optimizer='optimizer',
        copies='DDP, EMA',
        gradients_at_peak='gradients',
        activations='activations',
        total='total',
    )
    columns = {'with_cp': '{name}', 'batch': '{batch_size}'}
    columns |= {title: f'{{{key}_gib:.2f}}' for key, title in shown.items()}
    columns |= {f'fits {card} GB': f'{{fits_{card}}}' for card in cards}
    return Report(
        name='memory',
        title=(
            f'{cfg.filename}: GiB on a GPU at the peak of a training step, images '
            f'of {training.size[0]} x {training.size[1]}, {dtype}; fits: the largest '
            f'batch per GPU with {MARGIN:.0%} kept free'
        ),
        options=dict(
            config=str(cfg.filename),
            batch_sizes=list(batch_sizes),
            dtype=dtype,
            cards=list(cards),
            margin=MARGIN,
            gpus=gpus,
            image=list(training.size),
            device='cpu',
        ),
        columns=columns,
        rows=rows,
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument('config', help='config of a classifier or a segmentor')
    parser.add_argument(
        '--batch-sizes',
        nargs='+',
        type=positive,
        metavar='N',
        help="images per GPU (default: the config's)",
    )
    parser.add_argument(
        '--dtype', choices=DTYPES, help="dtype of autocast (default: the config's)"
    )
    parser.add_argument(
        '--fits',
        nargs='*',
        type=positive,
        default=[24, 40, 80],
        metavar='GIB',
        help='memory of GPUs in GiB, to find the largest batch for (default: 24 40 80)',
    )
    add_number(
        parser, '--gpus', 8, 'GPUs; with more than one, the buckets of DDP count'
    )
    add_cfg_options(parser)
    add_out(parser)


def run(args: argparse.Namespace) -> None:
    """Run the command."""
    cfg = load_config(args.config, args.cfg_options)
    report = measure_memory(cfg, args.batch_sizes, args.dtype, args.fits, args.gpus)
    report.show(args.out)
