"""A rank that is stuck ends the job, and is named."""

import atexit
import concurrent.futures
import dataclasses
import datetime
import json
import logging
import os
import queue
import socket
import sys
import threading
import time
import traceback
import uuid
from collections.abc import Callable, Collection
from types import CodeType, FrameType
from typing import Any, NamedTuple, TypeVar

import torch.distributed
from mmengine.dist import broadcast_object_list, get_rank, get_world_size
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from .diagnosis import Report, diagnose, locate

#: Exit status of a job that is stuck: EX_SOFTWARE of sysexits.h, an internal error.
STUCK_EXIT_STATUS = 70

#: Reports that a rank may leave out before it counts as not responding.
MISSED_REPORTS = 3

T = TypeVar('T')


class Progress(NamedTuple):
    """How far a rank has come, and since when.

    Attributes:
        count: Iterations begun and ended, of training and evaluation.
        stage: As in ``in iteration {}``.
        number: For the braces of ``stage``.
        since: Seconds of :func:`time.monotonic`.
    """

    count: int
    stage: str
    number: int
    since: float


@HOOKS.register_module()
class StuckRankHook(Hook):
    """End the job when no rank makes progress, and say which of them is stuck.

    The training loop only counts. A thread in every process reports to the others
    through the store of the process group. When no iteration has begun or ended in any
    process for ``timeout`` seconds, one of them names those that no longer report, else
    those that are behind the others, else those that do not wait for others; then all
    end with :data:`STUCK_EXIT_STATUS`, without cleaning up, because whatever is stuck
    may never return. What started them can start them again from the last checkpoint
    (``MAX_RESTARTS`` of ``tools/dist_train.sh``, or Slurm).

    Args:
        timeout: Seconds. It must be longer than any pause of a healthy training: saving
            a checkpoint, compiling in the first iteration, loading the first batches,
            computing the metrics after the last batch of an evaluation. And it must be
            shorter, best by a third, than the process group's own timeout,
            ``env_cfg.dist_cfg.timeout``, which ends a process with less to say.
    """

    #: Before the other hooks: one of them may be what is stuck.
    priority = 'VERY_HIGH'

    def __init__(self, timeout: float = 1800) -> None:
        self.timeout = timeout
        self._progress = Progress(0, 'before the first iteration', 0, 0.0)
        self._watch: _Watch | None = None

    def before_run(self, runner: Runner) -> None:
        """Start to watch."""
        self._stop()  # a run before this one, if an error ended it
        self._count('before the first iteration')
        self._check_process_group(runner)
        loop = sys._getframe(2).f_code  # Runner.train, behind Runner.call_hook
        self._watch = _Watch(self.timeout, lambda: self._progress, loop)
        self._watch.start()

    def after_run(self, runner: Runner) -> None:
        """Stop to watch."""
        self._stop()

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
        self._progress = Progress(
            self._progress.count + 1, stage, number, time.monotonic()
        )

    def _check_process_group(self, runner: Runner) -> None:
        dist_cfg = (runner.cfg.get('env_cfg') or {}).get('dist_cfg') or {}
        theirs = dist_cfg.get('timeout')
        if get_world_size() > 1 and theirs is not None and theirs <= self.timeout:
            print_log(
                f'env_cfg.dist_cfg.timeout={theirs:g} is not longer than '
                f'StuckRankHook.timeout={self.timeout:g}: a process that is stuck may '
                'end the job without being named.',
                logger='current',
                level=logging.WARNING,
            )

    def _stop(self) -> None:
        if self._watch is not None:
            self._watch.stop()
            self._watch = None


