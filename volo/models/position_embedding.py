"""Position embeddings on grids of any size."""

import torch
import torch.nn.functional as F

from volo.ops import is_exporting


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
    if is_exporting():
        return _resample(pos_embed, size)
    if tuple(pos_embed.shape[1:3]) == tuple(size):
        return pos_embed
    # 1 H W C -> 1 C H W, in float32 because half precision rounds bicubic weights.
    grid = pos_embed.permute(0, 3, 1, 2).float()
    grid = F.interpolate(grid, size=size, mode='bicubic', align_corners=False)
    return grid.permute(0, 2, 3, 1).to(pos_embed.dtype)


def _resample(pos_embed: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Resample as two matrix products, for exports.

    The size may not be known yet. Few runtimes interpolate bicubically.
    """
    rows, columns = (
        bicubic_matrix(old, new, pos_embed.device)
        for old, new in zip(pos_embed.shape[1:3], size, strict=True)
    )
    grid = pos_embed[0].float()
    grid = (rows @ grid.flatten(1)).reshape(-1, *grid.shape[1:])
    return (columns @ grid)[None].to(pos_embed.dtype)


def bicubic_matrix(old: int, new: int, device: torch.device) -> torch.Tensor:
    """Return the matrix (new, old) of bicubic interpolation with a = -0.75.

    Args:
        old: Number of entries before.
        new: Number of entries after.
        device: Of the matrix.
    """
    entries = torch.arange(old, device=device).float()
    centers = (torch.arange(new, device=device).float() + 0.5) * (old / new) - 0.5
    first = centers.floor()
    matrix = torch.zeros(1, device=device)
    for step in (-1, 0, 1, 2):
        # Not by abs, which OpenVINO 2026.4 computes wrongly of constants.
        distance = centers - first - step if step < 1 else first + step - centers
        if step in (0, 1):
            weights = (1.25 * distance - 2.25) * distance**2 + 1
        else:
            weights = ((-0.75 * distance + 3.75) * distance - 6) * distance + 3
        # Beyond an edge, the entry at the edge counts.
        place = torch.minimum((first + step).clamp(min=0), entries[-1])
        matrix = matrix + (place[:, None] == entries) * weights[:, None]
    return matrix
