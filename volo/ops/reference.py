"""Outlook attention as in the paper: the definition that every backend must match."""

import torch
import torch.nn.functional as F


def reference_outlook_attention(
    value: torch.Tensor,
    logits: torch.Tensor,
    num_heads: int,
    kernel_size: int,
    stride: int,
    padding: int,
    scale: float,
    dropout_p: float = 0.0,
) -> torch.Tensor:
    """Compute :func:`volo.ops.outlook_attention`, the softmax in float32 or more."""
    batch, height, width, channels = value.shape
    _, rows, columns, _ = logits.shape
    area, num_windows = kernel_size**2, rows * columns
    window = dict(kernel_size=kernel_size, padding=padding, stride=stride)

    # B H W C -> B C H W -> B (heads head_dim K^2) N -> B heads N K^2 head_dim
    windows = F.unfold(value.permute(0, 3, 1, 2), **window)
    windows = windows.view(batch, num_heads, -1, area, num_windows)
    windows = windows.permute(0, 1, 4, 3, 2)

    # B h w (heads K^2 K^2) -> B heads N K^2 K^2
    attention = logits.reshape(batch, num_windows, num_heads, area, area)
    attention = attention.transpose(1, 2)
    # Half precision rounds logits near 100 to multiples of 1/16.
    attention = attention.to(torch.promote_types(logits.dtype, torch.float32))
    attention = (attention * scale).softmax(dim=-1)
    if dropout_p > 0:
        attention = F.dropout(attention, p=dropout_p)

    # B heads N K^2 head_dim -> B (heads head_dim K^2) N -> B C H W -> B H W C
    mixed = attention.to(windows.dtype) @ windows
    mixed = mixed.permute(0, 1, 4, 3, 2).reshape(batch, channels * area, num_windows)
    output = F.fold(mixed, output_size=(height, width), **window)
    return output.permute(0, 2, 3, 1)
