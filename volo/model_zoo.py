"""The published models, registered with mmpretrain."""

from pathlib import Path
from typing import Any

import mmpretrain
from mmengine.config import Config
from mmengine.model import BaseModel
from mmpretrain.apis.model import ModelHub

from volo.errors import ConfigError, did_you_mean
from volo.paths import package_data_root

#: In ``configs``: the models of ImageNet, and those of Cityscapes and ADE20K.
METAFILES = ('metafile_imagenet.yml', 'metafile_segmentation.yml')


def register_models() -> None:
    """Register the classifiers for ``mmpretrain.get_model`` and ``list_models``."""
    root = package_data_root()
    if not ModelHub.has('volo-d1_imagenet'):
        ModelHub.register_model_index(
            root / 'configs' / METAFILES[0], config_prefix=root
        )


def get_model(
    model: str | Config, pretrained: str | bool = False, **options: Any
) -> BaseModel:
    """Build a classifier, as ``mmpretrain.get_model`` does.

    For features instead of scores, take the head away and name the outputs::

        model = get_model(
            'volo-d1_imagenet', 'd1_224_84.2.pth.tar',
            backbone=dict(out_indices=(0, 1, 2, 3)), head=None,
        )
        maps = model.extract_feat(images, stage='backbone')  # strides 8, 16, 16, 16

    ``mmpretrain.FeatureExtractor(model)`` does the same for image files.

    Args:
        model: Name in ``mmpretrain.list_models('volo*')``, file of a config, or config.
        pretrained: Checkpoint to load.
        options: More arguments of ``mmpretrain.get_model``, and options of the model.

    Raises:
        ConfigError: There is no such model. The message suggests a similar name.
    """
    if isinstance(model, str) and Path(model).suffix != '.py':
        names = mmpretrain.list_models()
        if model.lower() not in names:
            near = did_you_mean(model, [name for name in names if 'volo' in name])
            raise ConfigError(
                f'no model {model!r}.{near or did_you_mean(model, names)} '
                "mmpretrain.list_models('volo*') lists those of volo"
            )
    return mmpretrain.get_model(model, pretrained, **options)
