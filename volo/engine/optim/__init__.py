"""Optimizer wrappers, their constructors and learning-rate schedules."""

from .amp import BFloat16OptimWrapper
from .layer_decay import VOLOLayerDecayOptimWrapperConstructor
from .schedules import WarmupCosineLR

__all__ = [
    'BFloat16OptimWrapper',
    'VOLOLayerDecayOptimWrapperConstructor',
    'WarmupCosineLR',
]
