"""Train or evaluate as a config says, on GPUs or on a CPU."""

import copy
import logging
from collections.abc import Sequence

from mmengine.config import Config
from mmengine.device import get_device
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.runner import Runner

from volo.errors import ConfigError

from .configs import add_hook, load_config, walk
from .console import build_runner_with_short_console
from .failures import readable_errors
from .folder_lock import FolderLock
from .processes import init_processes, join_processes
from .resuming import settle_start

__all__ = [
    'add_hook',
    'build_runner',
    'join_processes',
    'load_config',
    'readable_errors',
    'test',
    'train',
]


def train(
    cfg: Config,
    launcher: str = 'none',
    start_over: bool = False,
    hyperparams_from: str = 'checkpoint',
) -> None:
    """Train as the config says.

    Args:
        cfg: From :func:`load_config`.
        launcher: As in :func:`build_runner`.
        start_over: As in :func:`volo.engine.resuming.settle_start`.
        hyperparams_from: As in :class:`volo.engine.ResumedSettingsHook`.

    Raises:
        VoloError: The config, the data or a checkpoint is at fault.
        Interrupted: A signal asked to stop; the progress is on disk.
    """
    cfg = copy.deepcopy(cfg)
    _refuse_skipping(cfg)
    init_processes(cfg, launcher)
    with FolderLock() as lock, readable_errors(cfg):
        settle_start(cfg, start_over, lock)
        # load_from may bring another task's weights; resume may not.
        resume = bool(cfg.get('resume'))
        add_hook(cfg, type='CheckLoadedWeightsHook', drop_classifiers=not resume)
        add_hook(
            cfg,
            type='ResumedSettingsHook',
            resume=resume,
            hyperparams_from=hyperparams_from,
        )
        add_hook(cfg, type='ClassesHook')
        if cfg.get('runner_type') == 'FlexibleRunner':
            add_hook(cfg, type='CountersAfterValidationHook')
        build_runner(cfg, launcher).train()


def test(
    cfg: Config, launcher: str = 'none', hooks: Sequence[Hook] = ()
) -> dict[str, float]:
    """Evaluate ``cfg.load_from`` on the test set and return the metrics.

    Args:
        cfg: From :func:`load_config`.
        launcher: As in :func:`build_runner`.
        hooks: More hooks of the Runner, such as those that measure.

    Raises:
        VoloError: The config, the data or the checkpoint is at fault.
    """
    cfg = copy.deepcopy(cfg)
    _refuse_skipping(cfg)
    add_hook(cfg, type='CheckLoadedWeightsHook')
    add_hook(cfg, type='ClassesHook')
    # A strategy is for training; its checkpoints are whole.
    cfg.pop('strategy', None)
    cfg.pop('runner_type', None)
    with readable_errors(cfg):
        runner = build_runner(cfg, launcher)
        for hook in hooks:
            runner.register_hook(hook)
        return runner.test()


def build_runner(cfg: Config, launcher: str = 'none') -> Runner:
    """Build the Runner, adapted to the CPU where there is no GPU.

    Args:
        cfg: From :func:`load_config`.
        launcher: ``none``, ``pytorch``, ``slurm`` or ``mpi``, as in mmengine.

    Raises:
        ConfigError: The config asks for something that does not exist.
    """
    init_processes(cfg, launcher)
    if get_device() == 'cpu':
        _adapt_to_cpu(cfg)
    return build_runner_with_short_console(cfg)


def _adapt_to_cpu(cfg: Config) -> None:
    """Replace what only runs on a GPU, and log it."""
    changes = ['no GPU was found: running on the CPU']
    optim_wrapper = cfg.get('optim_wrapper') or {}
    if optim_wrapper.get('type') == 'AmpOptimWrapper':
        dtype = optim_wrapper.get('dtype')
        for key in ('loss_scale', 'dtype', 'use_fsdp'):
            optim_wrapper.pop(key, None)
        if dtype == 'bfloat16':
            optim_wrapper['type'] = 'BFloat16OptimWrapper'
        else:
            optim_wrapper['type'] = 'OptimWrapper'
            changes.append('float32 in place of float16 (bfloat16: --amp)')
    sync_norms = [place for place, node in walk(cfg) if node.get('type') == 'SyncBN']
    if sync_norms:
        cfg.merge_from_dict({f'{place}.type': 'BN' for place in sync_norms})
        changes.append('BN in place of SyncBN')
    if cfg.launcher != 'none':
        changes.append('gloo between the processes')
        # The Runner's own wrapper would name a GPU in device_ids.
        cfg.setdefault(
            'model_wrapper_cfg',
            dict(
                type='MMDistributedDataParallel',
                broadcast_buffers=False,
                device_ids=None,
            ),
        )
    print_log(', '.join(changes) + '.', logger='current', level=logging.WARNING)


def _refuse_skipping(cfg: Config) -> None:
    """Refuse metrics that leave out unreadable samples.

    Raises:
        ConfigError: A dataset of an evaluation has ``skip_broken``.
    """
    for place, node in walk(cfg):
        if place.startswith(('val_', 'test_')) and node.get('skip_broken'):
            raise ConfigError(
                f'{cfg.filename}: {place}.skip_broken: an evaluation uses every '
                'sample; set skip_broken in train_dataloader alone'
            )
