"""How images are resized and cropped before the network, as a rule in the metadata.

A step of the rule is a dict, one of:

- ``dict(resize='exact', size=[height, width], ...)``
- ``dict(resize='short', size=side, ...)``: the short side becomes ``side``
- ``dict(resize='fit', size=[long, short], ...)``: as large as fits both sides
- ``dict(crop=[height, width])``: the center; smaller images are padded with zeros

with ``interpolation`` (``nearest``, ``bilinear`` or ``bicubic``) and ``antialias``.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from PIL import Image

#: Transforms that move no pixel.
_NEUTRAL = {
    'LoadImageFromFile',
    'LoadAnnotations',
    'CheckSegmentationSample',
    'NumpyToPIL',
    'PILToNumpy',
    'PackInputs',
    'PackSegInputs',
}


def read_rule(pipeline: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Read from a test pipeline how it resizes and crops.

    Args:
        pipeline: Transforms as configs have them.

    Returns:
        ``steps`` in their order, and ``unknown``: names of transforms that no step
        describes.
    """
    rule: dict[str, Any] = dict(steps=[], unknown=[])
    for transform in pipeline:
        library, _, name = str(transform['type']).rpartition('/')
        step = _read_step(name, transform, pillow=library == 'torchvision')
        if step is not None:
            rule['steps'].append(step)
        elif name.rpartition('.')[2] not in _NEUTRAL:
            rule['unknown'].append(name)
    return rule


def _read_step(
    name: str, transform: Mapping[str, Any], pillow: bool
) -> dict[str, Any] | None:
    # Pillow filters before it makes images smaller, OpenCV does not.
    how = dict(
        interpolation=str(transform.get('interpolation', 'bilinear')),
        antialias=pillow or transform.get('backend') == 'pillow',
    )
    size = transform.get('size', transform.get('scale', transform.get('crop_size')))
    if isinstance(size, (list, tuple)) and len(size) == 1:
        size = size[0]
    if name == 'CenterCrop' and size is not None:
        return dict(crop=_pair(size))
    if how['interpolation'] not in ('nearest', 'bilinear', 'bicubic') or size is None:
        return None
    if name == 'ResizeEdge' and transform.get('edge', 'short') == 'short':
        return dict(resize='short', size=int(size), **how)
    if name == 'Resize' and pillow:
        if isinstance(size, int):
            return dict(resize='short', size=size, **how)
        return dict(resize='exact', size=_pair(size), **how)
    if name == 'Resize' and transform.get('keep_ratio'):
        return dict(resize='fit', size=sorted(_pair(size), reverse=True), **how)
    if name == 'Resize':  # mmcv's scale is width, height
        return dict(resize='exact', size=_pair(size)[::-1], **how)
    return None


def _pair(size: Any) -> list[int]:
    return [size, size] if isinstance(size, int) else [int(side) for side in size]


def last_size(rule: Mapping[str, Any]) -> tuple[int, int] | None:
    """Return the height and width that a rule ends with, None if they vary."""
    size = None
    for step in rule['steps']:
        size = step.get('crop') or (step['size'] if step['resize'] == 'exact' else None)
    return (size[0], size[1]) if size else None


def prepare(image: np.ndarray, rule: Mapping[str, Any]) -> np.ndarray:
    """Resize and crop an image as a rule says.

    Args:
        image: uint8, shape (H, W, 3).
        rule: From :func:`read_rule`.

    Returns:
        uint8, shape (H', W', 3).
    """
    for step in rule['steps']:
        if 'crop' in step:
            image = _crop(image, *step['crop'])
        else:
            size = _new_size(image.shape[:2], step['resize'], step['size'])
            image = _resize(image, size, step['interpolation'], step['antialias'])
    return image


def _new_size(old: tuple[int, ...], kind: str, size: Any) -> tuple[int, int]:
    height, width = old
    if kind == 'exact':
        return size[0], size[1]
    if kind == 'short':
        factor = size / min(height, width)
        longer = int(size * max(height, width) / min(height, width))
        return (size, longer) if height <= width else (longer, size)
    factor = min(size[0] / max(height, width), size[1] / min(height, width))
    return int(height * factor + 0.5), int(width * factor + 0.5)


def _crop(image: np.ndarray, height: int, width: int) -> np.ndarray:
    missing = [
        max(0, new - old)
        for new, old in zip((height, width), image.shape, strict=False)
    ]
    padding = [(side // 2, side - side // 2) for side in missing]
    image = np.pad(image, [*padding, (0, 0)])
    top = round((image.shape[0] - height) / 2)
    left = round((image.shape[1] - width) / 2)
    return image[top : top + height, left : left + width]


def _resize(
    image: np.ndarray, size: tuple[int, int], interpolation: str, antialias: bool
) -> np.ndarray:
    if image.shape[:2] == size:
        return image
    if antialias:
        method = Image.Resampling[interpolation.upper()]
        resized = Image.fromarray(image).resize(size[::-1], method)
        return np.asarray(resized)
    rows, columns = (
        _interpolation_matrix(old, new, interpolation)
        for old, new in zip(image.shape[:2], size, strict=True)
    )
    lines = np.tensordot(rows, image.astype(np.float32), axes=1)
    pixels = np.einsum('xw,ywc->yxc', columns, lines, optimize=True)
    return pixels.round().clip(0, 255).astype(np.uint8)


def _interpolation_matrix(old: int, new: int, interpolation: str) -> np.ndarray:
    """Return the matrix (new, old) of an interpolation without antialiasing."""
    centers = (np.arange(new) + 0.5) * old / new - 0.5
    if interpolation == 'nearest':
        places = np.floor(np.arange(new) * old / new)[:, None]
        weights = np.ones((new, 1))
    elif interpolation == 'bilinear':
        places = np.floor(centers)[:, None] + np.arange(2)
        weights = 1 - np.abs(centers[:, None] - places)
    else:
        places = np.floor(centers)[:, None] + np.arange(-1, 3)
        d = np.abs(centers[:, None] - places)
        near = 1.25 * d**3 - 2.25 * d**2 + 1
        weights = np.where(d <= 1, near, -0.75 * d**3 + 3.75 * d**2 - 6 * d + 3)
    matrix = np.zeros((new, old), np.float32)
    places = places.clip(0, old - 1).astype(int)
    np.add.at(matrix, (np.arange(new)[:, None], places), weights)
    return matrix
