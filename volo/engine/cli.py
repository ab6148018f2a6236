"""What the command lines in ``tools/`` share."""

import argparse
import atexit
import os
import sys
from collections.abc import Callable
from typing import NoReturn

import torch.distributed
from mmengine.config import DictAction
from mmengine.dist import barrier, is_distributed

from volo.errors import Interrupted, VoloError


def run_cli(main: Callable[[], None]) -> None:
    """Run a tool; print what the user can mend as one line and exit with 2.

    A training that was asked to stop, and is saved, exits with
    :attr:`volo.errors.Interrupted.EXIT_STATUS`.
    """
    status = 0
    try:
        main()
    except VoloError as error:
        print(f'error: {first_message(error)}', file=sys.stderr)
        status = 2
    except Interrupted as interruption:
        print(interruption, file=sys.stderr)
        status = interruption.EXIT_STATUS
    if is_distributed():
        if status != 2:  # then others may never come here
            # No rank closes what another still reads.
            barrier()
            torch.distributed.destroy_process_group()
        leave(status)
    if status:
        sys.exit(status)


def leave(status: int) -> NoReturn:
    """End this process, but do not take the interpreter down under running threads.

    Those of gloo may still hold a tensor, whose end would then abort the process; it is
    rare, but a launcher takes it for a failure.
    """
    atexit._run_exitfuncs()  # logs are written, workers are stopped
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def first_message(error: VoloError) -> str:
    """Return the message as it was raised, also if a loader's worker raised it.

    A DataLoader wraps a worker's error in another of the same class, whose text is
    the whole traceback with the message at its end.
    """
    text = str(error)
    marker = f'{type(error).__module__}.{type(error).__name__}: '
    return text.rpartition(marker)[2].strip() if marker in text else text


def natural(text: str) -> int:
    """Read a whole number from 0 on: what argparse takes for ``type``."""
    value = int(text)
    if value < 0:
        raise ValueError
    return value


def positive(text: str) -> int:
    """Read a whole number from 1 on, likewise."""
    value = natural(text)
    if value == 0:
        raise ValueError
    return value


def runner_parser(description: str) -> argparse.ArgumentParser:
    """Return a parser with the options that training and testing share."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument('config', help='config file')
    parser.add_argument('--work-dir', help='where logs and results go')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        metavar='KEY=VALUE',
        help='override the config: dotted keys, lists as "[a,b]"',
    )
    parser.add_argument(
        '--amp',
        action='store_true',
        help='mixed precision: float16 on a GPU, bfloat16 on a CPU',
    )
    parser.add_argument(
        '--compile', action='store_true', help='compile the model with torch.compile'
    )
    parser.add_argument(
        '--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none'
    )
    # Given by torch.distributed.launch, unused: torchrun sets LOCAL_RANK instead.
    parser.add_argument(
        '--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS
    )
    return parser


def export_local_rank(local_rank: int) -> None:
    """Let mmengine find the rank that an old launcher gave as an argument."""
    os.environ.setdefault('LOCAL_RANK', str(local_rank))
