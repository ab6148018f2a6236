"""Layers in forms that every runtime takes, at any image size.

They replace the originals in a copy of the model before the export. The results are
the same up to the order of sums.
"""

import copy
from typing import Any

import torch
import torch.nn.functional as F
from mmcv.cnn import fuse_conv_bn
from mmseg.models.utils import Upsample
from torch import nn
from torch.overrides import TorchFunctionMode


class AdaptiveAveragePool(nn.Module):
    """Adaptive average pooling as two matrix products.

    ONNX has no such operator: its pooling has the same window for every output.

    Args:
        size: Rows and columns of the output.
    """

    def __init__(self, size: tuple[int, int]) -> None:
        super().__init__()
        self.size = size

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, C, H, W) to (B, C, size[0], size[1])."""
        if self.size == (1, 1):
            return x.mean(dim=(2, 3), keepdim=True)
        rows, columns = (
            pooling_matrix(old, new, x.device).to(x.dtype)
            for old, new in zip(x.shape[2:], self.size, strict=True)
        )
        return rows @ (x @ columns.T)


def pooling_matrix(old: int, new: int, device: torch.device) -> torch.Tensor:
    """Return the matrix (new, old) that averages ``old`` entries to ``new`` bins.

    Args:
        old: Number of entries.
        new: Number of bins. They overlap where ``new`` does not divide ``old``.
        device: Of the matrix.
    """
    entries = torch.arange(old, device=device)
    bins = torch.arange(new, device=device)[:, None]
    first = bins * old // new
    end = ((bins + 1) * old + new - 1) // new
    inside = (entries >= first) & (entries < end)
    return inside.float() / (end - first).float()


class UpsampleByFactor(nn.Module):
    """mmsegmentation's ``Upsample`` without sizes that are Python numbers.

    Args:
        factor: Factor on height and width.
        mode: As in ``F.interpolate``.
        align_corners: As in ``F.interpolate``.
    """

    def __init__(self, factor: int, mode: str, align_corners: bool | None) -> None:
        super().__init__()
        self.factor = factor
        self.options: dict[str, Any] = dict(mode=mode, align_corners=align_corners)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, C, H, W) to (B, C, factor * H, factor * W)."""
        size = [side * self.factor for side in x.shape[2:]]
        return F.interpolate(x, size=size, **self.options)


class FloatLayerNorm(nn.LayerNorm):
    """Layer norm in float32 between layers in float16."""

    def _apply(self, fn: Any, recurse: bool = True) -> 'FloatLayerNorm':
        """Keep the weights when the model around is converted."""
        return self

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalize ``x``, in its shape and dtype."""
        return super().forward(x.float()).to(x.dtype)


class FloatSoftmax(TorchFunctionMode):
    """Compute the softmax of attention in float32 whatever the dtype around it."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        """Replace the fused attention."""
        if func is not F.scaled_dot_product_attention:
            return func(*args, **(kwargs or {}))
        query, key, value = args[:3]
        scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-2, -1)
        return scores.float().softmax(dim=-1).to(value.dtype) @ value


def rewrite(model: nn.Module, half: bool = False) -> nn.Module:
    """Copy a model in evaluation mode and replace its layers for the export.

    Args:
        model: On the CPU.
        half: Convert it to float16, but for its layer norms.
    """
    model = copy.deepcopy(model).eval().requires_grad_(False)
    model = fuse_conv_bn(model)
    for module in list(model.modules()):
        for name, child in module.named_children():
            replacement = _replacement(child, half)
            if replacement is not None:
                setattr(module, name, replacement)
    return model.half() if half else model


def _replacement(module: nn.Module, half: bool) -> nn.Module | None:
    if isinstance(module, nn.AdaptiveAvgPool2d):
        size: Any = module.output_size
        return AdaptiveAveragePool((size, size) if isinstance(size, int) else size)
    if isinstance(module, Upsample) and not module.size:
        return UpsampleByFactor(
            int(module.scale_factor), module.mode, module.align_corners
        )
    if half and isinstance(module, nn.LayerNorm):
        norm = FloatLayerNorm(list(module.normalized_shape), module.eps)
        norm.load_state_dict(module.state_dict())
        return norm.eval().requires_grad_(False)
    return None
