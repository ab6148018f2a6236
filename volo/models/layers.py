"""The layers of VOLO. Tokens are channels-last, (B, H, W, C)."""

import torch
import torch.nn.functional as F
from mmcv.cnn.bricks import DropPath
from torch import nn

from volo.ops import is_exporting, outlook_attention


class TokenLinear(nn.Linear):
    """Linear layer, computed as a 1x1 convolution on a CPU.

    PyTorch computes float32 products with MKL and convolutions with oneDNN, which is
    faster on the CPU of docs/performance.md. Neither form copies the channels-last
    tokens.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (..., in_features) to (..., out_features)."""
        if x.ndim != 4 or x.device.type != 'cpu' or is_exporting():
            return super().forward(x)
        # B H W C -> B C H W -> B H W C', all views.
        weight = self.weight[:, :, None, None]
        return F.conv2d(x.permute(0, 3, 1, 2), weight, self.bias).permute(0, 2, 3, 1)


class Mlp(nn.Sequential):
    """Two linear layers with a GELU between them, on the last axis."""

    def __init__(self, embed_dims: int, hidden_dims: int) -> None:
        super().__init__()
        self.add_module('fc1', TokenLinear(embed_dims, hidden_dims))
        self.add_module('act', nn.GELU())
        self.add_module('fc2', TokenLinear(hidden_dims, embed_dims))


class OutlookAttention(nn.Module):
    """Outlook attention with its projections (paper, section 3.1).

    Args:
        embed_dims: Channels C.
        num_heads: Number of heads.
        kernel_size: Window size K.
        stride: Stride of the windows. The logits are computed from the input, averaged
            to that stride.
        attn_drop_rate: Dropout probability of the attention weights.
    """

    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        kernel_size: int = 3,
        stride: int = 2,
        attn_drop_rate: float = 0.0,
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.kernel_size = kernel_size
        self.stride = stride
        self.attn_drop_rate = attn_drop_rate
        self.scale = (embed_dims // num_heads) ** -0.5
        self.value = TokenLinear(embed_dims, embed_dims, bias=False)
        self.logits = TokenLinear(embed_dims, num_heads * kernel_size**4)
        self.proj = TokenLinear(embed_dims, embed_dims)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, H, W, C) to (B, H, W, C)."""
        # B H W C -> B C H W -> B C h w -> B h w C. ceil_mode keeps the last row and
        # column of odd sizes.
        pooled = F.avg_pool2d(
            x.permute(0, 3, 1, 2), self.stride, self.stride, ceil_mode=True
        ).permute(0, 2, 3, 1)
        x = outlook_attention(
            self.value(x),
            self.logits(pooled),
            num_heads=self.num_heads,
            kernel_size=self.kernel_size,
            stride=self.stride,
            padding=self.kernel_size // 2,
            scale=self.scale,
            dropout_p=self.attn_drop_rate if self.training else 0.0,
        )
        return self.proj(x)


class SelfAttention(nn.Module):
    """Multi-head self-attention over all tokens; ``qkv`` has no bias.

    Args:
        embed_dims: Channels C.
        num_heads: Number of heads.
        attn_drop_rate: Dropout probability of the attention weights.
    """

    def __init__(
        self, embed_dims: int, num_heads: int, attn_drop_rate: float = 0.0
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.attn_drop_rate = attn_drop_rate
        self.qkv = TokenLinear(embed_dims, embed_dims * 3, bias=False)
        self.proj = TokenLinear(embed_dims, embed_dims)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, H, W, C) to (B, H, W, C)."""
        batch, height, width, channels = x.shape
        # B H W 3C -> B N 3 heads head_dim -> 3 B heads N head_dim
        qkv = self.qkv(x).reshape(batch, height * width, 3, self.num_heads, -1)
        query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        x = F.scaled_dot_product_attention(
            query,
            key,
            value,
            dropout_p=self.attn_drop_rate if self.training else 0.0,
        )
        # B heads N head_dim -> B N heads head_dim -> B H W C
        x = x.transpose(1, 2).reshape(batch, height, width, channels)
        return self.proj(x)


class ClassAttention(nn.Module):
    """Attention of the class token to all tokens (CaiT, arXiv 2103.17239).

    Args:
        embed_dims: Channels C.
        num_heads: Number of heads.
    """

    def __init__(self, embed_dims: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.kv = nn.Linear(embed_dims, embed_dims * 2, bias=False)
        self.q = nn.Linear(embed_dims, embed_dims, bias=False)
        self.proj = nn.Linear(embed_dims, embed_dims)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Compute the class token's update (B, 1, C).

        Args:
            x: The class token, then all tokens, shape (B, N, C).
        """
        batch, num_tokens, channels = x.shape
        kv = self.kv(x).reshape(batch, num_tokens, 2, self.num_heads, -1)
        key, value = kv.permute(2, 0, 3, 1, 4).unbind(0)
        query = self.q(x[:, 0]).reshape(batch, self.num_heads, 1, -1)
        x = F.scaled_dot_product_attention(query, key, value)
        return self.proj(x.transpose(1, 2).reshape(batch, 1, channels))


class Block(nn.Module):
    """Residual block with pre-normalization: an attention, then an MLP.

    With :class:`OutlookAttention` it is the paper's Outlooker, with
    :class:`SelfAttention` a transformer block.

    Args:
        attn: The attention, (B, H, W, C) to (B, H, W, C).
        embed_dims: Channels C.
        mlp_ratio: Hidden width of the MLP, as a multiple of C.
        drop_path_rate: Probability to skip each of the two in training.
    """

    def __init__(
        self,
        attn: nn.Module,
        embed_dims: int,
        mlp_ratio: float,
        drop_path_rate: float = 0.0,
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(embed_dims)
        self.attn = attn
        self.drop_path = DropPath(drop_path_rate) if drop_path_rate else nn.Identity()
        self.norm2 = nn.LayerNorm(embed_dims)
        self.mlp = Mlp(embed_dims, int(embed_dims * mlp_ratio))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, H, W, C) to (B, H, W, C)."""
        x = x + self.drop_path(self.attn(self.norm1(x)))
        return x + self.drop_path(self.mlp(self.norm2(x)))


class ClassBlock(nn.Module):
    """Class-attention block, which updates only the class token.

    Args:
        embed_dims: Channels C.
        num_heads: Number of heads.
        mlp_ratio: Hidden width of the MLP, as a multiple of C.
    """

    def __init__(self, embed_dims: int, num_heads: int, mlp_ratio: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(embed_dims)
        self.attn = ClassAttention(embed_dims, num_heads)
        self.norm2 = nn.LayerNorm(embed_dims)
        self.mlp = Mlp(embed_dims, int(embed_dims * mlp_ratio))

    def forward(self, cls_token: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """Update the class token (B, 1, C) from itself and the tokens (B, N, C)."""
        everything = torch.cat([cls_token, tokens], dim=1)
        cls_token = cls_token + self.attn(self.norm1(everything))
        return cls_token + self.mlp(self.norm2(cls_token))


def init_linear_weights(module: nn.Module) -> None:
    """Initialize the linear layers in ``module`` as the authors do."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            nn.init.trunc_normal_(layer.weight, std=0.02)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


class Downsample(nn.Module):
    """Convolution from the outlookers' grid to half its rows and columns.

    Args:
        in_channels: Channels of the outlooker stage.
        out_channels: Channels of the transformer stages.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(in_channels, out_channels, kernel_size=2, stride=2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, H, W, in_channels) to (B, H / 2, W / 2, out_channels)."""
        return self.proj(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
