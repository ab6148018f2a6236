"""Find out which kind of dataset a folder holds."""

from pathlib import Path

from volo.errors import DataError, some

from .class_folders import find_class_folders
from .coco import find_coco
from .found import Found, list_images
from .labelme import find_labelme
from .mask_folders import find_masks
from .pascal_voc import find_pascal_voc
from .yolo import find_yolo

#: In this order: COCO and LabelMe are JSON, VOC has masks, any folder may have classes.
_SEGMENTATION = (find_coco, find_labelme, find_yolo, find_pascal_voc, find_masks)


def find_dataset(
    folder: Path, task: str | None = None, masks_dir: Path | None = None
) -> Found:
    """Find the images of a folder and their annotations.

    Args:
        folder: The dataset.
        task: ``classification`` or ``segmentation``; None takes what fits.
        masks_dir: The folder of the masks, if its name does not say so.

    Raises:
        DataError: There are no images, or no annotations that fit.
    """
    if not folder.is_dir():
        raise DataError(f'{folder}: no such folder')
    images = list_images(folder)
    if not images:
        raise DataError(f'{folder}: no images found')
    found = None
    if masks_dir is not None:
        if not masks_dir.is_dir():
            raise DataError(f'--masks {masks_dir}: no such folder')
        return find_masks(folder, images, masks_dir) or _fail(folder, images, task)
    if task != 'classification':
        for find in _SEGMENTATION:
            found = find(folder, images)
            if found and found.samples:
                return found
    if task != 'segmentation':
        found = find_class_folders(folder, images)
    return found or _fail(folder, images, task)


def _fail(folder: Path, images: list[str], task: str | None) -> Found:
    wanted = {
        'classification': 'one folder per class',
        'segmentation': 'masks (--masks FOLDER), COCO, LabelMe, YOLO, Pascal VOC',
    }
    kinds = ', or '.join(text for name, text in wanted.items() if task in (None, name))
    raise DataError(
        f'{folder}: {len(images)} images ({some(images, 2)}) but no annotations. '
        f'Expected: {kinds}. docs/own_data.md shows examples'
    )
