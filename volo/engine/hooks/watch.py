"""A thread that reports to the other ranks, and ends the process when all hang."""

import atexit
import logging
import os
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable
from types import CodeType, FrameType
from typing import NamedTuple

from mmengine.dist import get_rank, get_world_size
from mmengine.logging import print_log

from .board import Board
from .diagnosis import Report, diagnose, locate

#: Exit status of a job that hangs: EX_SOFTWARE of sysexits.h, an internal error.
STUCK_EXIT_STATUS = 70

#: Reports that a rank may leave out before it counts as not responding.
MISSED_REPORTS = 3


class Progress(NamedTuple):
    """How far a rank has come.

    Attributes:
        steps: Iterations begun and ended, of training and evaluation.
        stage: Where it is, as in ``in iteration {}``.
        number: For the braces of ``stage``.
    """

    steps: int
    stage: str
    number: int


class Watch(threading.Thread):
    """Reports to the other ranks, and ends this process when all hang.

    Only time counts in which this thread runs: a job that is paused (SIGSTOP, Ctrl-Z, a
    debugger, a suspended machine) makes no progress, but does not hang. A single
    process is never ended, because no other process waits for it; that it makes no
    progress is only said.

    Args:
        timeout: Seconds without progress.
        progress: Returns this process's own.
        loop: The function that calls the hooks. The watch ends where an error left it:
            the process may live on, as in a notebook.
        clock: Returns seconds.
    """

    def __init__(
        self,
        timeout: float,
        progress: Callable[[], Progress],
        loop: CodeType,
        clock: Callable[[], float] = time.monotonic,
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
        self._clock = clock
        self._last_tick = clock()
        self._now = 0.0  # seconds in which this thread ran
        self._steps, self._since = -1, 0.0  # the last progress, and when it was seen
        self._warned = -1  # the progress at the last warning
        self._beat = 0
        self._board: Board | None = None
        self._answered = 0.0
        self._heard: dict[int, tuple[Report, float]] = {}
        self._ended = threading.Event()

    def start(self) -> None:
        """Start; and stop before the interpreter exits, whatever ends it."""
        if self._world_size > 1 and 'MASTER_ADDR' in os.environ:
            self._board = Board(self._patience)
        atexit.register(self.stop)
        super().start()

    def stop(self) -> None:
        """Stop, and close the connection to the store."""
        atexit.unregister(self.stop)
        self._ended.set()
        self.join(5)
        if self._board is not None:
            self._board.close()

    def run(self) -> None:
        """Watch until stopped."""
        try:
            while self._in_loop():
                pause = self.look()
                if self._ended.wait(pause):
                    return
        except Exception as error:  # must not end the training
            print_log(
                f'ranks that hang will not be found: {type(error).__name__}: {error}',
                logger='current',
                level=logging.WARNING,
            )

    def look(self) -> float:
        """Exchange reports, and end this process if all ranks hang.

        Returns:
            Seconds to wait before the next look.
        """
        own = self._report()
        self._exchange(own)
        if own.idle < self._timeout:
            return min(self._interval, self._timeout - own.idle)
        if self._progress().steps == own.progress:
            self._judge(own)
        return self._interval

    def _in_loop(self) -> bool:
        frame = self._frame()
        while frame is not None and frame.f_code is not self._loop:
            frame = frame.f_back
        return frame is not None

    def _frame(self) -> FrameType | None:
        return sys._current_frames().get(self._watched)

    def _tick(self) -> None:
        """Advance the time, but not by a pause of the process."""
        last, self._last_tick = self._last_tick, self._clock()
        elapsed = self._last_tick - last
        # Between two ticks this thread waits at most so long for the store.
        paused = elapsed > self._patience + 2 * self._interval
        self._now += self._interval if paused else elapsed

    def _report(self) -> Report:
        self._tick()
        progress = self._progress()
        if progress.steps != self._steps:
            self._steps, self._since = progress.steps, self._now
        waiting, where = locate(self._frame())
        self._beat += 1
        return Report(
            rank=self._rank,
            host=socket.gethostname(),
            pid=os.getpid(),
            beat=self._beat,
            progress=progress.steps,
            idle=self._now - self._since,
            stage=progress.stage.format(progress.number),
            waiting=waiting,
            where=where,
        )

    def _exchange(self, own: Report) -> None:
        """Publish the own report; read the others' once something seems wrong."""
        reports: dict[int, Report] | None = {}
        if self._board is not None:
            ranks = range(self._world_size) if own.idle >= self._timeout / 2 else ()
            reports = self._board.exchange(own, ranks)
        self._tick()
        if reports is not None:
            self._answered = self._now
        for rank, report in {**(reports or {}), self._rank: own}.items():
            if rank not in self._heard or self._heard[rank][0].beat != report.beat:
                self._heard[rank] = (report, self._now)

    def _judge(self, own: Report) -> None:
        """Find out whether all ranks hang, or only this one waits."""
        if self._world_size == 1:
            return self._warn(own)
        if self._now - self._answered > self._patience:
            address = f'{os.environ["MASTER_ADDR"]}:{os.environ["MASTER_PORT"]}'
            who = f"rank 0's host ({address}) does not respond; {own} is at {own.where}"
            return self._end([0], who, own.stage)
        ages = {rank: self._now - at for rank, (_, at) in self._heard.items()}
        silent = {rank for rank, age in ages.items() if age > self._patience}
        # Others may have more to do than this rank; it waits for them.
        idle = min(
            report.idle + ages[rank]
            for rank, (report, _) in self._heard.items()
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

    def _warn(self, own: Report) -> None:
        """Say that a single process makes no progress, once until it does."""
        if own.progress == self._warned:
            return
        self._warned = own.progress
        text = (
            f'no progress for {self._timeout:g} s {own.stage}: {own} is at '
            f'{own.where}; it continues, because no other process waits for it'
        )
        _write(text)
        _log(text, logging.WARNING)

    def _end(self, ranks: list[int], who: str, stage: str) -> None:
        """Name the ranks that hang, if no other rank did, and end this process."""
        if self._ended.is_set():
            return
        text = (
            f'no progress for {self._timeout:g} s {stage}: {who}; the job ends so that '
            'it can be restarted from the last checkpoint'
        )
        if self._board is None or self._board.add_speaker() in (None, 1):
            _write(text)
        if self._rank in ranks:
            stack = ''.join(traceback.format_stack(self._frame()))
            _write(f'stack of rank {self._rank}:\n{stack.rstrip()}')
        if self._rank == 0:
            _log(text, logging.ERROR)
        # Rank 0 may host the store, and a launcher ends all when the first has ended.
        self._ended.wait(min(self._interval, 2))
        if not self._ended.is_set():
            os._exit(STUCK_EXIT_STATUS)


# Neither through sys.stderr nor the log in the thread of the watch: what hangs may hold
# their locks.


def _write(text: str) -> None:
    os.write(2, f'{text}\n'.encode())


def _log(text: str, level: int) -> None:
    log = threading.Thread(target=print_log, args=(text, 'current', level), daemon=True)
    log.start()
    log.join(5)
