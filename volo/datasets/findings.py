"""The kinds of findings about a dataset, and their remedies."""

import dataclasses
from typing import NamedTuple


class Kind(NamedTuple):
    """A kind of finding.

    Attributes:
        title: Heading of the group in a report.
        remedy: What to do, one sentence without its full stop.
    """

    title: str
    remedy: str


#: All kinds by name, in the order of a report.
KINDS: dict[str, Kind] = {
    'split-empty': Kind(
        'splits that are empty or cannot be listed',
        'Correct data_root, data_prefix, the suffixes or ann_file in the config',
    ),
    'skip-in-evaluation': Kind(
        'evaluation that skips broken samples',
        "Set skip_broken in train_dataloader's dataset only",
    ),
    'file-missing': Kind('missing files', 'Restore the file or remove the sample'),
    'file-broken': Kind(
        'broken images and masks', 'Restore the file or remove the sample'
    ),
    'mask-missing': Kind('images without a mask', 'Add the mask or remove the image'),
    'image-missing': Kind('masks without an image', 'Add the image or remove the mask'),
    'image-left-out': Kind(
        'images that the config does not use',
        "Give the files the dataset's suffix (it is case-sensitive), or move them away",
    ),
    'image-depth': Kind(
        'images with more than 8 bits per channel, which training refuses',
        'Scale the values to 0..255 and save the image with 8 bits per channel',
    ),
    'image-color': Kind(
        'images that are not RGB, whose colors shift at loading',
        'Convert the image to RGB with its color profile (PIL.ImageCms)',
    ),
    'image-alpha': Kind(
        'images with transparent pixels, whose hidden colors training sees',
        'Paste the image on its background and save it as RGB',
    ),
    'image-frames': Kind(
        'files with several images, of which training uses the first',
        'Save each image to a file of its own',
    ),
    'image-orientation': Kind(
        'images whose EXIF orientation may not fit their masks',
        'Save the image upright (ImageOps.exif_transpose), then compare the mask',
    ),
    'mask-size': Kind(
        'masks of another size than their image',
        'Make the mask again with the size of its image',
    ),
    'mask-channels': Kind(
        'masks with several channels',
        'Write the class index of each color into one channel: '
        'mask[(rgb == color).all(-1)] = index',
    ),
    'mask-depth': Kind(
        'masks with values that do not fit 8 bits, which loading truncates',
        'Number the classes from 0 to 254 and save the mask with 8 bits',
    ),
    'mask-lossy': Kind(
        'masks with lossy compression',
        'Make the mask again as PNG: JPEG changes labels',
    ),
    'mask-labels': Kind(
        'mask labels out of range',
        "Correct the mask, or add the value to the dataset's void_labels "
        '(SegmentationDataset)',
    ),
    'mask-binary': Kind(
        'masks of 0 and 255, where 255 means ignored',
        "Set the dataset's label_map={255: 1} in the config (SegmentationDataset), or "
        'save the masks with 0 and 1',
    ),
    'label-range': Kind(
        'image labels out of range',
        "Correct ann_file, or name all classes in the dataset's metainfo",
    ),
    'class-folder-unnamed': Kind(
        'folders that are not a class of the config',
        'Add the name of the folder to classes, or move the folder away',
    ),
    'class-without-folder': Kind(
        'classes without a folder',
        'Create the folder, or remove the name from classes',
    ),
    'class-order': Kind(
        'classes in another order than their folders',
        'Sort the names in classes: labels follow the sorted folders',
    ),
    'class-absent': Kind(
        'classes that never occur', 'Add samples of the class, or remove the class'
    ),
    'duplicate': Kind(
        'training images in an evaluation split',
        'Keep the image in one of the splits',
    ),
    'label-map-missing': Kind(
        'images without a label map', 'Generate it with tools/generate_token_labels.py'
    ),
    'label-map-broken': Kind(
        'broken label maps', 'Generate it again with tools/generate_token_labels.py'
    ),
    'label-map-classes': Kind(
        'label maps with classes that the dataset does not have',
        "Generate the maps with an annotator of the dataset's classes",
    ),
}


@dataclasses.dataclass(frozen=True)
class Finding:
    """One fault of one file, folder or class.

    Attributes:
        kind: A key of :data:`KINDS`.
        file: The path, or what else is at fault.
        value: What was found there.
        remedy: What to do, one sentence without its full stop. By default the kind's.
    """

    kind: str
    file: str
    value: str
    remedy: str = ''

    def __post_init__(self) -> None:
        if not self.remedy:
            object.__setattr__(self, 'remedy', KINDS[self.kind].remedy)

    def __str__(self) -> str:
        return f'{self.file}: {self.value}. {self.remedy}'
