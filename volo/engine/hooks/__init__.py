"""Hooks of the Runner, one per file, and their helpers."""

from .classes import ClassesHook
from .compiling import CompileHook
from .interruption import InterruptionHook
from .loaded_weights import CheckLoadedWeightsHook
from .non_finite import SkipNonFiniteHook
from .random_streams import RandomStreamsHook
from .resumed_settings import ResumedSettingsHook
from .saving import SafeCheckpointHook
from .watchdog import StuckRankHook

__all__ = [
    'CheckLoadedWeightsHook',
    'ClassesHook',
    'CompileHook',
    'InterruptionHook',
    'RandomStreamsHook',
    'ResumedSettingsHook',
    'SafeCheckpointHook',
    'SkipNonFiniteHook',
    'StuckRankHook',
]
