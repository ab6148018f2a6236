"""A small drawn dataset, to see training work without a download.

Every image shows one large shape on a varied background, among small blobs
that belong to no class. Colors and textures are drawn independently of the
class, so that a model has to recognize the outline. Each image comes with a
mask, so that one dataset serves classification and segmentation::

    <root>/dataset.json                            the settings it was drawn with
    <root>/images/{train,val}/<class>/<name>.jpg   RGB
    <root>/masks/{train,val}/<class>/<name>.png    8 bits: 0 background, 1 + class

An image depends on nothing but the seed, its split, its class and its number:
drawing it again gives the same bytes.
"""

import io
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from volo.errors import DataError
from volo.files import atomic_path, write_atomically

SHAPE_CLASSES = ('circle', 'crescent', 'cross', 'ring', 'square', 'star', 'triangle')
"""Class names in label order, which is the order of the sorted folders."""

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

SPLITS = ('train', 'val')

_MANIFEST = 'dataset.json'
# Raise it when a change of the drawing code changes an image.
_FORMAT_VERSION = 1
_SUPERSAMPLING = 2


# --- Outlines: which points of the plane lie inside a shape of radius about 1 ---


def _inside_polygon(u: np.ndarray, v: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """Even-odd rule for all points at once; corners is (number of corners, 2)."""
    inside = np.zeros(u.shape, dtype=bool)
    for (u0, v0), (u1, v1) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        if v0 == v1:
            continue
        between = (v0 > v) != (v1 > v)
        inside ^= between & (u < u0 + (v - v0) * (u1 - u0) / (v1 - v0))
    return inside


def _corners(radii: tuple[float, ...]) -> np.ndarray:
    """Corners at equal angles and the given radii."""
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


# --- Surfaces: how much of the second of two colors each pixel takes, in 0..1 ---


def _rotated(
    size: int, angle: float, step: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates of the pixel centers, in units of step, turned by angle."""
    x = ((np.arange(size) + 0.5) / step).astype(np.float32)
    y = x[:, None]
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    return cos * x + sin * y, cos * y - sin * x


def _smooth_noise(rng: np.random.Generator, size: int, cells: int) -> np.ndarray:
    """Random values on a grid of cells x cells, interpolated to size x size."""
    grid = rng.random((cells, cells), dtype=np.float32)
    image = Image.fromarray(grid).resize((size, size), Image.Resampling.BICUBIC)
    return np.clip(np.asarray(image), 0, 1)


def _surface(rng: np.random.Generator, size: int, kinds: tuple[str, ...]) -> np.ndarray:
    """One of the named textures with random parameters, (size, size) in 0..1."""
    kind = str(rng.choice(kinds))
    # A period of 5 to 12 pixels at 96 x 96.
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
    """Two colors for the background and two, brighter, for the shape: 0..255.

    The shape is always the brighter one. Otherwise nothing in the image hints
    at the class until edges are recognized, and a small model spends most of a
    short training looking for the first foothold.
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
    """A small irregular blob of no class: boolean (size, size)."""
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
    """Share of each pixel that a randomly placed shape covers: (size, size)."""
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
    """Draws one image and its mask.

    Args:
        class_name: One of :data:`SHAPE_CLASSES`.
        rng: Source of everything that varies.
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


# --- On disk ---


def _encode(array: np.ndarray, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, **options)
    return buffer.getvalue()


def _samples(settings: dict) -> Iterator[tuple[str, int, int]]:
    """Split, class index and number of every image."""
    for split in SPLITS:
        for label in range(len(SHAPE_CLASSES)):
            for number in range(settings[f'{split}_per_class']):
                yield split, label, number


def _write_missing(root: Path, settings: dict) -> None:
    """Draws the images and masks that are not there, and leaves the others."""
    for split, label, number in _samples(settings):
        class_name = SHAPE_CLASSES[label]
        name = Path(split, class_name, f'{class_name}_{number:04d}')
        image_path = (root / 'images' / name).with_suffix('.jpg')
        mask_path = (root / 'masks' / name).with_suffix('.png')
        if image_path.is_file() and mask_path.is_file():
            continue
        key = (settings['seed'], SPLITS.index(split), label, number)
        image, mask = draw_shape(
            class_name, np.random.default_rng(key), settings['size']
        )
        if not image_path.is_file():
            # Full color resolution: some outlines show in color alone.
            content = _encode(image, format='JPEG', quality=92, subsampling=0)
            write_atomically(image_path, content, durable=False)
        if not mask_path.is_file():
            write_atomically(mask_path, _encode(mask, format='PNG'), durable=False)


def _check_existing(root: Path, settings: dict) -> None:
    """Refuses a folder that holds anything but this very dataset."""
    manifest = root / _MANIFEST
    if not manifest.is_file():
        raise DataError(
            f'{root} exists and holds no shapes dataset ({_MANIFEST} is missing): '
            'choose another folder'
        )
    try:
        found = json.loads(manifest.read_text())
    except ValueError as error:
        raise DataError(f'{manifest} is not readable: {error}') from error
    if found != settings:
        raise DataError(
            f'{root} was drawn with other settings ({found}, asked for {settings}): '
            'choose another folder or delete that one'
        )


def generate_shapes_dataset(
    root: str | os.PathLike,
    *,
    train_per_class: int = 200,
    val_per_class: int = 40,
    size: int = 96,
    seed: int = 0,
) -> None:
    """Draws the dataset into a folder; what is already there stays untouched.

    A new dataset is drawn beside the folder and renamed at the end, so that the
    folder holds a whole dataset or does not exist. An existing one of the same
    settings is kept, and files that are missing from it are drawn again.

    Args:
        root: Folder of the dataset.
        train_per_class: Number of training images of each class.
        val_per_class: Number of validation images of each class.
        size: Height and width of the images, in pixels.
        seed: Seed of all images.

    Raises:
        DataError: The folder holds something else, or the same drawn otherwise.
    """
    if min(train_per_class, val_per_class) < 1 or size < 32 or seed < 0:
        raise DataError(
            'the shapes dataset needs at least one image per class and split, '
            f'32 pixels and a seed of at least 0, got {train_per_class=}, '
            f'{val_per_class=}, {size=}, {seed=}'
        )
    root = Path(root)
    settings = {
        'format_version': _FORMAT_VERSION,
        'classes': list(SHAPE_CLASSES),
        'train_per_class': train_per_class,
        'val_per_class': val_per_class,
        'size': size,
        'seed': seed,
    }
    if root.exists() and not (root.is_dir() and not any(root.iterdir())):
        _check_existing(root, settings)
        _write_missing(root, settings)
        return

    with atomic_path(root) as unfinished:
        _write_missing(unfinished, settings)
        write_atomically(
            unfinished / _MANIFEST, json.dumps(settings, indent=2).encode() + b'\n'
        )
