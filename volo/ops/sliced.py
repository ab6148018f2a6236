"""Outlook attention from slices, pads and additions: for exports.

There is no fold, which becomes Col2Im, and no scatter: TensorRT and CoreML run neither.
Sizes are never converted to Python numbers, so a traced graph takes images of any size.
No tensor has more than four axes.
"""

import torch
import torch.nn.functional as F


def sliced_outlook_attention(
    value: torch.Tensor,
    logits: torch.Tensor,
    num_heads: int,
    kernel_size: int,
    stride: int,
    padding: int,
    scale: float,
    dropout_p: float = 0.0,
) -> torch.Tensor:
    """Compute what :func:`volo.ops.outlook_attention` documents."""
    batch, height, width, channels = value.shape
    _, rows, columns, _ = logits.shape
    area = kernel_size**2

    # A slice for each key of a window: B h w C -> (B h w) heads 1 head_dim, joined to
    # (B h w) heads K^2 head_dim.
    padded = F.pad(value, (0, 0, padding, padding, padding, padding))
    below, right = ((count - 1) * stride + 1 for count in (rows, columns))
    lines = [_cut(padded, 1, i, i + below, stride) for i in range(kernel_size)]
    keys = [
        _cut(line, 2, i, i + right, stride)
        for line in lines
        for i in range(kernel_size)
    ]
    shape = (-1, num_heads, 1, channels // num_heads)
    windows = torch.cat([key.reshape(shape) for key in keys], dim=2)

    # float32 at the least: sums of exponentials lose digits in less.
    dtype = torch.promote_types(logits.dtype, torch.float32)
    attention = logits.reshape(-1, num_heads, area, area).to(dtype) * scale
    attention = attention.softmax(dim=-1)
    if dropout_p > 0:
        attention = F.dropout(attention, p=dropout_p)
    mixed = attention.to(value.dtype) @ windows

    # A map for each query of a window: B h w C, added up to B h W C, then to B H W C.
    maps = [
        mixed[:, :, query].reshape(batch, rows, columns, channels)
        for query in range(area)
    ]
    rows_of_maps = [maps[i : i + kernel_size] for i in range(0, area, kernel_size)]
    lines = [_add_up(maps, 2, width, stride, padding) for maps in rows_of_maps]
    return _add_up(lines, 1, height, stride, padding)


def _add_up(
    maps: list[torch.Tensor], axis: int, size: int, stride: int, padding: int
) -> torch.Tensor:
    """Add windows up along one axis.

    The pixel ``stride * u + phase`` is at each place of at most one window: that with
    index ``u - shift``, where the shift depends on the place and the phase alone. So
    the pixels of a phase are a sum of shifted maps. The phases are interleaved last.

    Args:
        maps: What all windows add at each of their K places along the axis, K tensors
            with one entry per window.
        axis: 1 or 2, rows or columns.
        size: Number of pixels along the axis.
        stride: Distance between neighboring windows.
        padding: Zeros before the first pixel.

    Returns:
        The shape of one map, with ``size`` entries along the axis.
    """
    count = maps[0].shape[axis]
    # Centered windows are as many as the pixels of a phase. Then no amount of padding
    # depends on the size.
    extra = 0 if len(maps) == 2 * padding + 1 else (size + stride - 1) // stride - count
    phases = []
    for phase in range(stride):
        places = range((phase + padding) % stride, len(maps), stride)
        shifted = [
            _shift(maps[place], axis, (place - phase - padding) // stride, extra)
            for place in places
        ]
        # With a stride above K, some pixels are in no window.
        shifted = shifted or [_shift(maps[0] * 0, axis, 0, extra)]
        phases.append(sum(shifted[1:], start=shifted[0]))
    shape = list(maps[0].shape)
    shape[axis] = (count + extra) * stride
    pixels = torch.cat(phases, dim=axis + 1).reshape(shape)
    return _cut(pixels, axis, 0, size)


def _shift(x: torch.Tensor, axis: int, shift: int, extra: int) -> torch.Tensor:
    """Move entries along an axis by ``shift``, and lengthen the axis by ``extra``."""
    before, after = shift, extra - shift
    if before < 0:
        x, before = _cut(x, axis, -before, None), 0
    # Where the amount depends on a traced size, its sign is unknown: pad takes both.
    if isinstance(after, int) and after < 0:
        x, after = _cut(x, axis, 0, after), 0
    if (before, after) == (0, 0):
        return x
    return F.pad(x, [0, 0] * (x.ndim - 1 - axis) + [before, after])


def _cut(
    x: torch.Tensor, axis: int, first: int, end: int | None, stride: int = 1
) -> torch.Tensor:
    """Return ``x[first:end:stride]`` along an axis."""
    before = [slice(None)] * axis
    return x[tuple([*before, slice(first, end, stride)])]
