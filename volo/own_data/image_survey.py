"""Sizes, channels and colors of images."""

import random
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import mmcv
import numpy as np
from PIL import Image

from volo.errors import DataError
from volo.machine import usable_cpus

#: Mean and standard deviation are those of so many images.
_SAMPLED = 200

_GRAY = ('1', 'L')
_DEEP = ('I', 'I;16', 'I;16B', 'I;16L', 'F')


class ImageSurvey(NamedTuple):
    """What the images of a dataset have in common.

    Attributes:
        height: Median in pixels.
        width: Median in pixels.
        same_size: Whether all images have this size.
        channels: Channels as the config loads them.
        loading: Options of ``LoadImageFromFile`` that do so.
        mean: Mean of each channel; () for RGB, where ImageNet's values are used.
        std: Standard deviation of each channel, likewise.
        kind: ``RGB``, ``gray`` and so on.
    """

    height: int
    width: int
    same_size: bool
    channels: int
    loading: dict[str, Any]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    kind: str

    @property
    def short_side(self) -> int:
        """The shorter of both median sides."""
        return min(self.height, self.width)


def survey_images(folder: Path, images: Sequence[str]) -> ImageSurvey:
    """Read the header of every image, and some images of unusual channels.

    Args:
        folder: The dataset.
        images: Paths relative to it.

    Raises:
        DataError: No image can be read, or the images have different channels.
    """
    with ThreadPoolExecutor(usable_cpus()) as pool:
        heads = list(pool.map(_head, (folder / image for image in images)))
    known = [head for head in heads if head is not None]
    if not known:
        raise DataError(
            f'{folder / images[0]}: not an image, and neither are the others. TIFF '
            'files of more than four bands need `pip install tifffile` and a config of '
            'your own'
        )
    widths, heights, modes = (list(values) for values in zip(*known, strict=True))
    channels, loading, kind = _loading({*modes})
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    if kind != 'RGB':
        picked = random.Random(0).sample(list(images), min(len(images), _SAMPLED))
        mean, std = _moments([folder / image for image in picked], loading, channels)
    return ImageSurvey(
        int(np.median(heights)),
        int(np.median(widths)),
        len({*zip(widths, heights, strict=True)}) == 1,
        channels,
        loading,
        mean,
        std,
        kind,
    )


def _head(path: Path) -> tuple[int, int, str] | None:
    try:
        with Image.open(path) as image:
            mode = image.mode
            if mode in ('RGBA', 'CMYK') and image.format == 'TIFF':
                mode = 'bands'
            return (*image.size, mode)
    except Exception:  # from any decoder; the doctor names the file
        return None


def _loading(modes: set[str]) -> tuple[int, dict[str, Any], str]:
    """Return channels, options of the loader and the kind for modes of Pillow."""
    loading = dict(imdecode_backend='pillow')
    if modes <= {*_GRAY}:
        return 1, dict(color_type='grayscale', **loading), 'gray'
    raw = dict(color_type='unchanged', to_float32=True, **loading)
    if modes <= {*_GRAY, *_DEEP}:
        return 1, raw, 'gray, more than 8 bits'
    if modes == {'bands'}:
        return 4, raw, 'four bands'
    if modes & {*_DEEP, 'bands'}:
        raise DataError(
            f'the images have different channels: {", ".join(sorted(modes))}. Save all '
            'in one format'
        )
    return 3, loading, 'RGB'


def _moments(
    paths: Sequence[Path], loading: dict[str, Any], channels: int
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation of each channel, as the loader sees it."""
    total = np.zeros((2, channels))
    pixels = 0
    for path in paths:
        try:
            array = mmcv.imfrombytes(
                path.read_bytes(),
                flag=loading['color_type'],
                backend=loading['imdecode_backend'],
            )
        except Exception:  # from any decoder; the doctor names the file
            continue
        values = array.reshape(-1, channels).astype(np.float64)
        total += values.sum(0), (values**2).sum(0)
        pixels += len(values)
    mean, squares = total / max(pixels, 1)
    std = np.sqrt(np.maximum(squares - mean**2, 0))
    return _rounded(mean), _rounded(np.where(std > 0, std, 1.0))


def _rounded(values: np.ndarray) -> tuple[float, ...]:
    return tuple(round(float(value), 3) for value in values)
