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
        describe: Returns the matrix of its last call, or several.
    """

    def __init__(self, transform: BaseTransform, describe: Describe) -> None:
        self.inner = transform
        self.describe = describe

    def transform(self, results: dict) -> dict | None:
        """Run the transform and append its matrices to the geometry."""
        geometry = results[GEOMETRY_KEY]
        height, width = results['img'].shape[:2]
        with _repeatable(self.inner):
            results = self.inner(results)
            steps = self.describe(self.inner, height, width)
        if steps is not None:
            for step in np.reshape(steps, (-1, 3, 3)):
                geometry.append(step)
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


def track(transforms: Iterable[BaseTransform]) -> list[BaseTransform]:
    """Wrap the transforms of a pipeline that move pixels.

    Transforms inside ``RandAugment``, ``AutoAugment``, ``RandomChoice``,
    ``RandomApply`` and ``Compose`` are wrapped in place. Your own transform takes part
    with the class attribute ``moves_pixels = False``, or with a method
    ``describe_geometry(height, width)``. It returns the matrix of the last call, from
    points of the output to points of the input of that height and width; several
    matrices (n, 3, 3), in order; or None if no pixel moved. Random draws that both use
    belong in methods under mmcv's ``cache_randomness``.

    Args:
        transforms: The transforms, in the order of the pipeline.

    Raises:
        ConfigError: A transform may move pixels and has no description.
    """
    return [_track_one(transform) for transform in transforms]


def _track_one(transform: BaseTransform) -> BaseTransform:
    if isinstance(transform, CONTAINERS):
        parts = transform.transforms
        if isinstance(parts, Compose):
            _track_one(parts)
        else:
            transform.transforms = track(parts)
        return transform
    if isinstance(transform, IN_PLACE) or not getattr(transform, 'moves_pixels', True):
        return transform
    if hasattr(transform, 'describe_geometry'):
        return Tracked(transform, _describe_geometry)
    for kind, describe in MOVES.items():
        if isinstance(transform, kind):
            return Tracked(transform, describe)
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
