"""The models that come with configs: mmpretrain's hub, and the table of them."""

from mmpretrain.apis.model import ModelHub

from volo.paths import package_data_root

METAFILES = ('metafile_imagenet.yml', 'metafile_segmentation.yml')


def register_models() -> None:
    """Let ``mmpretrain.get_model`` and ``list_models`` find the classifiers."""
    root = package_data_root()
    if not ModelHub.has('volo-d1_imagenet'):
        ModelHub.register_model_index(
            root / 'configs' / METAFILES[0], config_prefix=root
        )
