"""The watchdog, and real processes that hang."""

import dataclasses
import json
import os
import pickle
import re
import subprocess
import sys
from types import SimpleNamespace

import pytest

from tests.toy import ROOT
from volo.engine.hooks import watch, watchdog
from volo.engine.hooks.watchdog import StuckRankHook


def test_stages_are_told():
    hook = StuckRankHook()
    runner = SimpleNamespace(iter=11)
    seen = []
    for call in (
        lambda: hook.before_train_iter(runner, 3),
        lambda: hook.after_train_iter(runner, 3),
        lambda: hook.before_val_epoch(runner),
        lambda: hook.before_val_iter(runner, 2),
        lambda: hook.after_val_epoch(runner, {}),
        lambda: hook.after_test_iter(runner, 0),
    ):
        call()
        progress = hook._progress
        seen.append(progress.stage.format(progress.number))
    assert seen == [
        'in iteration 12',
        'after iteration 12',
        'before the first batch of the validation',
        'in batch 3 of the validation',
        'after the last batch of the validation',
        'after batch 1 of the test',
    ]
    assert progress.steps == len(seen)


def test_a_hook_that_does_not_watch_is_plain_data():
    hook = pickle.loads(pickle.dumps(StuckRankHook(timeout=7)))
    assert hook.timeout == 7
    hook.after_run(SimpleNamespace())  # as if before_run had failed


@pytest.fixture
def said(monkeypatch):
    lines = []
    for module in (watch, watchdog):
        monkeypatch.setattr(
            module, 'print_log', lambda line, *_, **__: lines.append(line)
        )
    return lines


@pytest.mark.parametrize(('theirs', 'warned'), [(30, True), (31, False), (None, False)])
def test_a_process_group_that_ends_first_is_warned_of(
    said, monkeypatch, theirs, warned
):
    monkeypatch.setattr(watchdog, 'get_world_size', lambda: 2)
    dist_cfg = {} if theirs is None else dict(timeout=theirs)
    runner = SimpleNamespace(cfg=dict(env_cfg=dict(dist_cfg=dist_cfg)))
    StuckRankHook(timeout=30)._check_process_group(runner)
    assert any('dist_cfg.timeout=30 is not longer' in line for line in said) == warned


def test_an_error_of_the_watch_does_not_end_the_training(said):
    def broken():
        raise ValueError('no progress at all')

    watch.Watch(30, broken, sys._getframe().f_code).run()
    assert said == ['ranks that hang will not be found: ValueError: no progress at all']


class Clock:
    """A clock that a test advances."""

    now = 0.0

    def __call__(self):
        return self.now


class Ranks:
    """The watch of rank 0, with a timeout of 100 s, and a stand-in for its job.

    Attributes:
        steps: The progress of both ranks.
        ended: The arguments with which the watch ended the process.
        written: What the watch printed.
    """

    def __init__(self, monkeypatch, world_size=2):
        monkeypatch.setattr(watch, 'get_world_size', lambda: world_size)
        self.clock, self.steps, self.beat = Clock(), 1, 0
        self.ended, self.written = [], []
        self.watch = watch.Watch(
            100,
            lambda: watch.Progress(self.steps, 'in iteration {}', 7),
            sys._getframe().f_code,
            self.clock,
        )
        if world_size > 1:
            self.watch._board = self
        monkeypatch.setattr(self.watch, '_end', lambda *args: self.ended.append(args))
        monkeypatch.setattr(watch, '_write', self.written.append)
        self.watch.look()

    def exchange(self, own, ranks):
        """Answer as a board on which rank 1 reports as often, waiting for rank 0."""
        self.beat += 1
        other = dataclasses.replace(own, rank=1, beat=self.beat, waiting=True)
        return {1: other} if ranks else {}

    def look(self, *seconds):
        """Look once after each of these pauses."""
        for after in seconds:
            self.clock.now += after
            self.watch.look()


@pytest.mark.parametrize('pause', [200, 3600, 36000])
def test_time_in_which_the_process_is_paused_does_not_count(monkeypatch, pause):
    """After Ctrl-Z, SIGSTOP or a debugger."""
    ranks = Ranks(monkeypatch)
    ranks.look(10, 10, pause, 10, 10)
    assert not ranks.ended
    # A pause counts as one interval: a hang afterwards is found as soon as ever.
    ranks.look(*[10] * 4)
    assert not ranks.ended
    ranks.look(10)
    assert len(ranks.ended) == 1