class _Watch(threading.Thread):
    """Reports to the other ranks, and ends this process when all are stuck.

    Args:
        timeout: Seconds without progress.
        progress: Returns this process's own.
        loop: The function that calls the hooks. The watch ends where an error left it:
            a notebook, say, lives on.
    """

    def __init__(
        self, timeout: float, progress: Callable[[], Progress], loop: CodeType
    ) -> None:
        super().__init__(name='stuck-rank-watch', daemon=True)
        self._timeout = timeout
        # Often enough to miss several reports between half of the timeout, when it
        # begins to read those of others, and all of it.
        self._interval = min(timeout / 10, 30)
        self._patience = MISSED_REPORTS * self._interval
        self._progress = progress
        self._loop = loop
        self._watched = threading.get_ident()
        self._rank, self._world_size = get_rank(), get_world_size()
        self._beat = 0
        self._board: _Board | None = None
        self._answered = time.monotonic()
        self._heard: dict[int, tuple[Report, float]] = {}
        self._ended = threading.Event()

    def start(self) -> None:
        """Start; and stop before the interpreter goes down, whatever ends it."""
        if self._world_size > 1 and 'MASTER_ADDR' in os.environ:
            self._board = _Board(self._patience)
        atexit.register(self.stop)
        super().start()

    def stop(self) -> None:
        """Stop, and give up the connection to the store."""
        atexit.unregister(self.stop)
        self._ended.set()
        self.join(5)
        if self._board is not None:
            self._board.close()

    def run(self) -> None:
        """Watch until it is stopped."""
        try:
            while self._in_loop():
                self._look()
                if self._ended.wait(self._pause()):
                    return
        except Exception as error:  # must not take the training along
            print_log(
                f'stuck ranks will not be found: {type(error).__name__}: {error}',
                logger='current',
                level=logging.WARNING,
            )

    def _pause(self) -> float:
        left = self._timeout - (time.monotonic() - self._progress().since)
        return min(self._interval, max(left, 0.01)) if left > 0 else self._interval

    def _in_loop(self) -> bool:
        frame = self._frame()
        while frame is not None and frame.f_code is not self._loop:
            frame = frame.f_back
        return frame is not None

    def _frame(self) -> FrameType | None:
        return sys._current_frames().get(self._watched)

    def _look(self) -> None:
        own = self._report()
        self._exchange(own)
        if own.idle < self._timeout or self._progress().count != own.progress:
            return
        now = time.monotonic()
        if now - self._answered > self._patience:
            address = f'{os.environ["MASTER_ADDR"]}:{os.environ["MASTER_PORT"]}'
            who = f"rank 0's host ({address}) does not respond; {own} is at {own.where}"
            return self._end([0], who, own.stage)
        silent = {
            rank for rank, (_, at) in self._heard.items() if now - at > self._patience
        }
        # Others may have more to do than this rank; it waits for them.
        idle = min(
            report.idle + now - at
            for rank, (report, at) in self._heard.items()
            if rank not in silent
        )
        if idle + self._interval < self._timeout:
            return
        reports: dict[int, Report | None] = {self._rank: own}
        if self._board is not None:
            for rank in range(self._world_size):
                reports[rank] = self._heard.get(rank, (None,))[0]
        ranks, who = diagnose(dict(sorted(reports.items())), silent)
        # An old report's stage may be many iterations old.
        first = own if silent else reports[ranks[0]] or own
        self._end(ranks, who, first.stage)

    def _report(self) -> Report:
        progress = self._progress()
        waiting, where = locate(self._frame())
        self._beat += 1
        return Report(
            rank=self._rank,
            host=socket.gethostname(),
            pid=os.getpid(),
            beat=self._beat,
            progress=progress.count,
            idle=time.monotonic() - progress.since,
            stage=progress.stage.format(progress.number),
            waiting=waiting,
            where=where,
        )

    def _exchange(self, own: Report) -> None:
        """Publish the own report; read the others' once something seems wrong."""
        reports: dict[int, Report] | None = {}
        if self._board is not None:
            ranks = range(self._world_size) if own.idle >= self._timeout / 2 else ()
            reports = self._board.ask(lambda store: _exchange(store, own, ranks))
        now = time.monotonic()
        if reports is not None:
            self._answered = now
        for rank, report in {**(reports or {}), self._rank: own}.items():
            if rank not in self._heard or self._heard[rank][0].beat != report.beat:
                self._heard[rank] = (report, now)

    def _end(self, ranks: list[int], who: str, stage: str) -> None:
        """Say who is stuck, if no other rank has said so, and end this process."""
        if self._ended.is_set():
            return
        text = (
            f'no progress for {self._timeout:g} s {stage}: {who}; the job ends so that '
            'it can be restarted from the last checkpoint'
        )
        speakers = 1
        if self._board is not None:
            speakers = self._board.ask(lambda store: store.add('speakers', 1))
        # Not sys.stderr, nor the log in this thread: their locks may be held.
        if speakers is None or speakers == 1:
            _write(text)
        if self._rank in ranks:
            stack = ''.join(traceback.format_stack(self._frame()))
            _write(f'stack of rank {self._rank}:\n{stack.rstrip()}')
        if self._rank == 0:
            log = threading.Thread(target=_log, args=(text,), daemon=True)
            log.start()
            log.join(5)
        # Rank 0 may host the store, and a launcher ends all when the first has ended.
        self._ended.wait(min(self._interval, 2))
        if not self._ended.is_set():
            os._exit(STUCK_EXIT_STATUS)


