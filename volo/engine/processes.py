"""Process groups: with NCCL on GPUs, with gloo on a CPU, from torchrun or Slurm."""

import contextlib
import datetime
import os
import subprocess
from collections.abc import Iterator

import torch
import torch.distributed
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.dist import init_dist, is_distributed

from volo.errors import ConfigError, require_rank


def init_processes(cfg: Config, launcher: str) -> None:
    """Initialize the process group that the Runner trains or evaluates in.

    Does nothing for a single process or if the group exists already.

    Args:
        cfg: Its ``launcher`` is set.
        launcher: ``none``, ``pytorch``, ``slurm`` or ``mpi``, as in mmengine.

    Raises:
        ConfigError: The launcher, or the config's strategy, does not work here, or the
            processes cannot connect.
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
        init_gloo(launcher, dist_cfg.get('timeout', 1800))
    else:
        with _readable_network_errors():
            init_dist(launcher, **dist_cfg)


def join_processes(launcher: str, device: str | None = None) -> torch.device:
    """Join the other processes without a config, and choose the device.

    The group uses gloo on GPUs too: it is for the few numbers of a tool, not for
    gradients.

    Args:
        launcher: ``none``, ``pytorch`` or ``slurm``.
        device: As in ``torch.device``. Default: a GPU if there is one.

    Raises:
        ConfigError: The device does not exist, or the launcher did not start this.
    """
    chosen = _choose_device(launcher, device)
    if launcher != 'none':
        # While rank 0 verifies a large store, the others wait.
        init_gloo(launcher, timeout=12 * 3600)
    return chosen


def _choose_device(launcher: str, device: str | None) -> torch.device:
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
    return chosen


def init_gloo(launcher: str, timeout: float) -> None:
    """Initialize a process group on the CPU, which mmengine only does with a GPU.

    Args:
        launcher: ``pytorch`` or ``slurm``.
        timeout: Seconds that a process waits for the others.

    Raises:
        ConfigError: The launcher is not supported here, its variables are not in the
            environment, or the processes cannot connect.
    """
    if launcher == 'slurm':
        _export_slurm_environment()
    elif launcher != 'pytorch':
        raise ConfigError(f'--launcher {launcher} needs GPUs: use pytorch or slurm')
    require_rank(launcher)
    with _readable_network_errors():
        torch.distributed.init_process_group(
            'gloo', timeout=datetime.timedelta(seconds=timeout)
        )


@contextlib.contextmanager
def _readable_network_errors() -> Iterator[None]:
    try:
        yield
    except torch.distributed.DistNetworkError as error:
        address = f'{os.environ.get("MASTER_ADDR")}:{os.environ.get("MASTER_PORT")}'
        reason = str(error).partition('\n')[0]
        if 'EADDRINUSE' in reason:
            reason = 'the port is in use, perhaps by another training'
        raise ConfigError(
            f'the processes cannot connect through {address}: {reason}. Choose a free '
            'port of the first machine with PORT=... (tools/dist_train.sh) or '
            'MASTER_PORT=...'
        ) from error


def _export_slurm_environment() -> None:
    """Copy Slurm's variables to the names that torch reads."""
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
        command = ['scontrol', 'show', 'hostnames', os.environ['SLURM_NODELIST']]
        hostnames = subprocess.run(command, capture_output=True, text=True, check=True)
        os.environ['MASTER_ADDR'] = hostnames.stdout.split()[0]
