"""Write a dataset of synthetic shapes for classification and segmentation.

The layout is::

    <root>/dataset.json                            the settings
    <root>/images/{train,val}/<class>/<name>.jpg   RGB
    <root>/masks/{train,val}/<class>/<name>.png    8 bits: 0 background, 1 + class

An image depends on the seed, its split, its class and its number alone. Drawing it
again gives the same bytes.
"""

import io
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from volo.errors import DataError
from volo.files import atomic_path, write_atomically

from .shapes import SHAPE_CLASSES, draw_shape

SPLITS = ('train', 'val')

_MANIFEST = 'dataset.json'
# Raise it when a change of the drawing code changes an image.
_FORMAT_VERSION = 1


def _encode(array: np.ndarray, **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, **options)
    return buffer.getvalue()


def _samples(settings: dict[str, Any]) -> Iterator[tuple[str, int, int]]:
    """Yield split, class index and number of every image."""
    for split in SPLITS:
        for label in range(len(SHAPE_CLASSES)):
            for number in range(settings[f'{split}_per_class']):
                yield split, label, number


def _write_missing(root: Path, settings: dict[str, Any]) -> None:
    """Draw the images and masks that are missing, and keep the others."""
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


def _check_existing(root: Path, settings: dict[str, Any]) -> None:
    """Refuse a folder that does not hold this dataset."""
    manifest = root / _MANIFEST
    if not manifest.is_file():
        raise DataError(
            f'{root} exists and holds no shapes dataset ({_MANIFEST} is missing): '
            'choose another folder'
        )
    try:
        found = json.loads(manifest.read_text())
    except ValueError as error:
        raise DataError(
            f'{manifest} is not readable ({error}): delete the folder or choose another'
        ) from error
    if found != settings:
        raise DataError(
            f'{root} was drawn with other settings ({found}, asked for {settings}): '
            'choose another folder or delete this one'
        )


def generate_shapes_dataset(
    root: str | os.PathLike,
    *,
    train_per_class: int = 200,
    val_per_class: int = 40,
    size: int = 96,
    seed: int = 0,
) -> None:
    """Draw the dataset into a folder and keep the files that are there.

    A new dataset is drawn beside the folder and renamed at the end, so the folder
    holds the whole dataset or does not exist. In a folder with the same settings,
    only missing files are drawn.

    Args:
        root: Folder of the dataset.
        train_per_class: Training images per class.
        val_per_class: Validation images per class.
        size: Height and width of the images in pixels.
        seed: Seed of all images.

    Raises:
        DataError: A number is out of range, or the folder holds other files or the
            dataset with other settings.
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
