"""Cross-entropy against targets that are a constant but for a few classes."""

import torch
from torch.autograd.function import FunctionCtx

from volo.token_label.targets import SoftTargets

# Rows that are converted and exponentiated at a time: about 8 MB of 1000 classes.
_ROWS = 2048


def soft_cross_entropy(logits: torch.Tensor, targets: SoftTargets) -> torch.Tensor:
    """Compute ``-sum over c of t_c * log_softmax(logits)_c`` without making t.

    In float32, whatever the logits are, and with no temporary of their size; the
    gradient is the only one. With W the sum of a target's weights and b its constant,

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
        ctx: FunctionCtx,
        logits: torch.Tensor,
        background: torch.Tensor,
        classes: torch.Tensor,
        weights: torch.Tensor,
    ) -> torch.Tensor:
        total = logits.shape[1] * background + weights.sum(dim=1)
        listed = (weights * logits.gather(1, classes)).sum(dim=1)
        sums, log_sums = [], []
        for z in logits.split(_rows_at_a_time(logits)):
            sums.append(z.sum(dim=1, dtype=torch.float32))
            log_sums.append(torch.logsumexp(z.float(), dim=1))
        ctx.save_for_backward(logits, background, classes, weights, total)
        return total * torch.cat(log_sums) - background * torch.cat(sums) - listed

    @staticmethod
    def backward(
        ctx: FunctionCtx, grad: torch.Tensor
    ) -> tuple[torch.Tensor, None, None, None]:
        logits, background, classes, weights, total = ctx.saved_tensors
        scale, shift = (grad * total)[:, None], (grad * background)[:, None]
        listed = grad[:, None] * weights
        gradient = torch.empty_like(logits)
        step = _rows_at_a_time(logits)
        for start in range(0, len(logits), step):
            rows = slice(start, start + step)
            part = torch.softmax(logits[rows], dim=1, dtype=torch.float32)
            part.mul_(scale[rows]).sub_(shift[rows])
            part.scatter_add_(1, classes[rows], -listed[rows])
            gradient[rows] = part
        return gradient, None, None, None


def _rows_at_a_time(logits: torch.Tensor) -> int:
    # A compiler fuses what the loop keeps small, and would unroll the loop.
    return max(1, len(logits)) if torch.compiler.is_compiling() else _ROWS
