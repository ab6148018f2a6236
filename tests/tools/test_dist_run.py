"""How ranks end, and the exit status of the launcher."""

import os
import signal
import socket
import subprocess
import sys

import pytest

from tests.toy import ROOT, run_tool
from volo.errors import Interrupted

pytestmark = pytest.mark.slow

#: A rank that does as the script's arguments say, one argument per start.
RANKS = """
import os, signal, sys
rank, starts = os.environ['RANK'], os.environ['TORCHELASTIC_RESTART_COUNT']
what = sys.argv[1:][int(starts)]
if what == 'dies' and rank == '1':
    os.kill(os.getpid(), signal.SIGKILL)
if what == 'hangs' and rank == '1':
    sys.exit(70)
if what == 'is interrupted' and rank == '1':
    sys.exit(75)
if what == 'ends':
    sys.exit()
ends = dict(saves=75, fails=2)
if what in ends:
    signal.signal(signal.SIGTERM, lambda *_: os._exit(ends[what]))
    signal.signal(signal.SIGINT, lambda *_: os._exit(ends[what]))
if what == 'has nothing to save':
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # no traceback
os.write(1, f'rank {rank} is ready\\n'.encode())
signal.pause()
"""


@pytest.fixture
def start(tmp_path):
    """Start two ranks with the launcher."""
    script = tmp_path / 'ranks.py'
    script.write_text(RANKS)
    started = []

    def start(*what, restarts=0):
        with socket.socket() as free:
            free.bind(('127.0.0.1', 0))
            port = free.getsockname()[1]
        launcher = subprocess.Popen(
            [
                *(sys.executable, ROOT / 'tools' / 'dist_run.py', '--nproc-per-node=2'),
                *(f'--master-port={port}', f'--max-restarts={restarts}'),
                *(script, *what),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, 'OMP_NUM_THREADS': '1'},
        )
        started.append(launcher)
        return launcher

    yield start
    for launcher in started:
        if launcher.poll() is None:
            launcher.terminate()
        launcher.communicate()


def end(launcher):
    errors = launcher.communicate(timeout=60)[1]
    assert 'Traceback' not in errors
    return launcher.returncode, errors


@pytest.mark.parametrize(
    ('what', 'ending'),
    [('dies', 'was killed by SIGKILL'), ('hangs', 'exited with 70')],
)
def test_the_rank_that_failed_is_named(start, what, ending):
    status, errors = end(start(what))
    assert status == 1
    named = [line for line in errors.splitlines() if line.startswith('rank ')]
    assert len(named) == 1
    assert named[0].startswith('rank 1 (pid ') and named[0].endswith(f') {ending}')


def test_ranks_are_started_again_as_often_as_allowed(start):
    status, errors = end(start('dies', 'hangs', 'ends', restarts=2))
    assert status == 0
    assert errors.count('; starting again\n') == 2
    status, errors = end(start('dies', 'dies', restarts=1))
    assert status == 1
    assert errors.count('was killed by SIGKILL') == 2
    assert errors.count('; starting again\n') == 1


def test_an_interrupted_training_is_not_started_again(start):
    status, errors = end(start('is interrupted', 'ends', restarts=1))
    assert status == Interrupted.EXIT_STATUS
    assert 'starting again' not in errors


@pytest.mark.parametrize('restarts', ['0', '1'])
def test_a_port_in_use_is_one_clear_error(restarts):
    with socket.create_server(('127.0.0.1', 0)) as taken:
        port = str(taken.getsockname()[1])
        done = run_tool('dist_train.sh', 'config', 2, PORT=port, MAX_RESTARTS=restarts)
    assert done.returncode == 2
    assert done.stderr.startswith(f'error: port {port} of this machine is in use')
    assert done.stderr.count('\n') == 1


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize('what', ['saves', 'has nothing to save'])
def test_a_signal_reaches_the_ranks_and_has_a_status(start, number, what):
    launcher = start(what)
    ready = {launcher.stdout.readline() for _ in range(2)}
    assert ready == {'rank 0 is ready\n', 'rank 1 is ready\n'}
    launcher.send_signal(number)
    assert end(launcher)[0] == Interrupted.EXIT_STATUS


def test_a_rank_that_cannot_save_fails(start):
    launcher = start('fails')
    for _ in range(2):
        launcher.stdout.readline()
    launcher.terminate()
    status, errors = end(launcher)
    assert status == 1
    assert 'rank 0 (pid ' in errors and ') exited with 2' in errors


#: A rank of a pair, of which one dies at the first start.
PAIR = """
import os, signal, torch, torch.distributed as dist
dist.init_process_group('gloo')
if os.environ['TORCHELASTIC_RESTART_COUNT'] == '0' and dist.get_rank() == 1:
    os.kill(os.getpid(), signal.SIGKILL)
dist.all_reduce(torch.ones(1))
dist.barrier()
dist.destroy_process_group()
os._exit(0)  # as volo.engine.cli.leave does
"""


def test_ranks_find_each_other_when_they_are_started_again(tmp_path):
    """torch's store may still have the addresses of ranks that have ended."""
    pair, python = tmp_path / 'pair.py', tmp_path / 'python'
    pair.write_text(PAIR)
    # In place of train.py.
    python.write_text(
        f'#!/bin/bash\nexec {sys.executable} "${{@/%*train.py/{pair}}}"\n'
    )
    python.chmod(0o755)
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = str(free.getsockname()[1])
    done = run_tool(
        'dist_train.sh', 'config', 2, PYTHON=str(python), PORT=port, MAX_RESTARTS='1'
    )
    assert done.returncode == 0, done.stderr
    assert ') was killed by SIGKILL; starting again' in done.stderr
