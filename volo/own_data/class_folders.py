"""Images in one folder per class, with or without folders of splits."""

from collections.abc import Sequence
from pathlib import Path

from volo.errors import some

from .found import Found, Sample, split_name, split_of


def find_class_folders(folder: Path, images: Sequence[str]) -> Found | None:
    """Read classes from the names of folders.

    The class is the first folder below the split, or below the folders that all images
    share.

    Args:
        folder: The dataset.
        images: Paths of its images, relative to it.
    """
    inner = {image: _without_splits(image) for image in images}
    shared = _shared_folders([parts for parts in inner.values() if parts])
    named = {i: parts[shared] for i, parts in inner.items() if len(parts) > shared}
    # A test set without labels often has a folder of its own.
    known = {name for image, name in named.items() if split_of(image) != 'test'}
    samples = {image: name for image, name in named.items() if name in known}
    if len(known) < 2:
        return None
    classes = tuple(sorted(known))
    found = Found(
        'classification',
        'one folder per class',
        classes,
        [
            Sample(image, classes.index(name), split=split_of(image))
            for image, name in samples.items()
        ],
    )
    left_out = [image for image in images if image not in samples]
    if left_out:
        found.notes.append(
            f'{len(left_out)} images are in no class folder: {some(left_out, 2)}'
        )
    return found


def _without_splits(image: str) -> list[str]:
    return [part for part in image.split('/')[:-1] if not split_name(part)]


def _shared_folders(paths: Sequence[Sequence[str]]) -> int:
    """Return how many leading folders all paths share."""
    shared = 0
    for names in zip(*paths, strict=False):
        if len(set(names)) > 1:
            break
        shared += 1
    return shared
