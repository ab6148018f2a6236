"""Datasets with one folder a class."""

from pathlib import Path

from mmengine.logging import print_log
from mmengine.registry import DATASETS
from mmpretrain.datasets import CustomDataset, ImageNet

from .checked import ChecksFiles


@DATASETS.register_module()
class ImageFolder(ChecksFiles, CustomDataset):
    """mmpretrain's ``CustomDataset``: classes are the folders, in sorted order."""


@DATASETS.register_module()
class ImageNetFolder(ChecksFiles, ImageNet):
    """mmpretrain's ``ImageNet``, which also takes a part of ImageNet.

    With other than 1000 class folders, and no classes given in ``metainfo``, the
    classes are named after the folders and numbered in their order.
    """

    def _find_samples(self) -> list[tuple[str, int]]:
        folders = [p for p in Path(self.img_prefix).iterdir() if p.is_dir()]
        imagenet = self.METAINFO['classes']
        if self.CLASSES == imagenet and len(folders) != len(imagenet):
            print_log(
                f'{self.img_prefix} has {len(folders)} class folders, not 1000: labels '
                "follow the order of the folders, not ImageNet's.",
                logger='current',
            )
            self._metainfo.pop('classes')
        return super()._find_samples()