def test_a_pause_late_in_a_long_iteration_names_no_rank(monkeypatch):
    """The reports of the other rank do not age in a pause, either."""
    ranks = Ranks(monkeypatch)
    ranks.look(*[10] * 8, 36000)
    assert not ranks.ended
    ranks.steps += 1
    ranks.look(*[10] * 9)
    assert not ranks.ended


def test_a_single_process_is_warned_of_but_not_ended(monkeypatch, said):
    ranks = Ranks(monkeypatch, world_size=1)
    ranks.look(*[10] * 30)
    assert not ranks.ended
    (line,) = ranks.written
    assert line.startswith('no progress for 100 s in iteration 7: rank 0 (host ')
    assert line.endswith('it continues, because no other process waits for it')
    assert said == [line]
    ranks.steps += 1
    ranks.look(*[10] * 30)
    assert len(ranks.written) == 2


RANKS = """
import atexit, importlib, json, os, signal, socket, sys, threading, types
from datetime import timedelta
import torch, torch.distributed as dist
from mmengine.logging import MMLogger

# Without the seconds of importing all of volo.
for name in ('volo', 'volo.engine', 'volo.engine.hooks'):
    package = sys.modules[name] = types.ModuleType(name)
    package.__path__ = [os.path.join(sys.argv[1], *name.split('.'))]
watchdog = importlib.import_module('volo.engine.hooks.watchdog')
folder, timeout = sys.argv[2], float(sys.argv[3])

class Runner:
    iter = 0
    cfg = dict(env_cfg=dict(dist_cfg=dict(timeout=60)))

    def __init__(self, scenario, rank):
        self.scenario, self.rank = scenario, rank
        self.hook = watchdog.StuckRankHook(timeout)

    def call_hook(self, name, *arguments):
        getattr(self.hook, name)(self, *arguments)

    def train(self):
        self.call_hook('before_run')
        for index in range(5):
            self.call_hook('before_train_iter', index)
            if index == 3:
                getattr(self, self.scenario)()
            if dist.is_initialized():
                dist.all_reduce(torch.ones(1))
            self.call_hook('after_train_iter', index)
            self.iter += 1
        self.call_hook('after_run')

    def finishes(self):
        pass

    def hangs(self):
        if self.rank == 1:
            threading.Event().wait()

    def is_stopped(self):
        if self.rank == 1:
            threading.Event().wait(timeout / 8)  # to have reported
            os.kill(os.getpid(), signal.SIGSTOP)

    def hosts_the_store_and_is_stopped(self):
        if self.rank == 0:
            os.kill(os.getpid(), signal.SIGSTOP)

    def has_more_to_do(self):
        for index in range(10 if self.rank == 1 else 0):
            threading.Event().wait(timeout / 8)
            self.call_hook('before_val_iter', index)

    def is_slow_alone(self):
        threading.Event().wait(1.5 * timeout)

    def is_paused(self):
        threading.Event().wait(timeout / 5)  # the watch looks
        pid = os.getpid()
        if os.fork() == 0:  # what a shell does after Ctrl-Z and fg
            os.kill(pid, signal.SIGSTOP)
            threading.Event().wait(1.5 * timeout)
            os.kill(pid, signal.SIGCONT)
            os._exit(0)
        for _ in range(5):  # one ends in the pause, then the watch looks
            threading.Event().wait(timeout / 20)

    is_paused_alone = is_paused

    def raises(self):
        raise RuntimeError

    def is_interrupted(self):
        sys.exit(75)

def become(scenario, rank, size, port):
    output = os.open(f'{folder}/{scenario}{rank}.txt', os.O_WRONLY | os.O_CREAT)
    os.dup2(output, 2)
    MMLogger.get_instance('test', log_file=f'{folder}/{scenario}{rank}.log')
    if size > 1:
        os.environ.update(RANK=str(rank), WORLD_SIZE=str(size))
        os.environ.update(MASTER_ADDR='127.0.0.1', MASTER_PORT=str(port))
        dist.init_process_group('gloo', timeout=timedelta(seconds=60))
    try:
        Runner(scenario, rank).train()
    except RuntimeError:
        if scenario != 'raises':
            raise
        threading.Event().wait(1.5 * timeout)
    finally:
        if size > 1:
            dist.barrier()
            dist.destroy_process_group()

pids = {}
for scenario in sys.argv[4:]:
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    size = 1 if scenario.endswith('alone') or scenario == 'raises' else 2
    for rank in range(size):
        pid = os.fork()
        if pid == 0:
            status = 0
            try:
                become(scenario, rank, size, port)
            except SystemExit as ending:
                status = ending.code
            # As volo.engine.cli.leave does.
            atexit._run_exitfuncs()
            os._exit(status)
        pids[pid] = scenario, rank
statuses = {}
running = dict(pids)
while running:
    pid, status = os.wait()
    scenario, rank = running.pop(pid)
    statuses[f'{scenario}{rank}'] = os.waitstatus_to_exitcode(status)
    if 'stopped' in scenario:  # what a launcher does
        for other, (name, _) in running.items():
            if name == scenario:
                os.kill(other, signal.SIGKILL)
json.dump([statuses, {f'{s}{r}': pid for pid, (s, r) in pids.items()}], sys.stdout)
"""

