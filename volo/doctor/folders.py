"""Checks of folders: files that no dataset lists, and names of class folders."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from mmengine.dataset import BaseDataset
from mmpretrain.datasets import CustomDataset
from mmseg.datasets import BaseSegDataset

from volo.datasets.checks import IMAGE_SUFFIXES
from volo.datasets.findings import Finding

from .samples import Part


def unlisted_findings(parts: Sequence[Part]) -> Iterator[tuple[str, Finding]]:
    """Find images and masks in the datasets' folders that no dataset lists.

    Args:
        parts: Datasets of all splits, since splits may share a folder.

    Yields:
        Name of the split, and the finding.
    """
    listed: set[str] = set()
    for part in parts:
        for index in range(len(part)):
            info = part.dataset.get_data_info(index)
            paths = (info.get('img_path'), info.get('seg_map_path'))
            listed.update(os.path.normpath(path) for path in paths if path)
    found = set()
    for part in parts:
        if not _takes_whole_folder(part.dataset):
            continue
        findings = [*_left_out(part.dataset, listed), *_orphans(part, listed)]
        for finding in findings:
            if finding.file not in found:
                found.add(finding.file)
                yield part.split, finding


def _takes_whole_folder(dataset: BaseDataset) -> bool:
    """Return whether a dataset is meant to list everything in its folders."""
    selected = dataset.ann_file and not os.path.isdir(dataset.ann_file)
    return not (selected or dataset._indices is not None or dataset.filter_cfg)


def _files(folder: str) -> Iterator[str]:
    """Yield the files below a folder, in order and without hidden ones."""
    for root, _, names in sorted(os.walk(folder)):
        for name in sorted(names):
            if not name.startswith('.'):
                yield os.path.normpath(os.path.join(root, name))


def _left_out(dataset: BaseDataset, listed: set[str]) -> Iterator[Finding]:
    """Yield the images in a dataset's folder that are not listed."""
    folder = dataset.data_prefix.get('img_path')
    if isinstance(dataset, BaseSegDataset):
        suffixes = (Path(f'x{dataset.img_suffix}').suffix,)
    elif isinstance(dataset, CustomDataset):
        suffixes = tuple(sorted(dataset.extensions))
    else:
        return
    for path in _files(folder) if folder else ():
        suffix = Path(path).suffix
        if suffix.lower() not in IMAGE_SUFFIXES or path in listed:
            continue
        text = f'not listed: the dataset takes {", ".join(suffixes)}'
        if isinstance(dataset, CustomDataset):
            if suffix.lower() in suffixes:
                text = 'not listed: it is not in a class folder'
            yield Finding('image-left-out', path, text)
        elif suffix not in suffixes:
            yield Finding('image-left-out', path, text)


def _orphans(part: Part, listed: set[str]) -> Iterator[Finding]:
    """Yield the masks in a dataset's folder that no image belongs to."""
    dataset = part.dataset
    folder = dataset.data_prefix.get('seg_map_path')
    if not folder or not len(part) or not isinstance(dataset, BaseSegDataset):
        return
    images = Path(dataset.data_prefix['img_path'])
    for path in _files(folder):
        if path.endswith(dataset.seg_map_suffix) and path not in listed:
            stem = os.path.relpath(path, folder).removesuffix(dataset.seg_map_suffix)
            text = f'no image {images / stem}{dataset.img_suffix}'
            yield Finding('image-missing', path, text)


def class_folder_findings(dataset: BaseDataset) -> list[Finding]:
    """Compare the classes of a config with the class folders.

    Labels follow the sorted folders, whatever the names in ``classes``. If there are as
    many names as folders and none is the same, such as ImageNet's names for its
    folders, the names are taken for a translation.
    """
    if not isinstance(dataset, CustomDataset) or not dataset.with_label:
        return []
    folder, named = dataset.img_prefix, list(dataset.CLASSES or ())
    if dataset.ann_file or not named or not os.path.isdir(folder):
        return []
    folders = sorted(p.name for p in Path(folder).iterdir() if p.is_dir())
    if folders == named or len(folders) == len(named) and not {*folders} & {*named}:
        return []
    if folders == sorted(named):
        label = next(i for i, name in enumerate(named) if name != folders[i])
        text = (
            f'label {label} is the folder {folders[label]}, but classes[{label}] is '
            f'{named[label]}'
        )
        return [Finding('class-order', folder, text)]
    unnamed = [name for name in folders if name not in named]
    without = [name for name in named if name not in folders]
    return [
        *(
            Finding('class-folder-unnamed', f'{folder}/{name}', 'not in classes')
            for name in unnamed
        ),
        *(
            Finding('class-without-folder', f'{folder}/{name}', 'no such folder')
            for name in without
        ),
    ]
