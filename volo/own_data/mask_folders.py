"""Images and mask files of the same names."""

import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from volo.errors import DataError, some

from .found import VOID, Found, Sample, list_images, split_of
from .legend import find_legend
from .mask_values import Labeling, choose_labels, count_values, drawer

_MASK_DIR = re.compile(
    r'(.*[_-])?(masks?|labels?|labelids|annotations?|annots?|annot|seg|segs|'
    r'segmentations?|gt|gtfine|ground[_-]?truths?|targets?)([_-]?(train|val|test|png))?',
    re.IGNORECASE,
)
_IMAGE_DIR = re.compile(
    r'(.*[_-])?(images?|imgs?|jpegimages|leftimg8bit|originals?|photos?|inputs?|raw)'
    r'([_-]?(train|val|test|png))?',
    re.IGNORECASE,
)
_MASK_AFFIX = re.compile(
    r'^(mask|label|gt|seg)[_-]|[_-](masks?|labels?|labelids|labeltrainids|gt|seg|'
    r'segmentation|l)$',
    re.IGNORECASE,
)
_IMAGE_AFFIX = re.compile(r'^(image|img)[_-]|[_-](image|img|sat)$', re.IGNORECASE)
#: cityscapes has both words: a_leftImg8bit.png and a_gtFine_labelIds.png.
_VENDOR = re.compile(r'_(leftImg8bit|gtFine|gtCoarse)')


def find_masks(
    folder: Path, images: Sequence[str], masks_dir: Path | None = None
) -> Found | None:
    """Pair images with mask files, and find out what the values mean.

    Masks are in folders named masks, labels, annotations and the like, or have such a
    word at the start or end of their names.

    Args:
        folder: The dataset.
        images: Paths of its image files, relative to it.
        masks_dir: The folder of the masks, instead of a search.

    Raises:
        DataError: The masks cannot be read, or ``masks_dir`` fits no image.
    """
    if masks_dir is None:
        masks = [path for path in images if _is_mask(path)]
        images = [path for path in images if not _is_mask(path)]
    else:
        inside = Path(masks_dir).resolve()
        outside = [i for i in images if inside not in (folder / i).resolve().parents]
        images = outside
        masks = [
            _relative(Path(masks_dir) / name, folder) for name in list_images(masks_dir)
        ]
    # Photographs in folders of classes, such as with_mask/1.jpg and without/1.jpg.
    lossy = all(path.lower().endswith(('.jpg', '.jpeg')) for path in masks)
    paired, lonely = pair(images, masks, by_name=masks_dir is not None or not lossy)
    if masks_dir is None and len(paired) * 2 < max(len(masks), 1):
        return None
    if not paired:
        if masks_dir is None:
            return None
        raise DataError(
            f'{masks_dir}: no mask has the name of an image in {folder} (images: '
            f'{some(images, 2)}; masks: {some(masks, 2)}). Give both the same names'
        )
    found = describe(folder, paired, masks_dir)
    bare = len(images) - len(paired)
    for number, what in ((bare, 'images without a mask'), (lonely, 'masks alone')):
        if number:
            found.notes.append(f'{number} {what} are left out')
    return found


def describe(
    folder: Path, paired: Sequence[tuple[str, str]], masks_dir: Path | None = None
) -> Found:
    """Return the dataset of images and masks.

    Args:
        folder: The dataset.
        paired: Paths of an image and its mask, relative to it.
        masks_dir: The folder of the masks, which may hold a legend.

    Raises:
        DataError: A mask or the legend is broken, or they do not fit each other.
    """
    paths = [folder / mask for _, mask in paired]
    counts, colored = count_values(paths)
    colors = any(colored)
    if colors:  # then a gray mask is a mask of gray colors
        counts = [
            one if is_color else {value * 65793: n for value, n in one.items()}
            for one, is_color in zip(counts, colored, strict=True)
        ]
    places = [masks_dir] if masks_dir else []
    places += [folder, *sorted({path.parent for path in paths})[:4], folder.parent]
    legend = find_legend(places)
    labeling = choose_labels(counts, colors, legend[1] if legend else ())
    found = Found(
        'segmentation',
        _kind(labeling, paths[0]),
        labeling.classes,
        [],
        labeling.palette,
        notes=list(labeling.notes),
    )
    if legend:
        found.notes.append(f'the names of the classes are from {legend[0]}')
    convert = colors or not _loads_as_it_is(paths, [*counts])
    if not convert:
        changed = {v: label for v, label in labeling.labels.items() if v != label}
        found.label_map = changed
    for (image, mask), one, path in zip(paired, counts, paths, strict=True):
        sample = Sample(image, split=split_of(image) or split_of(mask))
        if convert:
            sample.draw = drawer(path, labeling)
        else:
            sample.mask = mask
            sample.counts = _per_class(one, labeling)
        found.samples.append(sample)
    return found


