"""Interrupted trainings, resumed: real processes, compared bit for bit."""

import os
import random
import re
import shutil
import signal
import subprocess
import time

import pytest

from tests.toy import assert_same
from volo.checkpoints.reading import read_checkpoint
from volo.engine.folder_lock import FolderLock
from volo.engine.resuming import find_fault, list_checkpoints
from volo.errors import ConfigError, Interrupted

pytestmark = pytest.mark.slow

CLASSIFY = """
_base_ = ['{toy}/classify.py']
custom_imports = dict(imports=['volo', 'tests.disturbances'])
train_dataloader = dict(batch_size=4, num_workers=0)
train_cfg = dict(max_epochs=3)
optim_wrapper = dict(type='BFloat16OptimWrapper', clip_grad=dict(max_norm=1.0))
custom_hooks = [
    dict(type='EMAHook', momentum=0.1, priority='ABOVE_NORMAL'),
    dict(type='DisturbanceHook'),
]
"""

SEGMENT = """
_base_ = ['{toy}/segment.py']
custom_imports = dict(imports=['volo', 'tests.disturbances'])
train_pipeline = [
    dict(type='LoadImageFromFile', imdecode_backend='pillow'),
    dict(type='LoadAnnotations'),
    dict(type='CheckSegmentationSample'),
    dict(type='RandomResize', scale=(80, 80), ratio_range=(0.8, 1.5)),
    dict(type='RandomCrop', crop_size=(64, 64), cat_max_ratio=0.75),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PhotoMetricDistortion'),
    dict(type='PackSegInputs'),
]
train_dataloader = dict(num_workers=2, dataset=dict(pipeline=train_pipeline))
train_cfg = dict(max_iters=6, val_interval=4)
custom_hooks = [dict(type='DisturbanceHook')]
"""

METRIC = re.compile(r'mIoU: |accuracy/top1: ')
TASKS = dict(classify=(CLASSIFY, 'epoch_3.pth'), segment=(SEGMENT, 'iter_6.pth'))


@pytest.fixture(scope='module', params=TASKS)
def run(request, toy, forked, tmp_path_factory):
    """A config, and the last checkpoint of its undisturbed run."""
    text, last = TASKS[request.param]
    folder = tmp_path_factory.mktemp(request.param)
    config = folder / f'{request.param}.py'
    config.write_text(text.format(toy=toy))
    forked.run('train.py', config, '--work-dir', folder / 'whole')
    return config, folder / 'whole' / last


@pytest.mark.parametrize(
    'name, place, iteration, workers',
    [
        ('SIGTERM', 'before_train_iter', 5, 1),
        ('SIGINT', 'after_train_iter', 3, 0),
        ('SIGTERM', 'after_val_iter', 4, 2),
    ],
)
def test_a_signal_saves_and_resuming_is_exact(
    run, forked, tmp_path, name, place, iteration, workers
):
    config, expected = run
    arguments = ('train.py', config, '--work-dir', tmp_path, '--resume')
    stopped = forked.start(*arguments, DISTURB=f'{name} {place} {iteration}')
    assert stopped.wait() == Interrupted.EXIT_STATUS, stopped.output
    assert f'interrupted by {name}: ' in stopped.output
    options = ('--cfg-options', f'train_dataloader.num_workers={workers}')
    resumed = forked.run(*arguments, *options)
    assert_same(tmp_path / expected.name, expected)
    # Also if it was interrupted in the very last iteration, or in a validation.
    assert METRIC.search(resumed.output)


KILLS = """
_base_ = ['{toy}/classify.py']
custom_imports = dict(imports=['volo', 'tests.disturbances'])
train_dataloader = dict(
    batch_size=4, sampler=dict(type='InfiniteStreamSampler'), num_workers=0
)
train_cfg = dict(_delete_=True, by_epoch=False, max_iters=10, val_interval=100)
default_hooks = dict(checkpoint=dict(by_epoch=False, interval=2))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, end=4),
    dict(type='PolyLR', by_epoch=False, begin=4, end=10),
]
custom_hooks = [
    dict(type='EMAHook', momentum=0.1, priority='ABOVE_NORMAL'),
    dict(type='DisturbanceHook'),
]
"""


