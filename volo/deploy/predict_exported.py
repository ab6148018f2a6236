"""Prediction with an exported model, by its own runtime."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from mmcv.transforms import LoadImageFromFile
from torch import Tensor

from volo.errors import CheckpointError, ConfigError, DataError

from .export import LABELS
from .formats import SMALLEST_SIDE
from .predict_pieces import DEFAULT_WINDOW, Pieces, overlap
from .predict_pipeline import drawable, read_image
from .predictions import (
    Classification,
    MaskBuilder,
    Sample,
    Segmentation,
    default_palette,
)
from .runtimes import RUNTIMES, Runtime, open_exported, require_runtime
from .standalone import prepare


def is_exported(path: str) -> bool:
    """Return whether a path is one of an exported model, and not of a config."""
    return Path(path).is_dir() or Path(path).suffix in RUNTIMES


def build_exported_predictor(
    path: str | Path, memory: float = 2e9, window: int | None = None
) -> 'ExportedClassifier | ExportedSegmentor':
    """Open an exported model.

    Args:
        path: A file of ``tools/export.py``, or its folder: the first file in it whose
            runtime is installed, float32 before other dtypes.
        memory: As in :class:`volo.deploy.predict_segmentor.TorchSegmentor`.
        window: As there.

    Raises:
        ConfigError: The runtime is not installed.
        CheckpointError: The file or folder is not of ``tools/export.py``, or damaged.
    """
    path = Path(path)
    runtime = open_exported(_find_file(path) if path.is_dir() else path)
    if runtime.metadata['task'] == 'classification':
        return ExportedClassifier(runtime)
    return ExportedSegmentor(runtime, memory, window)


def _find_file(folder: Path) -> Path:
    try:
        files = json.loads((folder / LABELS).read_text(encoding='utf-8'))['files']
        names = sorted(files, key=lambda name: files[name]['dtype'] != 'float32')
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f'{folder}: no {LABELS} of tools/export.py in it. Give a folder that was '
            'exported, or CONFIG and CHECKPOINT'
        ) from error
    reason: ConfigError | None = None
    for name in names:
        try:
            require_runtime(Path(name).suffix)
            return folder / name
        except ConfigError as error:
            reason = error
    raise reason or CheckpointError(f'{folder / LABELS} lists no files')


class _ExportedPredictor:
    """What both tasks share.

    Args:
        runtime: Runs the model.
    """

    def __init__(self, runtime: Runtime) -> None:
        about = runtime.metadata
        self.classes = tuple(about['classes'])
        palette = about['palette'] or default_palette(len(self.classes))
        self.palette = np.array(palette, np.uint8)
        self.settings = {
            'model': f'{about["weights_sha256"]} {about["dtype"]} {runtime.path.suffix}'
        }
        self.runtime = runtime
        self._steps = about['resize']['steps']
        self._size = about['input']['size']
        self._load = LoadImageFromFile(
            color_type='color' if about['upright'] else 'color_ignore_orientation',
            imdecode_backend='pillow',
        )

    def load(self, path: Path) -> Sample:
        """Read and prepare an image file. Threads call this.

        Raises:
            DataError: The file cannot be read as an image, or the model does not take
                its size.
        """
        return self.prepare(drawable(read_image(self._load, path)['img']))

    def prepare(self, image: np.ndarray) -> Sample:
        """Prepare an image in memory, RGB, uint8 (H, W, 3).

        Raises:
            DataError: The model does not take its size.
        """
        sample = Sample(image, prepare(image, self._steps))
        sample.batch_key = image.shape, sample.inputs.shape
        self.check(sample)
        return sample

    def check(self, sample: Sample) -> None:
        """Refuse a sample that the model does not take.

        Raises:
            DataError: Of another size.
        """
        self.check_size(*sample.inputs.shape[:2])

    def check_size(self, height: int, width: int) -> None:
        """Refuse inputs that the model does not take.

        Raises:
            DataError: Of another size.
        """
        if self._size and [height, width] != self._size:
            raise DataError(
                f'{width}x{height} pixels, but the file was exported for '
                f'{self._size[1]}x{self._size[0]} alone. Export it for any size'
            )
        if min(height, width) < SMALLEST_SIDE:
            raise DataError(
                f'{width}x{height} pixels, but exported files take sides of '
                f'{SMALLEST_SIDE} pixels or more'
            )


class ExportedClassifier(_ExportedPredictor):
    """An exported classifier."""

    task: Literal['classification'] = 'classification'

    def predict(self, samples: Sequence[Sample]) -> list[Classification]:
        """Predict a batch of samples with equal keys."""
        images = np.stack([sample.inputs for sample in samples])
        return [
            Classification(row) for row in self.runtime.run(images)['probabilities']
        ]


class ExportedSegmentor(_ExportedPredictor):
    """An exported segmentor.

    Args:
        runtime: Runs the model.
        memory: Bytes that an image may take in one piece.
        window: Side of the windows in pixels, for models without slide inference.
    """

    task: Literal['segmentation'] = 'segmentation'

    def __init__(
        self, runtime: Runtime, memory: float, window: int | None = None
    ) -> None:
        super().__init__(runtime)
        about = runtime.metadata
        test_cfg = about['inference']
        self._slides = test_cfg.get('mode') == 'slide'
        self._has_logits = 'logits' in about['outputs']
        windows = self._size or ((window, window) if window else DEFAULT_WINDOW)
        self._pieces = Pieces(
            len(self.classes),
            len(self.classes),
            self._slides,
            tuple(test_cfg['crop_size'] if self._slides else windows),
            tuple(test_cfg['stride'] if self._slides else map(overlap, windows)),
            memory,
            about['threshold'],
        )

    def check(self, sample: Sample) -> None:
        """Estimate the memory of a sample, and refuse one that the model does not take.

        Raises:
            DataError: Of another size, or too large.
        """
        size, to_size = sample.inputs.shape[:2], sample.image.shape[:2]
        sample.bytes = self._pieces.total_bytes(size, to_size)
        if self._in_pieces(sample):
            if not self._has_logits:
                takes = f'{sample.bytes / 1e9:.1f} GB'
                raise DataError(
                    f'{to_size[1]}x{to_size[0]} pixels take {takes} in one piece, and '
                    'windows need logits, which the file does not return. Raise '
                    '--memory, or export it with --logits'
                )
            size = map(min, size, self._pieces.window)
        self.check_size(*size)

    def _in_pieces(self, sample: Sample) -> bool:
        resized = sample.inputs.shape != sample.image.shape
        return self._slides or resized or sample.bytes > self._pieces.memory

    def predict(self, samples: Sequence[Sample]) -> list[Segmentation]:
        """Predict a batch of samples with equal keys."""
        if self._in_pieces(samples[0]):
            return [self._predict_in_pieces(sample) for sample in samples]
        outputs = self.runtime.run(np.stack([sample.inputs for sample in samples]))
        found = []
        for classes, confidence in zip(
            outputs['classes'], outputs['confidence'], strict=True
        ):
            height, width = classes.shape
            mask = MaskBuilder(height, width, len(self.classes))
            mask.put(0, 0, classes, confidence)
            found.append(mask.result())
        return found

    def _predict_in_pieces(self, sample: Sample) -> Segmentation:
        def run(rows: slice, columns: slice) -> Tensor:
            window = np.ascontiguousarray(sample.inputs[None, rows, columns])
            return torch.from_numpy(self.runtime.run(window)['logits'][0])

        size, to_size = sample.inputs.shape[:2], sample.image.shape[:2]
        return self._pieces.predict(size, to_size, run)
