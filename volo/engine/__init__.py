"""What the runners need: launch, hooks, metrics, optimizers, schedules."""

from .amp import BFloat16OptimWrapper
from .compiling import CompileHook
from .hooks import CheckLoadedWeightsHook, CountersAfterValidationHook
from .launch import build_runner, load_config
from .layer_decay import VOLOLayerDecayOptimWrapperConstructor
from .metrics import TopKAccuracy
from .schedules import WarmupCosineLR
from .sharding import VOLOFSDPStrategy

__all__ = [
    'BFloat16OptimWrapper',
    'CheckLoadedWeightsHook',
    'CompileHook',
    'CountersAfterValidationHook',
    'TopKAccuracy',
    'VOLOFSDPStrategy',
    'VOLOLayerDecayOptimWrapperConstructor',
    'WarmupCosineLR',
    'build_runner',
    'load_config',
]
