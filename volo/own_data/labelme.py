"""LabelMe: a JSON file beside every image."""

import base64
import functools
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image, ImageDraw

from volo.errors import some

from .found import VOID, Found, Sample, list_files, split_of
from .polygons import upright_size

_BACKGROUND, _IGNORED = '_background_', '__ignore__'


def find_labelme(folder: Path, images: Sequence[str]) -> Found | None:
    """Read the shapes of all LabelMe files of a dataset.

    Label 0 is the background. The names follow in alphabetical order. Shapes are drawn
    in the order of the file. Images without a file are left out.

    Args:
        folder: The dataset.
        images: Paths of its images, relative to it.
    """
    paths = list_files(folder, ['.json'])
    files = {p: content for p in paths if (content := _read(folder / p))}
    by_stem = {str(PurePosixPath(image).with_suffix('')): image for image in images}
    by_name: dict[str, str] = {}
    for image in images:
        by_name.setdefault(image.split('/')[-1], image)
    pairs = []
    for path, content in files.items():
        name = str(content.get('imagePath') or '').replace('\\', '/').split('/')[-1]
        stem = str(PurePosixPath(path).with_suffix(''))
        if stem in by_stem or name in by_name:
            pairs.append((by_stem.get(stem) or by_name[name], content))
    if not pairs:
        return None
    names = {shape['label'] for _, content in pairs for shape in content['shapes']}
    classes = sorted(names - {_BACKGROUND, _IGNORED})
    labels = {name: label for label, name in enumerate(classes, 1)}
    labels |= {_BACKGROUND: 0, _IGNORED: VOID}
    found = Found('segmentation', 'LabelMe', ('background', *classes), [])
    for image, content in pairs:
        draw = functools.partial(draw_shapes, folder / image, content, labels)
        found.samples.append(Sample(image, draw=draw, split=split_of(image)))
    bare = sorted(set(images) - {image for image, _ in pairs})
    if bare:
        found.notes.append(
            f'{len(bare)} images have no JSON file and are left out: {some(bare, 2)}'
        )
    return found


def draw_shapes(image: Path, content: Mapping, labels: Mapping[str, int]) -> np.ndarray:
    """Draw the shapes of a LabelMe file.

    Args:
        image: The image, for its size if the file does not give it.
        content: The file.
        labels: Labels by name.

    Returns:
        Mask uint8 (H, W).
    """
    width, height = content.get('imageWidth'), content.get('imageHeight')
    size = (int(width), int(height)) if width and height else upright_size(image)
    mask = Image.new('L', size, 0)
    draw = ImageDraw.Draw(mask)
    for shape in content['shapes']:
        label = labels[shape['label']]
        points = [(x, y) for x, y in shape['points']]
        kind = shape.get('shape_type') or 'polygon'
        if kind == 'rectangle':
            xs, ys = zip(*points, strict=True)
            draw.rectangle([min(xs), min(ys), max(xs), max(ys)], label)
        elif kind == 'circle':
            (x, y), (x2, y2) = points[:2]
            radius = ((x - x2) ** 2 + (y - y2) ** 2) ** 0.5
            draw.ellipse([x - radius, y - radius, x + radius, y + radius], label)
        elif kind == 'mask':
            part = Image.open(io.BytesIO(base64.b64decode(shape['mask'])))
            corner = (round(points[0][0]), round(points[0][1]))
            mask.paste(label, corner, part.convert('L').point(lambda v: 255 * (v > 0)))
        elif kind == 'polygon' and len(points) >= 3:
            draw.polygon(points, fill=label)
    return np.array(mask)


def _read(path: Path) -> dict | None:
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
    except (OSError, ValueError):  # some other file
        return None
    shapes = content.get('shapes') if isinstance(content, dict) else None
    return content if isinstance(shapes, list) else None
