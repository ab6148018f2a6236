"""MixToken: a box of every sample's tokens comes from another sample.

Token Labeling, arXiv 2104.10858, section 3.2: CutMix after the stem, so that no token
shows two images.
"""

import numpy as np
import torch


@torch.compiler.disable  # A graph would hold the first draw for good.
def draw_mix_mask(grid: tuple[int, int], alpha: float = 1.0) -> torch.Tensor:
    """Draw which tokens are taken from the other sample: a box, one for a batch.

    Its area is about a fraction 1 - lam of the grid, lam ~ Beta(alpha, alpha); a
    center near the edge cuts it smaller.

    Args:
        grid: Rows and columns of tokens.
        alpha: Of the Beta distribution.

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
    """Take the tokens under the mask from the sample at the same place from the end.

    Args:
        tokens: Shape (B, H, W, C).
        mask: Shape (R, S) with H and W multiples of R and S.
    """
    rows, columns = (
        size // part for size, part in zip(tokens.shape[1:3], mask.shape, strict=True)
    )
    mask = mask.to(tokens.device, non_blocking=True)
    mask = mask.repeat_interleave(rows, 0).repeat_interleave(columns, 1)
    return torch.where(mask[..., None], tokens.flip(0), tokens)
