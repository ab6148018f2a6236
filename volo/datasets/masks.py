"""Checks of one mask, for the guards of training and for the doctor."""

from collections.abc import Mapping

import mmcv
import numpy as np

from volo.errors import some

from .checks import Loading, read_file
from .findings import KINDS, Finding


def read_mask(path: str, image: str) -> bytes | Finding:
    """Return the bytes of a mask, or why there are none.

    Args:
        path: Of the mask.
        image: Path of its image.
    """
    content = read_file(path)
    if isinstance(content, Finding) and content.kind == 'file-missing':
        return Finding('mask-missing', path, f'no such file, the mask of {image}')
    return content


def decode_mask(path: str, content: bytes, loading: Loading) -> np.ndarray | Finding:
    """Decode a mask as the pipeline does, but for the cast to 8 bits."""
    try:
        array = mmcv.imfrombytes(
            content, flag='unchanged', backend=loading.mask_backend
        )
    except Exception as error:  # decoders raise whatever they run into
        return Finding('file-broken', path, f'broken image ({error})')
    if array is None:
        return Finding(
            'file-broken', path, f'broken image (not for {loading.mask_backend})'
        )
    return array.squeeze()


def mask_depth_finding(path: str, mask: np.ndarray) -> Finding | None:
    """Find values of a raw mask (H, W) that change when they are cast to 8 bits."""
    with np.errstate(invalid='ignore'):  # NaN is found too
        changed = mask[mask.astype(np.uint8) != mask]
    if not changed.size:
        return None
    low, high = changed.min(), changed.max()
    text = f'values from {low} to {high} on {changed.size} pixels do not fit 8 bits'
    return Finding('mask-depth', path, text)


def shape_finding(
    path: str,
    mask: np.ndarray,
    image: str,
    size: tuple[int, int],
    orientation: int = 1,
) -> Finding | None:
    """Compare a mask with the size of its image.

    Args:
        path: Of the mask.
        mask: (H, W), or with channels (H, W, C).
        image: Path of the image.
        size: Height and width of the image as it is loaded.
        orientation: By which EXIF has turned the image; 1 if it has not.
    """
    axes = '(height, width)' if mask.ndim == 2 else '(height, width, channels)'
    text = (
        f'the mask has shape {mask.shape} {axes}, its image {image} is '
        f'{size[0]}x{size[1]}'
    )
    if mask.ndim == 3:
        gray = (mask[..., :3] == mask[..., :1]).all()
        remedy = 'All channels are equal: save mask[..., 0] alone' if gray else ''
        return Finding('mask-channels', path, text, remedy)
    if mask.shape == size:
        return None
    if orientation == 1:
        return Finding('mask-size', path, text)
    return Finding(
        'mask-size',
        path,
        f'{text}, turned by its EXIF orientation {orientation}',
        'Save the image upright (ImageOps.exif_transpose), or turn the mask',
    )


def label_table(info: Mapping) -> np.ndarray:
    """Return the label that each value of a mask (256,) is loaded as, uint8 (256,).

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
        path: Of the mask.
        counts: How many pixels have each label after loading, (256,).
        info: What the dataset knows of the sample: ``num_classes``,
            ``ignore_index`` and what :func:`label_table` takes.
    """
    num_classes, ignore_index = info['num_classes'], info['ignore_index']
    labels = np.flatnonzero(counts)
    labels = labels[(labels >= num_classes) & (labels != ignore_index)]
    if not labels.size:
        return None
    values = np.flatnonzero(np.isin(label_table(info), labels)).tolist()
    renamed = '' if values == labels.tolist() else f' (in the file: {some(values, 8)})'
    word = 'label' if len(labels) == 1 else 'labels'
    return Finding(
        'mask-labels',
        path,
        f'{word} {some(labels.tolist(), 8)} on {counts[labels].sum()} pixels{renamed}, '
        f'but there are {num_classes} classes (0 to {num_classes - 1}) and '
        f'{ignore_index} means ignored',
        KINDS['mask-binary'].remedy if values == [255] else '',
    )
