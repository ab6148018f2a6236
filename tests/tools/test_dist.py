"""The shell scripts, with two processes on the CPU."""

import math
import os
import socket
import subprocess

import pytest

from tests.toy import ROOT, run_tool
from volo.visualization.curves import read_curves

pytestmark = pytest.mark.slow

LAST = dict(classify='epoch_2.pth', segment='iter_4.pth')


@pytest.fixture
def port():
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        return str(free.getsockname()[1])


@pytest.mark.parametrize('task', LAST)
def test_two_ranks_train_and_evaluate_to_the_end(toy, tmp_path, port, task):
    done = run_tool(
        'dist_train.sh', toy / f'{task}.py', 2, '--work-dir', tmp_path, PORT=port
    )
    assert done.returncode == 0, done.stderr
    output = done.stdout + done.stderr
    assert '\n  device    2 x CPU, ' in output
    (log,) = tmp_path.glob('*/*.log')
    logged = log.read_text()
    assert 'Distributed training: True' in logged and 'GPU number: 2' in logged
    assert dict(classify='accuracy/top1', segment='mIoU')[task] in output
    assert (tmp_path / LAST[task]).is_file()
    done = run_tool(
        'dist_test.sh',
        toy / f'{task}.py',
        tmp_path / LAST[task],
        2,
        '--work-dir',
        tmp_path / 'test',
        '--out',
        tmp_path / 'metrics.json',
        PORT=port,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / 'metrics.json').is_file()


def test_shards_train_as_whole_models_do(toy, tmp_path, port):
    """FSDP and recomputed activations change memory, not the losses."""
    config = tmp_path / 'fsdp.py'
    config.write_text(
        f"_base_ = ['{toy}/segment.py', '{ROOT}/configs/_base_/fsdp.py']\n"
    )
    losses = {}
    for name, arguments in dict(
        ddp=(toy / 'segment.py', 2),
        fsdp=(config, 2, '--cfg-options', 'model.backbone.with_cp=True'),
    ).items():
        folder = tmp_path / name
        done = run_tool(
            'dist_train.sh',
            *arguments[:2],
            '--work-dir',
            folder,
            *arguments[2:],
            PORT=port,
        )
        assert done.returncode == 0, done.stderr
        losses[name] = read_curves(folder)['loss'].values
    assert losses['fsdp'] == pytest.approx(losses['ddp'], abs=1e-4)
    assert all(map(math.isfinite, losses['fsdp']))
    assert losses['fsdp'][-1] < losses['fsdp'][0]
    # Its checkpoints are whole, and training resumes from those after a validation.
    folder = tmp_path / 'fsdp'
    arguments = ('--work-dir', folder, '--resume', folder / 'iter_2.pth')
    done = run_tool('dist_train.sh', config, 2, *arguments, PORT=port)
    assert done.returncode == 0, done.stderr
    assert 'resumed epoch: 0, iter: 2' in done.stdout + done.stderr
    done = run_tool('test.py', config, folder / 'iter_4.pth', '--work-dir', tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    'script', ['dist_train', 'dist_test', 'slurm_train', 'slurm_test']
)
def test_scripts_print_their_usage(script):
    done = run_tool(f'{script}.sh')
    assert done.returncode == 2 and done.stderr.startswith('usage: ')


@pytest.mark.parametrize('script', ['slurm_train', 'slurm_test'])
def test_slurm_scripts_pass_everything_to_srun(tmp_path, script):
    srun = tmp_path / 'srun'
    srun.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    srun.chmod(0o755)
    checkpoint = ['c.pth'] if script == 'slurm_test' else []
    done = run_tool(
        f'{script}.sh',
        *('gpus', 'job', 'config.py', *checkpoint, '--work-dir', 'w d'),
        PATH=f'{tmp_path}:/usr/bin:/bin',
        GPUS='16',
        SRUN_ARGS='--quotatype=auto --time=1',
    )
    given = done.stdout.splitlines()
    assert given[:2] == ['--partition=gpus', '--job-name=job']
    assert {'--ntasks=16', '--ntasks-per-node=8', '--time=1'} <= set(given)
    assert given[given.index('config.py') :] == [
        *('config.py', *checkpoint, '--launcher', 'slurm', '--work-dir', 'w d')
    ]


def run_slurm_job(folder, *, srun, **environment):
    """Run the training script with a stand-in for ``srun``; record the requeues."""
    for name, body in dict(srun=srun, scontrol=f'echo "$@" >> {folder}/asked').items():
        (folder / name).write_text(f'#!/bin/bash\n{body}\n')
        (folder / name).chmod(0o755)
    environment['PATH'] = f'{folder}:/usr/bin:/bin'
    job = subprocess.Popen(
        ['bash', ROOT / 'tools' / 'slurm_train.sh', 'gpus', 'job', 'config.py'],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, 'SLURM_JOB_ID': '', **environment},
    )
    if 'ready' in srun:
        assert job.stdout.readline() == 'ready\n'
        job.terminate()
    errors = job.communicate(timeout=60)[1]
    asked = folder / 'asked'
    return job.returncode, asked.read_text() if asked.exists() else '', errors


def test_an_interrupted_slurm_job_is_requeued(tmp_path):
    status, asked, errors = run_slurm_job(tmp_path, srun='exit 75', SLURM_JOB_ID='12')
    assert (status, asked) == (75, 'requeue 12\n')
    assert 'job 12 is requeued' in errors


@pytest.mark.parametrize(
    ('srun', 'job', 'expected'),
    [('exit 1', '12', 1), ('exit 0', '12', 0), ('exit 75', '', 75)],
)
def test_other_slurm_jobs_are_not_requeued(tmp_path, srun, job, expected):
    status, asked, errors = run_slurm_job(tmp_path, srun=srun, SLURM_JOB_ID=job)
    assert (status, asked) == (expected, '')
    assert ('with --resume' in errors) == (expected == 75)


def test_a_cancelled_slurm_job_saves_and_is_not_requeued(tmp_path):
    srun = "trap 'exit 75' TERM; echo ready; while :; do read -t 1 <> <(:); done"
    status, asked, errors = run_slurm_job(tmp_path, srun=srun, SLURM_JOB_ID='12')
    assert (status, asked) == (75, '')
    assert 'with --resume' in errors
