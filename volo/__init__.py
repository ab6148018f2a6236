"""VOLO on OpenMMLab. ``import volo`` registers everything that configs name.

It also changes three things in the process, see ``docs/architecture.md``: how mmengine
opens checkpoints, how mmengine writes local files, and which models mmpretrain lists.
"""

from .quiet import quiet_imports
from .version import __version__

with quiet_imports():
    from . import datasets, engine, models, token_label
    from .checkpoints.mmengine_loader import register_safe_loader
    from .engine.file_backend import register_atomic_backend
    from .model_zoo import register_models

__all__ = ['__version__', 'datasets', 'engine', 'models', 'token_label']

register_safe_loader()
register_atomic_backend()
register_models()
