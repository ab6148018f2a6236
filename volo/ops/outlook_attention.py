"""Outlook attention (VOLO, arXiv 2106.13112, section 3.1) as a pure function."""

import torch

from .backends import choose_backend, get_backend, say_once


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

    A window is centerd on each position of the strided grid of h x w positions.
    Its K^2 x K^2 attention is not computed from queries and keys: the logits are
    given. Values outside the image are zero but take part in the softmax.

    What computes it depends on the device, see :func:`volo.ops.choose_backend`; the
    result does not.

    Args:
        value: Values, shape (B, H, W, C), C divisible by ``num_heads``.
        logits: Attention logits, shape (B, h, w, num_heads * K^4), last axis
            ordered (head, query in the window, key in the window), where
            ``h = (H + 2 * padding - K) // stride + 1`` and w alike.
        num_heads: Number of heads.
        kernel_size: Window size K.
        stride: Distance between the centers of neighbouring windows.
        padding: Zeros around the image on every side.
        scale: Factor on the logits; ``(C / num_heads) ** -0.5`` if None.
        dropout_p: Probability to drop an attention weight, always applied when
            above 0: pass 0.0 in evaluation.

    Returns:
        Shape (B, H, W, C), the dtype of ``value``.

    Raises:
        ValueError: The shapes of ``value`` and ``logits`` do not belong together.
        ConfigError: ``VOLO_OUTLOOK_ATTENTION`` names a backend that cannot do it.
    """
    batch, height, width, channels = value.shape
    if channels % num_heads:
        raise ValueError(f'{channels} channels cannot be split into {num_heads} heads')
    rows, columns = (
        (side + 2 * padding - kernel_size) // stride + 1 for side in (height, width)
    )
    expected = (batch, rows, columns, num_heads * kernel_size**4)
    if tuple(logits.shape) != expected:
        raise ValueError(
            f'logits of shape {tuple(logits.shape)} do not fit a value of shape '
            f'{tuple(value.shape)}: expected {expected}'
        )
    if scale is None:
        scale = (channels // num_heads) ** -0.5
    name, reason = choose_backend(value, dropout_p)
    if not torch.compiler.is_compiling():
        say_once(name, reason)
    options = dict(dropout_p=dropout_p) if dropout_p > 0 else {}
    return get_backend(name)(
        value, logits, num_heads, kernel_size, stride, padding, scale, **options
    )
