"""Name the ranks that hang, from what all ranks report."""

import dataclasses
import os
import sysconfig
from collections.abc import Collection, Mapping
from types import FrameType

import torch

from volo.errors import some

_TORCH = os.path.dirname(torch.__file__)
_STDLIB = sysconfig.get_path('stdlib')
# Where PyTorch waits for other ranks.
_WAITING = (
    os.path.join(_TORCH, 'distributed', ''),
    os.path.join(_TORCH, 'autograd', ''),
    os.path.join(_TORCH, 'nn', 'parallel', 'distributed.py'),
)


@dataclasses.dataclass(frozen=True)
class Report:
    """What a rank tells the others about itself.

    Attributes:
        rank: Its rank.
        host: The name of its machine.
        pid: Its process there.
        beat: Its reports so far.
        progress: As :attr:`Progress.steps`.
        idle: Seconds without progress.
        stage: Where its training is, as in ``in iteration 12``.
        waiting: Whether it waits for other ranks, as far as can be seen.
        where: Its place in the code, as in ``file.py:12 in function``.
    """

    rank: int
    host: str
    pid: int
    beat: int
    progress: int
    idle: float
    stage: str
    waiting: bool
    where: str

    def __str__(self) -> str:
        return f'rank {self.rank} (host {self.host}, pid {self.pid})'


def diagnose(
    reports: Mapping[int, Report | None], silent: Collection[int] = ()
) -> tuple[list[int], str]:
    """Find the ranks that all others wait for.

    Args:
        reports: The last report of every rank; None where there is none.
        silent: The ranks that no longer report.

    Returns:
        The ranks, and a sentence about them without its end.
    """
    known = [report for report in reports.values() if report is not None]
    lost = [rank for rank in reports if reports[rank] is None or rank in silent]
    if lost:
        names = [str(reports[rank] or f'rank {rank}') for rank in lost]
        verb = 'does' if len(lost) == 1 else 'do'
        return lost, f'{some(names)} {verb} not respond'
    least = min(report.progress for report in known)
    behind = [report for report in known if report.progress == least]
    hung = [report for report in behind if not report.waiting] or behind
    ranks = [report.rank for report in hung]
    if len(known) > 1 and len(hung) == len(known) and hung[0].waiting:
        places = some(f'{report} at {report.where}' for report in hung)
        return ranks, f'all ranks wait for one another: {places}'
    return ranks, some(f'{report} hangs at {report.where}' for report in hung)


def locate(frame: FrameType | None) -> tuple[bool, str]:
    """Say what a thread is doing.

    Args:
        frame: Its innermost frame.

    Returns:
        Whether it waits for other ranks; and its place in the code, outside of PyTorch
        and the standard library, as in ``file.py:12 in function``.
    """
    waiting, inner = False, frame
    while frame is not None and _is_library(frame.f_code.co_filename):
        waiting |= frame.f_code.co_filename.startswith(_WAITING)
        frame = frame.f_back
    frame = frame or inner
    if frame is None:
        return False, 'the end of its thread'
    code = frame.f_code
    return waiting, f'{code.co_filename}:{frame.f_lineno} in {code.co_name}'


def _is_library(path: str) -> bool:
    if path.startswith(_STDLIB):  # installed packages may lie below it
        return 'site-packages' not in path and 'dist-packages' not in path
    return path.startswith(('<', _TORCH + os.sep))
