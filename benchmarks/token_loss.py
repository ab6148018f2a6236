"""Building token targets and the loss: with an entry for every class, and without."""

from collections.abc import Callable

import numpy as np
import torch

from volo.models.losses import soft_cross_entropy
from volo.token_label.targets import label_map_targets

from .dense import dense_cross_entropy, dense_label_map_targets
from .measure import median_seconds, peak_bytes

GRID = (14, 14)


def make_step(
    kind: str, batch_size: int, num_classes: int, device: str
) -> Callable[[], None]:
    """Return a function that makes targets, loss and gradient of a random batch.

    The label maps are as published, 18 x 18 cells of 5 classes, drawn from all
    classes: real ones have fewer in an image.

    Args:
        kind: ``'dense'`` or ``'sparse'``.
        batch_size: Images.
        num_classes: C.
        device: Where.
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

    def step() -> None:
        loss = 0.0
        for z, grid in zip(logits, ((1, 1), GRID), strict=True):
            if kind == 'sparse':
                targets = label_map_targets(
                    scores, classes, matrices, frames, grid, num_classes, 0.1
                )
                loss = loss + soft_cross_entropy(z, targets).mean()
            else:
                targets = dense_label_map_targets(
                    scores, classes, boxes, grid, num_classes, 0.1
                )
                loss = loss + dense_cross_entropy(z, targets).mean()
        loss.backward()
        for z in logits:
            z.grad = None

    return step


def measure_token_loss(
    batch_size: int, num_classes: int, repeats: int, device: str
) -> dict[str, tuple[float, int]]:
    """Measure both ways.

    Returns:
        For ``'dense'`` and ``'sparse'`` the median seconds of targets, loss and
        gradient, and the bytes that their tensors take at the peak above logits and
        label maps: the gradient of the logits is among them.
    """
    steps = {
        kind: make_step(kind, batch_size, num_classes, device)
        for kind in ('dense', 'sparse')
    }
    seconds = median_seconds(steps, repeats)
    return {
        kind: (seconds[kind], peak_bytes(step, device)) for kind, step in steps.items()
    }
