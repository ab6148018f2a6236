"""VOLO on OpenMMLab. ``import volo`` registers everything that configs name."""

from . import datasets, engine, models, token_label
from .mmengine_loading import register_safe_loader
from .model_zoo import register_models
from .version import __version__

__all__ = ['__version__', 'datasets', 'engine', 'models', 'token_label']

register_safe_loader()
register_models()
