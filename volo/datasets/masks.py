"""Checks of one mask, for training and for ``tools/check_dataset.py``."""

from collections.abc import Mapping

import numpy as np

from volo.errors import some

from .checks import LoadedSize, Loading, decode, read_file
from .findings import KINDS, Finding


def read_mask(path: str, image: str) -> bytes | Finding:
    """Return the content of a mask file, or why it cannot be read.

    Args:
        path: Path of the mask.
        image: Path of its image.
    """
    content = read_file(path)
    if isinstance(content, Finding) and content.kind == 'file-missing':
        return Finding(
            'mask-missing', path, f'no such file, needed as the mask of {image}'
        )
    return content


def decode_mask(path: str, content: bytes, loading: Loading) -> np.ndarray | Finding:
    """Decode a mask as the pipeline does, without its cast to 8 bits."""
    array = decode(path, content, loading.mask_backend)
    return array if isinstance(array, Finding) else array.squeeze()


def mask_depth_finding(path: str, mask: np.ndarray) -> Finding | None:
    """Find values of a decoded mask (H, W) that a cast to 8 bits changes."""
    with np.errstate(invalid='ignore'):  # NaN is found too
        changed = mask[mask.astype(np.uint8) != mask]
    if not changed.size:
        return None
    low, high = changed.min(), changed.max()
    text = f'values from {low} to {high} on {changed.size} pixels do not fit 8 bits'
    return Finding('mask-depth', path, text)


def shape_finding(
    path: str, mask: np.ndarray, image: str, size: LoadedSize
) -> Finding | None:
    """Compare the shape of a mask with the size of its image.

    Args:
        path: Path of the mask.
        mask: Decoded mask, (H, W) or, with channels, (H, W, C). mmseg drops dimensions
            of size 1.
        image: Path of the image.
        size: Size of the image.
    """
    height, width, orientation, rotated = size
    if mask.ndim < 2:
        return Finding(
            'mask-size',
            path,
            f'the mask has one row or column ({mask.size} pixels), its image {image} '
            f'is {height}x{width}',
            'Make the mask again, or remove the sample: mmseg needs 2x2 pixels or more',
        )
    axes = '(height, width)' if mask.ndim == 2 else '(height, width, channels)'
    text = (
        f'the mask has shape {mask.shape} {axes}, its image {image} is {height}x{width}'
    )
    if mask.ndim == 3:
        gray = (mask[..., :3] == mask[..., :1]).all()
        remedy = 'All channels are equal: save mask[..., 0] only' if gray else ''
        return Finding('mask-channels', path, text, remedy)
    if mask.shape == (height, width):
        return None
    remedy = ''
    if mask.shape == (width, height):
        remedy = 'Save the image upright (ImageOps.exif_transpose), or rotate the mask'
        if orientation >= 5:
            does = 'applies' if rotated else 'ignores'
            text += f' since loading {does} its EXIF orientation {orientation}'
    return Finding('mask-size', path, text, remedy)


def orientation_finding(path: str, image: str, size: LoadedSize) -> Finding | None:
    """Find an EXIF orientation that may apply to the mask or not.

    Args:
        path: Path of the mask.
        image: Path of the image.
        size: Size of the image, which the mask has too.
    """
    height, width, orientation, rotated = size
    # Otherwise the sizes show that the mask fits the image as it is loaded.
    if orientation in (2, 3, 4) or (orientation != 1 and height == width):
        does = 'applies' if rotated else 'ignores'
        text = f'EXIF orientation {orientation}, which loading {does}; its mask: {path}'
        return Finding('image-orientation', image, text)
    return None


def label_table(info: Mapping) -> np.ndarray:
    """Return the label that each mask value is loaded as, uint8 (256,).

    Args:
        info: What the dataset knows of a sample: ``reduce_zero_label`` and
            ``label_map``, as mmseg's ``LoadAnnotations`` applies them.
    """
    table = np.arange(256, dtype=np.uint8)
    if info.get('reduce_zero_label'):
        table = np.where((table == 0) | (table == 255), 255, table - 1).astype(np.uint8)
    mapped = table.copy()
    for old, new in (info.get('label_map') or {}).items():
        mapped[table == old] = new
    return mapped


def label_finding(path: str, counts: np.ndarray, info: Mapping) -> Finding | None:
    """Find labels that are neither a class nor ignored.

    Args:
        path: Path of the mask.
        counts: Number of pixels of each label after loading, (256,).
        info: What the dataset knows of the sample: ``num_classes``, ``ignore_index``
            and what :func:`label_table` takes.
    """
    num_classes, ignore_index = info['num_classes'], info['ignore_index']
    labels = np.flatnonzero(counts)
    labels = labels[(labels >= num_classes) & (labels != ignore_index)]
    if not labels.size:
        return None
    values = np.flatnonzero(np.isin(label_table(info), labels)).tolist()
    in_file = '' if values == labels.tolist() else f' (in the file: {some(values, 8)})'
    word = 'label' if len(labels) == 1 else 'labels'
    return Finding(
        'mask-labels',
        path,
        f'{word} {some(labels.tolist(), 8)} on {counts[labels].sum()} pixels{in_file}, '
        f'but there are {num_classes} classes (0 to {num_classes - 1}) and '
        f'{ignore_index} means ignored',
        KINDS['mask-binary'].remedy if values == [255] else '',
    )
