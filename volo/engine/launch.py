"""From a config file and options to a Runner, on GPUs or on a bare CPU."""

import contextlib
import copy
import datetime
import inspect
import logging
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import torch
import torch.distributed
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.dist import init_dist, is_distributed
from mmengine.logging import print_log
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from volo.errors import ConfigError, DataError, did_you_mean, require_rank

from .resuming import settle_start


def load_config(
    path: str | Path,
    cfg_options: dict | None = None,
    work_dir: str | None = None,
) -> Config:
    """Read a config and settle what the command line may override.

    ``data_root`` among the options replaces the data root of every dataset that
    used the config's own ``data_root``.

    Args:
        path: The config file.
        cfg_options: Dotted keys and their values.
        work_dir: Where results go; else the config's own ``work_dir``, else
            ``work_dirs/<name of the config>``.

    Raises:
        ConfigError: The file is missing or broken, or an option's first key is
            neither in the config nor one of the Runner's.
    """
    path = Path(path)
    if not path.is_file():
        hint = did_you_mean(str(path), map(str, path.parent.glob('*.py')))
        raise ConfigError(f'{path}: no such config file.{hint}')
    try:
        cfg = Config.fromfile(path)
    except Exception as error:  # a config is Python: anything can go wrong in it
        raise ConfigError(f'{path}: {type(error).__name__}: {error}') from error
    options = dict(cfg_options or {})
    known = set(cfg) | set(inspect.signature(Runner.__init__).parameters)
    known |= {'auto_scale_lr', 'compile', 'runner_type', 'strategy'}
    for key in options:
        name = key.split('.')[0]
        if name not in known:
            raise ConfigError(
                f'--cfg-options {key}: {path} has no key {name}.'
                f'{did_you_mean(name, known)}'
            )
    if 'data_root' in options:
        shared_root = cfg.get('data_root')
        given = tuple(f'{key}.' for key in options)  # and all that is below
        for place, node in _walk(cfg.to_dict()):
            key = f'{place}.data_root'
            if place and node.get('data_root', '') == shared_root:
                if not f'{key}.'.startswith(given):
                    options[key] = options['data_root']
    cfg.merge_from_dict(options)
    cfg.work_dir = work_dir or cfg.get('work_dir') or f'work_dirs/{path.stem}'
    return cfg


def _walk(node: object, path: str = '') -> Iterator[tuple[str, dict]]:
    """Yield every dict below ``node`` with its dotted place."""
    if isinstance(node, dict):
        yield path, node
        children = node.items()
    elif isinstance(node, list | tuple):
        children = enumerate(node)
    else:
        return
    for key, value in children:
        yield from _walk(value, f'{path}.{key}' if path else str(key))


def build_runner(cfg: Config, launcher: str = 'none') -> Runner:
    """Build the Runner, after falling back to the CPU where there is no GPU.

    Args:
        cfg: From :func:`load_config`.
        launcher: ``none``, ``pytorch``, ``slurm`` or ``mpi``, as in mmengine.

    Raises:
        ConfigError: The config asks for what does not exist.
    """
    init_processes(cfg, launcher)
    if get_device() == 'cpu':
        _adapt_to_cpu(cfg)
    if 'runner_type' in cfg:
        return RUNNERS.build(cfg)
    return Runner.from_cfg(cfg)


def init_processes(cfg: Config, launcher: str) -> None:
    """Start the process group, if there are several processes and none is started yet.

    Args:
        cfg: Its ``launcher`` is set.
        launcher: As in :func:`build_runner`.

    Raises:
        ConfigError: The launcher, or what the config has for it, does not work here.
    """
    cfg.launcher = launcher
    if 'strategy' in cfg and launcher == 'none':
        raise ConfigError(
            f'{cfg.filename}: {cfg.strategy.type} needs several processes: start '
            'with tools/dist_train.sh'
        )
    if launcher == 'none' or is_distributed():
        return
    dist_cfg = dict((cfg.get('env_cfg') or {}).get('dist_cfg') or {})
    if get_device() == 'cpu':
        _init_gloo(launcher, dist_cfg)
    else:
        init_dist(launcher, **dist_cfg)


def _adapt_to_cpu(cfg: Config) -> None:
    """Replace what only runs on a GPU, and say so."""
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
    sync_norms = [p for p, node in _walk(cfg.to_dict()) if node.get('type') == 'SyncBN']
    if sync_norms:
        cfg.merge_from_dict({f'{place}.type': 'BN' for place in sync_norms})
        changes.append('BN in place of SyncBN')
    if cfg.launcher != 'none':
        changes.append('gloo between the processes')
        # Without device_ids; the Runner's own wrapper would name a GPU.
        cfg.setdefault(
            'model_wrapper_cfg',
            dict(
                type='MMDistributedDataParallel',
                broadcast_buffers=False,
                device_ids=None,
            ),
        )
    print_log(', '.join(changes) + '.', logger='current', level=logging.WARNING)


def _init_gloo(launcher: str, dist_cfg: dict) -> None:
    """Start the process group, which mmengine can only do with a GPU.

    Raises:
        ConfigError: The launcher is not supported here, or its variables are not
            in the environment.
    """
    if launcher == 'slurm':
        _export_slurm_environment()
    elif launcher != 'pytorch':
        raise ConfigError(f'--launcher {launcher} needs GPUs: use pytorch or slurm')
    require_rank(launcher)
    timeout = dist_cfg.get('timeout', 1800)
    torch.distributed.init_process_group(
        'gloo', timeout=datetime.timedelta(seconds=timeout)
    )