SCENARIOS = {
    'finishes': [0, 0],
    'hangs': [70, 70],
    'is_stopped': [70, -9],
    'hosts_the_store_and_is_stopped': [-9, 70],
    'has_more_to_do': [0, 0],
    'is_slow_alone': [0],
    'is_paused': [0, 0],
    'is_paused_alone': [0],
    'raises': [0],
    'is_interrupted': [75, 75],
}


@pytest.fixture(scope='module')
def ended(tmp_path_factory):
    """All scenarios at once: most of their time they wait."""
    folder = tmp_path_factory.mktemp('ranks')
    script = folder / 'ranks.py'
    script.write_text(RANKS)
    done = subprocess.run(
        [sys.executable, script, ROOT, folder, '4', *SCENARIOS],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, 'OMP_NUM_THREADS': '1', 'CUDA_VISIBLE_DEVICES': ''},
    )
    assert done.returncode == 0, done.stderr
    statuses, pids = json.loads(done.stdout[done.stdout.rindex('[{') :])

    def of(scenario):
        names = [f'{scenario}{rank}' for rank in range(len(SCENARIOS[scenario]))]
        return SimpleNamespace(
            statuses=[statuses[name] for name in names],
            pids=[pids[name] for name in names],
            errors=''.join((folder / f'{name}.txt').read_text() for name in names),
            log=(folder / f'{scenario}0.log').read_text(),
        )

    return of


@pytest.mark.slow
@pytest.mark.parametrize('scenario', SCENARIOS)
def test_processes_that_hang_end_and_others_do_not(ended, scenario):
    ended = ended(scenario)
    assert ended.statuses == SCENARIOS[scenario], ended.errors
    told = 70 in ended.statuses or scenario == 'is_slow_alone'
    assert ended.errors.count('no progress for 4 s in iteration 4: ') == told
    assert told or ended.errors == ''


@pytest.mark.slow
def test_a_rank_that_hangs_is_named_with_its_place(ended):
    ended = ended('hangs')
    place = rf'host \S+, pid {ended.pids[1]}\) hangs at \S+ranks.py:\d+'
    line = rf'no progress for 4 s .*: rank 1 \({place} in hangs; the job ends'
    assert re.search(line, ended.errors)
    assert re.search(line, ended.log)
    assert 'stack of rank 1:' in ended.errors


@pytest.mark.slow
def test_a_single_process_is_named_with_its_place(ended):
    ended = ended('is_slow_alone')
    line = (
        rf'pid {ended.pids[0]}\) is at \S+ranks.py:\d+ in is_slow_alone; it continues'
    )
    assert re.search(line, ended.errors)
    assert re.search(line, ended.log)


@pytest.mark.slow
def test_a_rank_that_is_stopped_is_named(ended):
    ended = ended('is_stopped')
    assert f', pid {ended.pids[1]}) does not respond; the job ends' in ended.errors
    assert ': rank 1 (host ' in ended.errors and ': rank 1 (host ' in ended.log


@pytest.mark.slow
def test_a_store_that_does_not_answer_is_named(ended):
    errors = ended('hosts_the_store_and_is_stopped').errors
    assert "rank 0's host (127.0.0.1:" in errors and ') does not respond; ' in errors
