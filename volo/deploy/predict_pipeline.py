"""The test pipeline of a config, for images without annotations."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmcv.transforms import LoadImageFromFile
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.registry import TRANSFORMS

from volo.datasets.checks import Loading, header_finding
from volo.errors import ConfigError, DataError

from .predictions import Sample

#: Transforms that need the mask or the label of an image.
_OF_ANNOTATIONS = ('LoadAnnotations', 'CheckSegmentationSample')


class Pipeline:
    """Reads an image and prepares it as a config does for its test set.

    Args:
        cfg: The config.
        tta: Use ``tta_pipeline``: several inputs for an image.

    Raises:
        ConfigError: The config has no such pipeline.
    """

    def __init__(self, cfg: Config, tta: bool = False) -> None:
        if tta and not ('tta_pipeline' in cfg and 'tta_model' in cfg):
            raise ConfigError(f'--tta: {cfg.filename} has no tta_model and pipeline')
        transforms = cfg.tta_pipeline if tta else dataset_config(cfg).get('pipeline')
        if not transforms:
            raise ConfigError(f'{cfg.filename}: no pipeline in test_dataloader.dataset')
        first, *rest = _without_annotations(transforms)
        self._load = TRANSFORMS.build(first)
        self._rest = Compose(rest)
        self._tta = tta

    def load(self, path: Path) -> Sample:
        """Read and prepare a file.

        Returns:
            The sample. Its ``inputs`` are pairs of an input and its data sample.

        Raises:
            DataError: Why the file cannot be read as an image.
        """
        results = read_image(self._load, path)
        try:
            return self._finish(results)
        except Exception as error:  # an image that a transform cannot take
            raise DataError(_first_line(error)) from error

    def prepare(self, image: np.ndarray) -> Sample:
        """Prepare an image in memory.

        Args:
            image: RGB, uint8 (H, W, 3).
        """
        array = np.ascontiguousarray(image[..., ::-1])
        if getattr(self._load, 'to_float32', False):
            array = array.astype(np.float32)
        shape = image.shape[:2]
        return self._finish({'img': array, 'img_shape': shape, 'ori_shape': shape})

    def _finish(self, results: dict[str, Any]) -> Sample:
        image = results['img']
        packed = self._rest(results)
        if not self._tta:
            packed = {key: [value] for key, value in packed.items()}
        inputs = list(zip(packed['inputs'], packed['data_samples'], strict=True))
        shapes = tuple(tuple(tensor.shape) for tensor, _ in inputs)
        return Sample(drawable(image), inputs, (image.shape[:2], shapes))


def read_image(transform: Any, path: Path) -> dict[str, Any]:
    """Read a file with the transform that loads images.

    Args:
        transform: The first one of a pipeline.
        path: The file.

    Returns:
        What the next transform takes.

    Raises:
        DataError: Why the file cannot be read as an image.
    """
    loading = Loading()
    if isinstance(transform, LoadImageFromFile):
        loading = Loading(transform.color_type, transform.imdecode_backend)
    finding = header_finding(str(path))
    if finding and (finding.kind != 'image-depth' or loading.eight_bits):
        raise DataError(finding.value)
    try:
        return transform({'img_path': str(path)})
    except FileNotFoundError as error:
        raise DataError('no such file') from error
    # Given broken bytes, decoders raise whatever their parsers run into.
    except Exception as error:
        text = _first_line(error)
        reason = 'not an image' if 'cannot identify' in text else text
        raise DataError(reason) from error


def _first_line(error: Exception) -> str:
    return str(error).partition('\n')[0] or type(error).__name__


def dataset_config(cfg: Config) -> Mapping[str, Any]:
    """Return the innermost dataset of a config's ``test_dataloader``."""
    loader = cfg.get('test_dataloader') or cfg.get('val_dataloader') or {}
    dataset = loader.get('dataset') or {}
    while 'pipeline' not in dataset and isinstance(dataset.get('dataset'), Mapping):
        dataset = dataset['dataset']
    return dataset


def _without_annotations(transforms: Sequence[Any]) -> list[Any]:
    """Drop the transforms that need annotations, also inside ``TestTimeAug``."""
    kept: list[Any] = []
    for transform in transforms:
        if isinstance(transform, Mapping):
            if str(transform['type']).rpartition('.')[2] in _OF_ANNOTATIONS:
                continue
            if 'transforms' in transform:
                inner = _without_annotations(transform['transforms'])
                transform = {**transform, 'transforms': inner}
            kept.append(transform)
        elif inner := _without_annotations(transform):
            kept.append(inner)
    return kept


def drawable(image: np.ndarray) -> np.ndarray:
    """Return an image (H, W) or (H, W, C), BGR if it has colors, as RGB uint8."""
    image = image[..., None] if image.ndim == 2 else image
    if image.dtype != np.uint8:
        low, high = float(image.min()), float(image.max())
        if low < 0 or high > 255:
            image = (image - low) * (255 / (high - low or 1))
        image = image.astype(np.uint8)
    if image.shape[2] < 3:
        return image[..., :1].repeat(3, axis=2)
    return image[..., 2::-1]
