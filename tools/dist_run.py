"""Start ranks as torchrun does, and say how they ended.

    python tools/dist_run.py [options of torchrun] SCRIPT [its options]

GRACE in the environment is how many seconds the ranks have to save and exit after a
signal to this process (120), before they are killed. The exit status is 75 if a signal
ended the training and nothing failed, 1 if a rank failed and all restarts
(``--max-restarts``) are used up, 2 if the port is in use.

In this process, one method of torch is replaced, for which torch has no option:
``torch.distributed.elastic.multiprocessing.PContext.close``, which stops the ranks of
this node (torch 2.6 to 2.11). The replacement first notes which ranks have failed by
themselves, then calls the original, with GRACE seconds where a signal is passed on.
The ranks are other processes, in which nothing is replaced.
"""

import math
import os
import signal
import socket
import sys
from subprocess import Popen
from typing import Any

from torch.distributed import run
from torch.distributed.elastic.multiprocessing import PContext, SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

#: ``volo.errors.Interrupted.EXIT_STATUS``, without the seconds of importing volo.
INTERRUPTED = 75


class Ranks:
    """The ranks of this node: which failed by themselves, and which were told to stop.

    Args:
        grace: Seconds between a signal that is passed on and SIGKILL. torch has 30
            and no option for it; ranks that stop because another failed keep those.
    """

    def __init__(self, grace: int) -> None:
        self._grace = grace
        self._told: dict[str, Popen] = {}
        self._context: PContext | None = None  # of the last start

    def listen(self) -> None:
        """Replace ``PContext.close``, by which torch's agent stops the ranks."""
        close = PContext.close

        def close_and_note(
            context: PContext,
            death_sig: signal.Signals | None = None,
            timeout: int = 30,
        ) -> None:
            failed = self._note(context)
            if death_sig is not None:  # a signal; without one, a rank has ended
                return close(context, death_sig, max(timeout, self._grace))
            interrupted = {rank.returncode for rank in failed.values()} == {INTERRUPTED}
            if failed and not interrupted:
                say(failed, restarts_left(context.envs[0]))
            close(context, death_sig, self._grace if interrupted else timeout)
            if interrupted:
                # A signal that reached the rank alone: do not start again.
                raise SignalException('interrupted', signal.SIGTERM)

        PContext.close = close_and_note  # type: ignore[method-assign, assignment]

    def _note(self, context: Any) -> dict[str, Popen]:
        """Note the ranks that still run, and return those that have failed."""
        if context is not self._context:
            self._context = context
            self._told.clear()
        failed = {}
        for local_rank, handler in context.subprocess_handlers.items():
            rank = context.envs[local_rank]['RANK']
            if handler.proc.poll() is None:
                self._told[rank] = handler.proc
            elif handler.proc.returncode and rank not in self._told:
                failed[rank] = handler.proc
        return failed

    def failed_to_stop(self) -> dict[str, Popen]:
        """Return the ranks that were told to stop and neither saved nor exited well."""
        fine = (0, INTERRUPTED, -signal.SIGTERM, -signal.SIGINT)
        return {n: rank for n, rank in self._told.items() if rank.poll() not in fine}


def restarts_left(environment: dict[str, str]) -> bool:
    """Tell from a rank's environment whether torch's agent will restart it."""
    names = ('TORCHELASTIC_RESTART_COUNT', 'TORCHELASTIC_MAX_RESTARTS')
    done, allowed = (int(environment[name]) for name in names)
    return done < allowed


def say(ranks: dict[str, Popen], restart: bool = False) -> None:
    """Print how ranks ended."""
    endings = [describe(rank, p.pid, p.returncode) for rank, p in ranks.items()]
    note = '; starting again' if restart else ''
    print(', '.join(endings) + note, file=sys.stderr, flush=True)


def describe(rank: str, pid: int, status: int | None) -> str:
    """Say how one rank ended."""
    if status is None:
        return f'rank {rank} (pid {pid}) is still running'
    if status >= 0:
        return f'rank {rank} (pid {pid}) exited with {status}'
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = f'signal {-status}'
    return f'rank {rank} (pid {pid}) was killed by {name}'


def port_to_host(arguments: list[str]) -> int | None:
    """Return the port that this node hosts for all ranks, None if another node does."""
    args = run.parse_args(arguments)
    if args.rdzv_backend == 'static':
        hosts = args.node_rank == 0
    else:
        hosts = 'is_host=1' in args.rdzv_conf.split(',')
    if not hosts or args.standalone:
        return None
    return int(run.get_rdzv_endpoint(args).rpartition(':')[2])


def is_free(port: int) -> bool:
    """Tell whether a server can listen on a port."""
    try:
        socket.create_server(('', port)).close()
    except OSError:
        return False
    return True


def main(arguments: list[str]) -> int:
    port = port_to_host(arguments)
    if port is not None and not is_free(port):
        print(
            f'error: port {port} of this machine is in use, perhaps by another '
            'training: choose a free one with PORT=...',
            file=sys.stderr,
        )
        return 2
    ranks = Ranks(math.ceil(float(os.environ.get('GRACE', 120))))
    ranks.listen()
    try:
        run.main(arguments)
    except ChildFailedError:
        return 1  # it was said when it happened
    except SignalException:
        failed = ranks.failed_to_stop()
        if failed:
            say(failed)
        # A rank that was killed in the end left an earlier checkpoint. One that ended
        # with an error could not save, and would fail again.
        if any((rank.returncode or 0) > 0 for rank in failed.values()):
            return 1
        return INTERRUPTED
    return 0


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
