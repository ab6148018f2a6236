"""Drawing of predictions during an evaluation."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.hooks import Hook
from mmengine.runner import Runner
from PIL import Image

from volo.errors import DataError
from volo.files import describe_write_error, write_atomically
from volo.visualization.report_images import class_colors, image_reader

from .overlays import draw_classification, draw_segmentation

#: Classes to write beside an image, for classification.
TOP_K = 5


class DrawHook(Hook):
    """Draw the prediction of every sample of an evaluation.

    Args:
        folder: Folder for the drawings. They keep the names of the images and the
            folders that these have below the dataset's image folder.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self._sources: dict[Path, str] = {}

    def before_test_epoch(self, runner: Runner) -> None:
        """Read the classes and colors of the dataset."""
        dataset = runner.test_dataloader.dataset
        self._read = image_reader(dataset)
        self._root = (getattr(dataset, 'data_prefix', None) or {}).get('img_path') or ''
        meta = getattr(dataset, 'metainfo', None) or {}
        self._classes = [str(name) for name in meta.get('classes') or ()]
        colors = class_colors(meta.get('palette') or (), len(self._classes))
        self._palette = np.array([list(bytes.fromhex(c[1:])) for c in colors], np.uint8)

    def after_test_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Sequence | None = None,
    ) -> None:
        """Draw the predictions of a batch.

        Raises:
            DataError: An image cannot be read, or a drawing cannot be written.
        """
        for sample in outputs or ():
            image = self._read(sample.img_path)
            if image is None:
                raise DataError(
                    f'{sample.img_path}: --show-dir cannot read this image: the first '
                    'transform of the test pipeline must load it'
                )
            path = self._path(sample.img_path)
            content = io.BytesIO()
            # 4:4:4, or the outlines would blur.
            self._draw(image, sample).save(content, 'JPEG', quality=92, subsampling=0)
            try:
                write_atomically(path, content.getvalue(), durable=False)
            except OSError as error:
                raise DataError(describe_write_error(path, error)) from error

    def _draw(self, image: np.ndarray, sample: Any) -> Image.Image:
        if 'pred_sem_seg' in sample:
            mask = sample.pred_sem_seg.data.squeeze(0).cpu().numpy().astype(np.uint8)
            return draw_segmentation(image, mask, self._classes, self._palette)
        scores, labels = sample.pred_score.float().cpu().sort(descending=True)
        names = self._classes or [str(i) for i in range(len(scores))]
        best = [names[label] for label in labels[:TOP_K].tolist()]
        return draw_classification(image, best, scores[:TOP_K].tolist())

    def _path(self, source: str) -> Path:
        """Return the drawing of an image; images with one stem keep their suffix."""
        path = Path(source).absolute()
        root = Path(self._root).absolute()
        name = path.relative_to(root if path.is_relative_to(root) else path.anchor)
        drawing = self.folder / name.with_suffix('.jpg')
        if self._sources.setdefault(drawing, source) != source:
            drawing = self.folder / f'{name}.jpg'
        return drawing
