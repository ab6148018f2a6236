"""Measure time and memory of functions that take turns in one process."""

import dataclasses
import itertools
import platform
import statistics
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import torch
from torch.profiler import ProfilerActivity, profile

Key = TypeVar('Key', bound=Hashable)


@dataclasses.dataclass(frozen=True)
class Spread:
    """Median and range of a number that was measured in every turn.

    Attributes:
        median: Median of all turns.
        low: The smallest number.
        high: The largest number.
    """

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> 'Spread':
        """Summarize numbers, one per turn."""
        return cls(statistics.median(values), min(values), max(values))


def turn_seconds(
    functions: Mapping[Key, Callable[[], object]], repeats: int, calls: int = 1
) -> dict[Key, list[float]]:
    """Time functions in turns, so that a change of the machine's load meets all.

    An untimed turn comes first, for compilers and caches.

    Args:
        functions: Names and functions.
        repeats: Number of timed turns.
        calls: Calls of each function per turn. Take more than 1 if a call is too short
            for the clock or if starting it takes a notable part of the time.

    Returns:
        For each name the seconds per call, one number per turn.
    """
    times: dict[Key, list[float]] = {name: [] for name in functions}
    for turn in range(repeats + 1):
        for name, function in functions.items():
            start = time.perf_counter()
            for _ in range(calls):
                function()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if turn:
                times[name].append((time.perf_counter() - start) / calls)
    return times


def median_seconds(
    functions: Mapping[Key, Callable[[], object]], repeats: int
) -> dict[Key, float]:
    """Return the median seconds per call of each function, see :func:`turn_seconds`."""
    times = turn_seconds(functions, repeats)
    return {name: statistics.median(values) for name, values in times.items()}


def speed_ratios(
    seconds: Mapping[Key, Sequence[float]], reference: Key
) -> dict[Key, Spread]:
    """Compute how many times as fast as the reference each function is.

    A ratio compares two times of the same turn, so other load on the machine affects
    both.

    Args:
        seconds: Times from :func:`turn_seconds`.
        reference: One of the names.

    Returns:
        For each name the ratio. Above 1 is faster than the reference.
    """
    base = seconds[reference]
    return {
        name: Spread.of([b / s for b, s in zip(base, values, strict=True)])
        for name, values in seconds.items()
    }


def peak_bytes(function: Callable[[], object], device: str) -> int:
    """Return the bytes that a call's tensors take at their peak.

    Tensors from before the call do not count.

    Args:
        function: What to call.
        device: ``'cpu'`` or ``'cuda'``.
    """
    if device == 'cuda':
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        function()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        function()
    events = profiler.profiler.kineto_results.events()
    changes = [event for event in events if event.name() == '[memory]']
    changes.sort(key=lambda event: event.start_ns())
    return max(itertools.accumulate(event.nbytes() for event in changes), default=0)


def describe_machine(device: str) -> str:
    """Return processor, threads and torch's version in one line.

    Args:
        device: ``'cpu'``, or ``'cuda'`` for the name of the GPU.
    """
    name = platform.processor() or platform.machine()
    cpuinfo = Path('/proc/cpuinfo')
    if cpuinfo.is_file():
        models = [
            line.partition(':')[2].strip()
            for line in cpuinfo.read_text().splitlines()
            if line.startswith('model name')
        ]
        name = models[0] if models else name
    if device == 'cuda':
        name = torch.cuda.get_device_name()
    return f'{name}, {torch.get_num_threads()} threads, torch {torch.__version__}'
