"""Options, exit statuses and errors that the command lines in ``tools/`` share."""

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
    """Run a tool; print errors that the user can fix as one line and exit with 2.

    A training that saved and stopped after a signal exits with
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
        if status != 2:  # after an error of this rank, others may never come here
            barrier()  # no rank closes what another still reads
            torch.distributed.destroy_process_group()
        leave(status)
    if status:
        sys.exit(status)


def leave(status: int) -> NoReturn:
    """Exit without tearing down the interpreter under running threads.

    Rarely, a thread of gloo still holds a tensor, and freeing it aborts the process,
    which a launcher takes for a failure.
    """
    # Write the logs, stop the workers. Python 3.10 to 3.14 have no public function.
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def first_message(error: VoloError) -> str:
    """Return an error's message, also if a worker of a DataLoader raised it.

    A DataLoader wraps it in another error of the same class, whose text is the
    worker's traceback with the message at its end.
    """
    text = str(error)
    marker = f'{type(error).__module__}.{type(error).__name__}: '
    return text.rpartition(marker)[2].strip() if marker in text else text


def natural(text: str) -> int:
    """Parse an integer of at least 0, as a ``type`` of argparse."""
    value = int(text)
    if value < 0:
        raise ValueError
    return value


def positive(text: str) -> int:
    """Parse an integer of at least 1, as a ``type`` of argparse."""
    value = natural(text)
    if value == 0:
        raise ValueError
    return value


def runner_parser(description: str) -> argparse.ArgumentParser:
    """Return a parser with the options that training and evaluation share."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument('config', help='config file')
    parser.add_argument(
        '--work-dir',
        help='folder of logs and results (work_dirs/<name of the config>)',
    )
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
        '--launcher',
        choices=['none', 'pytorch', 'slurm', 'mpi'],
        default='none',
        help='what started the processes (none: this is the only one)',
    )
    # From torch.distributed.launch; torchrun sets LOCAL_RANK instead.
    parser.add_argument(
        '--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS
    )
    return parser


def export_local_rank(local_rank: int) -> None:
    """Set LOCAL_RANK, which mmengine reads, from an old launcher's argument."""
    os.environ.setdefault('LOCAL_RANK', str(local_rank))
