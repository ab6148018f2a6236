"""Checks of the samples of a dataset."""

import dataclasses
import hashlib
from collections.abc import Iterator, Mapping

import numpy as np
import torch.utils.data
from mmengine.dataset import BaseDataset

from volo.datasets.checks import (
    LoadedSize,
    Loading,
    decoding_finding,
    image_findings,
    loaded_size,
    read_file,
)
from volo.datasets.findings import Finding
from volo.datasets.masks import (
    decode_mask,
    label_finding,
    label_table,
    mask_depth_finding,
    orientation_finding,
    read_mask,
    shape_finding,
)
from volo.errors import DataError, MissingLabelMapError
from volo.token_label.maps import LabelMapFolder, label_key
from volo.token_label.packed import PackedLabelMaps


@dataclasses.dataclass(frozen=True)
class SampleReport:
    """Findings and statistics of one sample.

    Attributes:
        path: Path of the image; '' if the dataset holds it in memory.
        findings: Everything that is wrong with the sample.
        digest: Hash of the image file; b'' if it cannot be read.
        labels: Labels of the image; () if it has a mask instead.
        values: Which values occur in the mask file, boolean (256,).
        counts: Number of pixels of each label after loading, (256,).
    """

    path: str
    findings: list[Finding] = dataclasses.field(default_factory=list)
    digest: bytes = b''
    labels: tuple[int, ...] = ()
    values: np.ndarray | None = None
    counts: np.ndarray | None = None


@dataclasses.dataclass
class Part(torch.utils.data.Dataset):
    """A dataset of a split; its items are the reports of its samples.

    Attributes:
        split: ``train``, ``val`` or ``test``.
        dataset: The dataset. Its pipeline never runs.
        size: Number of samples.
        label_maps: Label maps of a ``TokenLabelDataset``.
        maps_needed: Whether every image must have a label map.
    """

    split: str
    dataset: BaseDataset
    size: int = 0
    label_maps: LabelMapFolder | PackedLabelMaps | None = None
    maps_needed: bool = False

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes in label order."""
        return tuple(self.dataset.metainfo.get('classes') or ())

    def info(self, index: int) -> dict:
        """Return what the dataset knows of a sample."""
        info = self.dataset.get_data_info(index)
        info.setdefault('num_classes', len(self.classes))
        info.setdefault('ignore_index', getattr(self.dataset, 'ignore_index', 255))
        return info

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> SampleReport:
        info = self.info(index)
        report = check_sample(info, Loading.of(self.dataset))
        if self.label_maps is not None:
            finding = self._label_map_finding(info, self.label_maps)
            if finding:
                report.findings.append(finding)
        return report

    def _label_map_finding(
        self, info: Mapping, store: LabelMapFolder | PackedLabelMaps
    ) -> Finding | None:
        image = info['img_path']
        key = label_key(image, self.dataset.data_prefix['img_path'])
        path = store.path(key) if isinstance(store, LabelMapFolder) else str(store.root)
        try:
            classes = store.read(key).classes
        except MissingLabelMapError:
            if not self.maps_needed:
                return None
            return Finding('label-map-missing', path, f'no label map of {image}')
        except DataError as error:
            return _from_error('label-map-broken', path, error)
        if not info['num_classes'] or classes.max() < info['num_classes']:
            return None
        return Finding(
            'label-map-classes',
            path,
            f'class {classes.max()} in the label map of {image}, but there are '
            f'{info["num_classes"]} classes',
        )


def _from_error(kind: str, path: str, error: DataError) -> Finding:
    """Turn an error of the form ``path: value. remedy`` into a finding."""
    value = str(error).removeprefix(f'{path}: ').partition('. ')[0]
    return Finding(kind, path, value)


def check_samples(part: Part, workers: int) -> Iterator[SampleReport]:
    """Check all samples of a dataset, in order.

    Args:
        part: The dataset.
        workers: Number of worker processes; 0 checks in this process.

    Raises:
        DataError: A worker process died.
    """
    batches = torch.utils.data.DataLoader(
        part, batch_size=8, num_workers=workers, collate_fn=list
    )
    try:
        for batch in batches:
            yield from batch
    except RuntimeError as error:
        if 'DataLoader worker (pid' not in str(error):
            raise
        raise DataError(
            f'{part.split} split: a worker process died, perhaps because the memory '
            'ran out. Set a lower number of workers (--workers)'
        ) from error


def check_sample(info: Mapping, loading: Loading) -> SampleReport:
    """Check the image of a sample, its mask and its label.

    Args:
        info: What the dataset knows of the sample, with ``num_classes``.
        loading: How the dataset reads its files.
    """
    path, mask = info.get('img_path') or '', info.get('seg_map_path')
    findings, labels = [], ()
    if info.get('gt_label') is not None:
        labels = tuple(np.atleast_1d(info['gt_label']).tolist())
        findings += _range_findings(path, labels, info['num_classes'])
    if not path:
        return SampleReport(path, findings, labels=labels)
    size, digest = None, b''
    content = read_file(path)
    if isinstance(content, Finding):
        findings.append(content)
    else:
        digest = hashlib.blake2b(content, digest_size=16).digest()
        broken = decoding_finding(path, content, loading.image_backend)
        if broken:
            findings.append(broken)
        else:
            findings += image_findings(path, content, loading)
            size = loaded_size(content, loading)
    if not mask:
        return SampleReport(path, findings, digest, labels)
    found, values, counts = _check_mask(mask, size, info, loading)
    return SampleReport(path, findings + found, digest, labels, values, counts)


def _range_findings(
    path: str, labels: tuple[int, ...], num_classes: int
) -> list[Finding]:
    if not num_classes:
        return []
    return [
        Finding(
            'label-range',
            path or 'image in memory',
            f'label {label}, but there are {num_classes} classes '
            f'(0 to {num_classes - 1})',
        )
        for label in labels
        if not 0 <= label < num_classes
    ]


def _check_mask(
    path: str, size: LoadedSize | None, info: Mapping, loading: Loading
) -> tuple[list[Finding], np.ndarray | None, np.ndarray | None]:
    """Return findings, values and counts as in :class:`SampleReport`.

    Args:
        path: Path of the mask.
        size: Size of its image; None if the image is broken.
        info: What the dataset knows of the sample.
        loading: How the dataset reads its files.
    """
    image = info['img_path']
    content = read_mask(path, image)
    if isinstance(content, Finding):
        return [content], None, None
    array = decoding_finding(path, content) or decode_mask(path, content, loading)
    if isinstance(array, Finding):
        return [array], None, None
    findings = []
    if content.startswith(b'\xff\xd8'):
        findings.append(Finding('mask-lossy', path, 'the mask is a JPEG'))
    if size:
        mismatch = shape_finding(path, array, image, size) or orientation_finding(
            path, image, size
        )
        if mismatch:
            findings.append(mismatch)
    deep = mask_depth_finding(path, array)
    if deep:
        findings.append(deep)
    if deep or array.ndim != 2:
        return findings, None, None
    per_value = np.bincount(array.astype(np.uint8).ravel(), minlength=256)
    counts = np.zeros(256, np.int64)
    np.add.at(counts, label_table(info), per_value)
    labels = label_finding(path, counts, info) if info['num_classes'] else None
    if labels:
        findings.append(labels)
    return findings, per_value > 0, counts
