from types import SimpleNamespace

import pytest
import torch

from benchmarks import measure
from benchmarks.measure import (
    Spread,
    median_seconds,
    peak_bytes,
    speed_ratios,
    turn_seconds,
)


@pytest.fixture
def clock(monkeypatch):
    """A clock that a test sets."""
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(measure.time, 'perf_counter', lambda: clock.now)
    return clock


def takes(clock, seconds):
    """Return a function whose calls take these seconds."""
    left = iter(seconds)

    def function():
        clock.now += next(left)

    return function


def test_candidates_take_turns():
    called = []
    functions = {name: lambda n=name: called.append(n) for name in 'abc'}
    found = turn_seconds(functions, repeats=2, calls=2)
    assert ''.join(called) == 3 * 'aabbcc'
    assert {name: len(times) for name, times in found.items()} == dict(a=2, b=2, c=2)


def test_the_first_turn_is_not_timed(clock):
    functions = dict(a=takes(clock, [100, 1, 3, 8]), b=takes(clock, [100, 2, 2, 2]))
    assert turn_seconds(functions, repeats=3) == dict(a=[1, 3, 8], b=[2, 2, 2])


def test_times_are_per_call(clock):
    functions = dict(a=takes(clock, [100, 100, 1, 3]))
    assert turn_seconds(functions, repeats=1, calls=2) == dict(a=[2])


def test_the_median_of_all_turns(clock):
    assert median_seconds(dict(a=takes(clock, [100, 1, 3, 8])), repeats=3) == dict(a=3)


def test_a_ratio_compares_times_of_one_turn():
    # In the second turn, the whole machine was ten times as slow.
    seconds = dict(a=[1.0, 10.0, 1.0], b=[2.0, 20.0, 4.0])
    ratios = speed_ratios(seconds, 'a')
    assert ratios['a'] == Spread(1.0, 1.0, 1.0)
    assert ratios['b'] == Spread(0.5, 0.25, 0.5)
    assert speed_ratios(seconds, 'b')['a'] == Spread(2.0, 2.0, 4.0)


def test_the_peak_counts_tensors_alive_at_once():
    def allocate():
        for _ in range(3):
            torch.ones(1000, dtype=torch.float32)

    assert peak_bytes(allocate, 'cpu') == 4000
