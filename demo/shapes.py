"""Draw synthetic shapes: images with masks, for training without a download.

Every image shows one large shape on a textured background, among small blobs that
belong to no class. Colors and textures do not depend on the class, so a model has to
recognize the outline. :mod:`demo.shapes_dataset` writes the images to disk.
"""

from collections.abc import Callable

import numpy as np
from PIL import Image

SHAPE_CLASSES = ('circle', 'crescent', 'cross', 'ring', 'square', 'star', 'triangle')
"""Class names in label order, which is alphabetical."""

SEGMENTATION_CLASSES = ('background', *SHAPE_CLASSES)
"""Names of the mask values 0, 1, 2, ..."""

SEGMENTATION_PALETTE = (
    (40, 40, 40),
    (230, 75, 60),
    (250, 200, 50),
    (60, 180, 100),
    (70, 130, 240),
    (170, 90, 210),
    (250, 130, 190),
    (80, 210, 220),
)
"""RGB color of each mask value."""

_SUPERSAMPLING = 2


# --- Outlines: whether a point (u, v) lies inside a shape of radius about 1 ---


def _inside_polygon(u: np.ndarray, v: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """Test points with the even-odd rule; corners are (N, 2)."""
    inside = np.zeros(u.shape, dtype=bool)
    for (u0, v0), (u1, v1) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        if v0 == v1:
            continue
        between = (v0 > v) != (v1 > v)
        inside ^= between & (u < u0 + (v - v0) * (u1 - u0) / (v1 - v0))
    return inside


def _corners(radii: tuple[float, ...]) -> np.ndarray:
    """Place corners at equal angles and the given radii: (N, 2)."""
    angles = np.arange(len(radii)) * (2 * np.pi / len(radii))
    return np.stack([np.cos(angles), np.sin(angles)], axis=1) * np.array(radii)[:, None]


def _circle(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return u**2 + v**2 < 0.9**2


def _crescent(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return (u**2 + v**2 < 1) & ((u - 0.5) ** 2 + v**2 > 0.8**2)


def _cross(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    arm, length = 0.32, 0.95
    upright = (np.abs(u) < arm) & (np.abs(v) < length)
    return upright | ((np.abs(v) < arm) & (np.abs(u) < length))


def _ring(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    squared_radius = u**2 + v**2
    return (squared_radius < 0.95**2) & (squared_radius > 0.5**2)


def _square(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return np.maximum(np.abs(u), np.abs(v)) < 0.78


def _star(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return _inside_polygon(u, v, _corners((1.1, 0.45) * 5))


def _triangle(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return _inside_polygon(u, v, _corners((1.1,) * 3))


_OUTLINES: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    'circle': _circle,
    'crescent': _crescent,
    'cross': _cross,
    'ring': _ring,
    'square': _square,
    'star': _star,
    'triangle': _triangle,
}


# --- Surfaces: the weight of the second of two colors at each pixel, 0 to 1 ---


def _rotated(
    size: int, angle: float, step: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """Return the pixel centers in units of ``step``, rotated by ``angle``."""
    x = ((np.arange(size) + 0.5) / step).astype(np.float32)
    y = x[:, None]
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    return cos * x + sin * y, cos * y - sin * x


def _smooth_noise(rng: np.random.Generator, size: int, cells: int) -> np.ndarray:
    """Interpolate random values from cells x cells to size x size."""
    grid = rng.random((cells, cells), dtype=np.float32)
    image = Image.fromarray(grid).resize((size, size), Image.Resampling.BICUBIC)
    return np.clip(np.asarray(image), 0, 1)


def _surface(rng: np.random.Generator, size: int, kinds: tuple[str, ...]) -> np.ndarray:
    """Draw one of the named textures: (size, size), 0 to 1."""
    kind = str(rng.choice(kinds))
    # The period is 5 to 12 pixels in an image of 96 x 96.
    u, v = _rotated(size, rng.uniform(0, 2 * np.pi), size * rng.uniform(0.05, 0.125))
    if kind == 'plain':
        return np.zeros((size, size), dtype=np.float32)
    if kind == 'gradient':
        return (u - u.min()) / (u.max() - u.min())
    if kind == 'stripes':
        return (u % 1 < 0.5).astype(np.float32)
    if kind == 'checks':
        return ((u % 1 < 0.5) ^ (v % 1 < 0.5)).astype(np.float32)
    if kind == 'dots':
        return ((u % 1 - 0.5) ** 2 + (v % 1 - 0.5) ** 2 < 0.3**2).astype(np.float32)
    if kind == 'grain':
        return rng.random((size, size), dtype=np.float32)
    return _smooth_noise(rng, size, int(rng.integers(4, 12)))


_BACKGROUNDS = ('gradient', 'clouds', 'grain', 'stripes', 'checks')
_TEXTURES = ('plain', 'gradient', 'stripes', 'checks', 'dots', 'grain', 'clouds')


def _paint(surface: np.ndarray, colors: np.ndarray) -> np.ndarray:
    """Mix two RGB colors (2, 3) by a surface (H, W): (H, W, 3)."""
    weight = surface[..., None]
    return colors[0] * (1 - weight) + colors[1] * weight


def _color_pairs(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draw two colors for the background and two for the shape, each (2, 3), 0 to 255.

    The shape is always brighter: a small model then finds it early, and a short
    training is enough.
    """
    while True:
        background, shape = rng.uniform(30, 225, (2, 3))
        if (shape - background).sum() > 220:
            break
    offsets = rng.uniform(-15, 15, (2, 1, 3)) * np.array([1, -1])[:, None]
    pairs = np.clip(np.stack([background, shape])[:, None] + offsets, 0, 255)
    background_pair, shape_pair = pairs.astype(np.float32)
    return background_pair, shape_pair


def _blob_coverage(rng: np.random.Generator, size: int) -> np.ndarray:
    """Draw a small irregular blob of no class: boolean (size, size)."""
    x, y = _rotated(size, 0.0)
    center = rng.uniform(0, size, 2)
    radius = size * rng.uniform(0.03, 0.08)
    angle = np.arctan2(y - center[1], x - center[0])
    outline = 1 + sum(
        rng.uniform(0, 0.3) * np.cos(lobes * angle + rng.uniform(0, 2 * np.pi))
        for lobes in (2, 3, 5)
    )
    return np.hypot(x - center[0], y - center[1]) < radius * outline


def _shape_coverage(rng: np.random.Generator, class_name: str, size: int) -> np.ndarray:
    """Place a shape at random and return how much of each pixel it covers."""
    radius = size * rng.uniform(0.28, 0.4)
    center = rng.uniform(radius, size - radius, 2)
    angle = rng.uniform(0, 2 * np.pi)
    stretch = rng.uniform(0.85, 1.0)
    fine_size = size * _SUPERSAMPLING
    u, v = _rotated(fine_size, angle, _SUPERSAMPLING * radius)
    cos, sin = np.cos(angle), np.sin(angle)
    u -= (cos * center[0] + sin * center[1]) / radius
    v -= (cos * center[1] - sin * center[0]) / radius
    inside = _OUTLINES[class_name](u, v / np.float32(stretch))
    blocks = inside.reshape(size, _SUPERSAMPLING, size, _SUPERSAMPLING)
    return blocks.mean(axis=(1, 3), dtype=np.float32)


def draw_shape(
    class_name: str, rng: np.random.Generator, size: int = 96
) -> tuple[np.ndarray, np.ndarray]:
    """Draw one image and its mask.

    Args:
        class_name: One of :data:`SHAPE_CLASSES`.
        rng: Source of all randomness.
        size: Height and width in pixels.

    Returns:
        The RGB image (size, size, 3) and the mask (size, size), both uint8; the
        mask is 0 on the background and 1 + the class index on the shape.
    """
    background_colors, shape_colors = _color_pairs(rng)
    image = _paint(_surface(rng, size, _BACKGROUNDS), background_colors)
    for _ in range(rng.integers(0, 4)):
        image[_blob_coverage(rng, size)] = rng.uniform(0, 255, 3)

    coverage = _shape_coverage(rng, class_name, size)
    shape = _paint(_surface(rng, size, _TEXTURES), shape_colors)
    image += coverage[..., None] * (shape - image)

    noise = rng.standard_normal(image.shape, dtype=np.float32)
    image += np.float32(rng.uniform(2, 5)) * noise
    mask = np.where(coverage >= 0.5, 1 + SHAPE_CLASSES.index(class_name), 0)
    return np.clip(np.rint(image), 0, 255).astype(np.uint8), mask.astype(np.uint8)
