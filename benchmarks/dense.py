"""Compute token targets and their loss with an entry for every class.

The mathematics is that of :mod:`volo.token_label.targets` and
:mod:`volo.models.losses`, for crops alone. The code is slow and easy to check:
:mod:`benchmarks.token_loss` and tests compare with it.
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
    """Compute the targets of tokens from label maps.

    Args:
        scores: Scores of the label maps, shape (B, k, h, w).
        classes: Class indices of the scores, the same shape.
        boxes: Crops as fractions (left, top, width, height) of the image, shape (B, 4).
        grid: Rows R and columns C of tokens.
        num_classes: Number of classes.
        label_smooth_val: Label smoothing, 0 to 1.

    Returns:
        Targets, shape (B, R * C, num_classes).
    """
    batch, _, height, width = scores.shape
    maps = torch.zeros(batch, num_classes, height, width, device=scores.device)
    maps.scatter_add_(1, classes.long(), scores.float())
    left, top, box_width, box_height = boxes.T
    corners = np.stack(
        [  # as roi_align takes them: image, left, top, right, bottom
            np.arange(batch),
            left * width - 0.5,
            top * height - 0.5,
            (left + box_width) * width - 0.5,
            (top + box_height) * height - 0.5,
        ],
        axis=1,
    )
    regions = torch.as_tensor(corners, dtype=torch.float32, device=scores.device)
    targets = roi_align(maps, regions, grid).flatten(2).transpose(1, 2).softmax(-1)
    off = label_smooth_val / num_classes
    return targets * (1 - label_smooth_val + off) + off


def dense_cross_entropy(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Compute the losses (...) of logits and targets (..., C)."""
    return torch.sum(-targets * torch.log_softmax(logits.float(), dim=-1), dim=-1)
