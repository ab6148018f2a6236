"""Decide where a training starts: at the beginning, or at which checkpoint."""

import datetime
import logging
import os
import re
import zipfile
import zlib
from pathlib import Path

from mmengine.config import Config
from mmengine.dist import all_gather_object, broadcast_object_list, is_main_process
from mmengine.logging import print_log

from volo.errors import CheckpointError, ConfigError, VoloError

from .folder_lock import FolderLock

#: Where torchrun and Slurm count restarts.
RESTART_VARIABLES = ('TORCHELASTIC_RESTART_COUNT', 'SLURM_RESTART_COUNT')


def settle_start(
    cfg: Config, start_over: bool = False, lock: FolderLock | None = None
) -> None:
    """Set ``resume`` and ``load_from`` of a config to where this run starts.

    ``resume`` without ``load_from`` takes the newest whole checkpoint of the work dir.
    So does a run that torchrun or Slurm has restarted, whatever the config says. Rank 0
    decides for all ranks.

    Args:
        cfg: A config with its ``work_dir``.
        start_over: Train from the beginning; a folder with checkpoints is renamed.
        lock: Rank 0 acquires it for the folder of the checkpoints.

    Raises:
        ConfigError: There are checkpoints, and neither resuming nor starting over was
            asked for; or another training uses the folder, or it is read-only.
        CheckpointError: There are checkpoints, but none of them is whole.
    """
    # On each node, torchrun counts the failures of that node.
    restarts = max(all_gather_object(count_restarts()))
    settled: list = [None]
    if is_main_process():
        try:
            settled = [_settle(cfg, start_over, restarts > 0, lock)]
        except VoloError as error:
            settled = [error]
    broadcast_object_list(settled)
    if isinstance(settled[0], VoloError):
        raise settled[0]
    cfg.resume, cfg.load_from = settled[0]


def count_restarts() -> int:
    """Return how often this process was restarted."""
    return max(int(os.environ.get(name) or 0) for name in RESTART_VARIABLES)


def _settle(
    cfg: Config, start_over: bool, restarted: bool, lock: FolderLock | None
) -> tuple[bool, str | None]:
    resume, load_from = bool(cfg.get('resume')), cfg.get('load_from')
    folder, template = _place(cfg)
    if lock is not None:
        lock.acquire(folder or Path(cfg.work_dir))
    if folder is None:  # not on a local disk: left to mmengine
        return resume, load_from
    if restarted or (resume and load_from is None):
        newest = newest_whole_checkpoint(folder, template)
        if newest is not None:
            return True, str(newest)
        print_log(
            f'{folder} has no checkpoints: training from the beginning.',
            logger='current',
        )
        return resume and load_from is not None, load_from
    if resume:
        return resume, load_from
    existing = list_checkpoints(folder, template)
    if existing and not start_over:
        raise ConfigError(
            f'{folder} holds checkpoints already, up to {existing[0].name}: continue '
            'from there with --resume, train from the beginning with --start-over, '
            'which renames the folder, or train elsewhere with --work-dir'
        )
    if existing:
        kept = move_aside(folder)
        if lock is not None:
            lock.acquire(folder)
        print_log(f'The earlier run is now in {kept}.', logger='current')
    return resume, load_from


def _place(cfg: Config) -> tuple[Path | None, str]:
    """Return the folder of the checkpoints, None if it is remote, and their names."""
    hook = (cfg.get('default_hooks') or {}).get('checkpoint') or {}
    template = hook.get('filename_tmpl')
    if template is None:
        template = 'epoch_{}.pth' if hook.get('by_epoch', True) else 'iter_{}.pth'
    folder = cfg.work_dir
    if hook.get('out_dir'):  # as in mmengine's CheckpointHook
        folder = os.path.join(hook['out_dir'], Path(cfg.work_dir).name)
    return (None if '://' in folder else Path(folder)), template


def list_checkpoints(folder: Path, template: str) -> list[Path]:
    """List the checkpoints of a folder, the newest first.

    Args:
        folder: May be absent.
        template: Their names, as in ``iter_{}.pth``. Those from within an epoch are
            named as in ``epoch_2_iter_57.pth``.
    """
    pattern = re.compile(re.escape(template).replace(r'\{\}', r'(\d+)(?:_iter_(\d+))?'))
    found = []
    for path in folder.glob('*') if folder.is_dir() else ():
        match = pattern.fullmatch(path.name)
        if match:
            found.append(((int(match[1]), int(match[2] or 0)), path))
    return [path for _, path in sorted(found, reverse=True)]


def newest_whole_checkpoint(folder: Path, template: str) -> Path | None:
    """Find the newest checkpoint that is whole.

    Args:
        folder: May be absent.
        template: As in :func:`list_checkpoints`.

    Returns:
        None if there are none.

    Raises:
        CheckpointError: There are checkpoints, but none of them is whole.
    """
    broken = []
    for path in list_checkpoints(folder, template):
        fault = find_fault(path)
        if fault is None:
            return path
        broken.append(f'{path.name} {fault}')
        print_log(
            f'{path} {fault}: trying the checkpoint before it.',
            logger='current',
            level=logging.WARNING,
        )
    if broken:
        raise CheckpointError(
            f'{folder} has no whole checkpoint: {"; ".join(broken)}. Train elsewhere '
            'with --work-dir, or from the beginning with --start-over, which renames '
            'the folder'
        )
    return None


def find_fault(path: Path) -> str | None:
    """Say what is wrong with a checkpoint file, by its checksums.

    Args:
        path: An archive of ``torch.save``. The folders that some strategies write are
            not checked.

    Returns:
        The end of a sentence about the file, as in 'is damaged'; None if it is whole.
    """
    if path.is_dir():
        return None
    try:
        if path.stat().st_size == 0:
            return 'is empty (0 bytes)'
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except (zipfile.BadZipFile, zlib.error, EOFError):
        return 'is damaged or cut short'
    except OSError as error:
        return f'cannot be read: {error.strerror or error}'
    return f'is damaged ({damaged})' if damaged else None


def move_aside(folder: Path) -> Path | None:
    """Rename a folder that is not empty, by appending the time.

    Returns:
        The new path; None if there was nothing to rename.
    """
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return None
    stamp = datetime.datetime.now().strftime('%Y%m%d-%H%M%S')
    target = folder.with_name(f'{folder.name}-{stamp}')
    number = 1
    while target.exists():
        number += 1
        target = folder.with_name(f'{folder.name}-{stamp}-{number}')
    folder.rename(target)
    return target
