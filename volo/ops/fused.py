"""Outlook attention in three Triton kernels, for GPUs.

The reference copies every window's values, about (K / stride)^2 times the image, and
writes a result of that size too. Here nothing of that size is in memory: the forward
pass reads values and logits and writes the output, the backward pass saves the two
inputs and computes the softmax again. All kernels gather, so there are no atomics and
every run gives the same result.
"""

from typing import Any

import torch
import triton

from .fused_kernels import forward_kernel, grad_logits_kernel, grad_value_kernel


def _launch_parameters(value: torch.Tensor, heads: int, kernel_size: int) -> tuple:
    """Return the block sizes of the kernels over cells and of the one over windows.

    They are fixed, not tuned, by these rules for 4 warps:

    - Cells: 16 bytes of channels per thread, one load. At most 64 cells: Triton then
      considers the loads of single logits cheap, and each thread loads those that it
      needs instead of sharing them through shared memory.
    - Windows: the attention weights, padded to powers of 2, have at most 4096
      elements, 32 per thread, and the channels of their pixels take at most 16 KiB.

    With K = 3, stride 2 and 32 channels per head, compiled for an H100, the kernels
    take at most 146 registers per thread and spill none.
    """
    # Both sides of a matrix product must be at least 16.
    block_d = max(16, triton.next_power_of_2(value.shape[-1] // heads))
    block_area = max(16, triton.next_power_of_2(kernel_size**2))
    cells = min(64, max(1, 2048 // value.element_size() // block_d))
    windows = 16384 // value.element_size() // (block_area * block_d)
    windows = max(1, min(4096 // block_area**2, windows))
    return (
        dict(BLOCK_D=block_d, CELLS=cells, num_warps=4),
        dict(BLOCK_D=block_d, BLOCK_AREA=block_area, WINDOWS=windows, num_warps=4),
    )


def _num_cells(value: torch.Tensor, stride: int) -> int:
    batch, height, width, _ = value.shape
    return batch * -(-height // stride) * -(-width // stride)


@torch.library.custom_op('volo::fused_outlook_attention', mutates_args=())
def _forward(
    value: torch.Tensor,
    logits: torch.Tensor,
    num_heads: int,
    kernel_size: int,
    stride: int,
    padding: int,
    scale: float,
) -> torch.Tensor:
    value, logits = value.contiguous(), logits.contiguous()
    output = torch.empty_like(value)
    _, height, width, channels = value.shape
    _, rows, columns, _ = logits.shape
    blocks, _ = _launch_parameters(value, num_heads, kernel_size)
    num_cells = _num_cells(value, stride)
    # Triton launches on the current device, which may not be the tensors' device.
    with torch.cuda.device_of(value):
        forward_kernel[(triton.cdiv(num_cells, blocks['CELLS']) * num_heads,)](
            value,
            logits,
            output,
            num_cells,
            height,
            width,
            rows,
            columns,
            num_heads,
            scale,
            K=kernel_size,
            STRIDE=stride,
            PADDING=padding,
            D=channels // num_heads,
            **blocks,
        )
    return output


@torch.library.custom_op('volo::fused_outlook_attention_backward', mutates_args=())
def _backward(
    grad_output: torch.Tensor,
    value: torch.Tensor,
    logits: torch.Tensor,
    num_heads: int,
    kernel_size: int,
    stride: int,
    padding: int,
    scale: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    grad_output, value = grad_output.contiguous(), value.contiguous()
    logits = logits.contiguous()
    grad_value, grad_logits = torch.empty_like(value), torch.empty_like(logits)
    _, height, width, channels = value.shape
    batch, rows, columns, _ = logits.shape
    sizes = (height, width, rows, columns, num_heads, scale)
    window = dict(K=kernel_size, STRIDE=stride, PADDING=padding)
    window['D'] = channels // num_heads
    cell_blocks, window_blocks = _launch_parameters(value, num_heads, kernel_size)
    num_cells, num_windows = _num_cells(value, stride), batch * rows * columns
    log_sums = logits.new_empty(
        (num_windows, num_heads, kernel_size**2), dtype=torch.float32
    )
    with torch.cuda.device_of(value):
        grid = (triton.cdiv(num_windows, window_blocks['WINDOWS']) * num_heads,)
        grad_logits_kernel[grid](
            value,
            logits,
            grad_output,
            grad_logits,
            log_sums,
            num_windows,
            *sizes,
            **window,
            **window_blocks,
        )
        grid = (triton.cdiv(num_cells, cell_blocks['CELLS']) * num_heads,)
        grad_value_kernel[grid](
            logits,
            log_sums,
            grad_output,
            grad_value,
            num_cells,
            *sizes,
            **window,
            **cell_blocks,
        )
    return grad_value, grad_logits


@_forward.register_fake
def _(value: torch.Tensor, logits: torch.Tensor, *options: float) -> torch.Tensor:
    return value.new_empty(value.shape)


@_backward.register_fake
def _(
    grad_output: torch.Tensor,
    value: torch.Tensor,
    logits: torch.Tensor,
    *options: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    return value.new_empty(value.shape), logits.new_empty(logits.shape)


def _save(ctx: Any, inputs: tuple, output: torch.Tensor) -> None:
    value, logits, *ctx.options = inputs
    ctx.save_for_backward(value, logits)


def _differentiate(ctx: Any, grad_output: torch.Tensor) -> tuple:
    return *_backward(grad_output, *ctx.saved_tensors, *ctx.options), *[None] * 5


_forward.register_autograd(_differentiate, setup_context=_save)


def fused_outlook_attention(
    value: torch.Tensor,
    logits: torch.Tensor,
    num_heads: int,
    kernel_size: int,
    stride: int,
    padding: int,
    scale: float,
    dropout_p: float = 0.0,
) -> torch.Tensor:
    """Compute :func:`volo.ops.outlook_attention`, with ``dropout_p`` 0.0 only.

    Softmax and sums are in float32 for all dtypes. The dtypes of ``value`` and
    ``logits`` may differ; gradients have the dtypes of their inputs. For
    ``torch.compile`` this is one operator, and its backward pass another.
    """
    assert dropout_p == 0.0, 'choose_backend gives dropout to another backend'
    return _forward(value, logits, num_heads, kernel_size, stride, padding, scale)
