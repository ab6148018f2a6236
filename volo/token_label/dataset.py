"""A dataset of images and their label maps."""

import dataclasses
from pathlib import Path

import numpy as np
from mmcv.transforms import BaseTransform
from mmengine.dataset import BaseDataset
from mmengine.registry import DATASETS
from mmpretrain.datasets.transforms import PackInputs

from volo.datasets.streams import SeededByPosition, seed_for
from volo.errors import ConfigError, MissingLabelMapError

from .geometry import GEOMETRY_KEY, StartGeometry, track
from .maps import LabelMapFolder, label_key
from .packed import PackedLabelMaps, open_label_maps

#: Field of a data sample, and key of a pipeline's results, with a :class:`TokenLabel`.
TOKEN_LABEL_KEY = 'token_label'


@dataclasses.dataclass(frozen=True)
class TokenLabel:
    """A label map, and the part of it that an augmented image shows.

    The fields are arrays, not tensors: a worker sends a few kilobytes faster that way.

    Attributes:
        scores: Scores of the label map, shape (k, h, w): see
            :class:`volo.token_label.LabelMap`.
        classes: Its classes, shape (k, h, w).
        matrix: From fractions of the augmented image to fractions of the whole image,
            shape (3, 3): see :class:`volo.token_label.geometry.Geometry`.
        frames: From fractions of the augmented image to fractions of the images that
            its pixels must lie in, shape (n, 3, 3).
    """

    scores: np.ndarray
    classes: np.ndarray
    matrix: np.ndarray
    frames: np.ndarray


class LoadTokenLabel(BaseTransform):
    """Add an image's :class:`TokenLabel` to the results of a tracked pipeline.

    Args:
        img_prefix: Folder that the keys of label maps are relative to.
        skip_missing: Leave the results of an image without a label map unchanged.
        transposed: Maps are stored as (2, k, w, h).

    Attributes:
        label_maps: The store; set it before the first sample.
    """

    label_maps: LabelMapFolder | PackedLabelMaps

    def __init__(self, img_prefix: str, skip_missing: bool, transposed: bool) -> None:
        self.img_prefix = img_prefix
        self.skip_missing = skip_missing
        self.transposed = transposed

    def transform(self, results: dict) -> dict:
        """Read the label map of ``img_path``.

        Raises:
            MissingLabelMapError: There is no map, and ``skip_missing`` is false.
            DataError: The map is broken.
        """
        try:
            label_map = self.label_maps.read(
                label_key(results['img_path'], self.img_prefix)
            )
        except MissingLabelMapError as error:
            if self.skip_missing:
                return results
            raise MissingLabelMapError(
                f"{error}; or set missing='label' in the dataset to train images "
                'without a map on their labels alone'
            ) from None
        scores, classes = label_map.scores, label_map.classes
        if self.transposed:
            scores, classes = scores.swapaxes(1, 2), classes.swapaxes(1, 2)
        geometry = results[GEOMETRY_KEY]
        frames = np.array(geometry.frames).reshape(-1, 3, 3)
        results[TOKEN_LABEL_KEY] = TokenLabel(scores, classes, geometry.matrix, frames)
        return results


@DATASETS.register_module()
class TokenLabelDataset(SeededByPosition):
    """Add label maps to the images of any mmpretrain dataset.

    The pipeline needs no changes: its transforms are tracked
    (:func:`volo.token_label.geometry.track`), and every data sample gets the field
    ``token_label`` that :class:`volo.models.TokenLabelClassifier` reads.

    Args:
        dataset: The images; its pipeline ends in ``PackInputs``.
        label_root: The label maps: a folder of ``.pt`` files or a packed store, below
            the dataset's ``data_root`` unless it is absolute. A map has the path of its
            image below the dataset's ``img_path`` prefix.
        missing: ``'error'``, or ``'label'`` to train an image without a map on its
            label alone.
        transposed: Maps are stored with rows and columns exchanged.
        lazy_init: Do not look for images and label maps yet.

    Raises:
        ConfigError: The pipeline moves pixels in a way that cannot be tracked.
        DataError: There are no label maps at ``label_root``.
    """

    def __init__(
        self,
        dataset: dict | BaseDataset,
        label_root: str,
        missing: str = 'error',
        transposed: bool = False,
        lazy_init: bool = False,
    ) -> None:
        if missing not in ('error', 'label'):
            raise ConfigError(f"missing must be 'error' or 'label', not {missing!r}")
        if isinstance(dataset, dict):
            dataset = DATASETS.build(dict(lazy_init=lazy_init) | dataset)
        self.dataset = dataset
        self.label_root = Path(dataset.data_root or '') / label_root
        self._load = LoadTokenLabel(
            dataset.data_prefix['img_path'], missing == 'label', transposed
        )
        self._add_to_pipeline()
        if not lazy_init:
            self.full_init()

    def _add_to_pipeline(self) -> None:
        pipeline = self.dataset.pipeline
        *transforms, pack = pipeline.transforms
        if not isinstance(pack, PackInputs):
            raise ConfigError(
                'a pipeline with token labels must end in PackInputs, not in '
                f'{type(pack).__name__}'
            )
        pack.algorithm_keys = (*pack.algorithm_keys, TOKEN_LABEL_KEY)
        pipeline.transforms = [StartGeometry(), *track(transforms), self._load, pack]

    @property
    def metainfo(self) -> dict:
        """The metainfo of the images' dataset."""
        return self.dataset.metainfo

    def full_init(self) -> None:
        """List the samples and open the label maps."""
        self.dataset.full_init()
        self._load.label_maps = open_label_maps(self.label_root)

    def get_data_info(self, idx: int) -> dict:
        """Return the information on a sample that is known without its image."""
        return self.dataset.get_data_info(idx)

    def get_cat_ids(self, idx: int) -> list[int]:
        """Return the class indices of a sample."""
        return self.dataset.get_cat_ids(idx)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, idx: int) -> dict:
        seed_for(idx)
        return self.dataset[idx]
