"""Time and memory, measured side by side."""

import dataclasses
import itertools
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile


@dataclasses.dataclass(frozen=True)
class Spread:
    """A number over the turns.

    Args:
        median: Of all turns.
        low: The smallest.
        high: The largest.
    """

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> 'Spread':
        """Take the numbers, one a turn."""
        return cls(statistics.median(values), min(values), max(values))


def turn_seconds(
    functions: Mapping[str, Callable[[], object]], repeats: int, calls: int = 1
) -> dict[str, list[float]]:
    """Call functions in turns, so that all see the same machine.

    The first turn is a warm-up, in which compilers run: it is not timed.

    Args:
        functions: Names and what to call.
        repeats: Timed turns.
        calls: How often each is called in a turn: more where a call is too short for
            the clock, or where its start would count.

    Returns:
        The seconds that a call of each took, a number for every turn.
    """
    times: dict[str, list[float]] = {name: [] for name in functions}
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
    functions: Mapping[str, Callable[[], object]], repeats: int
) -> dict[str, float]:
    """Return the median seconds of a call of each, from :func:`turn_seconds`."""
    times = turn_seconds(functions, repeats)
    return {name: statistics.median(values) for name, values in times.items()}


def speed_ratios(
    seconds: Mapping[str, Sequence[float]], reference: str
) -> dict[str, Spread]:
    """Tell how many times as fast as the reference each is.

    A ratio is made of the two times of one turn: what slows the machine down for a
    while slows both.

    Args:
        seconds: Times, as :func:`turn_seconds` returns them.
        reference: One of the names.

    Returns:
        For each name the ratios of all turns; above 1 is faster than the reference.
    """
    base = seconds[reference]
    return {
        name: Spread.of([b / s for b, s in zip(base, values, strict=True)])
        for name, values in seconds.items()
    }


def peak_bytes(function: Callable[[], object], device: str) -> int:
    """Return how many bytes of tensors a call has at its peak beyond those before."""
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
    """Return what a measurement was made on, in one line."""
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
