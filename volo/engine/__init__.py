"""What the runners need: launch, hooks, metrics, optimizers, schedules."""

from .hooks import CheckLoadedWeightsHook
from .launch import build_runner, load_config
from .layer_decay import VOLOLayerDecayOptimWrapperConstructor
from .metrics import TopKAccuracy
from .schedules import WarmupCosineLR

__all__ = [
    'CheckLoadedWeightsHook',
    'TopKAccuracy',
    'VOLOLayerDecayOptimWrapperConstructor',
    'WarmupCosineLR',
    'build_runner',
    'load_config',
]
