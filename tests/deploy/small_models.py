"""Models of two small blocks, with random weights that make predictions vary."""

from typing import Any

import torch
from mmengine.registry import MODELS, DefaultScope
from torch import nn

import volo  # noqa: F401  registers what is named below

ARCH = dict(depths=(1, 1, 0, 0), embed_dims=(16, 32), num_heads=(2, 2), stem_channels=8)
PIXELS = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375])
NORM = dict(type='BN')

_FOUR = dict(in_channels=[16, 32, 32, 32], in_index=[0, 1, 2, 3])
#: Decode heads, by name.
DECODE_HEADS: dict[str, dict[str, Any]] = dict(
    UPerHead=dict(**_FOUR, pool_scales=(1, 3)),
    FCNHead=dict(in_channels=32, in_index=2, num_convs=1),
    SegformerHead=_FOUR,
    FPNHead=dict(**_FOUR, feature_strides=[8, 16, 16, 16]),
)


def build_segmentor(
    head: str = 'UPerHead',
    arch: Any = ARCH,
    preprocessor: dict | None = None,
    **options,
) -> nn.Module:
    """Make a segmentor of 5 classes for images around 64 pixels."""
    head_cfg = dict(
        type=head, channels=16, num_classes=5, norm_cfg=NORM, **DECODE_HEADS[head]
    )
    cfg = dict(
        type='EncoderDecoder',
        data_preprocessor=dict(type='SegDataPreProcessor', **PIXELS, bgr_to_rgb=True)
        | (preprocessor or {}),
        backbone=dict(type='VOLO', arch=arch, img_size=64, out_indices=(0, 1, 2, 3)),
        decode_head=head_cfg | options,
        test_cfg=dict(mode='whole'),
    )
    return _build('mmseg', cfg)


def build_classifier(head: str = 'VOLOHead', arch: Any = ARCH) -> nn.Module:
    """Make a classifier of 5 classes for images around 64 pixels."""
    cfg = dict(
        type='ImageClassifier',
        data_preprocessor=dict(type='ClsDataPreprocessor', **PIXELS, to_rgb=True),
        backbone=dict(type='VOLO', arch=arch, img_size=64),
        head=dict(type='VOLOHead', arch=arch, num_classes=5),
    )
    if head == 'LinearClsHead':
        cfg['neck'] = dict(type='GlobalAveragePooling')
        cfg['head'] = dict(type=head, in_channels=32, num_classes=5)
    return _build('mmpretrain', cfg)


def _build(scope: str, cfg: dict) -> nn.Module:
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope(scope):
        model = MODELS.build(cfg).eval()
    for name, tensor in model.state_dict().items():
        if name.endswith('running_var'):
            tensor.uniform_(0.5, 2)
        elif tensor.is_floating_point():
            tensor += 0.1 * torch.randn_like(tensor)
    return model
