"""Measure token targets and their loss, with an entry for every class and without.

Compares the time and the peak memory of targets, loss and gradient:

    python -m benchmarks token-loss [--batch-size 128] [--device cuda]
"""

import argparse
from collections.abc import Callable

import numpy as np
import torch

from volo.models.losses import soft_cross_entropy
from volo.token_label.targets import label_map_targets

from .arguments import add_device, add_number, add_repeats
from .dense import dense_cross_entropy, dense_label_map_targets
from .measure import median_seconds, peak_bytes
from .report import print_table

GRID = (14, 14)


def make_step(
    kind: str, batch_size: int, num_classes: int, device: str
) -> Callable[[], None]:
    """Return a function that computes targets, loss and gradient of a random batch.

    The label maps have the published shape, 5 classes in each of 18 x 18 cells. The
    classes are drawn from all; a real image has fewer.

    Args:
        kind: ``'dense'`` or ``'sparse'``.
        batch_size: Number of images.
        num_classes: Number of classes.
        device: Device of all tensors.
    """
    rng = np.random.RandomState(0)
    boxes = rng.rand(batch_size, 4)
    boxes[:, 2:] = 0.3 + 0.7 * boxes[:, 2:]
    boxes[:, :2] *= 1 - boxes[:, 2:]
    matrices = np.tile(np.eye(3), (batch_size, 1, 1))
    matrices[:, [0, 1], [2, 2]] = boxes[:, :2]
    matrices[:, [0, 1], [0, 1]] = boxes[:, 2:]
    frames = np.empty((batch_size, 0, 3, 3))
    generator = torch.Generator().manual_seed(0)
    shape = (batch_size, 5, 18, 18)
    scores = (5 * torch.rand(shape, generator=generator)).half().to(device)
    classes = torch.randint(num_classes, shape, generator=generator).int().to(device)
    logits = [
        torch.randn(batch_size, tokens, num_classes, generator=generator)
        .to(device)
        .requires_grad_()
        for tokens in (1, GRID[0] * GRID[1])
    ]

    def loss_of(z: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
        if kind == 'dense':
            dense = dense_label_map_targets(
                scores, classes, boxes, grid, num_classes, 0.1
            )
            return dense_cross_entropy(z, dense).mean()
        sparse = label_map_targets(
            scores, classes, matrices, frames, grid, num_classes, 0.1
        )
        return soft_cross_entropy(z, sparse).mean()

    def step() -> None:
        class_logits, token_logits = logits
        loss = loss_of(class_logits, (1, 1)) + loss_of(token_logits, GRID)
        loss.backward()
        for z in logits:
            z.grad = None

    return step


def measure_token_loss(
    batch_size: int, num_classes: int, repeats: int, device: str
) -> dict[str, tuple[float, int]]:
    """Measure the dense and the sparse computation in turns.

    Args:
        batch_size: Number of images.
        num_classes: Number of classes.
        repeats: Number of timed turns.
        device: ``'cpu'`` or ``'cuda'``.

    Returns:
        For ``'dense'`` and ``'sparse'`` the median seconds, and the bytes at the peak
        beyond logits and label maps. The gradient of the logits counts.
    """
    steps = {
        kind: make_step(kind, batch_size, num_classes, device)
        for kind in ('dense', 'sparse')
    }
    seconds = median_seconds(steps, repeats)
    return {
        kind: (seconds[kind], peak_bytes(step, device)) for kind, step in steps.items()
    }


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    add_number(parser, '--batch-size', 128, 'images per call')
    add_number(parser, '--num-classes', 1000, 'number of classes')
    add_device(parser)
    add_repeats(parser)


def run(args: argparse.Namespace) -> None:
    """Run the command."""
    found = measure_token_loss(
        args.batch_size, args.num_classes, args.repeats, args.device
    )
    seconds, peak = found['dense']
    print_table(
        f'targets, loss and gradient of {args.batch_size} images, '
        f'{args.num_classes} classes',
        ['', 'ms', 'of dense', 'peak MB', 'of dense'],
        [
            [
                kind,
                f'{1e3 * s:.0f}',
                f'{s / seconds:.2f}',
                f'{p / 1e6:.0f}',
                f'{p / peak:.2f}',
            ]
            for kind, (s, p) in found.items()
        ],
    )
