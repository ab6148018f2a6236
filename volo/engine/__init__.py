"""What the runners need: launch, hooks, metrics."""

from .hooks import CheckLoadedWeightsHook
from .launch import build_runner, load_config
from .metrics import TopKAccuracy

__all__ = ['CheckLoadedWeightsHook', 'TopKAccuracy', 'build_runner', 'load_config']