@pytest.fixture(scope='module')
def every_two(toy, forked, tmp_path_factory):
    """A config that saves every two iterations, its whole run, and its seconds."""
    folder = tmp_path_factory.mktemp('every_two')
    config = folder / 'every_two.py'
    config.write_text(KILLS.format(toy=toy))
    begin = time.monotonic()
    forked.run('train.py', config, '--work-dir', folder / 'whole')
    return config, folder / 'whole', time.monotonic() - begin


def test_twenty_kills_lose_nothing(every_two, forked, tmp_path):
    """Killed at any point, also while saving, a run ends as if it had not been."""
    config, whole, duration = every_two
    arguments = ('train.py', config, '--resume', '--work-dir')
    chance = random.Random(0)
    kills = runs = 0
    while kills < 20:
        folder = tmp_path / f'run{runs}'
        running = forked.start(*arguments, folder)
        status = running.wait(chance.uniform(0, duration))
        if status is None:
            running.kill()
            assert running.wait() == -signal.SIGKILL
            kills += 1
        else:
            assert status == 0, running.output
            assert_same(folder / 'iter_10.pth', whole / 'iter_10.pth')
            runs += 1
        saved = list_checkpoints(folder, 'iter_{}.pth')
        assert all(find_fault(path) is None for path in saved)
    forked.run(*arguments, folder)
    assert_same(folder / 'iter_10.pth', whole / 'iter_10.pth')
    assert len(list_checkpoints(folder, 'iter_{}.pth')) == 3
    assert not list(folder.glob('.*'))


def test_a_killed_training_leaves_no_lock(every_two, forked, tmp_path):
    """Its loader's workers outlive it for some seconds."""
    config, whole, _ = every_two
    arguments = ('train.py', config, '--resume', '--work-dir', tmp_path)
    options = ('--cfg-options', 'train_dataloader.num_workers=2')
    hung = forked.start(*arguments, *options, DISTURB='HANG before_train_iter 3')
    while not (tmp_path / 'last_checkpoint').exists():
        assert hung.wait(0.1) is None
    with pytest.raises(ConfigError, match=f'in use .*, pid {hung.pid}'):
        FolderLock().acquire(tmp_path)
    os.kill(hung.pid, signal.SIGKILL)
    assert hung.wait() == -signal.SIGKILL
    forked.run(*arguments)
    assert_same(tmp_path / 'iter_10.pth', whole / 'iter_10.pth')


def test_a_broken_newest_is_stepped_over_and_saved_anew(every_two, forked, tmp_path):
    config, whole, _ = every_two
    shutil.copytree(whole, tmp_path, dirs_exist_ok=True)
    newest = tmp_path / 'iter_10.pth'
    newest.write_bytes(newest.read_bytes()[:-1000])
    (tmp_path / 'last_checkpoint').write_text('')
    older = (tmp_path / 'iter_6.pth').read_bytes()
    resumed = forked.run('train.py', config, '--work-dir', tmp_path, '--resume')
    assert (
        'iter_10.pth is damaged or cut short: trying the checkpoint before'
        in resumed.output
    )
    assert 'resumed epoch: 0, iter: 8' in resumed.output
    assert_same(newest, whole / 'iter_10.pth')
    assert (tmp_path / 'iter_6.pth').read_bytes() == older


def resume_from(whole, folder):
    """Copy a checkpoint of the whole run; return what resumes it."""
    folder.mkdir()
    shutil.copy(whole / 'iter_6.pth', folder)
    return ('--resume', '--work-dir', folder)


def test_settings_of_the_config_that_are_not_used_are_said(every_two, forked, tmp_path):
    config, whole, _ = every_two
    again = resume_from(whole, tmp_path / 'same')
    resumed = forked.run('train.py', config, *again, '--hyperparams-from', 'config')
    assert 'as in the checkpoint' not in resumed.output
    assert_same(tmp_path / 'same/iter_10.pth', whole / 'iter_10.pth')
    lr = ('--cfg-options', 'optim_wrapper.optimizer.lr=1e-3')
    again = resume_from(whole, tmp_path / 'checkpoint')
    resumed = forked.run('train.py', config, *again, *lr)
    assert 'lr is 0.0001 as in the checkpoint, not 0.001 as in the' in resumed.output
    assert_same(tmp_path / 'checkpoint/iter_10.pth', whole / 'iter_10.pth')
    again = resume_from(whole, tmp_path / 'config')
    resumed = forked.run(
        'train.py', config, *again, '--hyperparams-from', 'config', *lr
    )
    assert 'lr is 0.001 as in the config, not 0.0001 as in the' in resumed.output
    (groups, expected) = (
        read_checkpoint(path / 'iter_10.pth')['optimizer']['param_groups']
        for path in (tmp_path / 'config', whole)
    )
    assert groups[0]['initial_lr'] == 1e-3
    assert groups[0]['lr'] == pytest.approx(10 * expected[0]['lr'])


