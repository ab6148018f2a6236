"""Targets: a distribution over the classes for the class token and for every token.

A target differs from a constant in few classes only. With scores v of the listed
classes and 0 for all others, softmax over C classes is

    t_c = exp(v_c) / Z,  Z = C + sum over the listed of (exp(v_c) - 1)

and 1 / Z for every class that is not listed. Smoothing and mixing keep that form, so no
tensor needs an entry for every class (Token Labeling, arXiv 2104.10858).
"""

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

from .sampling import sample_cells

# Images processed at a time: the temporaries are several times as large as the targets.
_CHUNK = 32


class SoftTargets(NamedTuple):
    """Distributions over C classes: a constant, plus a difference in K classes.

    ``t[..., c] = background[...] + sum of weights[..., k] where classes[..., k] == c``

    Attributes:
        background: Shape (...).
        classes: Class indices, int32, shape (..., K). A class may occur twice.
        weights: Differences, shape (..., K); 0 where fewer than K classes are needed.
    """

    background: torch.Tensor
    classes: torch.Tensor
    weights: torch.Tensor

    def to_dense(self, num_classes: int) -> torch.Tensor:
        """Return the distributions as one tensor, shape (..., num_classes)."""
        dense = self.background[..., None].expand(*self.background.shape, num_classes)
        return dense.scatter_add(-1, self.classes.long(), self.weights)

    def flip(self) -> 'SoftTargets':
        """Return the targets with the first dimension, the samples, reversed."""
        return SoftTargets(*(part.flip(0) for part in self))


def label_targets(
    labels: torch.Tensor, num_classes: int, label_smooth_val: float
) -> SoftTargets:
    """Return smoothed one-hot targets.

    Args:
        labels: Class indices, any shape (...).
        num_classes: C.
        label_smooth_val: s; the label gets 1 - s + s / C, any other class s / C.
    """
    background = torch.full(
        labels.shape, label_smooth_val / num_classes, device=labels.device
    )
    weights = torch.full_like(background, 1 - label_smooth_val)
    return SoftTargets(background, labels[..., None].int(), weights[..., None])


def label_map_targets(
    scores: torch.Tensor,
    classes: torch.Tensor,
    matrices: np.ndarray,
    frames: np.ndarray,
    grid: tuple[int, int],
    num_classes: int,
    label_smooth_val: float,
) -> SoftTargets:
    """Compute the targets of the tokens of a batch from label maps.

    The scores under a token are averaged, where every class that a cell does not list
    counts as 0. Softmax and smoothing follow.

    Args:
        scores: Scores of the label maps, shape (B, k, h, w).
        classes: Their classes, int32, shape (B, k, h, w).
        matrices: Geometry of the augmented images, shape (B, 3, 3): see
            :class:`volo.token_label.geometry.Geometry`.
        frames: Frames of the same, shape (B, n, 3, 3); n = 0 for crops.
        grid: Rows and columns of tokens, R and C; (1, 1) for the class token, whose
            target is that of the whole augmented image.
        num_classes: C.
        label_smooth_val: s in t * (1 - s + s / C) + s / C, the published smoothing,
            whose targets sum to 1 + s / C.

    Returns:
        Targets of the tokens, row by row, shapes (B, R * C) and (B, R * C, K).
    """
    parts = []
    # Mixed precision would round the weights of the cells.
    with torch.autocast(scores.device.type, enabled=False):
        for start in range(0, len(scores), _CHUNK):
            chunk = slice(start, start + _CHUNK)
            maps = scores[chunk], classes[chunk], matrices[chunk], frames[chunk]
            parts.append(_label_map_targets(*maps, grid, num_classes, label_smooth_val))
    most = max(part.classes.shape[-1] for part in parts)
    fields = zip(*(_widen(part, most) for part in parts), strict=True)
    return SoftTargets(*(torch.cat(field) for field in fields))


