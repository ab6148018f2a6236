"""VOLO on OpenMMLab. ``import volo`` registers everything that configs name."""

from . import datasets, engine, models
from .version import __version__

__all__ = ['__version__', 'datasets', 'engine', 'models']
