"""Targets: a distribution over the classes for the class token and for every token.

A target differs from a constant in few classes only. With scores v of the classes
listed and 0 for all others, softmax over C classes is

    t_c = exp(v_c) / Z,  Z = C + sum over the listed of (exp(v_c) - 1)

and 1 / Z for every class that is not listed; smoothing and mixing keep that form. So
no tensor with an entry for every class need exist (Token Labeling, arXiv 2104.10858).
"""

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

from .sampling import sample_cells

# So many label maps are worked on at a time: the temporaries are several times as large
# as the targets.
_IMAGES = 32


class SoftTargets(NamedTuple):
    """Distributions over C classes: a constant, and more or less than it in K classes.

    ``t[..., c] = background[...] + sum of weights[..., k] where classes[..., k] == c``

    Attributes:
        background: Shape (...).
        classes: Class indices, int32, shape (..., K). The same class may occur twice.
        weights: Shape (..., K); 0 where fewer than K classes are needed.
    """

    background: torch.Tensor
    classes: torch.Tensor
    weights: torch.Tensor

    def to_dense(self, num_classes: int) -> torch.Tensor:
        """Return the distributions themselves, shape (..., num_classes)."""
        dense = self.background[..., None].expand(*self.background.shape, num_classes)
        return dense.scatter_add(-1, self.classes.long(), self.weights)

    def flip(self) -> 'SoftTargets':
        """Reverse the order of the samples, the first dimension."""
        return SoftTargets(*(part.flip(0) for part in self))


def label_targets(
    labels: torch.Tensor, num_classes: int, label_smooth_val: float
) -> SoftTargets:
    """Make smoothed one-hot targets.

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
    """Make the targets of the tokens of a batch from label maps.

    The scores under a token are averaged, every class that a cell does not list
    counting as 0; then softmax, then smoothing.

    Args:
        scores: Of the label maps, shape (B, k, h, w).
        classes: Their classes, int32, shape (B, k, h, w).
        matrices: Where the augmented images came from, (B, 3, 3): see
            :class:`volo.token_label.geometry.Geometry`.
        frames: What their pixels must have passed, (B, n, 3, 3), n = 0 for crops.
        grid: Rows and columns of tokens; (1, 1) for the class token, whose target is
            that of the whole augmented image.
        num_classes: C.
        label_smooth_val: s in t * (1 - s + s / C) + s / C, the published smoothing,
            whose targets add up to 1 + s / C.

    Returns:
        Targets of rows * columns tokens, row by row, shapes (B, R * C) and
        (B, R * C, K).
    """
    parts = []
    # Mixed precision would round the weights of the cells.
    with torch.autocast(scores.device.type, enabled=False):
        for start in range(0, len(scores), _IMAGES):
            few = slice(start, start + _IMAGES)
            maps = scores[few], classes[few], matrices[few], frames[few]
            parts.append(_label_map_targets(*maps, grid, num_classes, label_smooth_val))
    most = max(part.classes.shape[-1] for part in parts)
    return SoftTargets(
        *(
            torch.cat(same)
            for same in zip(*(_widen(p, most) for p in parts), strict=True)
        )
    )


def _label_map_targets(
    scores: torch.Tensor,
    classes: torch.Tensor,
    matrices: np.ndarray,
    frames: np.ndarray,
    grid: tuple[int, int],
    num_classes: int,
    label_smooth_val: float,
) -> SoftTargets:
    cells, cell_weights = sample_cells(
        matrices, frames, grid, tuple(scores.shape[-2:]), scores.device
    )
    sample = torch.arange(len(scores), device=scores.device)[:, None, None]
    # B k h w -> B hw k, and then the k classes of every cell under a token.
    listed = classes.flatten(2).transpose(1, 2)[sample, cells].flatten(2)
    values = scores.float().flatten(2).transpose(1, 2)[sample, cells]
    values = (values * cell_weights[..., None]).flatten(2)
    listed, values, is_listed = _add_up(listed, values)

    # The classes that are not listed have score 0. Where there are none, all negative
    # scores must not be compared with it: everything would underflow.
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
    """Add up the values of equal classes along the last dimension.

    Returns:
        Classes and sums, as many as there were, and which of them are in use: the
        first ones.
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
        second: As many.
        weight: Number, or tensor of shape (...).
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

    The published variant for fine-tuning: half of each where the target's best class
    is the label, nine tenths of the target where it is not.

    Args:
        targets: Of the class token, shape (B,), each class listed once.
        labels: Shape (B,).
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
    """Take the first where the mask is set and the second elsewhere.

    Args:
        mask: Boolean, broadcast against the targets' shape (...).
        first: Targets of shape (...) with K classes.
        second: As many, with as many classes.
    """
    return SoftTargets(
        torch.where(mask, first.background, second.background),
        torch.where(mask[..., None], first.classes, second.classes),
        torch.where(mask[..., None], first.weights, second.weights),
    )


def put_targets(
    targets: SoftTargets, index: torch.Tensor, others: SoftTargets
) -> SoftTargets:
    """Replace the samples at ``index`` by others, which list at least as many classes.

    Args:
        targets: Shape (B, ...).
        index: Places of the others, shape (b,).
        others: Shape (b, ...).
    """
    wide = _widen(targets, others.classes.shape[-1])
    return SoftTargets(
        *(a.index_copy(0, index, b) for a, b in zip(wide, others, strict=True))
    )


def _widen(targets: SoftTargets, listed: int) -> SoftTargets:
    """Return the same targets with room for ``listed`` classes, at least as many."""
    room = (0, listed - targets.classes.shape[-1])
    return SoftTargets(
        targets.background, F.pad(targets.classes, room), F.pad(targets.weights, room)
    )
