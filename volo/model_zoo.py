"""The published models, registered with mmpretrain."""

from mmpretrain.apis.model import ModelHub

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
