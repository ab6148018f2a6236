"""Images of a folder, as an annotator reads them."""

import os
import re
import warnings
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image, ImageOps
from timm.data import ImageNetInfo
from torch.utils.data import Dataset

from volo.datasets.checks import IMAGE_SUFFIXES
from volo.errors import DataError
from volo.token_label.maps import label_key

from .annotator import Preprocess


class Images(Dataset):
    """Images of a folder, as an annotator takes them.

    Args:
        paths: Files.
        preprocess: Of the annotator.
    """

    def __init__(self, paths: Sequence[str], preprocess: Preprocess) -> None:
        self.paths = paths
        self.preprocess = preprocess

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[int, torch.Tensor]:
        return index, self.preprocess(read_image(self.paths[index]))


def read_image(path: str | Path) -> Image.Image:
    """Read an image as RGB, turned upright as training has it.

    Raises:
        DataError: It cannot be read.
    """
    try:
        with warnings.catch_warnings(), Image.open(path) as image:
            # About EXIF data that is cut short, as some in ImageNet is.
            warnings.simplefilter('ignore', UserWarning)
            return ImageOps.exif_transpose(image).convert('RGB')
    # SyntaxError is what Pillow raises for some broken PNGs.
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        reason = 'not an image' if 'cannot identify' in str(error) else str(error)
        raise DataError(
            f'{path}: broken image ({reason}). Restore the file or remove it, then '
            'run the same command again'
        ) from error


def find_images(root: str | Path) -> dict[str, str]:
    """Find all images below a folder.

    Returns:
        Keys of their label maps, sorted, and their files.

    Raises:
        DataError: There is no folder or no image, or two would have one label map.
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
                    'or remove one'
                )
            found[key] = path
    if not found:
        raise DataError(f'{root}: no images found ({", ".join(IMAGE_SUFFIXES)})')
    return dict(sorted(found.items()))


def number_classes(keys: Sequence[str], num_classes: int) -> dict[str, int] | str:
    """Tell which class of an annotator each class folder is.

    Args:
        keys: Of all images; what is before the first ``/`` is the class.
        num_classes: Of the annotator.

    Returns:
        The folders and their classes; or why that is not known.
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