def _label_map_targets(
    scores: torch.Tensor,
    classes: torch.Tensor,
    matrices: np.ndarray,
    frames: np.ndarray,
    grid: tuple[int, int],
    num_classes: int,
    label_smooth_val: float,
) -> SoftTargets:
    *_, height, width = scores.shape
    cells, cell_weights = sample_cells(
        matrices, frames, grid, (height, width), scores.device
    )
    sample = torch.arange(len(scores), device=scores.device)[:, None, None]
    # B k h w -> B hw k -> the k classes of every cell under a token.
    listed = classes.flatten(2).transpose(1, 2)[sample, cells].flatten(2)
    values = scores.float().flatten(2).transpose(1, 2)[sample, cells]
    values = (values * cell_weights[..., None]).flatten(2)
    listed, values, is_listed = _add_up(listed, values)

    # Classes that are not listed have score 0. Where every class is listed, 0 must not
    # be the maximum: if all scores are very negative, everything would underflow.
    rest = num_classes - is_listed.sum(dim=-1, keepdim=True)
    highest = values.masked_fill(~is_listed, -torch.inf).amax(dim=-1, keepdim=True)
    shift = torch.where(rest > 0, highest.clamp(min=0), highest)
    others = torch.where(rest > 0, torch.exp(-shift), 0)
    powers = torch.exp(values - shift) * is_listed
    off = label_smooth_val / num_classes
    keep = (1 - label_smooth_val + off) / (
        rest * others + powers.sum(dim=-1, keepdim=True)
    )
    return SoftTargets(
        (others * keep + off)[..., 0], listed, (powers - others * is_listed) * keep
    )


def _add_up(
    classes: torch.Tensor, values: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Sum the values of equal classes along the last dimension.

    Returns:
        Distinct classes, their sums, and a mask of the entries in use, which come
        first; all three of the shape of ``classes``.
    """
    classes, order = classes.sort(dim=-1)
    values = values.gather(-1, order)
    starts = F.pad(classes[..., 1:] != classes[..., :-1], (1, 0))
    place = starts.cumsum(dim=-1)
    return (
        torch.zeros_like(classes).scatter_(-1, place, classes),
        torch.zeros_like(values).scatter_add_(-1, place, values),
        torch.arange(place.shape[-1], device=place.device) <= place[..., -1:],
    )


def mix_targets(
    first: SoftTargets, second: SoftTargets, weight: float | torch.Tensor
) -> SoftTargets:
    """Return ``weight * first + (1 - weight) * second``.

    Args:
        first: Targets of shape (...).
        second: Targets of the same shape.
        weight: A number, or a tensor of shape (...).
    """
    weight = torch.as_tensor(weight, device=first.background.device)
    rest = 1 - weight
    return SoftTargets(
        weight * first.background + rest * second.background,
        torch.cat([first.classes, second.classes], dim=-1),
        torch.cat(
            [weight[..., None] * first.weights, rest[..., None] * second.weights],
            dim=-1,
        ),
    )


def ground_truth_targets(
    targets: SoftTargets,
    labels: torch.Tensor,
    label_smooth_val: float,
    num_classes: int,
) -> SoftTargets:
    """Mix the class token's targets with the ground truth.

    The published variant for fine-tuning: the target has weight 0.5 where its best
    class is the label, and 0.9 where it is not.

    Args:
        targets: Targets of the class token, shape (B,); each class is listed once.
        labels: Class indices, shape (B,).
        label_smooth_val: Smoothing of the ground truth.
        num_classes: C.
    """
    truth = label_targets(labels, num_classes, label_smooth_val)
    best = targets.classes.gather(-1, targets.weights.argmax(dim=-1, keepdim=True))
    weight = torch.where(best[:, 0] == labels, 0.5, 0.9)
    return mix_targets(targets, truth, weight)


def select_targets(
    mask: torch.Tensor, first: SoftTargets, second: SoftTargets
) -> SoftTargets:
    """Return the first targets where the mask is set and the second elsewhere.

    Args:
        mask: Boolean, broadcast against the targets' shape (...).
        first: Targets of shape (...) with K classes.
        second: Targets of the same shape, also with K classes.
    """
    return SoftTargets(
        torch.where(mask, first.background, second.background),
        torch.where(mask[..., None], first.classes, second.classes),
        torch.where(mask[..., None], first.weights, second.weights),
    )


def put_targets(
    targets: SoftTargets, index: torch.Tensor, others: SoftTargets
) -> SoftTargets:
    """Return the targets with the samples at ``index`` replaced by others.

    Args:
        targets: Shape (B, ...).
        index: Samples to replace, shape (b,).
        others: Shape (b, ...), with at least as many listed classes.
    """
    wide = _widen(targets, others.classes.shape[-1])
    return SoftTargets(
        *(a.index_copy(0, index, b) for a, b in zip(wide, others, strict=True))
    )


def _widen(targets: SoftTargets, listed: int) -> SoftTargets:
    """Return the same targets, padded to ``listed`` classes."""
    room = (0, listed - targets.classes.shape[-1])
    return SoftTargets(
        targets.background, F.pad(targets.classes, room), F.pad(targets.weights, room)
    )
