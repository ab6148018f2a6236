"""The images of a folder, read for an annotator."""

import os
import re
import warnings
from collections.abc import Sequence
from pathlib import Path

import mmcv
import torch
from PIL import Image
from timm.data import ImageNetInfo
from torch.utils.data import Dataset

from volo.datasets.checks import IMAGE_SUFFIXES, special_file
from volo.errors import DataError
from volo.token_label.maps import label_key

from .annotator import Preprocess


class Images(Dataset):
    """Images as inputs of an annotator, with their indices.

    Args:
        paths: Image files.
        preprocess: The annotator's preprocessing.
        upright: See :func:`read_image`.
    """

    def __init__(
        self, paths: Sequence[str], preprocess: Preprocess, upright: bool = False
    ) -> None:
        self.paths = paths
        self.preprocess = preprocess
        self.upright = upright

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[int, torch.Tensor]:
        return index, self.preprocess(read_image(self.paths[index], self.upright))


def read_image(path: str | Path, upright: bool = False) -> Image.Image:
    """Read an image as RGB, as mmcv's ``LoadImageFromFile`` does with Pillow.

    Args:
        path: Image file.
        upright: Rotate the image as EXIF says, as pipelines with ``color_type='color'``
            do. Those of ImageNet ignore EXIF: ``'color_ignore_orientation'``.

    Raises:
        DataError: The file cannot be read.
    """
    color_type = 'color' if upright else 'color_ignore_orientation'
    try:
        if special := special_file(path):
            raise OSError(special)
        with warnings.catch_warnings():
            # Pillow warns about truncated EXIF data, which ImageNet has.
            warnings.simplefilter('ignore', UserWarning)
            content = Path(path).read_bytes()
            return Image.fromarray(
                mmcv.imfrombytes(content, color_type, 'rgb', 'pillow')
            )
    # Pillow raises SyntaxError for some broken PNGs.
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        reason = 'not an image' if 'cannot identify' in str(error) else str(error)
        raise DataError(
            f'{path}: broken image ({reason}). Restore or remove the file, then run '
            'the same command again'
        ) from error


def find_images(root: str | Path) -> dict[str, str]:
    """List all images below a folder.

    Returns:
        A file for every key of a label map, sorted by key.

    Raises:
        DataError: There is no folder or no image, or two images have the same key.
    """
    if not Path(root).is_dir():
        raise DataError(f'{root}: no such folder of images')
    found: dict[str, str] = {}
    for folder, _, names in os.walk(root, followlinks=True):
        for name in names:
            if not name.lower().endswith(IMAGE_SUFFIXES) or name.startswith('.'):
                continue
            path = os.path.join(folder, name)
            key = label_key(path, root)
            if key in found:
                raise DataError(
                    f'{found[key]} and {path} would have the same label map: rename '
                    'or remove one of them'
                )
            found[key] = path
    if not found:
        raise DataError(f'{root}: no images found ({", ".join(IMAGE_SUFFIXES)})')
    return dict(sorted(found.items()))


def number_classes(keys: Sequence[str], num_classes: int) -> dict[str, int] | str:
    """Return the annotator's class index of each class folder.

    Args:
        keys: Keys of all images; the part before the first ``/`` is the class folder.
        num_classes: Number of classes of the annotator.

    Returns:
        Class folders and their indices, or the reason why they are not known.
    """
    if not all('/' in key for key in keys):
        return 'the images are not in class folders'
    folders = sorted({key.partition('/')[0] for key in keys})
    if num_classes == 1000 and all(re.fullmatch(r'n\d{8}', name) for name in folders):
        numbers = {wnid: i for i, wnid in enumerate(ImageNetInfo().label_names())}
        if numbers.keys() >= set(folders):
            return {name: numbers[name] for name in folders}
    if len(folders) == num_classes:
        return {name: i for i, name in enumerate(folders)}
    return f'{len(folders)} class folders, but the annotator has {num_classes} classes'
