"""Pascal VOC: JPEGImages, SegmentationClass and lists of the splits."""

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from .found import Found
from .mask_folders import describe

_IMAGES, _MASKS, _LISTS = 'JPEGImages', 'SegmentationClass', 'ImageSets/Segmentation'

#: Names of the challenge, for masks without a legend.
VOC_CLASSES = tuple(
    'background aeroplane bicycle bird boat bottle bus car cat chair cow diningtable '
    'dog horse motorbike person pottedplant sheep sofa train tvmonitor'.split()
)


def find_pascal_voc(folder: Path, images: Sequence[str]) -> Found | None:
    """Read the masks of ``SegmentationClass`` and the lists of ``ImageSets``.

    Args:
        folder: The dataset.
        images: Paths of its image files, relative to it.

    Raises:
        DataError: As in :func:`volo.own_data.mask_folders.describe`.
    """
    masks = {_key(path): path for path in images if _MASKS in path.split('/')[:-1]}
    photos = {_key(path): path for path in images if _IMAGES in path.split('/')[:-1]}
    paired = [(photos[key], masks[key]) for key in sorted(photos.keys() & masks.keys())]
    if not paired:
        return None
    found = describe(folder, paired)
    found.format = f'Pascal VOC, {found.format}'
    if not any('names of the classes' in note for note in found.notes):
        _name_classes(found)
    base = _base(paired[0][0])
    for split in ('val', 'train'):
        path = folder / base / _LISTS / f'{split}.txt'
        if path.is_file():
            names = set(path.read_text().split())
            for sample in found.samples:
                if PurePosixPath(sample.image).stem in names:
                    sample.split = split
    found.notes.append(
        f'{len(paired)} of {len(photos)} images of {_IMAGES} have a mask'
    )
    return found


def _key(path: str) -> tuple[str, str]:
    return _base(path), PurePosixPath(path).stem


def _base(path: str) -> str:
    """Return the folder that holds JPEGImages and SegmentationClass."""
    parts = path.split('/')
    index = next(i for i, part in enumerate(parts) if part in (_IMAGES, _MASKS))
    return '/'.join(parts[:index])


def _name_classes(found: Found) -> None:
    """Give labels the names of the challenge where the values are its values."""
    values = {label: value for value, label in found.label_map.items()}
    numbers = [values.get(label, label) for label in range(len(found.classes))]
    if max(numbers) < len(VOC_CLASSES):
        found.classes = tuple(VOC_CLASSES[number] for number in numbers)
        found.notes = [note for note in found.notes if 'legend.txt' not in note]
