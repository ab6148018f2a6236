"""Where every point of an augmented image came from.

A pipeline moves pixels with the libraries' own transforms. :func:`track` wraps those
that do: each tells what it did as one 3x3 matrix, and a :class:`Geometry` multiplies
them up. So a label map is sampled once, at the end, and no transform needs to know
about it. What a crop cut off does not come back when the rest is turned, so the
geometry also keeps the frames that pixels must have passed.

Points are fractions (x, y, 1) of width and height: (0, 0) is the outer corner of the
first pixel and (1, 1) that of the last. Resizing therefore moves nothing.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator

import cv2
import numpy as np
from mmcv import transforms as mmcv_transforms
from mmcv.transforms import BaseTransform, Compose
from mmpretrain.datasets import transforms as mmpretrain_transforms

from volo.errors import ConfigError

#: Key of a sample's :class:`Geometry` among the results of a pipeline.
GEOMETRY_KEY = 'geometry'

_CORNERS = np.array([[0, 1, 0, 1], [0, 0, 1, 1], [1, 1, 1, 1]])

#: From a transform and the image's height and width before it to the 3x3 matrix that
#: takes points of its output to points of its input; None if nothing moved.
Describe = Callable[[BaseTransform, int, int], np.ndarray | None]


class Geometry:
    """How the image was moved so far.

    Attributes:
        matrix: Takes points of the image as it is now to points of the image as
            it was loaded, shape (3, 3).
        frames: The same to points of the image as it was before each step that
            shows more than there was: what falls outside of (0, 0) to (1, 1) there is
            fill, whatever the matrix says. Shape (3, 3) each.
    """

    def __init__(self) -> None:
        self.matrix = np.eye(3)
        self.frames: list[np.ndarray] = []

    def append(self, step: np.ndarray) -> None:
        """Add what a transform did: a matrix from its output to its input."""
        corners = (step @ _CORNERS)[:2]
        if corners.min() < -1e-6 or corners.max() > 1 + 1e-6:
            self.frames.append(np.eye(3))
        self.frames = [frame @ step for frame in self.frames]
        self.matrix = self.matrix @ step


class StartGeometry(BaseTransform):
    """Begins the :class:`Geometry` of a sample; the head of a tracked pipeline."""

    def transform(self, results: dict) -> dict:
        """Add an identity to the results."""
        results[GEOMETRY_KEY] = Geometry()
        return results


class Tracked(BaseTransform):
    """Runs a transform that moves pixels, and records how.

    Args:
        transform: The transform.
        describe: Tells what it did.
        swap_axes: Record the step with x and y exchanged on both sides.
    """

    def __init__(
        self, transform: BaseTransform, describe: Describe, swap_axes: bool = False
    ) -> None:
        self.inner = transform
        self.describe = describe
        self.swap_axes = swap_axes

    def transform(self, results: dict) -> dict | None:
        """Run the transform and append its step to the geometry."""
        geometry = results[GEOMETRY_KEY]
        height, width = results['img'].shape[:2]
        with _repeatable(self.inner):
            results = self.inner(results)
            step = self.describe(self.inner, height, width)
        if step is not None:
            geometry.append(step[[1, 0, 2]][:, [1, 0, 2]] if self.swap_axes else step)
        return results

    def __repr__(self) -> str:
        return f'Tracked({self.inner!r})'


@contextlib.contextmanager
def _repeatable(transform: BaseTransform) -> Iterator[None]:
    """Let the methods under mmcv's ``cache_randomness`` repeat their answers.

    mmcv's own ``cache_random_params`` miscounts the calls of RandomResizedCrop, whose
    subclass enters the same method a second time into the list they share.
    """
    transform._cache_enabled = True
    try:
        yield
    finally:
        transform._cache_enabled = False
        transform.__dict__.pop('_cache', None)


def track(
    transforms: Iterable[BaseTransform], published_axes: bool = False
) -> list[BaseTransform]:
    """Wrap the transforms of a pipeline that move pixels.

    Those inside of ``RandAugment``, ``AutoAugment``, ``RandomChoice``, ``RandomApply``
    and ``Compose`` are wrapped in place. A transform of your own takes part with a
    class attribute ``moves_pixels = False``, or with a method
    ``describe_geometry(height, width)`` that returns the matrix of the last call (its
    random draws made in methods under mmcv's ``cache_randomness``).

    Args:
        transforms: In the order of the pipeline.
        published_axes: Exchange x and y of every crop, as the authors' code does.

    Raises:
        ConfigError: A transform is not known to keep pixels in place, and does not
            tell how it moves them.
    """
    return [_track_one(transform, published_axes) for transform in transforms]


def _track_one(transform: BaseTransform, published_axes: bool) -> BaseTransform:
    if isinstance(transform, _CONTAINERS):
        parts = transform.transforms
        if isinstance(parts, Compose):
            _track_one(parts, published_axes)
        else:
            transform.transforms = track(parts, published_axes)
        return transform
    if isinstance(transform, _IN_PLACE) or not getattr(transform, 'moves_pixels', True):
        return transform
    if hasattr(transform, 'describe_geometry'):
        return Tracked(transform, _ask)
    for kind, describe in _MOVES.items():
        if isinstance(transform, kind):
            swap = published_axes and kind in _CROPS
            return Tracked(transform, describe, swap)
    name = type(transform).__name__
    raise ConfigError(
        f'the pipeline transform {name} may move pixels and does not tell where to, so '
        'label maps would no longer fit the image. Remove it, give its class '
        'moves_pixels = False or a method describe_geometry, or train without token '
        f'labels. Known are {", ".join(sorted(kind.__name__ for kind in _MOVES))}'
    )


def _ask(transform: BaseTransform, height: int, width: int) -> np.ndarray | None:
    return transform.describe_geometry(height, width)


def _crop(
    left: float, top: float, width: float, height: float, full: tuple[int, int]
) -> np.ndarray:
    """Return the step of a crop, in pixels of an image of ``full`` height, width."""
    full_height, full_width = full
    return np.array(
        [
            [width / full_width, 0, left / full_width],
            [0, height / full_height, top / full_height],
            [0, 0, 1],
        ]
    )


def _warp(matrix: np.ndarray, height: int, width: int) -> np.ndarray:
    """Return the step of ``cv2.warpAffine`` with a (2, 3) matrix from input to output.

    The matrix is of pixel indices, where the middle of the first pixel is 0.
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
        raise ConfigError('CenterCrop with auto_pad does not tell where pixels go')
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
    """Return what the policy of a RandAugment drew, or its fixed value."""
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
    # A fraction of the side, so that no pixel indices are involved.
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


_MOVES: dict[type, Describe] = {
    mmpretrain_transforms.RandomResizedCrop: _random_resized_crop,
    mmpretrain_transforms.RandomCrop: _random_crop,
    mmcv_transforms.CenterCrop: _center_crop,
    mmcv_transforms.RandomFlip: _flip,
    mmpretrain_transforms.Shear: _shear,
    mmpretrain_transforms.Translate: _translate,
    mmpretrain_transforms.Rotate: _rotate,
}
_CROPS = (
    mmpretrain_transforms.RandomResizedCrop,
    mmpretrain_transforms.RandomCrop,
    mmcv_transforms.CenterCrop,
)
_CONTAINERS = (
    Compose,
    mmcv_transforms.RandomChoice,
    mmcv_transforms.RandomApply,
    mmpretrain_transforms.RandAugment,
)
# Those that change colors, or the number of pixels but not what a fraction of the
# image shows.
_IN_PLACE = (
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
