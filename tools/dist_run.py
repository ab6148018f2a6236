"""Start ranks as torchrun does, and say how they ended.

    python tools/dist_run.py [options of torchrun] SCRIPT [its options]

GRACE in the environment is how many seconds the ranks have to save and end after a
signal to this process (120), before they are killed. The exit status is 75 if a signal
ended the training and nothing failed, 1 if a rank failed and all restarts
(``--max-restarts``) are used up.
"""

import os
import signal
import sys
from subprocess import Popen

from torch.distributed import run
from torch.distributed.elastic.multiprocessing import PContext, SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

#: ``volo.errors.Interrupted.EXIT_STATUS``, without the seconds of importing volo.
INTERRUPTED = 75


class Ranks:
    """What torch's agent does not tell: who failed by itself, and who was told to stop.

    Args:
        grace: Seconds between a signal that was passed on and SIGKILL. torch has 30
            and no option for it; ranks that stop because another has failed keep those.
    """

    def __init__(self, grace: float) -> None:
        self._grace = grace
        self._told: dict[str, Popen] = {}
        self._context: PContext | None = None  # of the last start

    def listen(self) -> None:
        """Be told when torch's agent stops the ranks of this node."""
        close = PContext.close

        def close_and_note(
            context: PContext,
            death_sig: signal.Signals | None = None,
            timeout: float = 30,
        ) -> None:
            failed = self._note(context)
            if death_sig is not None:  # a signal; without one, a rank has ended
                return close(context, death_sig, max(timeout, self._grace))
            interrupted = {rank.returncode for rank in failed.values()} == {INTERRUPTED}
            if failed and not interrupted:
                say(failed, restarts_left(context.envs[0]))
            close(context, death_sig, self._grace if interrupted else timeout)
            if interrupted:
                # Not to be started again: a signal asked for it, though not here.
                raise SignalException('interrupted', signal.SIGTERM)

        PContext.close = close_and_note

    def _note(self, context: PContext) -> dict[str, Popen]:
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
        """Return the ranks that were told to stop and neither saved nor just ended."""
        fine = (0, INTERRUPTED, -signal.SIGTERM, -signal.SIGINT)
        return {n: rank for n, rank in self._told.items() if rank.poll() not in fine}


def restarts_left(environment: dict[str, str]) -> bool:
    """Read what torch's agent tells its ranks."""
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


def main(arguments: list[str]) -> int:
    ranks = Ranks(float(os.environ.get('GRACE', 120)))
    ranks.listen()
    try:
        run.main(arguments)
    except ChildFailedError:
        return 1  # it was said when it happened
    except SignalException:
        failed = ranks.failed_to_stop()
        if failed:
            say(failed)
        # Killed in the end: an earlier checkpoint is there to go on from. An error: if
        # saving failed, it will fail again.
        if any((rank.returncode or 0) > 0 for rank in failed.values()):
            return 1
        return INTERRUPTED
    return 0


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
