"""Comparison of an exported file with the PyTorch model, on real images."""

import copy
import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config, ConfigDict
from mmengine.registry import DATASETS, DefaultScope
from mmpretrain.models import ImageClassifier
from mmseg.structures import SegDataSample
from PIL import Image

from volo.engine.launch import readable_errors
from volo.errors import ConfigError, DataError

from .runtimes import Runtime

#: Height and width in pixels, for files that take any. Few are multiples of 16.
SIZES = ((97, 180), (250, 333), (480, 360))
BATCHES = (1, 3)

#: Probabilities below are not compared: their logarithms mean nothing.
_SMALLEST_PROBABILITY = 1e-6


@dataclasses.dataclass(frozen=True)
class Parity:
    """How far an exported file is from PyTorch.

    Attributes:
        difference: Largest difference of the logits; NaN where any is NaN.
        compared: ``logits``, or ``log-probabilities`` if the file returns no logits.
        equal: Share of equal classes, over all pixels or images.
        images: Number of images.
        shapes: Batch x height x width of each comparison.
    """

    difference: float
    compared: str
    equal: float
    images: int
    shapes: list[str]

    def is_within(self, difference: float, equal: float) -> bool:
        """Return whether both figures are as good as these. NaN is not."""
        return self.difference <= difference and self.equal >= equal

    def __str__(self) -> str:
        return (
            f'largest difference of {self.compared} {self.difference:.1e}, '
            f'{self.equal:.3%} equal classes, on {self.images} images'
        )


def measure_parity(
    runtime: Runtime, model: Any, batches: Iterable[np.ndarray]
) -> Parity:
    """Compare an exported file with its model.

    Args:
        runtime: The file.
        model: The model, in evaluation mode, on the CPU.
        batches: uint8 RGB images, (B, H, W, 3).
    """
    differences, shapes = [], []
    compared, equal, total, count = 'logits', 0, 0, 0
    for images in batches:
        ours, expected = runtime.run(images), predict_with_pytorch(model, images)
        if 'logits' in ours:
            difference = np.abs(ours['logits'] - expected['logits'])
        else:
            difference = _compare_probabilities(ours, expected)
            compared = 'log-probabilities'
        # The initial value is for batches without one comparable probability.
        differences.append(float(np.max(difference, initial=0.0)))
        classes = ours.get('classes')
        if classes is None:
            classes = ours['probabilities'].argmax(axis=1)
        equal += int((classes == expected['classes']).sum())
        total += classes.size
        count += len(images)
        shapes.append('x'.join(map(str, images.shape[:3])))
    return Parity(
        difference=float(np.max(differences)),
        compared=compared,
        equal=equal / total,
        images=count,
        shapes=shapes,
    )


def _compare_probabilities(
    ours: dict[str, np.ndarray], expected: dict[str, np.ndarray]
) -> np.ndarray:
    if 'probabilities' in ours:
        found, right = ours['probabilities'], expected['probabilities']
        seen = right > _SMALLEST_PROBABILITY
    else:
        found, right = ours['confidence'], expected['confidence']
        seen = ours['classes'] == expected['classes']
    with np.errstate(all='ignore'):
        return np.abs(np.log(found) - np.log(right))[seen | np.isnan(found)]


@torch.no_grad()
def predict_with_pytorch(model: Any, images: np.ndarray) -> dict[str, np.ndarray]:
    """Predict with the model as its library does, images whole.

    Args:
        model: In evaluation mode, on the CPU.
        images: uint8 RGB, (B, H, W, 3).

    Returns:
        ``logits`` and ``classes``; ``probabilities`` of a classifier, ``confidence``
        of a segmentor.
    """
    # Pipelines load BGR: B H W C -> B C H W.
    inputs = [torch.from_numpy(i[..., ::-1].copy()).permute(2, 0, 1) for i in images]
    if isinstance(model, ImageClassifier):
        batch = model.data_preprocessor(dict(inputs=inputs), training=False)['inputs']
        logits = model(batch, mode='tensor')
        scores = torch.stack([s.pred_score for s in model(batch, mode='predict')])
        outputs = dict(logits=logits, probabilities=scores, classes=scores.argmax(1))
        return {name: output.numpy() for name, output in outputs.items()}
    model = copy.copy(model)  # shares the weights
    model.test_cfg = ConfigDict(mode='whole')
    size = images.shape[1:3]
    metainfo = dict(ori_shape=size, img_shape=size, pad_shape=size)
    samples = [SegDataSample(metainfo=dict(metainfo)) for _ in inputs]
    data = model.data_preprocessor(
        dict(inputs=inputs, data_samples=samples), training=False
    )
    for sample in data['data_samples']:  # what PackSegInputs and loading would say
        sample.set_metainfo(dict(img_shape=data['inputs'].shape[2:]))
    samples = model.predict(data['inputs'], data['data_samples'])
    logits = torch.stack([sample.seg_logits.data for sample in samples])
    classes = torch.cat([sample.pred_sem_seg.data for sample in samples]).long()
    if logits.shape[1] == 1:  # these are probabilities
        confidence = torch.where(classes == 1, logits[:, 0], 1 - logits[:, 0])
        logits = logits.logit()
    else:
        confidence = logits.softmax(dim=1).amax(dim=1)
    outputs = dict(logits=logits, classes=classes, confidence=confidence)
    return {name: output.numpy() for name, output in outputs.items()}


def make_batches(
    paths: Sequence[Path], size: tuple[int, int] | None
) -> Iterator[np.ndarray]:
    """Yield batches of images resized to the sizes that a file takes.

    Args:
        paths: Image files, taken in turn.
        size: Height and width in pixels; None: each of :data:`SIZES`.

    Raises:
        DataError: An image cannot be read.
    """
    endless = itertools.cycle(paths)
    for height, width in [size] if size else SIZES:
        for batch in BATCHES:
            images = [_read(next(endless), height, width) for _ in range(batch)]
            yield np.stack(images)


def _read(path: Path, height: int, width: int) -> np.ndarray:
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert('RGB').resize((width, height)))
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f'{path}: cannot be read as an image: {error}') from error


def find_images(cfg: Config, given: Sequence[str]) -> list[Path]:
    """Choose the images for a comparison.

    Args:
        cfg: From :func:`volo.engine.launch.load_config`.
        given: Files and folders; none: the validation set of the config.

    Raises:
        ConfigError: None are given, and the config has no validation set.
        DataError: There are no images.
    """
    count = len(SIZES) * sum(BATCHES)
    if given:
        paths = list(itertools.chain.from_iterable(map(_list_images, given)))
    else:
        paths = _list_validation_images(cfg)
    if not paths:
        raise DataError(f'{" ".join(given) or cfg.filename}: no images to compare on')
    return paths[:: max(1, len(paths) // count)][:count]


def _list_images(source: str) -> list[Path]:
    path = Path(source)
    if path.is_dir():
        known = Image.registered_extensions()
        return sorted(p for p in path.rglob('*') if p.suffix.lower() in known)
    if not path.is_file():
        raise DataError(f'--images {source}: no such file or folder')
    return [path]


def _list_validation_images(cfg: Config) -> list[Path]:
    if not cfg.get('val_dataloader'):
        raise ConfigError(
            f'{cfg.filename} has no val_dataloader: name images with --images'
        )
    dataset = copy.deepcopy(cfg.val_dataloader.dataset)
    with DefaultScope.overwrite_default_scope(cfg.get('default_scope', 'mmengine')):
        with readable_errors(cfg):
            built = DATASETS.build(dataset)
    return [Path(built.get_data_info(i)['img_path']) for i in range(len(built))]
