"""The convolutional stem: a picture in, tokens of stride 8 out."""

import torch
from mmcv.cnn import build_norm_layer
from torch import nn


class Stem(nn.Module):
    """Three convolutions at stride 2 and a 4x4 stride-4 projection.

    Args:
        in_channels: Channels of the picture.
        stem_channels: Channels of the three convolutions.
        embed_dims: Channels C of the tokens.
        norm_cfg: Normalisation after each of the three convolutions.
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
        """Map a picture (B, in_channels, H, W) to tokens (B, H/8, W/8, C)."""
        return self.proj(self.conv(x)).permute(0, 2, 3, 1)
