"""Evaluate a training and describe it on one HTML page, and as JSON."""

import contextlib
import datetime
import json
import logging
import platform
import tempfile
from importlib import metadata
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.logging import print_log

from volo.checkpoints.fetching import locate
from volo.engine.launch import load_config, test
from volo.engine.results import describe_results
from volo.engine.resuming import newest_whole_checkpoint
from volo.errors import CheckpointError, ConfigError, DataError
from volo.files import describe_write_error, write_atomically
from volo.version import __version__

from .curves import read_curves
from .report_data import MeasureHook
from .report_images import class_colors, draw_example, image_reader
from .report_page import render_page
from .report_scores import summarize, to_plain


def write_report(
    work_dir: str | Path,
    config: str | Path | None = None,
    checkpoint: str | Path | None = None,
    out: str | Path | None = None,
    images: int = 6,
    split: str = 'val',
    cfg_options: dict | None = None,
    command: str = '',
) -> dict[str, Any]:
    """Evaluate a checkpoint and write a page about it, and the same as JSON.

    Args:
        work_dir: Folder of the training.
        config: Config file. Default: the one that the training saved there.
        checkpoint: File, or URL with its hash. Default: the best checkpoint of
            ``work_dir``, else the newest.
        out: HTML file to write; the JSON file is beside it. Default:
            ``work_dir/report.html``.
        images: Number of best and of worst images to show.
        split: ``val`` or ``test``.
        cfg_options: As in :func:`volo.engine.load_config`.
        command: The command line, for the page.

    Returns:
        What the JSON file holds. Scores of classes, confidences and ECE are from 0 to
        1; ``metrics`` are what ``tools/test.py --out`` writes.

    Raises:
        VoloError: There is no config, checkpoint or dataset, or one of them is at
            fault, or the page cannot be written.
    """
    work_dir = Path(work_dir)
    if not work_dir.is_dir():
        raise ConfigError(
            f'{work_dir}: no such folder. Name the work dir of a training'
        )
    out = Path(out or work_dir / 'report.html')
    if out.suffix not in ('.html', '.htm'):
        raise ConfigError(f'--out {out}: must end in .html')
    config = Path(config) if config else find_config(work_dir)
    weights = str(checkpoint or find_checkpoint(work_dir))
    if not locate(weights).is_file():
        raise CheckpointError(f'{weights}: no such checkpoint')
    try:
        curves = read_curves(work_dir)
    except DataError as error:
        curves = {}
        print_log(f'No curves: {error}', logger='current', level=logging.WARNING)
    cfg = load_config(config, cfg_options)
    # The Runner writes its config and logs: not over those of the training.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        prepare_config(cfg, split, weights, scratch)
        hook = MeasureHook(images)
        metrics = test(cfg, hooks=[hook])
    report = dict(
        task=hook.task,
        work_dir=str(work_dir.resolve()),
        config=str(config),
        checkpoint=weights,
        checkpoint_name=locate(weights).name,
        trained=describe_training(hook.meta),
        split=split,
        samples=hook.num_samples,
        time=datetime.datetime.now().isoformat(timespec='seconds'),
        command=command,
        versions=list_versions(),
        metrics=describe_results(metrics, hook.classes),
        **summarize(hook),
        curves={name: vars(curve) for name, curve in curves.items()},
    )
    colors = class_colors(hook.palette, len(hook.classes))
    read = image_reader(hook.dataset)
    drawings = {
        key: [draw_example(e, read, colors, hook.ignore_index) for e in examples]
        for key, examples in (('best', hook.best), ('worst', hook.worst))
    }
    report = to_plain(report)
    _write(out, render_page(report, curves, colors, drawings))
    _write(out.with_suffix('.json'), json.dumps(report) + '\n')
    return report


def find_config(work_dir: Path) -> Path:
    """Return the config that a training saved in its work dir.

    Raises:
        ConfigError: There is none, or there are several.
    """
    found = sorted(work_dir.glob('*.py'))
    if not found:
        raise ConfigError(f'{work_dir}: no config (*.py). Name it with --config')
    if len(found) > 1:
        names = ', '.join(path.name for path in found)
        raise ConfigError(
            f'{work_dir}: several configs: {names}. Name one with --config'
        )
    return found[0]


def find_checkpoint(work_dir: Path) -> Path:
    """Return the best checkpoint of a work dir, else its newest whole one.

    Raises:
        CheckpointError: There is none, or none of them is whole.
    """
    best = list(work_dir.glob('best_*.pth'))
    if best:
        return max(best, key=lambda path: path.stat().st_mtime)
    for template in ('epoch_{}.pth', 'iter_{}.pth'):
        newest = newest_whole_checkpoint(work_dir, template)
        if newest:
            return newest
    raise CheckpointError(
        f'{work_dir}: no checkpoints (best_*.pth, epoch_*.pth, iter_*.pth). Name one '
        'with --checkpoint'
    )


def prepare_config(cfg: Config, split: str, checkpoint: str, work_dir: str) -> None:
    """Let a config evaluate a checkpoint on a split, and write nothing but logs.

    Raises:
        ConfigError: The config has no such split.
    """
    for part in ('dataloader', 'evaluator'):
        if not cfg.get(f'{split}_{part}'):
            raise ConfigError(
                f'{cfg.filename}: no {split}_{part}: there is nothing to evaluate. Add '
                'it to the config, or name another --split'
            )
        cfg[f'test_{part}'] = cfg[f'{split}_{part}']
    cfg.test_cfg = dict(fp16=(cfg.get(f'{split}_cfg') or {}).get('fp16', False))
    cfg.load_from, cfg.resume, cfg.work_dir = checkpoint, False, work_dir
    # No images, no trackers, and a model whose operations can be counted.
    (cfg.get('default_hooks') or {}).pop('visualization', None)
    if cfg.get('visualizer'):
        cfg.visualizer.vis_backends = []
    cfg.custom_hooks = [
        hook for hook in cfg.get('custom_hooks') or [] if hook['type'] != 'CompileHook'
    ]


def describe_training(meta: dict) -> str:
    """Return when a checkpoint was saved, from its ``meta``; '' if it says nothing."""
    done = [f'{key} {meta[key]:,}' for key in ('epoch', 'iter') if meta.get(key)]
    with contextlib.suppress(KeyError, ValueError):
        saved = datetime.datetime.strptime(meta['time'], '%Y%m%d_%H%M%S')
        done.append(f'saved {saved:%Y-%m-%d %H:%M}')
    return ', '.join(done)


def list_versions() -> dict[str, str]:
    """Return the versions of what computed a report."""
    names = ('torch', 'onedl-mmengine', 'onedl-mmsegmentation', 'onedl-mmpretrain')
    versions = {'volo': __version__, 'Python': platform.python_version()}
    for name in (*names, 'numpy'):
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return versions


def _write(path: Path, text: str) -> None:
    try:
        write_atomically(path, text.encode())
    except OSError as error:
        raise DataError(describe_write_error(path, error)) from error
