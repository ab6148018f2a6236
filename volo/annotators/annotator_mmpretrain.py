"""Annotators from mmpretrain and this project."""

import os
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmpretrain.models import ConvNeXt, ImageClassifier
from mmpretrain.models.heads import (
    LinearClsHead,
    StackedLinearClsHead,
    VisionTransformerClsHead,
)
from mmpretrain.models.necks import GlobalAveragePooling
from mmpretrain.registry import MODELS
from torch import nn

from volo.checkpoints.layouts import convert_state_dict
from volo.checkpoints.reading import read_weights
from volo.engine.launch import load_config, readable_errors
from volo.errors import ConfigError
from volo.models import VOLOHead
from volo.models.archs import PATCH_SIZE

from .annotator import Annotator, Preprocess, load_strictly

_HEADS = (LinearClsHead, StackedLinearClsHead, VisionTransformerClsHead)


class MMPretrainAnnotator(Annotator):
    """A classifier of mmpretrain or of this project.

    Args:
        model: A backbone with global average pooling, a backbone that pools tokens or a
            ConvNeXt, each with a linear head; or a VOLO. Its backbone no longer pools
            afterwards.
        name: Its name in errors.
        input_size: Side of the images in pixels.

    Raises:
        ConfigError: The classifier cannot classify locations.
    """

    def __init__(self, model: ImageClassifier, name: str, input_size: int) -> None:
        head, neck, backbone = model.head, model.neck, model.backbone
        self._is_volo = isinstance(head, VOLOHead)
        if not self._is_volo and type(head) not in _HEADS:
            known = ', '.join(c.__name__ for c in (*_HEADS, VOLOHead))
            raise ConfigError(
                f'{name}: a {type(head).__name__} cannot classify single locations. '
                f'Use a classifier with one of {known}'
            )
        if neck is not None and type(neck) is not GlobalAveragePooling:
            raise ConfigError(
                f'{name}: locations cannot go through a {type(neck).__name__}. Use a '
                'classifier with GlobalAveragePooling'
            )
        if self._is_volo and input_size % PATCH_SIZE:
            # VOLO pads, so its cells would cover more than the image.
            raise ConfigError(
                f'{name}: --input-size {input_size} must be a multiple of {PATCH_SIZE}'
            )
        # If the backbone pools, features stops before that and classify continues.
        self._out_type: str | None = None
        self._norm: nn.Module | None = None
        if getattr(backbone, 'out_type', None) in ('cls_token', 'avg_featmap'):
            self._out_type = backbone.out_type
            self.num_prefix_tokens = getattr(backbone, 'num_extra_tokens', None)
        elif isinstance(backbone, ConvNeXt) and backbone.gap_before_final_norm:
            last = f'norm{max(backbone.out_indices)}'
            self._norm = getattr(backbone, last)
            setattr(backbone, last, nn.Identity())
            backbone.gap_before_final_norm = False
        elif neck is None and not self._is_volo:
            raise ConfigError(
                f'{name}: {type(backbone).__name__} does not return the feature map '
                'before its pooling. Use a classifier with GlobalAveragePooling'
            )
        data = model.data_preprocessor
        normalization: dict[str, Any] = {}
        if data._enable_normalize:
            for key in ('mean', 'std'):
                normalization[key] = tuple(getattr(data, key).flatten().tolist())
        preprocess = Preprocess(input_size, bgr=not data.to_rgb, **normalization)
        model.num_classes = head.num_classes
        super().__init__(model, name, preprocess)

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """Compute the map before the pooling: NCHW or tokens (B, N, C)."""
        backbone = self.model.backbone
        if self._out_type is None:
            return backbone(images)[-1]
        backbone.out_type = 'raw'
        try:
            return backbone(images)[-1]
        finally:
            backbone.out_type = self._out_type

    def classify(self, features: torch.Tensor) -> torch.Tensor:
        """Pool and classify :meth:`features` of any grid: logits (B, num_classes)."""
        if self._out_type is not None:
            features = self.model.backbone._format_output(features, None)
        elif self._norm is not None:
            features = self._norm(features.mean((2, 3), keepdim=True)).flatten(1)
        elif self.model.neck is not None:
            features = self.model.neck(features)
        return self.model.head((features,))

    def classify_cells(self, features: torch.Tensor) -> torch.Tensor:
        """Compute the logits of every location, row by row: (B, h * w, num_classes)."""
        if self._is_volo:
            return self.model.head.class_and_token_logits((features,))[1]
        return super().classify_cells(features)


def build_mmpretrain_annotator(
    config: str | os.PathLike,
    checkpoint: str | os.PathLike | None,
    *,
    input_size: int | None = None,
    device: str | torch.device = 'cpu',
) -> Annotator:
    """Build an annotator from a config of mmpretrain or of this project.

    Args:
        config: Config file.
        checkpoint: A local file, or a URL with its SHA-256, see
            :func:`volo.checkpoints.fetching.locate`; None: random weights, for trials.
        input_size: Side of the images in pixels; None: that of the config's test
            pipeline.
        device: Device of the annotator.

    Raises:
        ConfigError: The config is broken, or its model cannot classify locations.
        CheckpointError: The checkpoint cannot be opened, or is not that of the model.
    """
    cfg = load_config(str(config))
    kind = (cfg.get('model') or {}).get('type')
    found = MODELS.get(kind) if isinstance(kind, str) else kind
    if not isinstance(found, type) or not issubclass(found, ImageClassifier):
        raise ConfigError(
            f'{config}: its model is no classifier, but {kind}. Use the config of an '
            'ImageClassifier'
        )
    cfg.model.setdefault('data_preprocessor', cfg.get('data_preprocessor'))
    with (
        readable_errors(cfg),
        DefaultScope.overwrite_default_scope('mmpretrain'),
    ):
        model = MODELS.build(cfg.model)
    if checkpoint is not None:
        weights = read_weights(checkpoint)
        if isinstance(model.head, VOLOHead):
            weights = convert_state_dict(weights, checkpoint)
        num_classes = getattr(model.head, 'num_classes', 0)
        load_strictly(model, weights, checkpoint, num_classes)
    size = input_size or _test_size(cfg)
    return MMPretrainAnnotator(model.to(device), str(config), size)


def _test_size(cfg: Config) -> int:
    """Return the side in pixels of the images of a config's test pipeline."""
    loader = cfg.get('test_dataloader') or cfg.get('val_dataloader') or {}
    for step in reversed(loader.get('dataset', {}).get('pipeline', [])):
        size = step.get('crop_size') or step.get('scale')
        if size:
            return max(size) if isinstance(size, list | tuple) else size
    raise ConfigError(
        f'{cfg.filename}: no image size in its test pipeline: give --input-size'
    )
