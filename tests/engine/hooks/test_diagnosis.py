import os
import re
import sys
import threading

import pytest
import torch

from volo.engine.hooks.diagnosis import Report, diagnose, locate


def report(rank, progress=5, waiting=True, where='net.py:7 in forward'):
    return Report(rank, 'node', 100 + rank, 1, progress, 30.0, '', waiting, where)


def ranks(**changes):
    """Return the reports of ranks 0 to 2, with changes to some, as in ``r1=``."""
    found = {rank: report(rank) for rank in range(3)}
    for name, change in changes.items():
        rank = int(name[1:])
        found[rank] = None if change is None else report(rank, **change)
    return found


@pytest.mark.parametrize(
    ('reports', 'silent', 'hung', 'text'),
    [
        (ranks(), {1}, [1], 'rank 1 (host node, pid 101) does not respond'),
        (ranks(r2=None), {0}, [0, 2], 'pid 100), rank 2 do not respond'),
        # One that does not respond explains the others.
        (ranks(r0=dict(waiting=False)), {1}, [1], 'rank 1 (host node, pid 101) does'),
        (ranks(r1=dict(progress=4)), (), [1], 'pid 101) hangs at net.py:7 in'),
        # On a GPU a rank that waits may not look like it; being behind is certain.
        (ranks(r0=dict(waiting=False), r1=dict(progress=4)), (), [1], 'rank 1 '),
        (ranks(r1=dict(waiting=False)), (), [1], 'rank 1 (host node, pid 101) hangs'),
        (
            ranks(r0=dict(progress=6), r1=dict(waiting=False)),
            (),
            [1],
            'rank 1 (host node, pid 101) hangs at',
        ),
        (ranks(), (), [0, 1, 2], 'all ranks wait for one another: rank 0 (host'),
        ({0: report(0)}, (), [0], 'rank 0 (host node, pid 100) hangs at net.py:7'),
    ],
)
def test_the_rank_that_hangs_is_found(reports, silent, hung, text):
    found, who = diagnose(reports, silent)
    assert found == hung and text in who


def test_a_message_names_a_few_of_many_ranks():
    reports = {rank: report(rank, waiting=False) for rank in range(64)}
    found, who = diagnose(reports)
    assert len(found) == 64 and who.count('rank ') == 4
    assert who.endswith(' and 60 more')


def seen_in(function, *arguments):
    """Call ``function``, which calls its argument; return the place of that call."""
    places = []

    def look(*_):
        places.append(locate(sys._getframe(1)))

    function(look, *arguments)
    return places[0]


def test_a_place_is_outside_of_the_libraries():
    def wait(look):
        event = threading.Event()
        event._cond.wait = look  # called within threading.py
        event.wait()

    waiting, where = seen_in(wait)
    assert not waiting
    assert re.fullmatch(rf'{re.escape(__file__)}:\d+ in wait', where)


@pytest.mark.parametrize('place', ['distributed/distributed_c10d.py', 'optim/sgd.py'])
def test_waiting_for_other_ranks_is_recognized(place):
    def call(look):
        path = os.path.join(os.path.dirname(torch.__file__), place)
        names = dict(look=look)
        exec(compile('def all_reduce(): look()', path, 'exec'), names)
        names['all_reduce']()

    waiting, where = seen_in(call)
    assert waiting == place.startswith('distributed') and where.endswith(' in call')


def test_own_code_within_a_library_of_ranks_does_not_wait():
    """FSDP's forward surrounds the model's."""

    def call(look):
        path = os.path.join(os.path.dirname(torch.__file__), 'distributed/fsdp/x.py')
        names = {}
        exec(compile('def forward(module): module()', path, 'exec'), names)
        names['forward'](lambda: look())

    assert seen_in(call)[0] is False
