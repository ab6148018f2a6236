"""COCO: one JSON file with polygons or run lengths for many images."""

import functools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from volo.errors import DataError, some

from .found import Found, Sample, list_files, split_name, split_of
from .polygons import draw_polygons, pairs

_KEYS = {'images', 'annotations', 'categories'}


def find_coco(folder: Path, images: Sequence[str]) -> Found | None:
    """Read all COCO files of a dataset.

    Label 0 is the background. The categories follow in the order of their ids. Smaller
    objects are drawn over larger ones.

    Args:
        folder: The dataset.
        images: Paths of its images, relative to it.

    Raises:
        DataError: The files have boxes only, or an unknown category.
    """
    paths = list_files(folder, ['.json'])
    contents = {p: content for p in paths if (content := _read(folder / p))}
    # Files of captions or keypoints have the same keys.
    contents = {p: c for p, c in contents.items() if _has_masks(c)} or contents
    if not contents:
        return None
    names = {c['id']: c['name'] for f in contents.values() for c in f['categories']}
    labels = {key: label for label, key in enumerate(sorted(names), 1)}
    found = Found(
        'segmentation',
        f'COCO ({some(contents, 2)})',
        ('background', *(names[key] for key in labels)),
        [],
    )
    if not any(_has_masks(content) for content in contents.values()):
        raise DataError(
            f'{folder}: {some(contents, 2)} has boxes but no segmentation. VOLO '
            'segments or classifies: add polygons, or sort the images into folders'
        )
    for path, content in contents.items():
        unknown = {a['category_id'] for a in content['annotations']} - labels.keys()
        if unknown:
            raise DataError(
                f'{folder / path}: annotations of category {some(sorted(unknown))}, '
                'which is not among the categories. Add it'
            )
    lookup = _Lookup(images)
    missing = []
    for path, content in contents.items():
        by_image: dict[Any, list[dict]] = {}
        for annotation in content['annotations']:
            by_image.setdefault(annotation['image_id'], []).append(annotation)
        split = _split_of_file(path)
        for entry in content['images']:
            image = lookup.find(entry['file_name'], split)
            if image is None:
                missing.append(entry['file_name'])
                continue
            size = (int(entry['width']), int(entry['height']))
            draw = functools.partial(
                draw_objects, size, by_image.get(entry['id'], []), labels
            )
            found.samples.append(Sample(image, draw=draw, split=split))
    if missing:
        found.notes.append(f'{len(missing)} images are missing: {some(missing, 2)}')
    return found


def draw_objects(
    size: tuple[int, int], annotations: Sequence[Mapping], labels: Mapping[int, int]
) -> np.ndarray:
    """Draw the objects of an image.

    Args:
        size: Width and height of the image in pixels.
        annotations: COCO's annotations of the image.
        labels: Labels by the id of a category.

    Returns:
        Mask uint8 (H, W).
    """
    mask = np.zeros((size[1], size[0]), np.uint8)
    for annotation in sorted(annotations, key=lambda a: -float(a.get('area') or 0)):
        outline = annotation.get('segmentation') or []
        label = labels[annotation['category_id']]
        if isinstance(outline, Mapping):
            mask[decode_run_lengths(outline)] = label
        else:
            shape = (1, [pairs(numbers) for numbers in outline])
            mask[draw_polygons(size, [shape]) > 0] = label
    return mask


def decode_run_lengths(outline: Mapping) -> np.ndarray:
    """Decode COCO's run lengths, as numbers or compressed to text, to bool (H, W)."""
    counts = outline['counts']
    if isinstance(counts, str):
        counts = _decompress(counts)
    height, width = outline['size']
    values = np.arange(len(counts)) % 2 == 1
    # Runs go down the columns.
    return np.repeat(values, counts).reshape(width, height).T


def _decompress(text: str) -> list[int]:
    """Decode COCO's text: 5 bits a character, each run less the one before the last."""
    counts: list[int] = []
    value = shift = 0
    for character in text:
        bits = ord(character) - 48
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:
            value -= 1 << shift
        counts.append(value + (counts[-2] if len(counts) > 2 else 0))
        value = shift = 0
    return counts


def _read(path: Path) -> dict | None:
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
    except (OSError, ValueError):  # some other file
        return None
    return content if isinstance(content, dict) and content.keys() >= _KEYS else None


def _has_masks(content: Mapping) -> bool:
    return any(annotation.get('segmentation') for annotation in content['annotations'])


def _split_of_file(path: str) -> str:
    stem = PurePosixPath(path).stem.replace('-', '_')
    words = (split_name(word) for word in stem.split('_'))
    return next(filter(None, words), '') or split_of(path)


class _Lookup:
    """Finds an image by the name that a COCO file has for it."""

    def __init__(self, images: Sequence[str]) -> None:
        self._by_name: dict[str, list[str]] = {}
        for image in images:
            self._by_name.setdefault(image.split('/')[-1], []).append(image)

    def find(self, name: str, split: str) -> str | None:
        name = name.replace('\\', '/')
        same = self._by_name.get(name.split('/')[-1], [])
        same = [i for i in same if f'/{i}'.endswith(f'/{name}')] or same
        same = [i for i in same if split_of(i) == split] or same
        return same[0] if same else None
