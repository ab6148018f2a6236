"""Who is stuck, from what the ranks tell of themselves."""

import dataclasses
import os
import sysconfig
from collections.abc import Collection, Mapping
from types import FrameType

import torch

_NAMED = 4  # ranks in one message
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
        progress: As :attr:`Progress.count`.
        idle: Seconds without progress.
        stage: As in ``in iteration 12``.
        waiting: Whether it waits for other ranks, as far as can be seen.
        where: As in ``file.py:12 in function``.
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
        reports: The last of every rank; None where there is none.
        silent: The ranks that no longer report.

    Returns:
        The ranks, and a sentence about them without its end.
    """
    lost = {rank: r for rank, r in reports.items() if r is None or rank in silent}
    if lost:
        names = [str(report or f'rank {rank}') for rank, report in lost.items()]
        return list(lost), f'{_few(names)} {_plural(lost, "does", "do")} not respond'
    least = min(report.progress for report in reports.values())
    behind = [report for report in reports.values() if report.progress == least]
    stuck = [report for report in behind if not report.waiting] or behind
    ranks = [report.rank for report in stuck]
    if len(reports) > 1 and len(stuck) == len(reports) and stuck[0].waiting:
        places = [f'{report} at {report.where}' for report in stuck]
        return ranks, f'all ranks wait for one another: {_few(places)}'
    places = [f'{report} is stuck at {report.where}' for report in stuck]
    return ranks, _few(places)


def _few(parts: list[str]) -> str:
    more = len(parts) - _NAMED
    return ', '.join(parts[:_NAMED]) + (f' and {more} more' if more > 0 else '')


def _plural(things: Collection, one: str, several: str) -> str:
    return one if len(things) == 1 else several


def locate(frame: FrameType | None) -> tuple[bool, str]:
    """Say what a thread does.

    Args:
        frame: Its innermost frame.

    Returns:
        Whether it waits for other ranks; and where it is, outside of PyTorch and the
        standard library, as in ``file.py:12 in function``.
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
    if path.startswith(_STDLIB):  # it may have the installed packages inside
        return 'site-packages' not in path and 'dist-packages' not in path
    return path.startswith(('<', _TORCH + os.sep))
