"""What can be wrong with a dataset, and how the user mends it."""

import dataclasses
from typing import NamedTuple


class Kind(NamedTuple):
    """A kind of finding.

    Attributes:
        title: Heads the group in a report.
        remedy: One sentence; a finding may know a better one.
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
        'evaluation that leaves broken samples out',
        "Set skip_broken in train_dataloader's dataset alone",
    ),
    'file-missing': Kind('missing files', 'Restore the file or remove the sample'),
    'file-broken': Kind(
        'files that are no whole image', 'Restore the file or remove the sample'
    ),
    'mask-missing': Kind('images without mask', 'Add the mask, or remove the image'),
    'image-missing': Kind('masks without image', 'Add the image, or remove the mask'),
    'image-left-out': Kind(
        'images that the config leaves out',
        "Give the files the dataset's suffix (capitals count), or move them away",
    ),
    'image-depth': Kind(
        'images with more than 8 bits a channel, which training refuses',
        'Scale the values to 0..255 and save it with 8 bits a channel',
    ),
    'image-color': Kind(
        'images in other colors than RGB, which shift at loading',
        "Convert it to RGB with its color profile (Pillow's ImageCms)",
    ),
    'image-alpha': Kind(
        'images with transparent pixels, whose hidden colors training sees',
        'Paste it on the background it belongs to and save it as RGB',
    ),
    'image-frames': Kind(
        'files of several images, of which training sees the first',
        'Save the images one a file',
    ),
    'image-orientation': Kind(
        'images that are turned at loading, while their masks are not',
        'Save the image upright (ImageOps.exif_transpose) and compare the mask',
    ),
    'mask-size': Kind(
        'masks of another size than their image',
        'A mask has one channel and the size of its image',
    ),
    'mask-channels': Kind(
        'masks in color',
        'Write the number of each color into one channel: '
        'mask[(rgb == color).all(-1)] = number',
    ),
    'mask-depth': Kind(
        'masks with values that do not fit 8 bits; loading keeps the lowest 8',
        'Number the classes from 0 to 254 and save the mask with 8 bits',
    ),
    'mask-lossy': Kind(
        'masks in a format that changes the labels',
        'Make the mask again as PNG: JPEG blurs the borders between labels',
    ),
    'mask-labels': Kind(
        'labels that are no class',
        "Mend the mask, or list the value in the dataset's void_labels "
        '(SegmentationDataset)',
    ),
    'mask-binary': Kind(
        'masks of 0 and 255, where 255 means ignored',
        "Set the dataset's label_map={255: 1} in the config (SegmentationDataset), or "
        'save the masks with 0 and 1',
    ),
    'label-range': Kind(
        'images whose label is no class',
        "Correct ann_file, or name all classes in the dataset's metainfo",
    ),
    'class-folder-unnamed': Kind(
        'folders that are no class of the config',
        'Name the folder in classes, or move it away',
    ),
    'class-without-folder': Kind(
        'classes of the config without folder',
        'Make the folder, or remove the name from classes',
    ),
    'class-order': Kind(
        'classes in another order than their folders',
        'Sort the names in classes: labels follow the sorted folders',
    ),
    'class-absent': Kind(
        'classes that never occur', 'Add samples of the class, or remove it'
    ),
    'duplicate': Kind(
        'images of training in an evaluation split',
        'Keep the image in one of the splits',
    ),
    'label-map-missing': Kind(
        'images without label map', 'Make it with tools/generate_token_labels.py'
    ),
    'label-map-broken': Kind(
        'broken label maps', 'Make it again with tools/generate_token_labels.py'
    ),
    'label-map-classes': Kind(
        'label maps of other classes',
        "Make the maps with an annotator of the dataset's classes",
    ),
}


@dataclasses.dataclass(frozen=True)
class Finding:
    """One thing that is wrong with one file, folder or class.

    Attributes:
        kind: A key of :data:`KINDS`.
        file: The file, or what else is at fault.
        value: What was found there.
        remedy: One sentence without its full stop, by default the kind's.
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
