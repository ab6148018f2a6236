"""The cells of a label map under each token, and their weights.

For a crop this is RoIAlign (torchvision's, ``aligned=False`` with the box moved by half
a cell, adaptive sampling): the mean over sample points of the bilinear interpolation
between cell centers. Any other affine map moves the sample points: the token then
covers a parallelogram of the label map.
"""

import numpy as np
import torch


def sample_cells(
    matrices: np.ndarray,
    frames: np.ndarray,
    grid: tuple[int, int],
    map_size: tuple[int, int],
    device: torch.device | str = 'cpu',
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the cells under every token of a batch of augmented images.

    Points outside the image have no weight, so the weights of a token sum to the share
    of it that shows the image. As in RoIAlign, the cells at the edge extend half a cell
    beyond it.

    Args:
        matrices: From fractions of the augmented image to fractions of the whole
            image, shape (B, 3, 3).
        frames: From fractions of the augmented image to fractions of the images that
            its points must lie in, shape (B, n, 3, 3).
        grid: Rows and columns of tokens, R and C.
        map_size: Rows and columns of the label map.
        device: Device of the result.

    Returns:
        Indices of the cells, counted row by row, and their weights, both of shape
        (B, R * C, m). Every token gets a window of m cells; many weights are zero.
    """
    cells = np.array(map_size[::-1])  # x, y
    # One token to the right and one token down, in cells of the label map.
    right = matrices[:, :2, 0] * cells / grid[1]
    down = matrices[:, :2, 1] * cells / grid[0]
    num_right, num_down = _num_samples(right), _num_samples(down)
    extent = np.abs(right) * (1 - 1 / num_right) + np.abs(down) * (1 - 1 / num_down)
    # Points that span a distance e touch at most ceil(e) + 2 cells.
    window = np.minimum(np.ceil(extent.max(axis=0) - 1e-6).astype(int) + 2, cells)

    moves, bounds = (
        torch.as_tensor(m, dtype=torch.float32, device=device)
        for m in (matrices, frames)
    )
    columns, weights_right = _sample_points(num_right, grid[1], device)
    rows, weights_down = _sample_points(num_down, grid[0], device)
    # (B, R, C, points down, points right); _move flattens the points of a token.
    u = columns[:, None, :, None, :]
    v = rows[:, :, None, :, None]
    weights = (weights_down[:, :, None] * weights_right[:, None, :]).flatten(1)
    weights = weights[:, None, None]
    for frame in bounds.unbind(dim=1):
        for axis in (0, 1):
            points = _move(frame, axis, u, v)
            weights = weights * ((points >= 0) & (points <= 1))
    tents, firsts = [], []
    for axis in (1, 0):  # y, x
        side, count = map_size[1 - axis], int(window[axis])
        points = _move(moves, axis, u, v) * side - 0.5
        weights = weights * ((points >= -1) & (points <= side))
        points = points.clamp(0, side - 1)
        first = points.amin(dim=3).floor().clamp(max=side - count)
        offsets = torch.arange(count, device=device)
        # The bilinear weight of a cell is a tent: it reaches 0 one cell away.
        distance = points - first[..., None]
        tents.append((1 - (distance[..., None] - offsets).abs()).clamp(min=0))
        firsts.append(first.long()[..., None] + offsets)
    weights = torch.einsum('brcs,brcsy,brcsx->brcyx', weights, *tents)
    indices = firsts[0][..., :, None] * map_size[1] + firsts[1][..., None, :]
    return indices.flatten(3).flatten(1, 2), weights.flatten(3).flatten(1, 2)


def _move(
    matrices: torch.Tensor, axis: int, u: torch.Tensor, v: torch.Tensor
) -> torch.Tensor:
    """Return x (axis 0) or y (axis 1) of the sample points, shape (B, R, C, points)."""
    a, b, c = (matrices[:, axis, i, None, None, None, None] for i in range(3))
    return (a * u + b * v + c).flatten(3)


def _num_samples(edges: np.ndarray) -> np.ndarray:
    """Return the number of sample points (B, 1) along a token's edges (B, 2)."""
    length = np.linalg.norm(edges, axis=1, keepdims=True)
    return np.maximum(np.ceil(length - 1e-4), 1)


def _sample_points(
    numbers: np.ndarray, tokens: int, device: torch.device | str
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return fractions (B, tokens, n) and weights (B, n) of the points along a side."""
    counts = torch.as_tensor(numbers, dtype=torch.float32, device=device)
    index = torch.arange(int(counts.max()), device=device)
    weights = (index < counts) / counts
    within_token = (torch.minimum(index, counts - 1) + 0.5) / counts
    token = torch.arange(tokens, device=device)
    return (token[:, None] + within_token[:, None, :]) / tokens, weights
