"""Time and memory, measured side by side."""

import itertools
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile


def median_seconds(
    functions: Mapping[str, Callable[[], object]], repeats: int
) -> dict[str, float]:
    """Call functions in turns, so that all see the same machine; first once each.

    Args:
        functions: Names and what to call.
        repeats: How often each is timed.

    Returns:
        The median time of a call of each, in seconds.
    """
    times: dict[str, list[float]] = {name: [] for name in functions}
    for turn in range(repeats + 1):
        for name, function in functions.items():
            start = time.perf_counter()
            function()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if turn:
                times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in times.items()}


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
