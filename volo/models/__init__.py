"""VOLO for the OpenMMLab libraries: backbone, head and their parts."""

from .archs import ARCHS, Arch, resolve_arch
from .position_embedding import resize_pos_embed
from .volo import VOLO
from .volo_head import VOLOHead

__all__ = ['ARCHS', 'VOLO', 'Arch', 'VOLOHead', 'resize_pos_embed', 'resolve_arch']
