"""How the transforms of mmcv and mmpretrain move the pixels of an image.

Each function returns the 3x3 matrix of a transform's last call, from points of its
output to points of its input. Points are fractions (x, y, 1) of width and height.
"""

from collections.abc import Callable

import cv2
import numpy as np
from mmcv import transforms as mmcv_transforms
from mmcv.transforms import BaseTransform, Compose
from mmpretrain.datasets import transforms as mmpretrain_transforms

from volo.errors import ConfigError

#: From a transform, and the height and width of its input, to its matrix (3, 3) or
#: several (n, 3, 3), in order; None if no pixel moved.
Describe = Callable[[BaseTransform, int, int], np.ndarray | None]


def _crop(
    left: float, top: float, width: float, height: float, full: tuple[int, int]
) -> np.ndarray:
    """Return the matrix of a crop in pixels of an image of ``full`` height, width."""
    full_height, full_width = full
    return np.array(
        [
            [width / full_width, 0, left / full_width],
            [0, height / full_height, top / full_height],
            [0, 0, 1],
        ]
    )


def _warp(matrix: np.ndarray, height: int, width: int) -> np.ndarray:
    """Return the matrix of ``cv2.warpAffine`` with a (2, 3) matrix, input to output.

    OpenCV's matrix is in pixel indices: the center of the first pixel is 0.
    """
    to_index = np.array([[width, 0, -0.5], [0, height, -0.5], [0, 0, 1]])
    backward = np.vstack([cv2.invertAffineTransform(np.float64(matrix)), [0, 0, 1]])
    return np.linalg.inv(to_index) @ backward @ to_index


def _random_resized_crop(
    transform: mmpretrain_transforms.RandomResizedCrop, height: int, width: int
) -> np.ndarray:
    top, left, crop_height, crop_width = transform.rand_crop_params(None)
    return _crop(left, top, crop_width, crop_height, (height, width))


def _random_crop(
    transform: mmpretrain_transforms.RandomCrop, height: int, width: int
) -> np.ndarray:
    # mmcv.impad takes all sides, (left and right, top and bottom) or four.
    padding = transform.padding or 0
    sides = [padding] * 4 if isinstance(padding, int) else [*padding]
    pad_left, pad_top, pad_right, pad_bottom = sides * 2 if len(sides) == 2 else sides
    if transform.pad_if_needed:
        crop_height, crop_width = transform.crop_size
        missing = crop_width - width - pad_left - pad_right
        pad_left += -(-max(0, missing) // 2)
        missing = crop_height - height - pad_top - pad_bottom
        pad_top += -(-max(0, missing) // 2)
    top, left, crop_height, crop_width = transform.rand_crop_params(None)
    return _crop(
        left - pad_left, top - pad_top, crop_width, crop_height, (height, width)
    )


def _center_crop(
    transform: mmcv_transforms.CenterCrop, height: int, width: int
) -> np.ndarray:
    crop_width, crop_height = transform.crop_size
    if transform.auto_pad and (crop_width > width or crop_height > height):
        raise ConfigError(
            'label maps cannot follow the padding of CenterCrop(auto_pad=True): use '
            'RandomCrop(pad_if_needed=True)'
        )
    left = max(0, round((width - crop_width) / 2))
    top = max(0, round((height - crop_height) / 2))
    return _crop(
        left,
        top,
        min(crop_width, width - left),
        min(crop_height, height - top),
        (height, width),
    )


def _flip(
    transform: mmcv_transforms.RandomFlip, height: int, width: int
) -> np.ndarray | None:
    direction = transform._choose_direction()
    if direction is None:
        return None
    step = np.eye(3)
    if direction in ('horizontal', 'diagonal'):
        step[0] = -1, 0, 1
    if direction in ('vertical', 'diagonal'):
        step[1] = 0, -1, 1
    return step


def _magnitude(transform: BaseTransform, fixed: float | None) -> float:
    """Return the signed magnitude that the transform drew, or its fixed value."""
    value = transform.random_magnitude() if fixed is None else fixed
    return transform.random_negative(value)


def _shear(
    transform: mmpretrain_transforms.Shear, height: int, width: int
) -> np.ndarray | None:
    if transform.random_disable():
        return None
    matrix = np.eye(2, 3)
    row = 0 if transform.direction == 'horizontal' else 1
    matrix[row, 1 - row] = _magnitude(transform, transform.magnitude)
    return _warp(matrix, height, width)


def _translate(
    transform: mmpretrain_transforms.Translate, height: int, width: int
) -> np.ndarray | None:
    if transform.random_disable():
        return None
    # The offset is a fraction of the side already.
    step = np.eye(3)
    row = 0 if transform.direction == 'horizontal' else 1
    step[row, 2] = -_magnitude(transform, transform.magnitude)
    return step


def _rotate(
    transform: mmpretrain_transforms.Rotate, height: int, width: int
) -> np.ndarray | None:
    if transform.random_disable():
        return None
    center = transform.center or ((width - 1) * 0.5, (height - 1) * 0.5)
    angle = _magnitude(transform, transform.angle)
    matrix = cv2.getRotationMatrix2D(center, -angle, transform.scale)
    return _warp(matrix, height, width)


#: Transforms that move pixels.
MOVES: dict[type, Describe] = {
    mmpretrain_transforms.RandomResizedCrop: _random_resized_crop,
    mmpretrain_transforms.RandomCrop: _random_crop,
    mmcv_transforms.CenterCrop: _center_crop,
    mmcv_transforms.RandomFlip: _flip,
    mmpretrain_transforms.Shear: _shear,
    mmpretrain_transforms.Translate: _translate,
    mmpretrain_transforms.Rotate: _rotate,
}
#: Transforms that run other transforms.
CONTAINERS = (
    Compose,
    mmcv_transforms.RandomChoice,
    mmcv_transforms.RandomApply,
    mmpretrain_transforms.RandAugment,
)
#: Transforms that change colors, or the number of pixels: a fraction of the image
#: shows the same before and after.
IN_PLACE = (
    mmcv_transforms.LoadImageFromFile,
    mmcv_transforms.Normalize,
    mmcv_transforms.RandomGrayscale,
    mmcv_transforms.RandomChoiceResize,
    mmcv_transforms.RandomResize,
    mmcv_transforms.Resize,
    mmpretrain_transforms.AutoContrast,
    mmpretrain_transforms.Brightness,
    mmpretrain_transforms.ColorJitter,
    mmpretrain_transforms.ColorTransform,
    mmpretrain_transforms.Contrast,
    mmpretrain_transforms.Cutout,
    mmpretrain_transforms.Equalize,
    mmpretrain_transforms.GaussianBlur,
    mmpretrain_transforms.Invert,
    mmpretrain_transforms.Lighting,
    mmpretrain_transforms.PackInputs,
    mmpretrain_transforms.Posterize,
    mmpretrain_transforms.RandomErasing,
    mmpretrain_transforms.ResizeEdge,
    mmpretrain_transforms.Sharpness,
    mmpretrain_transforms.Solarize,
    mmpretrain_transforms.SolarizeAdd,
)
