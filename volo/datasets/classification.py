"""Datasets with one folder per class."""

from pathlib import Path

from mmengine.logging import print_log
from mmengine.registry import DATASETS
from mmpretrain.datasets import CustomDataset, ImageNet

from .checked import ChecksFiles


@DATASETS.register_module()
class ImageFolder(ChecksFiles, CustomDataset):
    """mmpretrain's ``CustomDataset`` with checks: labels follow the sorted folders."""


@DATASETS.register_module()
class ImageNetFolder(ChecksFiles, ImageNet):
    """mmpretrain's ``ImageNet`` with checks, which also takes a subset of ImageNet.

    If the number of class folders is not 1000 and ``metainfo`` gives no classes, the
    classes are the sorted folders.
    """

    def _find_samples(self) -> list[tuple[str, int]]:
        folders = [p for p in Path(self.img_prefix).iterdir() if p.is_dir()]
        imagenet = self.METAINFO['classes']
        if self.CLASSES == imagenet and len(folders) != len(imagenet):
            print_log(
                f'{self.img_prefix} has {len(folders)} class folders, not 1000: labels '
                'follow the sorted folders, not the labels of ImageNet.',
                logger='current',
            )
            self._metainfo.pop('classes')
        return super()._find_samples()
