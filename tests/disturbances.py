"""Disturb a training, from a config of a test."""

import multiprocessing
import os
import resource
import shutil
import signal
import threading

from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.registry import HOOKS


@HOOKS.register_module()
class DisturbanceHook(Hook):
    """Do to this process what ``DISTURB`` in the environment says.

    ``DISTURB='SIGTERM before_train_iter 3'`` sends a signal after three iterations,
    with the same config as the undisturbed run. ``HANG`` waits forever
    instead, ``QUOTA`` lets no file grow above a megabyte, ``STOP_JOB`` sends SIGTERM to
    the launcher, ``KILL_WORKER`` kills a loader's worker, ``DELETE`` removes the work
    dir. ``rank=1`` at the end is for that rank alone. Several are separated by
    semicolons: the first is for the first start of the processes, the second for the
    next, as torchrun counts them.
    """

    def __init__(self) -> None:
        start = int(os.environ.get('TORCHELASTIC_RESTART_COUNT', 0))
        wanted = os.environ.get('DISTURB', '').split(';')[start:]
        self.action, place, iteration, *rank = (wanted or [''])[0].split() or [None] * 3
        if place is not None:
            setattr(self, place, self._disturb)
            self.iteration = int(iteration)
            self.rank = int(rank[0].removeprefix('rank=')) if rank else None

    def _disturb(self, runner, **_) -> None:
        if runner.iter != self.iteration or self.rank not in (None, get_rank()):
            return
        if self.action == 'HANG':
            threading.Event().wait()
        elif self.action == 'STOP_JOB':
            stop_job()
        elif self.action == 'QUOTA':
            resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
        elif self.action == 'KILL_WORKER':
            multiprocessing.active_children()[0].kill()
        elif self.action == 'DELETE':
            shutil.rmtree(runner.work_dir)
        else:
            os.kill(os.getpid(), getattr(signal, self.action))


def stop_job() -> None:
    """Send SIGTERM to the parent, and wait until it has passed it on."""
    arrived, notify = os.pipe()
    os.set_blocking(notify, False)
    signal.set_wakeup_fd(notify)
    os.kill(os.getppid(), signal.SIGTERM)
    os.read(arrived, 1)
    signal.set_wakeup_fd(-1)