@pytest.mark.parametrize(
    ('option', 'message'),
    [
        (
            'optim_wrapper.optimizer.type=SGD',
            'has the optimizer AdamW, the config has S',
        ),
        (
            'model.head.num_classes=5',
            'does not belong to this model: 4 of another shape',
        ),
        ('custom_hooks=[]', 'has averaged weights, the config has no EMAHook'),
        (
            'param_scheduler=[]',
            'has the schedules LinearLR, PolyLR, the config has none',
        ),
        (
            'optim_wrapper.paramwise_cfg.bypass_duplicate=True',
            'parameter groups with .* parameters, the config has ',
        ),
    ],
)
def test_what_cannot_be_resumed_is_one_clear_error(
    every_two, forked, tmp_path, option, message
):
    config, whole, _ = every_two
    again = resume_from(whole, tmp_path / 'run')
    refused = forked.start('train.py', config, *again, '--cfg-options', option)
    assert refused.wait() == 2, refused.output
    (error,) = [li for li in refused.output.splitlines() if li.startswith('error: ')]
    assert re.search(message, error) and 'Traceback' not in refused.output


def test_without_resume_nothing_is_overwritten(every_two, forked, tmp_path):
    config, whole, _ = every_two
    work_dir = tmp_path / 'run'
    shutil.copytree(whole, work_dir)
    before = {path: path.read_bytes() for path in work_dir.glob('*.pth')}
    arguments = ('train.py', config, '--work-dir', work_dir)
    refused = forked.start(*arguments)
    assert refused.wait() == 2
    assert 'holds checkpoints already, up to iter_10.pth: continue' in refused.output
    assert before == {path: path.read_bytes() for path in work_dir.glob('*.pth')}
    forked.run(*arguments, '--start-over')
    (kept,) = tmp_path.glob('run-*')
    assert len(before) == 4  # three, and the best
    assert all((kept / p.name).read_bytes() == content for p, content in before.items())
    assert_same(work_dir / 'iter_10.pth', whole / 'iter_10.pth')


def assert_save_failed(running, folder):
    """Check that a checkpoint did not fit, and that the one before it is whole."""
    assert running.wait() == 2, running.output
    (error,) = [li for li in running.output.splitlines() if li.startswith('error: ')]
    assert 'iter_6.pth does not fit on the disk: it takes ' in error
    newest, *_ = list_checkpoints(folder, 'iter_{}.pth')
    assert newest.name == 'iter_4.pth' and find_fault(newest) is None
    assert not list(folder.glob('.*'))


def test_a_quota_is_one_clear_error_and_loses_nothing(every_two, forked, tmp_path):
    config, whole, _ = every_two
    arguments = ('train.py', config, '--work-dir', tmp_path)
    running = forked.start(*arguments, DISTURB='QUOTA before_train_iter 5')
    assert_save_failed(running, tmp_path)
    forked.run(*arguments, '--resume')
    assert_same(tmp_path / 'iter_10.pth', whole / 'iter_10.pth')


def test_a_full_disk_is_one_clear_error_and_loses_nothing(every_two, forked, tmp_path):
    config, whole, _ = every_two
    # The logs, two checkpoints, and the larger part of a third.
    size = 2.7 * (whole / 'iter_10.pth').stat().st_size
    mount = ['mount', '-t', 'tmpfs', '-o', f'size={size:.0f}', 'tmpfs', tmp_path]
    if not shutil.which('mount') or subprocess.run(mount).returncode:
        pytest.skip('a small disk can be mounted by root alone')
    try:
        running = forked.start('train.py', config, '--work-dir', tmp_path / 'run')
        assert_save_failed(running, tmp_path / 'run')
    finally:
        subprocess.run(['umount', '-l', tmp_path], check=True)
