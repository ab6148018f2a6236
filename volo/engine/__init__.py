"""What the runners need: launch, hooks, metrics, schedules."""

from .hooks import CheckLoadedWeightsHook
from .launch import build_runner, load_config
from .metrics import TopKAccuracy
from .schedules import WarmupCosineLR

__all__ = [
    'CheckLoadedWeightsHook',
    'TopKAccuracy',
    'WarmupCosineLR',
    'build_runner',
    'load_config',
]
