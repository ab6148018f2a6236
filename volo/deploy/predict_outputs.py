"""What a prediction leaves on disk: an index mask, an overlay and a JSON line."""

import dataclasses
import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from volo.errors import DataError
from volo.files import describe_write_error, write_atomically

from .overlays import draw_classification, draw_segmentation
from .predictions import Classification, Predictor, Segmentation
from .sources import Item


class OutputError(DataError):
    """An output cannot be written."""


@dataclasses.dataclass(frozen=True)
class OutputOptions:
    """What is written.

    Attributes:
        folder: Folder of all outputs.
        masks: Write index masks, for segmentation.
        overlays: Write overlays.
        opacity: Of the colors of overlays, from 0 to 1.
        top_k: Classes per image in JSON lines and overlays, for classification.
    """

    folder: Path
    masks: bool = True
    overlays: bool = True
    opacity: float = 0.5
    top_k: int = 5


class Outputs:
    """Writes predictions. Threads may share it.

    Args:
        predictor: Whose predictions.
        options: What to write.
    """

    def __init__(self, predictor: Predictor, options: OutputOptions) -> None:
        self.options = options
        self._classes, self._palette = predictor.classes, predictor.palette
        #: Keys of a JSON line that name a file.
        self.keys: list[str] = []
        if options.masks and predictor.task == 'segmentation':
            self.keys.append('mask')
        if options.overlays:
            self.keys.append('overlay')

    def write_image(
        self, item: Item, image: np.ndarray, prediction: Classification | Segmentation
    ) -> dict[str, Any]:
        """Write the files of an image and return its JSON line.

        Raises:
            OutputError: A file cannot be written.
        """
        record: dict[str, Any] = {
            'source': item.source,
            'name': item.name,
            'width': image.shape[1],
            'height': image.shape[0],
        }
        if 'mask' in self.keys:
            record['mask'] = f'masks/{item.name}.png'
            self.write_mask(record['mask'], prediction)
        if 'overlay' in self.keys:
            record['overlay'] = f'overlays/{item.name}.jpg'
            # 4:4:4, or the outlines would blur.
            options = dict(format='JPEG', quality=92, subsampling=0)
            self._save(record['overlay'], self.draw(image, prediction), options)
        return record | self.describe(prediction)

    def write_mask(self, name: str, prediction: Classification | Segmentation) -> None:
        """Write an index mask with the palette of the classes.

        Args:
            name: Path below the folder of the outputs.
            prediction: A segmentation.

        Raises:
            OutputError: The file cannot be written.
        """
        assert isinstance(prediction, Segmentation)
        mask = Image.fromarray(prediction.mask)
        mask.putpalette(self._palette.tobytes())
        self._save(name, mask, dict(format='PNG'))

    def draw(
        self,
        image: np.ndarray,
        prediction: Classification | Segmentation,
        steady: bool = False,
    ) -> Image.Image:
        """Return the overlay of an RGB image (H, W, 3).

        Args:
            image: RGB, uint8 (H, W, 3).
            prediction: Of the image.
            steady: Keep the legend's order, for the frames of a video.
        """
        if isinstance(prediction, Segmentation):
            return draw_segmentation(
                image,
                prediction.mask,
                self._classes,
                self._palette,
                self.options.opacity,
                steady,
            )
        best = self.describe(prediction)['classes']
        names, scores = ([row[key] for row in best] for key in ('name', 'score'))
        return draw_classification(image, names, scores)

    def describe(self, prediction: Classification | Segmentation) -> dict[str, Any]:
        """Return the classes of a prediction as fields of a JSON line."""
        if isinstance(prediction, Segmentation):
            return prediction.record(self._classes)
        return prediction.record(self._classes, self.options.top_k)

    def _save(self, name: str, image: Image.Image, options: dict[str, Any]) -> None:
        path = self.options.folder / name
        content = io.BytesIO()
        image.save(content, **options)
        try:
            write_atomically(path, content.getvalue(), durable=False)
        except OSError as error:
            raise OutputError(describe_write_error(path, error)) from error
