"""Datasets of images and masks."""

from collections.abc import Mapping, Sequence
from typing import Any

from mmengine.registry import DATASETS
from mmseg.datasets import ADE20KDataset, BaseSegDataset, CityscapesDataset

from volo.errors import ConfigError

from .checked import ChecksFiles


class _ChecksMasks(ChecksFiles):
    """Mixin that tells ``CheckSegmentationSample`` which labels a mask may hold."""

    def get_data_info(self, idx: int) -> dict:
        info = super().get_data_info(idx)
        info['num_classes'] = len(self.metainfo['classes'])
        info['ignore_index'] = self.ignore_index
        return info


@DATASETS.register_module()
class SegmentationDataset(_ChecksMasks, BaseSegDataset):
    """A folder of images and a folder of masks with the same names.

    Args:
        void_labels: Mask values that mean "not labeled". They become
            ``ignore_index``, 255 by default.
        label_map: Labels by mask value, such as ``{255: 1}`` for masks of 0 and 255.
            Other values are labels already.
        kwargs: As in mmseg's ``BaseSegDataset``: ``data_root``, ``data_prefix``,
            ``img_suffix``, ``seg_map_suffix``, ``metainfo`` with ``classes`` and
            ``palette``, ``pipeline`` and so on.
    """

    def __init__(
        self,
        void_labels: Sequence[int] = (),
        label_map: Mapping[int, int] | None = None,
        **kwargs: Any,
    ) -> None:
        # mmseg's own label_map needs classes in METAINFO, which this class lacks.
        self._given_map = dict(label_map or {})
        self.void_labels = tuple(void_labels)
        super().__init__(**kwargs)

    def load_data_list(self) -> list[dict]:
        """List images and masks.

        Raises:
            ConfigError: ``metainfo`` has no classes.
        """
        if not self.metainfo.get('classes'):
            raise ConfigError(
                f'{type(self).__name__} of {self.data_root} has no classes. Name them: '
                'metainfo=dict(classes=(...), palette=[...])'
            )
        samples = super().load_data_list()
        void_map = dict.fromkeys(self.void_labels, self.ignore_index)
        label_map = self._given_map | void_map
        if label_map:
            for sample in samples:
                sample['label_map'] = {**(sample['label_map'] or {}), **label_map}
        return samples


@DATASETS.register_module()
class Cityscapes(_ChecksMasks, CityscapesDataset):
    """mmseg's ``CityscapesDataset`` with checks."""


@DATASETS.register_module()
class ADE20K(_ChecksMasks, ADE20KDataset):
    """mmseg's ``ADE20KDataset`` with checks."""
