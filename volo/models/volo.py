"""The VOLO backbone (Vision Outlooker, arXiv 2106.13112)."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from mmengine.registry import MODELS
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from volo.errors import CheckpointError, ConfigError

from .archs import PATCH_SIZE, backbone_arch, check_out_indices, resolve_arch
from .layers import (
    Block,
    Downsample,
    OutlookAttention,
    SelfAttention,
    init_linear_weights,
)
from .position_embedding import resize_pos_embed
from .stem import Stem
from .weights import compare, fit_stem, load_weights


@MODELS.register_module()
class VOLO(BaseModule):
    """VOLO backbone: stem, position embedding and four stages.

    It is registered in mmengine's root registry, where both mmsegmentation and
    mmpretrain find it after ``import volo``.

    Images may have any height and width. Their last row and column are repeated up to
    a multiple of 16, and the maps are cropped accordingly. The position embedding is
    resampled to the grid of the image, in the forward pass and when a checkpoint of
    another image size is loaded.

    Stochastic depth follows the authors' code, where it does not reach the
    outlookers: transformer block ``i``, counting the outlookers, is skipped with
    probability ``drop_path_rate * i / (number of blocks - 1)``.

    Args:
        arch: Name in :data:`volo.models.ARCHS`, or a dict of the fields of
            :class:`volo.models.Arch`.
        img_size: Height and width of the training images in pixels. They set the size
            of the position embedding.
        in_channels: Channels of the image. Pretrained stems for RGB are adapted.
        out_indices: Stages (0 to 3) whose outputs are returned. Their strides
            are 8, 16, 16 and 16.
        drop_rate: Dropout probability after the position embedding.
        attn_drop_rate: Dropout probability of the attention weights in all blocks.
        drop_path_rate: Probability to skip the last block in training.
        norm_cfg: Normalization in the stem; ``SyncBN`` for small batches.
        norm_eval: Keep the stem's batch norms in evaluation mode when training.
        frozen_stages: Parts that are not trained: -1 for none, 0 for the stem, k for
            the stem and the first k stages. From 2 on, ``downsample`` and
            ``pos_embed`` are among them.
        with_cp: Save memory at the cost of time: compute each block's activations
            again in the backward pass.
        init_cfg: ``dict(type='Pretrained', checkpoint=PATH)`` loads weights of the
            authors, of timm or of this project, strictly. They may have been trained
            at another image size.

    Raises:
        ConfigError: An argument is outside its range.
    """

    def __init__(
        self,
        arch: str | Mapping = 'd1',
        img_size: int | tuple[int, int] = 224,
        in_channels: int = 3,
        out_indices: int | Sequence[int] = (3,),
        drop_rate: float = 0.0,
        attn_drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        norm_cfg: Mapping | None = None,
        norm_eval: bool = False,
        frozen_stages: int = -1,
        with_cp: bool = False,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.arch = resolve_arch(arch)
        backbone_arch.set(self.arch)
        self.num_stages = len(self.arch.depths)
        self.out_indices = check_out_indices(out_indices)
        if not -1 <= frozen_stages <= self.num_stages:
            raise ConfigError(
                f'frozen_stages is -1 to {self.num_stages}, got {frozen_stages}'
            )
        self.frozen_stages = frozen_stages
        self.norm_eval = norm_eval
        self.with_cp = with_cp

        fine_dims, embed_dims = self.arch.embed_dims
        self.stem = Stem(
            in_channels,
            self.arch.stem_channels,
            fine_dims,
            dict(norm_cfg or dict(type='BN')),
        )
        self.downsample = Downsample(fine_dims, embed_dims)
        height, width = (img_size, img_size) if isinstance(img_size, int) else img_size
        self.pos_embed = nn.Parameter(
            torch.zeros(
                1, -(-height // PATCH_SIZE), -(-width // PATCH_SIZE), embed_dims
            )
        )
        self.pos_drop = nn.Dropout(drop_rate)
        self.stages = nn.ModuleList(self._make_stages(attn_drop_rate, drop_path_rate))

        init_linear_weights(self)
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        self.register_load_state_dict_pre_hook(_fit_weights)
        self._freeze_stages()

    def _make_stages(
        self, attn_drop_rate: float, drop_path_rate: float
    ) -> list[nn.Sequential]:
        arch = self.arch
        last_block = sum(arch.depths) - 1
        stages, first_block = [], 0
        for stage, depth in enumerate(arch.depths):
            attention = SelfAttention if stage else OutlookAttention
            dims, heads = arch.embed_dims[stage > 0], arch.num_heads[stage > 0]
            blocks = [
                Block(
                    attention(dims, heads, attn_drop_rate=attn_drop_rate),
                    dims,
                    arch.mlp_ratio,
                    drop_path_rate * block / last_block if stage else 0.0,
                )
                for block in range(first_block, first_block + depth)
            ]
            stages.append(nn.Sequential(*blocks))
            first_block += depth
        return stages

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Compute the feature maps of ``out_indices``.

        Args:
            x: Images, shape (B, in_channels, H, W).

        Returns:
            One map for each of ``out_indices``, shape (B, C, ceil(H / s), ceil(W / s))
            with s = 8 for stage 0 and 16 for the others, channels-last in memory.
        """
        height, width = x.shape[-2:]
        return self.forward_tokens(self.embed(x), (height, width))

    def embed(self, x: torch.Tensor) -> torch.Tensor:
        """Pad images (B, in_channels, H, W) and compute the stem's tokens.

        Returns:
            Tokens of stride 8, shape (B, H / 8, W / 8, C) of the padded images.
        """
        # Zeros would be an edge that no training image has. With edges repeated, mIoU
        # is 1 point higher at 361x481, see docs/segmentation.md.
        # Sizes of traced images: ONNX rounds quotients of negative numbers up.
        bottom, right = (
            (side + PATCH_SIZE - 1) // PATCH_SIZE * PATCH_SIZE - side
            for side in x.shape[-2:]
        )
        return self.stem(F.pad(x, (0, right, 0, bottom), mode='replicate'))

    def forward_tokens(
        self, x: torch.Tensor, img_size: tuple[int, int]
    ) -> tuple[torch.Tensor, ...]:
        """Compute the feature maps of ``out_indices`` from the stem's tokens.

        MixToken mixes the tokens between :meth:`embed` and this method.

        Args:
            x: Tokens of :meth:`embed`.
            img_size: Height and width of the images before padding, in pixels.

        Returns:
            The maps of :meth:`forward`.
        """
        outputs = {}
        for index, blocks in enumerate(self.stages):
            if index == 1:
                x = self.downsample(x)
                grid = (x.shape[1], x.shape[2])
                x = self.pos_drop(x + resize_pos_embed(self.pos_embed, grid))
            for block in blocks.children():
                if self.with_cp and x.requires_grad:
                    x = checkpoint(block, x, use_reentrant=False)
                else:
                    x = block(x)
            if index in self.out_indices:
                stride = PATCH_SIZE if index else PATCH_SIZE // 2
                rows, columns = ((side + stride - 1) // stride for side in img_size)
                # B H W C -> B C H W, a view, channels-last in memory. torch.export
                # takes the size of narrow as it is given, that of a slice as unknown.
                outputs[index] = (
                    x.narrow(1, 0, rows).narrow(2, 0, columns).permute(0, 3, 1, 2)
                )
        return tuple(outputs[index] for index in self.out_indices)

    def get_layer_depth(self, param_name: str, prefix: str = '') -> tuple[int, int]:
        """Return the layer of a parameter, for layer-wise learning rates.

        The stem is layer 0, every block of the four stages is a layer of its own, and
        everything after the backbone is the last. ``downsample`` and ``pos_embed``
        compute the input of stage 1 and belong to its first block.

        Args:
            param_name: Name of the parameter in the whole model.
            prefix: Prefix of the backbone's parameters in the model.

        Returns:
            The layer and the number of layers, for mmpretrain's
            ``LearningRateDecayOptimWrapperConstructor``.
        """
        num_layers = sum(self.arch.depths) + 2
        if not param_name.startswith(prefix):
            return num_layers - 1, num_layers
        part, *rest = param_name.removeprefix(prefix).split('.')
        if part == 'stem':
            return 0, num_layers
        stage, block = map(int, rest[:2]) if part == 'stages' else (1, 0)
        return 1 + sum(self.arch.depths[:stage]) + block, num_layers

    def init_weights(self) -> None:
        """Load the weights of ``init_cfg``, if it names any.

        Raises:
            CheckpointError: The file is missing, broken, unsafe or of another arch,
                or it cannot be downloaded.
            ConfigError: ``prefix`` of ``init_cfg`` is not the backbone's.
        """
        cfg = self.init_cfg
        if not isinstance(cfg, dict) or cfg.get('type') != 'Pretrained':
            super().init_weights()
            return
        if (cfg.get('prefix') or 'backbone.').rstrip('.') != 'backbone':
            raise ConfigError(
                f"VOLO's init_cfg: prefix {cfg['prefix']!r} is not the backbone; "
                'leave prefix out, the layout of the file is recognized'
            )
        load_weights(self, cfg['checkpoint'], use_ema=cfg.get('use_ema', False))
        self.is_init = True

    def train(self, mode: bool = True) -> 'VOLO':
        """Set the mode, which frozen parts, and norms with ``norm_eval``, ignore."""
        super().train(mode)
        self._freeze_stages()
        if mode and self.norm_eval:
            for layer in self.stem.modules():
                if isinstance(layer, _BatchNorm):
                    layer.eval()
        return self

    def _freeze_stages(self) -> None:
        if self.frozen_stages < 0:
            return
        frozen = [self.stem, *self.stages[: self.frozen_stages]]
        if self.frozen_stages > 1:
            frozen += [self.downsample, self.pos_drop]
            self.pos_embed.requires_grad_(False)
        for module in frozen:
            module.eval()
            module.requires_grad_(False)


def _fit_weights(
    backbone: VOLO, state_dict: dict[str, torch.Tensor], prefix: str, *_: Any
) -> None:
    """Fit position embedding and stem, and refuse weights of another arch.

    A hook that runs before weights are loaded. mmengine's loader would load the
    tensors that fit, leave the others random and only log it. ``strict=False`` makes
    no difference: neither mmengine nor torch tells a hook.

    Args:
        backbone: The module to load into.
        state_dict: The weights of the whole model.
        prefix: Prefix of the backbone's weights.

    Raises:
        CheckpointError: Weights are missing, left over or of another shape.
    """
    name = f'{prefix}pos_embed'
    if name in state_dict and state_dict[name].ndim == 4:
        rows, columns = backbone.pos_embed.shape[1:3]
        state_dict[name] = resize_pos_embed(state_dict[name], (rows, columns))
    own = {prefix + key: value for key, value in backbone.state_dict().items()}
    fit_stem(state_dict, own, prefix, 'Loaded weights')
    # Without a prefix, only the names of its parts tell its tensors from others.
    parts = tuple({prefix + key[len(prefix) :].split('.')[0] for key in own})
    theirs = {k: value for k, value in state_dict.items() if k.startswith(parts)}
    # Older files lack this buffer of batch norms.
    counters = {k for k in own if k.endswith('num_batches_tracked')} - theirs.keys()
    mismatch = compare(own, theirs, ignore=counters)
    if mismatch:
        raise CheckpointError(
            f'the weights do not belong to this VOLO ({backbone.arch}), of {len(own)} '
            f'tensors: {mismatch}. Choose the arch that the weights were trained with'
        )
