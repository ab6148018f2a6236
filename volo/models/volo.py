"""The VOLO backbone (Vision Outlooker, arXiv 2106.13112)."""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from mmengine.registry import MODELS
from mmengine.utils.dl_utils.parrots_wrapper import _BatchNorm
from torch import nn
from torch.utils.checkpoint import checkpoint

from volo.errors import CheckpointError, ConfigError

from .archs import PATCH_SIZE, Arch, resolve_arch
from .layers import (
    Block,
    Downsample,
    OutlookAttention,
    SelfAttention,
    init_linear_weights,
)
from .position_embedding import resize_pos_embed
from .stem import Stem
from .weights import compare, load_weights

#: What batch norms count; older files lack it.
BATCH_COUNTER = 'num_batches_tracked'


@MODELS.register_module()
class VOLO(BaseModule):
    """VOLO backbone: stem, position embedding and four stages.

    It is registered in mmengine's root registry: mmsegmentation and mmpretrain
    both find it there after ``import volo``.

    Images of any height and width are taken: they are padded with zeros, right
    and below, to a multiple of 16, and the maps are cropped again. The position
    embedding is resampled when the grid is not the one it was made for, both on
    the fly and when a checkpoint of another size is loaded.

    Stochastic depth follows the authors' code, which does not reach the
    outlookers: transformer block ``i``, counting the outlookers, skips with
    probability ``drop_path_rate * i / (number of blocks - 1)``.

    Args:
        arch: Name in :data:`volo.models.ARCHS` (``'d1'`` to ``'d5'``, ``'tiny'``),
            or a dict of the fields of :class:`volo.models.Arch`.
        img_size: Height and width of the training images in pixels, which
            size the position embedding.
        in_channels: Channels of the image.
        out_indices: Stages (0 to 3) whose outputs are returned. Their strides
            are 8, 16, 16 and 16.
        drop_rate: Dropout after the position embedding.
        attn_drop_rate: Dropout of the attention weights in all blocks.
        drop_path_rate: Stochastic depth of the last block.
        norm_cfg: Normalization in the stem; ``SyncBN`` for small batches.
        norm_eval: Keep the stem's batch norms in evaluation mode when training.
        frozen_stages: Parts that are not trained: -1 none, 0 the stem, k the stem
            and the first k stages (stage 2 brings the position embedding along).
        with_cp: Trade compute for memory: recompute each block's activations in
            the backward pass.
        init_cfg: ``dict(type='Pretrained', checkpoint=PATH)`` takes weights of
            the authors, of timm or of this project, strictly, whatever image
            size they were trained at.

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
        self.arch: Arch = resolve_arch(arch)
        self.num_stages = len(self.arch.depths)
        self.out_indices = self._check_out_indices(out_indices)
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
        self._register_load_state_dict_pre_hook(self._before_load)
        self._freeze_stages()

    def _check_out_indices(self, out_indices: int | Sequence[int]) -> tuple[int, ...]:
        indices = (out_indices,) if isinstance(out_indices, int) else tuple(out_indices)
        allowed = range(-self.num_stages, self.num_stages)
        if not indices or any(index not in allowed for index in indices):
            raise ConfigError(
                f'out_indices names stages 0 to {self.num_stages - 1}, got {indices}'
            )
        return tuple(index % self.num_stages for index in indices)

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
        return self.forward_tokens(self.embed(x), tuple(x.shape[-2:]))

    def embed(self, x: torch.Tensor) -> torch.Tensor:
        """Pad images (B, in_channels, H, W) and embed them with the stem.

        Returns:
            Tokens of stride 8, shape (B, H/8, W/8, C) of the padded image.
        """
        height, width = x.shape[-2:]
        return self.stem(F.pad(x, (0, -width % PATCH_SIZE, 0, -height % PATCH_SIZE)))

    def forward_tokens(
        self, x: torch.Tensor, img_size: tuple[int, int]
    ) -> tuple[torch.Tensor, ...]:
        """Continue from the stem's tokens: the place to mix them, as MixToken does.

        Args:
            x: From :meth:`embed`.
            img_size: Height and width of the image before it was padded.

        Returns:
            As :meth:`forward`.
        """
        outputs = {}
        for index, blocks in enumerate(self.stages):
            if index == 1:
                x = self.downsample(x)
                x = self.pos_drop(x + resize_pos_embed(self.pos_embed, x.shape[1:3]))
            for block in blocks:
                if self.with_cp and x.requires_grad:
                    x = checkpoint(block, x, use_reentrant=False)
                else:
                    x = block(x)
            if index in self.out_indices:
                stride = PATCH_SIZE if index else PATCH_SIZE // 2
                rows, columns = (-(-side // stride) for side in img_size)
                # B H W C -> B C H W without a copy: channels-last in memory.
                outputs[index] = x[:, :rows, :columns].permute(0, 3, 1, 2)
        return tuple(outputs[index] for index in self.out_indices)

    def get_layer_depth(self, param_name: str, prefix: str = '') -> tuple[int, int]:
        """Tell in which layer a parameter is, for layer-wise learning rates.

        The stem is layer 0, every block of the four stages is a layer of its own,
        and what follows the backbone is the last. ``downsample`` and ``pos_embed``
        belong to the first block of stage 1, whose input they make.

        Args:
            param_name: Name of the parameter in the whole model.
            prefix: Of the backbone's parameters in the model.

        Returns:
            The layer and the number of layers, as mmpretrain's
            ``LearningRateDecayOptimWrapperConstructor`` asks for them.
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
        """Load the weights that ``init_cfg`` names, if it does.

        Raises:
            CheckpointError: The file is missing, broken, unsafe or of another arch,
                or it cannot be fetched.
            ConfigError: ``prefix`` names another part than the backbone.
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
        self._is_init = True

    def train(self, mode: bool = True) -> 'VOLO':
        """Set the mode, keeping frozen parts and, on request, norms in evaluation."""
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

    def _before_load(
        self,
        state_dict: dict[str, torch.Tensor],
        prefix: str,
        local_metadata: dict,
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        """Resample the position embedding, and refuse another arch's weights.

        mmengine's loader carries on with what fits and logs the rest; a backbone
        that is half random must not get as far as that. ``strict=False`` given to
        torch itself keeps torch's meaning.
        """
        name = f'{prefix}pos_embed'
        if name in state_dict and state_dict[name].ndim == 4:
            state_dict[name] = resize_pos_embed(
                state_dict[name], self.pos_embed.shape[1:3]
            )
        if not strict:
            return
        own = {prefix + key: value for key, value in self.state_dict().items()}
        # A bare backbone has no prefix: its parts tell its tensors from a head's.
        parts = tuple({prefix + key[len(prefix) :].split('.')[0] for key in own})
        theirs = {k: value for k, value in state_dict.items() if k.startswith(parts)}
        counters = {k for k in own.keys() - theirs.keys() if k.endswith(BATCH_COUNTER)}
        mismatch = compare(own, theirs, ignore=counters)
        if mismatch:
            raise CheckpointError(
                f'the weights do not belong to this VOLO ({self.arch}), of {len(own)} '
                f'tensors: {mismatch}. Choose the arch that the weights were trained '
                'with'
            )
