"""A classifier as users build it from a config."""

from mmengine.registry import DefaultScope
from mmpretrain.models import ImageClassifier

import volo.models  # noqa: F401  registers what is named below


def build(
    arch: str = 'tiny', num_classes: int = 10, img_size: int = 64
) -> ImageClassifier:
    """Build a classifier, whatever default scope earlier tests left behind."""
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        return ImageClassifier(
            backbone=dict(type='VOLO', arch=arch, img_size=img_size),
            head=dict(type='VOLOHead', arch=arch, num_classes=num_classes),
        )
