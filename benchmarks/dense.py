"""Token labels the obvious way, with an entry for every class: slow, and the reference.

The same mathematics as :mod:`volo.token_label.targets` and
:mod:`volo.models.losses`, for crops only.
"""

import numpy as np
import torch
from torchvision.ops import roi_align


def dense_label_map_targets(
    scores: torch.Tensor,
    classes: torch.Tensor,
    boxes: np.ndarray,
    grid: tuple[int, int],
    num_classes: int,
    label_smooth_val: float,
) -> torch.Tensor:
    """Make targets (B, R * C, num_classes) from label maps (B, k, h, w).

    Args:
        scores: Of the label maps.
        classes: Their classes.
        boxes: Crops as fractions (left, top, width, height), shape (B, 4).
        grid: Rows and columns of tokens.
        num_classes: C.
        label_smooth_val: Smoothing.
    """
    batch, _, height, width = scores.shape
    maps = torch.zeros(batch, num_classes, height, width, device=scores.device)
    maps.scatter_add_(1, classes.long(), scores.float())
    left, top, box_width, box_height = boxes.T
    corners = np.stack(
        [
            np.arange(batch),
            left * width - 0.5,
            top * height - 0.5,
            (left + box_width) * width - 0.5,
            (top + box_height) * height - 0.5,
        ],
        axis=1,
    )
    corners = torch.as_tensor(corners, dtype=torch.float32, device=scores.device)
    targets = roi_align(maps, corners, grid).flatten(2).transpose(1, 2).softmax(-1)
    off = label_smooth_val / num_classes
    return targets * (1 - label_smooth_val + off) + off


def dense_cross_entropy(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return losses (...) of logits and targets (..., C)."""
    return torch.sum(-targets * torch.log_softmax(logits.float(), dim=-1), dim=-1)
