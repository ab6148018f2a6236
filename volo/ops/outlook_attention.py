"""Outlook attention (VOLO, arXiv 2106.13112, section 3.1) as a pure function."""

import torch
import torch.nn.functional as F


def outlook_attention(
    value: torch.Tensor,
    logits: torch.Tensor,
    num_heads: int,
    kernel_size: int = 3,
    stride: int = 1,
    padding: int = 1,
    scale: float | None = None,
    dropout_p: float = 0.0,
) -> torch.Tensor:
    """Attend within every K x K window and add the windows up where they overlap.

    A window is centred on each position of the strided grid of h x w positions.
    Its K^2 x K^2 attention is not computed from queries and keys: the logits are
    given. Values outside the picture are zero but take part in the softmax.

    Args:
        value: Values, shape (B, H, W, C), C divisible by ``num_heads``.
        logits: Attention logits, shape (B, h, w, num_heads * K^4), last axis
            ordered (head, query in the window, key in the window), where
            ``h = (H + 2 * padding - K) // stride + 1`` and w alike.
        num_heads: Number of heads.
        kernel_size: Window size K.
        stride: Distance between the centres of neighbouring windows.
        padding: Zeros around the picture on every side.
        scale: Factor on the logits; ``(C / num_heads) ** -0.5`` if None.
        dropout_p: Probability to drop an attention weight, always applied when
            above 0: pass 0.0 in evaluation.

    Returns:
        Shape (B, H, W, C), the dtype of ``value``.

    Raises:
        ValueError: The shapes of ``value`` and ``logits`` do not belong together.
    """
    batch, height, width, channels = value.shape
    if channels % num_heads:
        raise ValueError(f'{channels} channels cannot be split into {num_heads} heads')
    head_dim = channels // num_heads
    area = kernel_size**2
    grid_height = (height + 2 * padding - kernel_size) // stride + 1
    grid_width = (width + 2 * padding - kernel_size) // stride + 1
    expected = (batch, grid_height, grid_width, num_heads * area**2)
    if tuple(logits.shape) != expected:
        raise ValueError(
            f'logits of shape {tuple(logits.shape)} do not fit a value of shape '
            f'{tuple(value.shape)}: expected {expected}'
        )
    scale = head_dim**-0.5 if scale is None else scale
    window = dict(kernel_size=kernel_size, padding=padding, stride=stride)
    num_windows = grid_height * grid_width

    # B H W C -> B C H W -> B (heads head_dim K^2) N -> B heads N K^2 head_dim
    windows = F.unfold(value.permute(0, 3, 1, 2), **window)
    windows = windows.view(batch, num_heads, head_dim, area, num_windows)
    windows = windows.permute(0, 1, 4, 3, 2)

    # B h w (heads K^2 K^2) -> B heads N K^2 K^2
    attention = logits.reshape(batch, num_windows, num_heads, area, area)
    attention = (attention.transpose(1, 2) * scale).softmax(dim=-1)
    if dropout_p > 0:
        attention = F.dropout(attention, p=dropout_p)

    # B heads N K^2 head_dim -> B (heads head_dim K^2) N -> B C H W -> B H W C
    mixed = attention.to(windows.dtype) @ windows
    mixed = mixed.permute(0, 1, 4, 3, 2).reshape(batch, channels * area, num_windows)
    output = F.fold(mixed, output_size=(height, width), **window)
    return output.permute(0, 2, 3, 1)
