"""Cross-entropy against targets that are constant except for a few classes."""

from typing import Any

import torch

from volo.token_label.targets import SoftTargets

# Rows processed at a time: 2 MB for 1000 classes.
_ROWS = 512


def soft_cross_entropy(logits: torch.Tensor, targets: SoftTargets) -> torch.Tensor:
    """Compute ``-sum over c of t_c * log_softmax(logits)_c`` from sparse targets.

    It is computed in float32 for all dtypes. The only temporary of the size of the
    logits is the gradient. With W the sum of a target's weights and b its constant,

        loss = (C b + W) logsumexp(z) - b sum over c of z_c - sum over k of w_k z_k
        gradient = (C b + W) softmax(z) - t

    Args:
        logits: z, floating point, shape (..., C).
        targets: Of shape (...). No gradient flows into them.

    Returns:
        Losses in float32, shape (...).
    """
    background, classes, weights = targets
    losses = _SoftCrossEntropy.apply(
        logits.flatten(0, -2),
        background.flatten(),
        classes.flatten(0, -2),
        weights.flatten(0, -2),
    )
    return losses.view(background.shape)


class _SoftCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        logits: torch.Tensor,
        background: torch.Tensor,
        classes: torch.Tensor,
        weights: torch.Tensor,
    ) -> torch.Tensor:
        total = logits.shape[1] * background + weights.sum(dim=1)
        losses = torch.empty_like(total)
        for rows in _chunks(logits):
            z = logits[rows]
            listed = weights[rows] * z.gather(1, classes[rows].long())
            losses[rows] = (
                total[rows] * torch.logsumexp(z.float(), dim=1)
                - background[rows] * z.sum(dim=1, dtype=torch.float32)
                - listed.sum(dim=1)
            )
        ctx.save_for_backward(logits, background, classes, weights, total)
        return losses

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, None, None, None]:
        logits, background, classes, weights, total = ctx.saved_tensors
        scale, shift = (grad * total)[:, None], (grad * background)[:, None]
        gradient = torch.empty_like(logits)
        for rows in _chunks(logits):
            part = torch.softmax(logits[rows], dim=1, dtype=torch.float32)
            part.mul_(scale[rows]).sub_(shift[rows])
            listed = grad[rows, None] * weights[rows]
            part.scatter_add_(1, classes[rows].long(), -listed)
            gradient[rows] = part
        return gradient, None, None, None


def _chunks(logits: torch.Tensor) -> list[slice]:
    # A compiler needs no chunks, because it fuses the operations; it would unroll them.
    step = max(1, len(logits)) if torch.compiler.is_compiling() else _ROWS
    return [slice(start, start + step) for start in range(0, len(logits), step)]