def _export_slurm_environment() -> None:
    """Give torch the names it knows for what Slurm says."""
    try:
        os.environ.setdefault('RANK', os.environ['SLURM_PROCID'])
        os.environ.setdefault('WORLD_SIZE', os.environ['SLURM_NTASKS'])
        os.environ.setdefault('LOCAL_RANK', os.environ.get('SLURM_LOCALID', '0'))
    except KeyError as error:
        raise ConfigError(
            f'--launcher slurm outside Slurm: {error} is not set'
        ) from None
    os.environ.setdefault('MASTER_PORT', '29500')
    if 'MASTER_ADDR' not in os.environ:
        nodes = ['scontrol', 'show', 'hostnames', os.environ['SLURM_NODELIST']]
        hostnames = subprocess.run(nodes, capture_output=True, text=True, check=True)
        os.environ['MASTER_ADDR'] = hostnames.stdout.split()[0]


@contextlib.contextmanager
def readable_errors(cfg: Config) -> Iterator[None]:
    """Turn what the registries and datasets raise into one clear error.

    The Runner builds its parts when it needs them, so this is wrapped around all
    of its work; only errors that are known to come from the config pass as such.

    Raises:
        ConfigError: An unknown type or option.
        DataError: A file or folder of a dataset is missing.
    """
    try:
        yield
    except TypeError as error:
        match = re.search(
            r"(\w+)\.__init__\(\) got an unexpected .*'(\w+)'", str(error)
        )
        if not match:
            raise
        name, key = match.groups()
        place = next(
            (
                place
                for place, node in _walk(cfg.to_dict())
                if node.get('type') == name and key in node
            ),
            name,
        )
        raise ConfigError(
            f'{cfg.filename}: {place}: {name} has no option {key!r}'
        ) from error
    except KeyError as error:
        match = re.match(r'(\S+) is not in the (\S+) registry', str(error.args[0]))
        if not match:
            raise
        raise ConfigError(
            f'{cfg.filename}: unknown type {match[1]!r}, not in {match[2]}: is the '
            'name right, and is its module in custom_imports?'
        ) from error
    except FileNotFoundError as error:
        raise DataError(f'{error.filename or error}: no such file or folder') from error


def train(cfg: Config, launcher: str = 'none', start_over: bool = False) -> None:
    """Train as the config says.

    Args:
        cfg: From :func:`load_config`.
        launcher: As in :func:`build_runner`.
        start_over: As in :func:`volo.engine.resuming.settle_start`.

    Raises:
        VoloError: The config, the data or a checkpoint is at fault.
        Interrupted: A signal asked to stop, and what was trained is on disk.
    """
    cfg = copy.deepcopy(cfg)
    _refuse_skipping(cfg)
    init_processes(cfg, launcher)
    settle_start(cfg, start_over)
    # Starting from another task's weights is allowed; resuming from them is not.
    add_hook(cfg, type='CheckLoadedWeightsHook', drop_classifiers=not cfg.get('resume'))
    if cfg.get('runner_type') == 'FlexibleRunner':
        add_hook(cfg, type='CountersAfterValidationHook')
    with readable_errors(cfg):
        build_runner(cfg, launcher).train()


def test(cfg: Config, launcher: str = 'none') -> dict[str, float]:
    """Evaluate ``cfg.load_from`` on the test set and return the metrics.

    Raises:
        VoloError: The config, the data or the checkpoint is at fault.
    """
    cfg = copy.deepcopy(cfg)
    _refuse_skipping(cfg)
    add_hook(cfg, type='CheckLoadedWeightsHook')
    # A strategy is for training; its checkpoints are whole.
    cfg.pop('strategy', None)
    cfg.pop('runner_type', None)
    with readable_errors(cfg):
        return build_runner(cfg, launcher).test()


def _refuse_skipping(cfg: Config) -> None:
    """Let no metric leave out the samples that it cannot read.

    Raises:
        ConfigError: A dataset of an evaluation has ``skip_broken``.
    """
    for place, node in _walk(cfg.to_dict()):
        if place.startswith(('val_', 'test_')) and node.get('skip_broken'):
            raise ConfigError(
                f'{cfg.filename}: {place}.skip_broken: evaluation leaves nothing out; '
                'set it in train_dataloader alone'
            )


def add_hook(cfg: Config, **hook: object) -> None:
    """Add a hook to those that a config has."""
    cfg.custom_hooks = [*(cfg.get('custom_hooks') or []), hook]


def join_processes(launcher: str, device: str | None = None) -> torch.device:
    """Join the other processes that ``torchrun`` started, and choose the device.

    Args:
        launcher: ``none`` or ``pytorch``.
        device: As in ``torch.device``; None: a GPU if there is one.

    Raises:
        ConfigError: There is no such device, or ``torchrun`` did not start this.
    """
    device = device or ('cuda' if torch.cuda.is_available() else 'cpu')
    try:
        chosen = torch.device(device)
        if chosen.type == 'cuda' and launcher != 'none' and chosen.index is None:
            chosen = torch.device('cuda', int(os.environ.get('LOCAL_RANK', 0)))
            # Or the loader's pinned memory would occupy the first GPU for all.
            torch.cuda.set_device(chosen)
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).partition('\n')[0]
        raise ConfigError(f'--device {device} cannot be used: {reason}') from error
    if launcher != 'none':
        require_rank(launcher)
        # On GPUs too: all that is exchanged is three numbers. While rank 0 verifies
        # a large store, the others wait.
        torch.distributed.init_process_group(
            'gloo', timeout=datetime.timedelta(hours=12)
        )
    return chosen
