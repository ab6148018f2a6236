"""Train and evaluate: launching, resuming, hooks, metrics, optimizers, schedules."""

from .hooks import (
    CheckLoadedWeightsHook,
    ClassesHook,
    CompileHook,
    InterruptionHook,
    RandomStreamsHook,
    ResumedSettingsHook,
    SafeCheckpointHook,
    SkipNonFiniteHook,
    StuckRankHook,
)
from .launch import build_runner, load_config
from .metrics import TopKAccuracy
from .optim import (
    BFloat16OptimWrapper,
    VOLOLayerDecayOptimWrapperConstructor,
    WarmupCosineLR,
)
from .sharding import CountersAfterValidationHook, VOLOFSDPStrategy

__all__ = [
    'BFloat16OptimWrapper',
    'CheckLoadedWeightsHook',
    'ClassesHook',
    'CompileHook',
    'CountersAfterValidationHook',
    'InterruptionHook',
    'RandomStreamsHook',
    'ResumedSettingsHook',
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
