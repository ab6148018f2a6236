"""Class scores of an image too large for memory: windows, one band of rows at a time.

The windows, and the order in which they are added, are those of mmseg's slide
inference. So the scores are the same, but only those of a few rows exist at a time.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor


class Band(NamedTuple):
    """Class scores of some rows.

    Attributes:
        start: The first row.
        scores: (classes, rows, columns).
    """

    start: int
    scores: Tensor


def window_starts(size: int, window: int, stride: int) -> list[int]:
    """Return where windows start along one axis; the last one ends at the border."""
    count = max(size - window + stride - 1, 0) // stride + 1
    return [max(min(i * stride, size - window), 0) for i in range(count)]


def slide_bands(
    run: Callable[[int, int], Tensor],
    size: tuple[int, int],
    window: tuple[int, int],
    stride: tuple[int, int],
    columns: tuple[int, int],
) -> Iterator[Band]:
    """Yield the mean scores of overlapping windows, from the top down.

    Args:
        run: Scores (classes, height, width) of the window at a row and a column.
        size: Height and width of the image.
        window: Height and width of a window. An image may be smaller.
        stride: Distance of the windows along both axes.
        columns: First and last column, exclusive, that are asked for.
    """
    height, width = min(window[0], size[0]), min(window[1], size[1])
    tops = window_starts(size[0], height, stride[0])
    left, right = columns
    lefts = [
        x
        for x in window_starts(size[1], width, stride[1])
        if x < right and x + width > left
    ]
    total = count = torch.empty(0)
    for top, next_top in zip(tops, [*tops[1:], size[0]], strict=True):
        for x in lefts:
            scores = run(top, x)
            if not total.numel():
                total = scores.new_zeros(len(scores), height, right - left)
                count = total.new_zeros(height, right - left)
            a, b = max(x, left), min(x + width, right)
            total[..., a - left : b - left] += scores[..., a - x : b - x]
            count[..., a - left : b - left] += 1
        rows = next_top - top  # no later window reaches them
        yield Band(top, total[:, :rows] / count[:rows])
        total = torch.cat([total[:, rows:], torch.zeros_like(total[:, :rows])], dim=1)
        count = torch.cat([count[rows:], torch.zeros_like(count[:rows])])


def resized_bands(
    bands: Iterator[Band],
    size: tuple[int, int],
    to_size: tuple[int, int],
    columns: tuple[int, int],
    to_columns: tuple[int, int],
    align_corners: bool = False,
    rows: int = 64,
) -> Iterator[Band]:
    """Yield scores resized as bilinear ``F.interpolate`` does.

    Where nothing is resized, the scores stay exactly as they are.

    Args:
        bands: Scores of all rows of the input.
        size: Height and width of the input.
        to_size: Height and width of the output.
        columns: First and last column, exclusive, that ``bands`` have.
        to_columns: First and last column, exclusive, that are asked for. ``columns``
            must hold what they depend on, see :func:`source_columns`.
        align_corners: As in ``F.interpolate``.
        rows: Rows of a band of the output.
    """
    above, below, ratio_y = _sources(size[0], to_size[0], align_corners)
    left, right, ratio_x = (
        values[slice(*to_columns)]
        for values in _sources(size[1], to_size[1], align_corners)
    )
    left, right = left - columns[0], right - columns[0]
    done = 0
    held, first = torch.empty(0), 0
    for start, scores in bands:
        if held.numel():
            held = torch.cat([held, scores], dim=1)
        else:
            held, first = scores, start
        known = first + held.shape[1]
        while done < to_size[0] and below[done] < known:
            stop = min(done + rows, int(torch.searchsorted(below, known)))
            up, down = above[done:stop] - first, below[done:stop] - first
            band = _mix(held, up, down, ratio_y[done:stop], 1)
            yield Band(done, _mix(band, left, right, ratio_x, 2))
            done = stop
        if done < to_size[0]:
            unused = int(above[done]) - first
            held, first = held[:, unused:], first + unused


def source_columns(
    size: int, to_size: int, columns: tuple[int, int], align_corners: bool = False
) -> tuple[int, int]:
    """Return the columns that resized columns depend on, the last one exclusive.

    Args:
        size: Width of the input.
        to_size: Width of the output.
        columns: First and last column of the output, exclusive.
        align_corners: As in ``F.interpolate``.
    """
    left, right, _ = _sources(size, to_size, align_corners)
    return int(left[columns[0]]), int(right[columns[1] - 1]) + 1


def _sources(
    size: int, to_size: int, align_corners: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the two inputs of each output along one axis, and the second's weight."""
    # In float32, as PyTorch does.
    steps = torch.arange(to_size, dtype=torch.float32)
    if align_corners:
        place = steps * ((size - 1) / max(to_size - 1, 1))
    else:
        place = ((steps + 0.5) * (size / to_size) - 0.5).clamp(min=0)
    first = place.floor().clamp(max=size - 1)
    second = (first + 1).clamp(max=size - 1)
    return first.long(), second.long(), (place - first).float()


def _mix(x: Tensor, first: Tensor, second: Tensor, ratio: Tensor, dim: int) -> Tensor:
    first, second, ratio = (t.to(x.device) for t in (first, second, ratio))
    ratio = ratio[:, None] if dim == 1 else ratio
    return torch.lerp(x.index_select(dim, first), x.index_select(dim, second), ratio)
