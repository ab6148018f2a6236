"""Images of a report: photographs, label maps and differences, as data URIs."""

import base64
import colorsys
import io
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from PIL import Image

from .report_data import EXAMPLE_SIZE, Example

#: Color of pixels without a label, RGB.
VOID = (226, 232, 240)

#: Color of wrong pixels in the difference, RGB.
WRONG = (220, 38, 38)


def class_colors(palette: Sequence[Sequence[int]], count: int) -> list[str]:
    """Return the colors of the classes as ``#rrggbb``.

    Args:
        palette: RGB colors of the dataset. If there are too few, all are chosen here.
        count: Number of classes.
    """
    if len(palette) < count:
        # Hues a golden section apart stay distinct for any number of classes.
        palette = [
            [round(255 * x) for x in colorsys.hsv_to_rgb(i * 0.618 % 1, 0.65, 0.85)]
            for i in range(count)
        ]
    return ['#{:02x}{:02x}{:02x}'.format(*color) for color in palette[:count]]


def image_reader(dataset: Any) -> Callable[[str], np.ndarray | None]:
    """Return a function that reads an image file as the dataset's pipeline does.

    Args:
        dataset: With a ``pipeline`` whose first transform loads the image.

    Returns:
        A function from the path to RGB, (H, W, 3) in uint8; None if the first transform
        needs more than the path.
    """
    load = dataset.pipeline.transforms[0]

    def read(path: str) -> np.ndarray | None:
        try:
            image = load(dict(img_path=path))['img']
        except (KeyError, OSError, TypeError):
            return None
        return to_rgb(image)

    return read


def to_rgb(image: np.ndarray) -> np.ndarray:
    """Return a loaded image as RGB.

    Args:
        image: BGR (H, W, 3); gray (H, W) or (H, W, 1); of more channels, the first
            three count, as BGR. Values that do not fit into uint8 are stretched.

    Returns:
        (H, W, 3), uint8.
    """
    image = image.reshape(*image.shape[:2], -1)
    image = image[..., [2, 1, 0] if image.shape[2] >= 3 else [0, 0, 0]]
    if image.dtype != np.uint8:
        low, high = float(image.min()), float(image.max())
        if low < 0 or high > 255:
            image = (image - low) * (255 / max(high - low, 1e-12))
        image = image.astype(np.uint8)
    return np.ascontiguousarray(image)


def draw_example(
    example: Example,
    read: Callable[[str], np.ndarray | None],
    colors: Sequence[str],
    ignore_index: int,
) -> dict[str, str]:
    """Draw an example.

    Args:
        example: The sample.
        read: From :func:`image_reader`.
        colors: Of the classes, ``#rrggbb``.
        ignore_index: Label of pixels without a label.

    Returns:
        Data URIs: ``image``, and in segmentation ``truth``, ``prediction`` and
        ``difference``. An image that cannot be read is gray.
    """
    pixels = read(example.path)
    if pixels is None:
        pixels = np.full((EXAMPLE_SIZE, EXAMPLE_SIZE, 3), 160, np.uint8)
    image = Image.fromarray(pixels)
    if example.truth.ndim == 0:
        image.thumbnail((EXAMPLE_SIZE, EXAMPLE_SIZE))
        return dict(image=_encode(image))
    height, width = example.truth.shape
    image = image.resize((width, height), Image.Resampling.BILINEAR)
    void = example.truth == ignore_index
    table = np.array([_parse(color) for color in colors], np.uint8)
    truth, prediction = (
        table[labels.clip(0, len(table) - 1)]
        for labels in (example.truth, example.prediction)
    )
    truth[void] = VOID
    difference = np.asarray(image.convert('L').convert('RGB')) // 2 + 110
    difference[void] = VOID
    difference[(example.truth != example.prediction) & ~void] = WRONG
    return dict(
        image=_encode(image),
        truth=_encode(Image.fromarray(truth), lossless=True),
        prediction=_encode(Image.fromarray(prediction), lossless=True),
        difference=_encode(Image.fromarray(difference)),
    )


def _parse(color: str) -> list[int]:
    return list(bytes.fromhex(color[1:]))


def _encode(image: Image.Image, lossless: bool = False) -> str:
    buffer = io.BytesIO()
    image.save(buffer, 'WEBP', quality=80, lossless=lossless)
    return f'data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}'
