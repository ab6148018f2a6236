"""VOLO for the OpenMMLab libraries: backbone, head and their parts."""

from .archs import ARCHS, Arch, resolve_arch
from .losses import soft_cross_entropy
from .position_embedding import resize_pos_embed
from .token_label_classifier import TokenLabelClassifier
from .volo import VOLO
from .volo_head import VOLOHead
from .weights import load_weights

__all__ = [
    'ARCHS',
    'VOLO',
    'Arch',
    'TokenLabelClassifier',
    'VOLOHead',
    'load_weights',
    'resize_pos_embed',
    'resolve_arch',
    'soft_cross_entropy',
]
