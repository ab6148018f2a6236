"""What a folder was found to hold, and the file names that say so."""

import dataclasses
import os
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from volo.datasets.checks import IMAGE_SUFFIXES

#: Folder in the dataset for everything that is written beside the images.
OUTPUTS = 'volo_init'

#: The label of pixels that do not count.
VOID = 255

_SPLIT_NAMES = re.compile(
    r'^(?P<train>train(ing)?)|(?P<val>val(id(ation)?)?)|(?P<test>test(ing)?)$'
)


@dataclasses.dataclass
class Sample:
    """One image and its annotation.

    Attributes:
        image: Path of the image, relative to the dataset, with ``/``.
        label: Label of the image; -1 in segmentation.
        mask: Path of a mask that can be used as it is, relative to the dataset.
        draw: Return the mask (H, W) of labels, where one must be written.
        split: ``train``, ``val`` or ``test``, if the dataset says so.
        counts: Number of pixels of each class, (number of classes,).
    """

    image: str
    label: int = -1
    mask: str = ''
    draw: Callable[[], np.ndarray] | None = None
    split: str = ''
    counts: np.ndarray | None = None

    def shown(self, num_classes: int) -> set[int]:
        """Return the labels that occur in the image."""
        if self.label >= 0:
            return {self.label}
        return set() if self.counts is None else set(np.flatnonzero(self.counts))


@dataclasses.dataclass
class Found:
    """A dataset in a folder.

    Attributes:
        task: ``classification`` or ``segmentation``.
        format: What the annotations are, for the report.
        classes: Names in label order.
        samples: All images with an annotation.
        palette: Color (RGB) of each class; empty for generated ones.
        label_map: Labels by value in the mask files, where they differ.
        notes: Remarks for the report.
    """

    task: str
    format: str
    classes: tuple[str, ...]
    samples: list[Sample]
    palette: list[list[int]] = dataclasses.field(default_factory=list)
    label_map: dict[int, int] = dataclasses.field(default_factory=dict)
    notes: list[str] = dataclasses.field(default_factory=list)


def list_files(folder: Path, suffixes: Sequence[str]) -> list[str]:
    """List files by suffix, relative to the folder, with ``/``, sorted.

    Hidden files, and what an earlier run or a training wrote, are left out.

    Args:
        folder: The dataset.
        suffixes: In lower case.
    """
    return sorted(_walk(folder, tuple(suffixes)))


def _walk(folder: Path, suffixes: tuple[str, ...]) -> Iterator[str]:
    for root, folders, names in os.walk(folder, followlinks=True):
        folders[:] = [
            name
            for name in folders
            if not name.startswith('.') and name not in (OUTPUTS, 'work_dirs')
        ]
        for name in names:
            if not name.startswith('.') and name.lower().endswith(suffixes):
                yield (Path(root) / name).relative_to(folder).as_posix()


def list_images(folder: Path) -> list[str]:
    """List the image files of a dataset, see :func:`list_files`."""
    return list_files(folder, IMAGE_SUFFIXES)


def split_of(path: str) -> str:
    """Return the split that a folder of a path names, or ''."""
    for part in path.split('/')[:-1]:
        if name := split_name(part):
            return name
    return ''


def split_name(word: str) -> str:
    """Return ``train``, ``val`` or ``test`` for a word such as ``train2017``, or ''."""
    match = _SPLIT_NAMES.fullmatch(word.lower().rstrip('0123456789'))
    return match.lastgroup or '' if match else ''
