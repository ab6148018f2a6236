"""YOLO: a text file for every image, with outlines as fractions of its size."""

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import yaml

from volo.errors import DataError, some

from .found import Found, Sample, list_files, split_of
from .polygons import draw_polygons, pairs, upright_size


def find_yolo(folder: Path, images: Sequence[str]) -> Found | None:
    """Read the polygons of a YOLO dataset.

    The file of ``images/a.jpg`` is ``labels/a.txt`` or ``images/a.txt``. Label 0 is
    the background, class k of YOLO is label k + 1. Images without a file show the
    background only.

    Args:
        folder: The dataset.
        images: Paths of its images, relative to it.

    Raises:
        DataError: The files have boxes only.
    """
    texts = set(list_files(folder, ['.txt']))
    files = {image: _file_of(image, texts) for image in images}
    rows = {
        image: _read(folder / path) if path else [] for image, path in files.items()
    }
    if any(row is None for row in rows.values()) or not any(rows.values()):
        return None
    shapes: dict[str, list[list[float]]] = {i: row or [] for i, row in rows.items()}
    polygons = sum(len(row) > 5 for image in shapes.values() for row in image)
    boxes = sum(len(row) == 5 for image in shapes.values() for row in image)
    if not polygons:
        raise DataError(
            f'{folder}: the YOLO files have {boxes} boxes but no polygons. VOLO '
            'segments or classifies: add polygons, or sort the images into folders'
        )
    highest = max(int(row[0]) for image in shapes.values() for row in image)
    names = _names(folder, highest)
    found = Found('segmentation', 'YOLO polygons', ('background', *names), [])
    for image, objects in shapes.items():
        draw = functools.partial(draw_objects, folder / image, objects)
        found.samples.append(Sample(image, draw=draw, split=split_of(image)))
    bare = [image for image, path in files.items() if not path]
    if bare:
        found.notes.append(
            f'{len(bare)} images have no text file and show the background only: '
            f'{some(bare, 2)}'
        )
    if boxes:
        found.notes.append(f'{boxes} boxes are left out, as they are no polygons')
    return found


def draw_objects(image: Path, objects: Sequence[Sequence[float]]) -> np.ndarray:
    """Draw the polygons of an image.

    Args:
        image: The image, for its size.
        objects: Class and x, y, x, y, ... from 0 to 1.

    Returns:
        Mask uint8 (H, W).
    """
    width, height = upright_size(image)
    shapes = [
        (int(row[0]) + 1, [[(x * width, y * height) for x, y in pairs(row[1:])]])
        for row in objects
        if len(row) > 5
    ]
    return draw_polygons((width, height), shapes)


def _file_of(image: str, texts: set[str]) -> str:
    beside = str(PurePosixPath(image).with_suffix('.txt'))
    parts = beside.split('/')
    candidates = [beside]
    for index, part in enumerate(parts[:-1]):
        if part == 'images':
            candidates.append('/'.join([*parts[:index], 'labels', *parts[index + 1 :]]))
    return next((path for path in candidates if path in texts), '')


def _read(path: Path) -> list[list[float]] | None:
    """Return the rows of numbers of a file, or None if it is no YOLO file."""
    try:
        rows = [
            [float(word) for word in line.split()]
            for line in path.read_text().splitlines()
            if line.strip()
        ]
    except ValueError:
        return None
    fits = all(
        len(row) >= 5 and row[0] == int(row[0]) >= 0 and max(row[1:]) <= 1.01
        for row in rows
    )
    return rows if fits else None


def _names(folder: Path, highest: int) -> list[str]:
    """Return the names of the classes, from a file if there is one."""
    for path in sorted([*folder.glob('*.yaml'), *folder.glob('*.yml')]):
        content: Any = yaml.safe_load(path.read_text())
        names = content.get('names') if isinstance(content, Mapping) else None
        if isinstance(names, Mapping):
            names = [names[key] for key in sorted(names)]
        if names:
            return _enough(path, [str(name) for name in names], highest)
    for path in (folder / 'classes.txt', folder / 'labels' / 'classes.txt'):
        if path.is_file():
            names = [line.strip() for line in path.read_text().splitlines()]
            return _enough(path, list(filter(None, names)), highest)
    return [f'class_{index}' for index in range(highest + 1)]


def _enough(path: Path, names: list[str], highest: int) -> list[str]:
    if highest >= len(names):
        raise DataError(
            f'{path}: {len(names)} names, but the text files have class {highest}. '
            'Add the names of all classes'
        )
    return names
