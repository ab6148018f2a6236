"""Outlook attention (VOLO, arXiv 2106.13112, section 3.1) as a pure function."""

import torch

from .backends import choose_backend, get_backend, log_once


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
    """Compute attention within K x K windows and sum the windows where they overlap.

    A window is centered on each position of a strided grid of h x w positions. Its
    K^2 x K^2 attention weights are the softmax of the given logits: there are no
    queries and keys. Values outside the image are zero but take part in the softmax.

    The backend depends on the device, see :func:`volo.ops.choose_backend`; the result
    does not.

    Args:
        value: Values, shape (B, H, W, C), C divisible by ``num_heads``.
        logits: Attention logits, shape (B, h, w, num_heads * K^4), last axis
            ordered (head, query in the window, key in the window), where
            ``h = (H + 2 * padding - K) // stride + 1``, and w likewise.
        num_heads: Number of heads.
        kernel_size: Window size K.
        stride: Distance between the centers of neighboring windows, in pixels.
        padding: Zeros around the image on every side, in pixels.
        scale: Factor on the logits; ``(C / num_heads) ** -0.5`` if None.
        dropout_p: Probability to drop an attention weight. It is applied whenever it
            is above 0: pass 0.0 in evaluation.

    Returns:
        Shape (B, H, W, C), the dtype of ``value``.

    Raises:
        ValueError: The shapes of ``value`` and ``logits`` do not fit each other.
        ConfigError: ``VOLO_OUTLOOK_ATTENTION`` names a backend that cannot compute
            the call.
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
        log_once(name, reason)
    return get_backend(name)(
        value, logits, num_heads, kernel_size, stride, padding, scale, dropout_p
    )
