"""What the runners need: launch, hooks, metrics, optimizers, schedules."""

from .amp import BFloat16OptimWrapper
from .compiling import CompileHook
from .hooks import CheckLoadedWeightsHook, CountersAfterValidationHook
from .interruption import InterruptionHook
from .launch import build_runner, load_config
from .layer_decay import VOLOLayerDecayOptimWrapperConstructor
from .metrics import TopKAccuracy
from .non_finite import SkipNonFiniteHook
from .saving import SafeCheckpointHook
from .schedules import WarmupCosineLR
from .sharding import VOLOFSDPStrategy
from .streams import RandomStreamsHook
from .watchdog import StuckRankHook

__all__ = [
    'BFloat16OptimWrapper',
    'CheckLoadedWeightsHook',
    'CompileHook',
    'CountersAfterValidationHook',
    'InterruptionHook',
    'RandomStreamsHook',
    'SafeCheckpointHook',
    'SkipNonFiniteHook',
    'StuckRankHook',
    'TopKAccuracy',
    'VOLOFSDPStrategy',
    'VOLOLayerDecayOptimWrapperConstructor',
    'WarmupCosineLR',
    'build_runner',
    'load_config',
]
