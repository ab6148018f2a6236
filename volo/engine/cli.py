"""Exit statuses and errors that the command lines in ``tools/`` share."""

import atexit
import os
import sys
import warnings
from collections.abc import Callable
from typing import NoReturn

import torch.distributed
from mmengine.dist import barrier, is_distributed

from volo.errors import Interrupted, VoloError

#: Starts of warnings about defaults of the libraries, in every run of a tool.
LIBRARY_WARNINGS = (
    'Default ``avg_non_ignore`` is False',
    "Only use 'alpha' for pillow backend",
    'The draw is False, it means that the hook for visualization',
)


def run_cli(main: Callable[[], None]) -> None:
    """Run a tool; print errors that the user can fix as one line and exit with 2.

    A training that saved and stopped after a signal exits with
    :attr:`volo.errors.Interrupted.EXIT_STATUS`.
    """
    for message in LIBRARY_WARNINGS:
        warnings.filterwarnings('ignore', message)
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