def _write(text: str) -> None:
    os.write(2, f'{text}\n'.encode())


def _log(text: str) -> None:
    print_log(text, logger='current', level=logging.ERROR)


def _exchange(
    store: torch.distributed.Store, own: Report, ranks: Collection[int]
) -> dict[int, Report]:
    """Publish a report and read those of ``ranks``, as far as there are any."""
    store.set(str(own.rank), json.dumps(dataclasses.asdict(own)))
    if not ranks:
        store.check([str(own.rank)])  # set does not wait for an answer
        return {}
    keys = [str(rank) for rank in ranks]
    if not store.check(keys):
        keys = [key for key in keys if store.check([key])]
    texts = store.multi_get(keys)
    return {int(k): Report(**json.loads(t)) for k, t in zip(keys, texts, strict=True)}


class _Board:
    """The process group's store, asked by a thread of its own: it may never answer.

    Args:
        patience: Seconds to wait for an answer.
    """

    def __init__(self, patience: float) -> None:
        self._patience = patience
        # The store may outlive this run, and have reports of another.
        run = [uuid.uuid4().hex]
        broadcast_object_list(run)
        self._prefix = f'volo/stuck_rank/{run[0]}'
        self._questions: queue.SimpleQueue = queue.SimpleQueue()
        self._thread = threading.Thread(
            target=self._serve, name='stuck-rank-board', daemon=True
        )
        self._thread.start()

    def ask(self, question: Callable[[torch.distributed.Store], T]) -> T | None:
        """Return the answer, None if there is none in time."""
        answer: concurrent.futures.Future = concurrent.futures.Future()
        self._questions.put((question, answer))
        try:
            return answer.result(self._patience)
        except (RuntimeError, TimeoutError, concurrent.futures.TimeoutError):
            return None  # torch's errors of connections are RuntimeErrors

    def close(self) -> None:
        """Give up the connection."""
        self._questions.put(None)
        self._thread.join(5)

    def _serve(self) -> None:
        store = None
        while (item := self._questions.get()) is not None:
            question, answer = item
            try:
                store = store or self._connect()
                answer.set_result(question(store))
            except Exception as error:
                store = None  # the next question connects anew
                answer.set_exception(error)

    def _connect(self) -> torch.distributed.Store:
        store = torch.distributed.TCPStore(
            os.environ['MASTER_ADDR'],
            int(os.environ['MASTER_PORT']),
            is_master=False,
            wait_for_workers=False,
            timeout=datetime.timedelta(seconds=max(self._patience, 1)),
        )
        return torch.distributed.PrefixStore(self._prefix, store)
