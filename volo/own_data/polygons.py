"""Draw outlines as masks."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

#: A label and the outlines to fill with it: x, y in pixels.
Shape = tuple[int, Sequence[Sequence[tuple[float, float]]]]

_ORIENTATION = 0x0112  # EXIF tag


def draw_polygons(size: tuple[int, int], shapes: Sequence[Shape]) -> np.ndarray:
    """Draw shapes over each other, the last on top.

    Args:
        size: Width and height of the image in pixels.
        shapes: Labels and outlines.

    Returns:
        Mask uint8 (H, W); 0 where no shape is.
    """
    image = Image.new('L', size, 0)
    draw = ImageDraw.Draw(image)
    for label, outlines in shapes:
        for outline in outlines:
            if len(outline) >= 3:
                draw.polygon([(x, y) for x, y in outline], fill=label)
    return np.array(image)


def pairs(numbers: Sequence[float]) -> list[tuple[float, float]]:
    """Group x1, y1, x2, y2, ... into points."""
    return list(zip(numbers[::2], numbers[1::2], strict=False))


def upright_size(path: Path) -> tuple[int, int]:
    """Return width and height of an image with its EXIF rotation applied."""
    with Image.open(path) as image:
        width, height = image.size
        rotated = image.getexif().get(_ORIENTATION, 1) >= 5
    return (height, width) if rotated else (width, height)
