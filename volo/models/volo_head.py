"""VOLO's classification head: class attention and two linear classifiers."""

from collections.abc import Mapping
from typing import Any

import torch
from mmengine.registry import MODELS
from mmpretrain.models.heads import ClsHead
from mmpretrain.structures import DataSample
from torch import nn

from volo.errors import ConfigError
from volo.token_label.targets import SoftTargets

from .archs import ARCHS, backbone_arch, resolve_arch
from .layers import ClassBlock, init_linear_weights
from .losses import soft_cross_entropy

_NUM_CLASS_BLOCKS = 2


@MODELS.register_module()
class VOLOHead(ClsHead):
    """Class token, two class-attention blocks, class head and per-token head.

    In training, the class token and every token are classified. With plain labels the
    (smoothed) label is the target of both. In prediction, the logits are the class
    logits plus half the maximum of the token logits over all tokens.

    Args:
        arch: The ``arch`` of the backbone. Default: that of the :class:`VOLO` that was
            built last, which is the backbone, because OpenMMLab's models build their
            backbone before their head; ``'d1'`` if there is none.
        num_classes: Number of classes.
        dense_weight: Weight of the token loss.
        cls_weight: Weight of the class loss.
        loss: Loss of logits (N, num_classes) against labels (N,) or soft labels
            (N, num_classes).
        init_cfg: mmengine's initialization config.
    """

    def __init__(
        self,
        arch: str | Mapping[str, Any] | None = None,
        num_classes: int = 1000,
        dense_weight: float = 0.5,
        cls_weight: float = 1.0,
        loss: dict | nn.Module | None = None,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(
            loss=loss or dict(type='mmpretrain.CrossEntropyLoss'), init_cfg=init_cfg
        )
        self.arch = backbone_arch.get() if arch is None else resolve_arch(arch)
        embed_dims, num_heads = self.arch.embed_dims[-1], self.arch.num_heads[-1]
        self.num_classes = num_classes
        self.dense_weight = dense_weight
        self.cls_weight = cls_weight
        self.cls_token = nn.Parameter(torch.zeros(1, 1, embed_dims))
        self.blocks = nn.ModuleList(
            ClassBlock(embed_dims, num_heads, self.arch.mlp_ratio)
            for _ in range(_NUM_CLASS_BLOCKS)
        )
        self.norm = nn.LayerNorm(embed_dims)
        self.fc = nn.Linear(embed_dims, num_classes)
        self.aux_fc = nn.Linear(embed_dims, num_classes)
        init_linear_weights(self)
        nn.init.trunc_normal_(self.cls_token, std=0.02)

    def pre_logits(self, feats: tuple[torch.Tensor, ...]) -> torch.Tensor:
        """Return the normalized tokens (B, 1 + H * W, C), the class token first.

        Raises:
            ConfigError: The maps have another number of channels than ``arch``.
        """
        return torch.cat(self._normalized_tokens(feats), dim=1)

    def _normalized_tokens(
        self, feats: tuple[torch.Tensor, ...]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the class token (B, 1, C) and the others (B, H * W, C), normalized."""
        channels = feats[-1].shape[1]
        if channels != self.arch.embed_dims[-1]:
            names = [n for n, arch in ARCHS.items() if arch.embed_dims[-1] == channels]
            raise ConfigError(
                f'VOLOHead has arch {self.arch}, but the backbone returns {channels} '
                f'channels, as {" or ".join(names) or "no arch of the table"} does: '
                'remove arch from the head, or set it to the arch of the backbone'
            )
        tokens = feats[-1].flatten(2).transpose(1, 2)  # B C H W -> B N C
        cls_token = self.cls_token.expand(tokens.shape[0], -1, -1)
        for block in self.blocks:
            cls_token = block(cls_token, tokens)
        return self.norm(cls_token), self.norm(tokens)

    def class_and_token_logits(
        self, feats: tuple[torch.Tensor, ...]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Classify the class token and every token.

        Args:
            feats: Maps of the backbone; only the last, (B, C, H, W), is used.

        Returns:
            Class logits (B, num_classes) and token logits (B, H * W, num_classes),
            tokens row by row.
        """
        cls_token, tokens = self._normalized_tokens(feats)
        return self.fc(cls_token[:, 0]), self.aux_fc(tokens)

    def forward(self, feats: tuple[torch.Tensor, ...]) -> torch.Tensor:
        """Return the logits used for prediction, (B, num_classes)."""
        cls_logits, token_logits = self.class_and_token_logits(feats)
        return cls_logits + 0.5 * token_logits.amax(dim=1)

    def loss(
        self,
        feats: tuple[torch.Tensor, ...],
        data_samples: list[DataSample],
        **kwargs: Any,
    ) -> dict[str, torch.Tensor]:
        """Compute the class loss and the token loss from plain or soft labels.

        Args:
            feats: Maps of the backbone.
            data_samples: With ``gt_label``, or with ``gt_score`` (num_classes,), for
                instance from a batch augmentation.
            kwargs: Passed to the loss module.

        Returns:
            ``loss_cls`` and ``loss_token``, weighted; the loss is their sum.
        """
        if 'gt_score' in data_samples[0]:
            target = torch.stack([sample.gt_score for sample in data_samples])
        else:
            target = torch.cat([sample.gt_label for sample in data_samples])
        cls_logits, token_logits = self.class_and_token_logits(feats)
        token_target = target.repeat_interleave(token_logits.shape[1], dim=0)
        token_loss = self.loss_module(
            token_logits.flatten(0, 1), token_target, **kwargs
        )
        return dict(
            loss_cls=self.cls_weight * self.loss_module(cls_logits, target, **kwargs),
            loss_token=self.dense_weight * token_loss,
        )

    def soft_loss(
        self,
        feats: tuple[torch.Tensor, ...],
        cls_targets: SoftTargets,
        token_targets: SoftTargets,
    ) -> dict[str, torch.Tensor]:
        """Compute the cross-entropies against soft targets.

        Args:
            feats: Maps of the backbone.
            cls_targets: Of the class token, shape (B,).
            token_targets: Of the tokens, shape (B, H * W), row by row.

        Returns:
            ``loss_cls`` and ``loss_token``, weighted; the loss is their sum.
        """
        cls_logits, token_logits = self.class_and_token_logits(feats)
        cls_loss = soft_cross_entropy(cls_logits, cls_targets).mean()
        token_loss = soft_cross_entropy(token_logits, token_targets).mean()
        return dict(
            loss_cls=self.cls_weight * cls_loss,
            loss_token=self.dense_weight * token_loss,
        )
