"""Check all datasets of a config."""

import dataclasses
import os
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from mmengine.config import Config
from mmengine.registry import DATASETS, init_default_scope
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress

from volo.datasets.findings import Finding
from volo.datasets.masks import label_table
from volo.engine.launch import readable_errors
from volo.errors import ConfigError, DataError
from volo.token_label.dataset import TokenLabelDataset
from volo.token_label.packed import open_label_maps

from .class_counts import ClassCounts
from .folders import class_folder_findings, unlisted_findings
from .samples import Part, SampleReport, check_samples

SPLITS = ('train', 'val', 'test')


@dataclasses.dataclass
class SplitReport:
    """Findings and statistics of a split.

    Attributes:
        name: ``train``, ``val`` or ``test``.
        note: A remark for the report.
        size: Number of samples.
        findings: Everything that is wrong with the split.
        counts: Frequencies of the classes; None if the classes are unknown.
    """

    name: str
    note: str = ''
    size: int = 0
    findings: list[Finding] = dataclasses.field(default_factory=list)
    counts: ClassCounts | None = None


def check_config(
    cfg: Config, splits: Sequence[str] = SPLITS, workers: int = 0
) -> list[SplitReport]:
    """Check every file of a config's datasets. Nothing is written.

    Args:
        cfg: From :func:`volo.engine.launch.load_config`.
        splits: Splits to check. Those that the config does not have are ignored.
        workers: Number of worker processes; 0 checks in this process.

    Raises:
        ConfigError: The config has none of the splits, or a dataset cannot be built.
    """
    init_default_scope(cfg.get('default_scope', 'mmengine'))
    reports, parts = _open_splits(cfg, splits)
    by_name = {report.name: report for report in reports}
    for split, finding in unlisted_findings(parts):
        by_name[split].findings.append(finding)
    images: dict[str, list[tuple[str, bytes]]] = {split: [] for split in by_name}
    with Progress(
        *Progress.get_default_columns(),
        MofNCompleteColumn(),
        console=Console(stderr=True),
    ) as progress:
        for part in parts:
            bar = progress.add_task(part.split, total=len(part))
            samples = progress.track(check_samples(part, workers), task_id=bar)
            images[part.split] += _check_part(part, samples, by_name[part.split])
    for report in reports:
        if report.name != 'train':
            report.findings += _duplicates(images.get('train', ()), images[report.name])
        report.findings += _absent_classes(report)
    return reports


# --- Building ---


def _open_splits(
    cfg: Config, splits: Sequence[str]
) -> tuple[list[SplitReport], list[Part]]:
    """List the samples of all splits."""
    loaders = {name: cfg.get(f'{name}_dataloader') for name in SPLITS if name in splits}
    loaders = {name: loader for name, loader in loaders.items() if loader}
    if not loaders:
        names = ', '.join(f'{name}_dataloader' for name in splits)
        raise ConfigError(f'{cfg.filename}: no {names}: there is nothing to check')
    reports, parts = [], []
    for name, loader in loaders.items():
        report = SplitReport(name)
        reports.append(report)
        if name == 'test' and _same_files(loader, loaders.get('val')):
            report.note = 'the same dataset as val'
            continue
        for node in _leaves(loader['dataset']):
            with readable_errors(cfg):
                part, findings = _build(name, node)
            parts.append(part)
            report.size += len(part)
            report.findings += findings
    return reports, parts


def _same_files(loader: dict, other: dict | None) -> bool:
    """Return whether two loaders have the same dataset, whatever the pipeline."""
    if not other:
        return False
    own, others = (
        {key: value for key, value in one['dataset'].items() if key != 'pipeline'}
        for one in (loader, other)
    )
    return own == others


def _leaves(node: dict) -> Iterator[dict]:
    """Yield the configs of the datasets inside wrappers such as RepeatDataset."""
    if 'datasets' in node:
        for child in node['datasets']:
            yield from _leaves(child)
    elif 'dataset' in node and str(node['type']).split('.')[-1] != 'TokenLabelDataset':
        yield from _leaves(node['dataset'])
    else:
        yield node


def _build(split: str, node: dict) -> tuple[Part, list[Finding]]:
    """List the samples of a dataset. An empty dataset is a finding, not an error."""
    dataset = DATASETS.build({**node, 'lazy_init': True})
    label_root = None
    if isinstance(dataset, TokenLabelDataset):
        label_root, dataset = str(dataset.label_root), dataset.dataset
    if hasattr(dataset, 'download'):
        dataset.download = False
    part = Part(split, dataset, maps_needed=node.get('missing', 'error') == 'error')
    findings = []
    try:
        dataset.full_init()
        part.size = len(dataset)
    except Exception as error:  # from any library's dataset
        findings.append(Finding('split-empty', f'{split} split', str(error)))
    else:
        if not part.size:
            findings.append(Finding('split-empty', f'{split} split', 'no samples'))
    findings += class_folder_findings(dataset)
    if label_root:
        try:
            part.label_maps = open_label_maps(label_root)
        except DataError as error:
            text = str(error).removeprefix(f'{label_root}: ')
            findings.append(Finding('label-map-broken', label_root, text))
    if split != 'train' and getattr(dataset, 'skip_broken', False):
        if not dataset.test_mode:
            text = 'skip_broken=True without test_mode=True'
            findings.append(Finding('skip-in-evaluation', f'{split} split', text))
    return part, findings


# --- Whole splits ---


def _check_part(
    part: Part, samples: Iterable[SampleReport], report: SplitReport
) -> list[tuple[str, bytes]]:
    """Add the samples of a dataset to the report of its split.

    Returns:
        Path and digest of every readable image.
    """
    if report.counts is None and part.classes:
        report.counts = ClassCounts(part.classes)
    files, values, masks = [], np.zeros(256, bool), 0
    for sample in samples:
        report.findings += sample.findings
        if report.counts is not None:
            report.counts.add(sample)
        if sample.values is not None:
            values |= sample.values
            masks += 1
        if sample.digest:
            files.append((sample.path, sample.digest))
        elif not sample.path:
            report.note = 'images in memory: no files to check'
    if masks and values[255] and not values[1:255].any() and len(part.classes) > 1:
        info = part.info(0)
        if label_table(info)[255] == info['ignore_index']:
            report.findings.append(
                Finding(
                    'mask-binary',
                    part.dataset.data_prefix['seg_map_path'],
                    f'values {{0, 255}} in all of {masks} masks',
                )
            )
    return files


def _duplicates(
    train: Sequence[tuple[str, bytes]], other: Sequence[tuple[str, bytes]]
) -> Iterator[Finding]:
    """Yield the images of a split that are also training images."""
    by_path = {os.path.realpath(path) for path, _ in train}
    by_digest = {digest: path for path, digest in train}
    for path, digest in other:
        if os.path.realpath(path) in by_path:
            yield Finding('duplicate', path, 'the same file is in train')
        elif digest in by_digest:
            text = f'the same bytes as {by_digest[digest]} of train'
            yield Finding('duplicate', path, text)


def _absent_classes(report: SplitReport) -> Iterator[Finding]:
    if report.counts is None or not report.counts.counts.any():
        return
    for name, count in zip(report.counts.classes, report.counts.counts, strict=True):
        if not count:
            unit = report.counts.unit.removesuffix('s')
            text = f'no {unit} in the {report.name} split'
            yield Finding('class-absent', f'class {name!r}', text)
