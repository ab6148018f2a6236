"""Training with token labels and MixToken (arXiv 2104.10858), as VOLO's authors do."""

from typing import Any

import numpy as np
import torch
from mmengine.registry import MODELS
from mmpretrain.models import ImageClassifier
from mmpretrain.structures import DataSample

from volo.errors import ConfigError, DataError
from volo.token_label.dataset import TOKEN_LABEL_KEY, TokenLabel
from volo.token_label.targets import (
    SoftTargets,
    ground_truth_targets,
    label_map_targets,
    label_targets,
    mix_targets,
    put_targets,
    select_targets,
)

from .archs import PATCH_SIZE
from .mix_token import draw_mix_mask, mix_tokens
from .volo import VOLO
from .volo_head import VOLOHead


@MODELS.register_module()
class TokenLabelClassifier(ImageClassifier):
    """Classifier that trains every token of VOLO on its own target.

    The targets come from label maps (:class:`volo.token_label.TokenLabelDataset`).
    Without a label map, as in all of mmpretrain's datasets, the smoothed label is the
    target of the class token and of every token. MixToken works in both cases. The
    head's ``loss`` is not used. Prediction is mmpretrain's.

    Args:
        backbone: ``VOLO``, or its config.
        head: ``VOLOHead``, or its config. None: the model only extracts features.
        mix_token_alpha: MixToken keeps a share lam ~ Beta(alpha, alpha) of each
            sample; 0 turns it off.
        label_smooth_val: Label smoothing, also of the targets from label maps.
        ground_truth: Mix the class token's targets with the label, the published
            variant for fine-tuning.
        kwargs: ``neck``, ``data_preprocessor`` and the other arguments of mmpretrain's
            ``ImageClassifier``.

    Raises:
        ConfigError: The backbone or the head is of another class, their ``arch``
            differs, or ``train_cfg`` has mixup or cutmix.
    """

    def __init__(
        self,
        backbone: dict | VOLO,
        head: dict | VOLOHead | None,
        mix_token_alpha: float = 1.0,
        label_smooth_val: float = 0.1,
        ground_truth: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(backbone=backbone, head=head, **kwargs)
        if not isinstance(self.backbone, VOLO) or not isinstance(
            self.head, VOLOHead | None
        ):
            raise ConfigError(
                'TokenLabelClassifier takes the backbone VOLO and the head VOLOHead, '
                f'got {type(self.backbone).__name__} and {type(self.head).__name__}'
            )
        if self.head and not self.with_neck and self.head.arch != self.backbone.arch:
            raise ConfigError(
                f'the backbone has arch {self.backbone.arch}, the head '
                f'{self.head.arch}: remove arch from the head'
            )
        if getattr(self.data_preprocessor, 'batch_augments', None):
            raise ConfigError(
                'train_cfg.augments mixes images, but token labels cannot follow: '
                'use MixToken instead (mix_token_alpha) and remove augments'
            )
        self.mix_token_alpha = mix_token_alpha
        self.label_smooth_val = label_smooth_val
        self.ground_truth = ground_truth

    def loss(
        self, inputs: torch.Tensor, data_samples: list[DataSample]
    ) -> dict[str, torch.Tensor]:
        """Compute ``loss_cls`` and ``loss_token`` of images (B, 3, H, W).

        Raises:
            ConfigError: There is no head.
            DataError: Label maps differ in shape, or name classes beyond the head's.
        """
        if self.head is None:
            raise ConfigError('head is None: the model extracts features, not trains')
        height, width = inputs.shape[-2:]
        grid = (-(-height // PATCH_SIZE), -(-width // PATCH_SIZE))
        cls_targets, token_targets = self.make_targets(data_samples, inputs, grid)
        mask = torch.zeros(grid, dtype=torch.bool)
        if self.mix_token_alpha > 0:
            mask = draw_mix_mask(grid, self.mix_token_alpha)
        return self.loss_from_targets(inputs, cls_targets, token_targets, mask)

    def loss_from_targets(
        self,
        inputs: torch.Tensor,
        cls_targets: SoftTargets,
        token_targets: SoftTargets,
        mask: torch.Tensor,
    ) -> dict[str, torch.Tensor]:
        """Compute the losses from targets and the mask of MixToken.

        Args:
            inputs: Images (B, 3, H, W).
            cls_targets: Of the class token, before mixing, shape (B,).
            token_targets: Of the tokens, before mixing, shape (B, N).
            mask: Mask of :func:`volo.models.mix_token.draw_mix_mask`.

        Returns:
            ``loss_cls`` and ``loss_token``, weighted; the loss is their sum.
        """
        tokens = mix_tokens(self.backbone.embed(inputs), mask)
        height, width = inputs.shape[-2:]
        feats = self.backbone.forward_tokens(tokens, (height, width))
        if self.with_neck:
            feats = self.neck(feats)
        kept = 1 - mask.float().mean()
        return self.head.soft_loss(
            feats,
            mix_targets(cls_targets, cls_targets.flip(), kept),
            select_targets(
                mask.flatten().to(inputs.device), token_targets.flip(), token_targets
            ),
        )

    @torch.compiler.disable  # Python and numpy, with new numbers in every batch.
    @torch.no_grad()
    def make_targets(
        self,
        data_samples: list[DataSample],
        inputs: torch.Tensor,
        grid: tuple[int, int],
    ) -> tuple[SoftTargets, SoftTargets]:
        """Make the targets of a batch.

        Args:
            data_samples: With ``gt_label``, and ``token_label`` if there is a map.
            inputs: The images; their size and device count.
            grid: Rows and columns of tokens.

        Returns:
            Targets of the class token (B,) and of the tokens (B, rows * columns).
        """
        num_classes, smoothing = self.head.num_classes, self.label_smooth_val
        labels = torch.cat([sample.gt_label for sample in data_samples])
        labels = labels.to(inputs.device)
        cls_targets = label_targets(labels, num_classes, smoothing)
        token_targets = label_targets(
            labels[:, None].expand(-1, grid[0] * grid[1]), num_classes, smoothing
        )
        chosen = [i for i, s in enumerate(data_samples) if TOKEN_LABEL_KEY in s]
        if chosen:
            maps = stack_label_maps([data_samples[i] for i in chosen], num_classes)
            scores, classes = (
                torch.as_tensor(part).to(inputs.device, non_blocking=True)
                for part in (maps.scores, maps.classes)
            )
            # The tokens cover the padded image, whose sides are multiples of 16.
            height, width = inputs.shape[-2:]
            padded = np.diag(
                [grid[1] * PATCH_SIZE / width, grid[0] * PATCH_SIZE / height, 1]
            )
            of_tokens, of_images = (
                label_map_targets(
                    scores,
                    classes,
                    maps.matrix @ cover,
                    maps.frames @ cover,
                    cells,
                    num_classes,
                    smoothing,
                )
                for cover, cells in ((padded, grid), (np.eye(3), (1, 1)))
            )
            of_images = SoftTargets(*(part[:, 0] for part in of_images))
            index = torch.tensor(chosen, device=inputs.device)
            cls_targets = put_targets(cls_targets, index, of_images)
            token_targets = put_targets(token_targets, index, of_tokens)
        if self.ground_truth:
            cls_targets = ground_truth_targets(
                cls_targets, labels, smoothing, num_classes
            )
        return cls_targets, token_targets


def stack_label_maps(data_samples: list[DataSample], num_classes: int) -> TokenLabel:
    """Stack the label maps of samples that have one.

    Args:
        data_samples: Each with ``token_label``.
        num_classes: Number of classes of the head.

    Returns:
        ``scores`` and ``classes`` (B, k, h, w), ``matrix`` (B, 3, 3) and ``frames``
        (B, n, 3, 3), n the most frames of a sample. Samples with fewer are filled up
        with the frame of the image itself.

    Raises:
        DataError: Their shapes differ, or a class is not one of the head's.
    """
    labels = [sample.get(TOKEN_LABEL_KEY) for sample in data_samples]
    for label, sample in zip(labels, data_samples, strict=True):
        name = sample.get('img_path', 'an image')
        if label.scores.shape != labels[0].scores.shape:
            raise DataError(
                f'the label map of {name} has shape {label.scores.shape} (k, h, w), '
                f'another one {labels[0].scores.shape}: give all the same shape'
            )
        if label.classes.max() >= num_classes:
            raise DataError(
                f'the label map of {name} has class {label.classes.max()}, but the '
                f"head's num_classes is {num_classes}: set it to the number of "
                'classes of the label maps'
            )
    most = max(len(label.frames) for label in labels)
    frames = np.tile(np.eye(3), (len(labels), most, 1, 1))
    for own, label in zip(frames, labels, strict=True):
        own[: len(label.frames)] = label.frames
    return TokenLabel(
        np.stack([label.scores for label in labels]),
        np.stack([label.classes for label in labels]).astype(np.int32),
        np.stack([label.matrix for label in labels]),
        frames,
    )
