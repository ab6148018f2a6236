"""Two processes that are killed, hang or are told to stop, and continue."""

import re
import socket
import subprocess

import pytest

from tests.toy import ROOT, assert_same, tool_environment
from volo.errors import Interrupted

pytestmark = pytest.mark.slow

CONFIG = """
_base_ = ['{toy}/classify.py']
custom_imports = dict(imports=['volo', 'tests.disturbances'])
train_dataloader = dict(batch_size=2, sampler=dict(type='InfiniteStreamSampler'))
train_cfg = dict(_delete_=True, by_epoch=False, max_iters=8, val_interval=100)
default_hooks = dict(
    checkpoint=dict(by_epoch=False, interval=2), stuck_ranks=dict(timeout=8)
)
custom_hooks = [dict(type='DisturbanceHook')]
"""


@pytest.fixture(scope='module')
def config(toy, tmp_path_factory):
    path = tmp_path_factory.mktemp('restarts') / 'config.py'
    path.write_text(CONFIG.format(toy=toy))
    return path


def start(config, work_dir, *options, **environment):
    """Start ``tools/dist_train.sh`` with two processes."""
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = str(free.getsockname()[1])
    script = str(ROOT / 'tools/dist_train.sh')
    arguments = [str(config), '2', '--work-dir', str(work_dir), *options]
    return subprocess.Popen(
        ['bash', script, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**tool_environment(), 'PORT': port, **environment},
    )


@pytest.fixture(scope='module')
def whole(config, tmp_path_factory):
    """The last checkpoint of two undisturbed processes."""
    folder = tmp_path_factory.mktemp('whole')
    process = start(config, folder)
    output, _ = process.communicate()
    assert process.returncode == 0, output
    return folder / 'iter_8.pth'


def test_a_killed_and_a_stuck_rank_are_named_and_the_job_goes_on(
    config, whole, tmp_path
):
    process = start(
        config,
        tmp_path,
        MAX_RESTARTS='2',
        DISTURB='SIGKILL before_train_iter 3 rank=1;HANG before_train_iter 5 rank=0',
    )
    output, _ = process.communicate()
    assert process.returncode == 0, output
    assert 'resumed epoch: 0, iter: 2' in output
    assert 'resumed epoch: 0, iter: 4' in output
    assert re.search(r'rank 1 \(pid \d+\) was killed by SIGKILL; starting', output)
    hung = r'no progress for 8 s in iteration 6: rank 0 \(.*\) hangs at .*disturb'
    assert re.search(hung, output)
    assert_same(tmp_path / 'iter_8.pth', whole)


def test_a_signal_to_all_saves_once_and_resuming_is_exact(config, whole, tmp_path):
    process = start(config, tmp_path, DISTURB='STOP_JOB after_train_iter 2 rank=0')
    output, _ = process.communicate()
    assert process.returncode == Interrupted.EXIT_STATUS, output
    assert not (tmp_path / 'iter_8.pth').exists()
    assert 'SIGTERM: saving after this iteration' in output
    process = start(config, tmp_path, '--resume')
    output, _ = process.communicate()
    assert process.returncode == 0, output
    assert_same(tmp_path / 'iter_8.pth', whole)
