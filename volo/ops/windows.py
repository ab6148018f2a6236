"""Outlook attention in plain PyTorch, without unfold and fold: for CPUs.

Windows are strided views of the padded values, copied once with whole rows of
channels, instead of channel by channel. The backward pass is written by hand: it keeps
only the attention weights and the values.
"""

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F


class Windows(NamedTuple):
    """The grid of windows on an image.

    Attributes:
        height: H of the image.
        width: W of the image.
        rows: h, rows of windows.
        columns: w, windows in a row.
        kernel_size: Window size K.
        stride: Distance between neighboring windows, in pixels.
        padding: Zeros around the image on every side, in pixels.
        num_heads: Number of heads.
    """

    height: int
    width: int
    rows: int
    columns: int
    kernel_size: int
    stride: int
    padding: int
    num_heads: int

    def gather(self, value: torch.Tensor) -> torch.Tensor:
        """Copy the windows of (B, H, W, C) to (B * h * w * heads, K^2, head_dim)."""
        size, padding = self.kernel_size, self.padding
        bottom, right = (
            (count - 1) * self.stride + size - padding - side
            for count, side in ((self.rows, self.height), (self.columns, self.width))
        )
        # Negative if the last rows or columns are in no window.
        value = F.pad(value, (0, 0, padding, right, padding, bottom))
        # B H W C -> B h w C K K -> B h w heads head_dim K K -> B h w heads K K head_dim
        windows = value.unfold(1, size, self.stride).unfold(2, size, self.stride)
        windows = windows.unflatten(3, (self.num_heads, -1))
        windows = windows.permute(0, 1, 2, 3, 5, 6, 4)
        return windows.reshape(-1, size**2, windows.shape[-1])

    def scatter(self, windows: torch.Tensor) -> torch.Tensor:
        """Sum windows (B * h * w * heads, K^2, head_dim) into (B, H, W, C)."""
        size, stride, head_dim = self.kernel_size, self.stride, windows.shape[-1]
        shape = (-1, self.rows, self.columns, self.num_heads, size, size, head_dim)
        windows = windows.view(shape)
        bottom, right = (
            max((count - 1) * stride + size, side + self.padding)
            for count, side in ((self.rows, self.height), (self.columns, self.width))
        )
        image = windows.new_zeros(
            windows.shape[0], bottom, right, self.num_heads, head_dim
        )
        for row in range(size):
            for column in range(size):
                image[
                    :,
                    row : row + (self.rows - 1) * stride + 1 : stride,
                    column : column + (self.columns - 1) * stride + 1 : stride,
                ] += windows[:, :, :, :, row, column]
        top = left = self.padding
        image = image[:, top : top + self.height, left : left + self.width]
        return image.flatten(3)


def row_softmax(logits: torch.Tensor) -> torch.Tensor:
    """Compute the softmax over the last axis.

    PyTorch's own is several times slower on a CPU if a row is shorter than a vector
    register, as nine logits are.
    """
    weights = (logits - logits.amax(dim=-1, keepdim=True)).exp_()
    return weights.div_(weights.sum(dim=-1, keepdim=True))


class WindowAttention(torch.autograd.Function):
    """Outlook attention and its gradient, with products in the dtype of the values."""

    @staticmethod
    def forward(
        value: torch.Tensor, logits: torch.Tensor, windows: Windows, scale: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the result (B, H, W, C) and the weights (B * h * w * heads, K^2, K^2).

        Args:
            value: Shape (B, H, W, C).
            logits: Shape (B, h, w, heads * K^4).
            windows: The grid of windows.
            scale: Factor on the logits.
        """
        area = windows.kernel_size**2
        logits = logits.reshape(-1, area, area)
        # Sums of exponentials lose digits in less than float32.
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32)) * scale
        weights = row_softmax(logits).to(value.dtype)
        return windows.scatter(torch.bmm(weights, windows.gather(value))), weights

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: tuple) -> None:
        """Save what the backward pass needs."""
        value, logits, ctx.windows, ctx.scale = inputs
        ctx.logits_shape, ctx.logits_dtype = logits.shape, logits.dtype
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(value, output[1])

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor, _: None) -> tuple:
        """Return the gradients of value and logits from that of the result."""
        value, weights = ctx.saved_tensors
        # The gradient of every query of a window, gathered like the values.
        grad = ctx.windows.gather(grad)
        grad_value = grad_logits = None
        if ctx.needs_input_grad[0]:
            grad_value = ctx.windows.scatter(torch.bmm(weights.transpose(1, 2), grad))
        if ctx.needs_input_grad[1]:
            grad_weights = torch.bmm(grad, ctx.windows.gather(value).transpose(1, 2))
            grad_logits = weights * grad_weights
            total = grad_logits.sum(dim=-1, keepdim=True)
            grad_logits = (grad_logits - weights * total) * ctx.scale
            grad_logits = grad_logits.to(ctx.logits_dtype).view(ctx.logits_shape)
        return grad_value, grad_logits, None, None


def window_outlook_attention(
    value: torch.Tensor,
    logits: torch.Tensor,
    num_heads: int,
    kernel_size: int,
    stride: int,
    padding: int,
    scale: float,
    dropout_p: float = 0.0,
) -> torch.Tensor:
    """Compute :func:`volo.ops.outlook_attention`, with ``dropout_p`` 0.0 only."""
    assert dropout_p == 0.0, 'choose_backend gives dropout to another backend'
    height, width = value.shape[1:3]
    rows, columns = logits.shape[1:3]
    windows = Windows(
        height, width, rows, columns, kernel_size, stride, padding, num_heads
    )
    with torch.autocast(value.device.type, enabled=False):
        return WindowAttention.apply(value, logits, windows, scale)[0]
