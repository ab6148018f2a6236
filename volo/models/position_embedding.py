"""Position embeddings on grids of any size."""

import torch
import torch.nn.functional as F


def resize_pos_embed(pos_embed: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Resample a position embedding to another grid by bicubic interpolation.

    Half-pixel centers, no antialiasing: what the authors do to fine-tune at a larger
    image size.

    Args:
        pos_embed: Shape (1, H, W, C).
        size: The new (H, W), in tokens.

    Returns:
        Shape (1, size[0], size[1], C); ``pos_embed`` itself if it has that size.
    """
    if tuple(pos_embed.shape[1:3]) == tuple(size):
        return pos_embed
    # 1 H W C -> 1 C H W, in float32 because half precision rounds bicubic weights.
    grid = pos_embed.permute(0, 3, 1, 2).float()
    grid = F.interpolate(grid, size=size, mode='bicubic', align_corners=False)
    return grid.permute(0, 2, 3, 1).to(pos_embed.dtype)
