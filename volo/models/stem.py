"""The convolutional stem, from images to tokens of stride 8."""

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from mmcv.cnn import build_norm_layer
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from volo.ops import is_exporting


def convolve_and_normalize(
    x: torch.Tensor, conv: nn.Conv2d, norm: nn.Module
) -> torch.Tensor:
    """Apply a convolution without bias and its norm, in evaluation in one pass.

    In evaluation, a batch norm is a factor and a bias for each channel. They are
    folded into the convolution's weights in every call: a few thousand numbers, and no
    second copy of the weights that could go out of date.

    Args:
        x: Shape (B, in_channels, H, W).
        conv: The convolution.
        norm: The norm after it, of any class.

    Returns:
        Shape (B, out_channels, H', W').
    """
    if not norm.training and isinstance(norm, _BatchNorm) and norm.affine:
        mean, variance = norm.running_mean, norm.running_var
        if mean is not None and variance is not None:
            factor = norm.weight * torch.rsqrt(variance + norm.eps)
            weight = conv.weight * factor[:, None, None, None]
            bias = norm.bias - mean * factor
            return F.conv2d(x, weight, bias, conv.stride, conv.padding)
    return norm(conv(x))


class Stem(nn.Module):
    """Three convolutions at stride 2 and a 4x4 stride-4 projection.

    Args:
        in_channels: Channels of the image.
        stem_channels: Channels of the three convolutions.
        embed_dims: Channels C of the tokens.
        norm_cfg: Normalization after each of the three convolutions.
    """

    def __init__(
        self, in_channels: int, stem_channels: int, embed_dims: int, norm_cfg: dict
    ) -> None:
        super().__init__()
        layers = []
        for kernel_size, stride in ((7, 2), (3, 1), (3, 1)):
            layers += [
                nn.Conv2d(
                    in_channels,
                    stem_channels,
                    kernel_size,
                    stride=stride,
                    padding=kernel_size // 2,
                    bias=False,
                ),
                build_norm_layer(norm_cfg, stem_channels)[1],
                nn.ReLU(inplace=True),
            ]
            in_channels = stem_channels
        self.conv = nn.Sequential(*layers)
        self.proj = nn.Conv2d(stem_channels, embed_dims, kernel_size=4, stride=4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map images (B, in_channels, H, W) to tokens (B, H / 8, W / 8, C)."""
        if not is_exporting():  # A graph would hold for channels-last batches alone.
            # Makes convolutions faster, and the tokens contiguous.
            x = x.contiguous(memory_format=torch.channels_last)
        layers: Iterator[Any] = iter(self.conv)
        for conv, norm, act in zip(layers, layers, layers, strict=True):
            x = act(convolve_and_normalize(x, conv, norm))
        return self.proj(x).permute(0, 2, 3, 1)
