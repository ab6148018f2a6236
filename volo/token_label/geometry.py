"""Where every point of an augmented image came from.

Pipelines move pixels with the libraries' own transforms. :func:`track` wraps those:
each call becomes one 3x3 matrix, and a :class:`Geometry` multiplies the matrices. A
label map is then sampled once, at the end, and no transform needs to know about it.
What a crop removes does not come back when the rest is rotated, so the geometry also
keeps the frames that pixels must have passed.

Points are fractions (x, y, 1) of width and height: (0, 0) is the outer corner of the
first pixel and (1, 1) that of the last. Resizing therefore moves nothing.
"""

import contextlib
from collections.abc import Iterable, Iterator

import numpy as np
from mmcv.transforms import BaseTransform, Compose

from volo.errors import ConfigError

from .moves import CONTAINERS, IN_PLACE, MOVES, Describe

#: Key of a sample's :class:`Geometry` in the results of a pipeline.
GEOMETRY_KEY = 'geometry'

_CORNERS = np.array([[0, 1, 0, 1], [0, 0, 1, 1], [1, 1, 1, 1]])


class Geometry:
    """The moves of an image so far.

    Attributes:
        matrix: From points of the current image to points of the loaded image, shape
            (3, 3).
        frames: From points of the current image to points of the image before each step
            that uncovered something. Pixels outside (0, 0) to (1, 1) there are fill,
            whatever ``matrix`` says. Shape (3, 3) each.
    """

    def __init__(self) -> None:
        self.matrix = np.eye(3)
        self.frames: list[np.ndarray] = []

    def append(self, step: np.ndarray) -> None:
        """Add the matrix of a transform, from its output to its input."""
        corners = (step @ _CORNERS)[:2]
        if corners.min() < -1e-6 or corners.max() > 1 + 1e-6:
            self.frames.append(np.eye(3))
        self.frames = [frame @ step for frame in self.frames]
        self.matrix = self.matrix @ step


class StartGeometry(BaseTransform):
    """Start the :class:`Geometry` of a sample; the head of a tracked pipeline."""

    def transform(self, results: dict) -> dict:
        """Add an identity to the results."""
        results[GEOMETRY_KEY] = Geometry()
        return results


class Tracked(BaseTransform):
    """Run a transform that moves pixels, and record its matrix.

    Args:
        transform: The transform.
        describe: Returns the matrix of its last call.
        swap_axes: Record the matrix with x and y exchanged on both sides.
    """

    def __init__(
        self, transform: BaseTransform, describe: Describe, swap_axes: bool = False
    ) -> None:
        self.inner = transform
        self.describe = describe
        self.swap_axes = swap_axes

    def transform(self, results: dict) -> dict | None:
        """Run the transform and append its matrix to the geometry."""
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
    """Let methods under mmcv's ``cache_randomness`` repeat their results.

    mmcv's own ``cache_random_params`` miscounts the calls of RandomResizedCrop, whose
    subclass adds the same method a second time to a shared list.
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

    Transforms inside ``RandAugment``, ``AutoAugment``, ``RandomChoice``,
    ``RandomApply`` and ``Compose`` are wrapped in place. Your own transform takes part
    with the class attribute ``moves_pixels = False``, or with a method
    ``describe_geometry(height, width)`` that returns the matrix of its last call, from
    points of its output to points of its input of that height and width. Random draws
    that both use belong in methods under mmcv's ``cache_randomness``.

    Args:
        transforms: The transforms, in the order of the pipeline.
        published_axes: Exchange x and y of every crop, as the authors' code does.

    Raises:
        ConfigError: A transform may move pixels and has no description.
    """
    return [_track_one(transform, published_axes) for transform in transforms]


def _track_one(transform: BaseTransform, published_axes: bool) -> BaseTransform:
    if isinstance(transform, CONTAINERS):
        parts = transform.transforms
        if isinstance(parts, Compose):
            _track_one(parts, published_axes)
        else:
            transform.transforms = track(parts, published_axes)
        return transform
    if isinstance(transform, IN_PLACE) or not getattr(transform, 'moves_pixels', True):
        return transform
    if hasattr(transform, 'describe_geometry'):
        return Tracked(transform, _describe_geometry)
    for kind, describe in MOVES.items():
        if isinstance(transform, kind):
            swap = published_axes and kind.__name__.endswith('Crop')
            return Tracked(transform, describe, swap)
    name = type(transform).__name__
    known = ', '.join(sorted(kind.__name__ for kind in MOVES))
    raise ConfigError(
        f'the pipeline transform {name} may move pixels and does not tell where to, so '
        'label maps would no longer fit the image. Remove it, give its class '
        'moves_pixels = False or a method describe_geometry, or train without token '
        f'labels. Known are {known}'
    )


def _describe_geometry(
    transform: BaseTransform, height: int, width: int
) -> np.ndarray | None:
    return transform.describe_geometry(height, width)
