"""The convolutional stem: an image in, tokens of stride 8 out."""

import torch
import torch.nn.functional as F
from mmcv.cnn import build_norm_layer
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


def convolve_and_normalize(
    x: torch.Tensor, conv: nn.Conv2d, norm: nn.Module
) -> torch.Tensor:
    """Apply a convolution without bias and its norm: in evaluation in one pass.

    A batch norm in evaluation is a factor and a bias for each channel. They go into
    the convolution's weights, anew in every call: that is a few thousand numbers, and
    there is no second copy of the weights to keep in step.

    Args:
        x: Shape (B, in_channels, H, W).
        conv: The convolution.
        norm: What follows it.

    Returns:
        Shape (B, out_channels, H', W').
    """
    folds = isinstance(norm, _BatchNorm) and norm.affine and norm.track_running_stats
    if norm.training or not folds:
        return norm(conv(x))
    factor = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
    weight = conv.weight * factor[:, None, None, None]
    bias = norm.bias - norm.running_mean * factor
    return F.conv2d(x, weight, bias, conv.stride, conv.padding)


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
        """Map an image (B, in_channels, H, W) to tokens (B, H/8, W/8, C)."""
        # Faster convolutions, and tokens that the blocks need not copy.
        x = x.contiguous(memory_format=torch.channels_last)
        layers = iter(self.conv)
        for conv, norm, act in zip(layers, layers, layers, strict=True):
            x = act(convolve_and_normalize(x, conv, norm))
        return self.proj(x).permute(0, 2, 3, 1)
