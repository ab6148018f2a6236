"""End the job when no rank makes progress, and name the rank that hangs."""

import logging
import sys
from typing import Any

from mmengine.dist import get_world_size
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from .watch import Progress, Watch


@HOOKS.register_module()
class StuckRankHook(Hook):
    """End the job when no rank makes progress, and name the rank that hangs.

    The training loop only counts iterations. A thread in every process reports to the
    others through the store of the process group. When no iteration has begun or ended
    in any process for ``timeout`` seconds, one of them names the ranks that no longer
    report, else those behind the others, else those that do not wait for others. Then
    all exit with :data:`volo.engine.hooks.watch.STUCK_EXIT_STATUS`, without cleaning
    up, because whatever hangs may never return. Their launcher can start them again
    from the last checkpoint (``MAX_RESTARTS`` of ``tools/dist_train.sh``, or Slurm).

    Time in which the whole job is paused does not count here, but it counts for the
    process group: several processes survive a pause of less than
    ``env_cfg.dist_cfg.timeout``. A single process is not ended, because no other
    process waits for it; a warning says that it makes no progress.

    Args:
        timeout: Seconds. It must be longer than any pause of a healthy training: saving
            a checkpoint, compiling in the first iteration, loading the first batches,
            computing the metrics after the last batch of an evaluation. And it must be
            shorter, best by a third, than the process group's own timeout,
            ``env_cfg.dist_cfg.timeout``, which ends a process with less to say.
    """

    #: Before the other hooks: one of them may hang.
    priority = 'VERY_HIGH'

    def __init__(self, timeout: float = 1800) -> None:
        self.timeout = timeout
        self._progress = Progress(0, 'before the first iteration', 0)
        self._watch: Watch | None = None

    def before_run(self, runner: Runner) -> None:
        """Start watching."""
        self._stop()  # an error may have ended an earlier run
        self._count('before the first iteration')
        self._check_process_group(runner)
        loop = sys._getframe(2).f_code  # Runner.train, which calls Runner.call_hook
        self._watch = Watch(self.timeout, lambda: self._progress, loop)
        self._watch.start()

    def after_run(self, runner: Runner) -> None:
        """Stop watching."""
        self._stop()

    # mmengine's Hook calls these four in training, validation and testing, and
    # documents them for subclasses.

    def _before_epoch(self, runner: Runner, mode: str = 'train') -> None:
        self._count('before the first batch' + self._of(mode))

    def _after_epoch(self, runner: Runner, mode: str = 'train') -> None:
        self._count('after the last batch' + self._of(mode))

    def _before_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        mode: str = 'train',
    ) -> None:
        if mode == 'train':
            self._count('in iteration {}', runner.iter + 1)
        else:
            self._count('in batch {}' + self._of(mode), batch_idx + 1)

    def _after_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Any = None,
        mode: str = 'train',
    ) -> None:
        if mode == 'train':
            self._count('after iteration {}', runner.iter + 1)
        else:
            self._count('after batch {}' + self._of(mode), batch_idx + 1)

    @staticmethod
    def _of(mode: str) -> str:
        return dict(train='', val=' of the validation', test=' of the test')[mode]

    def _count(self, stage: str, number: int = 0) -> None:
        # One assignment, so that the thread never sees half of it.
        self._progress = Progress(self._progress.steps + 1, stage, number)

    def _check_process_group(self, runner: Runner) -> None:
        dist_cfg = (runner.cfg.get('env_cfg') or {}).get('dist_cfg') or {}
        theirs = dist_cfg.get('timeout')
        if get_world_size() > 1 and theirs is not None and theirs <= self.timeout:
            print_log(
                f'env_cfg.dist_cfg.timeout={theirs:g} is not longer than '
                f'StuckRankHook.timeout={self.timeout:g}: the process group may end '
                'the job before the rank that hangs is named.',
                logger='current',
                level=logging.WARNING,
            )

    def _stop(self) -> None:
        if self._watch is not None:
            self._watch.stop()
            self._watch = None