def pair(
    images: Sequence[str], masks: Sequence[str], by_name: bool = True
) -> tuple[list[tuple[str, str]], int]:
    """Pair images and masks by their paths, or by names that are unique.

    Args:
        images: Paths.
        masks: Paths.
        by_name: Also pair files whose folders differ.

    Returns:
        The pairs in the order of the images, and the number of masks that are left.
    """
    paired: dict[str, str] = {}
    free = list(masks)
    for key in (_path_key, _name_key) if by_name else (_path_key,):
        by_key: dict[tuple[str, ...], list[str]] = {}
        for mask in free:
            by_key.setdefault(key(mask), []).append(mask)
        waiting = [image for image in images if image not in paired]
        keys = [key(image) for image in waiting]
        times = Counter(keys)
        for image, name in zip(waiting, keys, strict=True):
            if len(by_key.get(name, ())) == 1 and times[name] == 1:
                paired[image] = by_key[name][0]
        taken = set(paired.values())
        free = [mask for mask in free if mask not in taken]
    return [(image, paired[image]) for image in images if image in paired], len(free)


def _is_mask(path: str) -> bool:
    *folders, name = path.split('/')
    stem = _VENDOR.sub('', PurePosixPath(name).stem)
    return bool(
        any(_MASK_DIR.fullmatch(part) for part in folders) or _MASK_AFFIX.search(stem)
    )


def _path_key(path: str) -> tuple[str, ...]:
    folders = path.split('/')[:-1]
    kept = [
        part
        for part in folders
        if part != '..'
        and not (_MASK_DIR.fullmatch(part) or _IMAGE_DIR.fullmatch(part))
    ]
    return (*kept, *_name_key(path))


def _name_key(path: str) -> tuple[str, ...]:
    stem = _VENDOR.sub('', PurePosixPath(path).stem)
    return (_IMAGE_AFFIX.sub('', _MASK_AFFIX.sub('', stem)).lower(),)


def _relative(path: Path, folder: Path) -> str:
    return Path(os.path.relpath(path, folder)).as_posix()


def _loads_as_it_is(paths: Sequence[Path], counts: list[dict[int, int]]) -> bool:
    """Return whether mmseg reads the masks: one channel of 8 bits, one suffix."""
    deep = any(max(one) > VOID or min(one) < 0 for one in counts)
    suffixes = {path.suffix for path in paths}
    return not deep and len(suffixes) == 1 and _one_channel(paths)


def _one_channel(paths: Sequence[Path]) -> bool:
    for path in paths:
        with Image.open(path) as image:
            if image.mode not in ('L', 'P', '1'):
                return False
    return True


def _per_class(counts: dict[int, int], labeling: Labeling) -> np.ndarray:
    result = np.zeros(len(labeling.classes), np.int64)
    for value, count in counts.items():
        label = labeling.labels[value]
        if label != VOID:
            result[label] += count
    return result


def _kind(labeling: Labeling, first: Path) -> str:
    if labeling.colors:
        return 'masks of colors'
    changed = {
        v: label for v, label in labeling.labels.items() if v not in (label, 255)
    }
    if len(labeling.classes) == 2 and labeling.labels.get(VOID) == 1:
        return 'masks of 0 and 255'
    return 'masks of values' if changed else 'masks of class indices'
