"""MixToken (arXiv 2104.10858, section 3.2): CutMix on the tokens after the stem.

A box of every sample's tokens comes from another sample. Tokens are mixed after the
stem, so none covers pixels of two images.
"""

import numpy as np
import torch


@torch.compiler.disable  # A graph would keep the first box as a constant.
def draw_mix_mask(grid: tuple[int, int], alpha: float = 1.0) -> torch.Tensor:
    """Draw the box of tokens to take from the other sample, one box for a batch.

    Its area is about a fraction 1 - lam of the grid, with lam ~ Beta(alpha, alpha). It
    is smaller if its center is near an edge, which cuts it off.

    Args:
        grid: Rows and columns of tokens.
        alpha: Parameter of the Beta distribution.

    Returns:
        Boolean mask of shape ``grid``.
    """
    share = np.sqrt(1 - np.random.beta(alpha, alpha))
    mask = torch.zeros(grid, dtype=torch.bool)
    box = []
    for side in grid:
        half, center = int(side * share) // 2, np.random.randint(side)
        box.append(slice(max(0, center - half), min(side, center + half)))
    mask[tuple(box)] = True
    return mask


def mix_tokens(tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Replace the tokens under the mask by those of the batch in reverse order.

    Args:
        tokens: Shape (B, H, W, C).
        mask: Shape (R, S); H is a multiple of R, and W of S.

    Returns:
        Shape (B, H, W, C).
    """
    rows, columns = (
        size // part for size, part in zip(tokens.shape[1:3], mask.shape, strict=True)
    )
    mask = mask.to(tokens.device, non_blocking=True)
    mask = mask.repeat_interleave(rows, 0).repeat_interleave(columns, 1)
    return torch.where(mask[..., None], tokens.flip(0), tokens)
