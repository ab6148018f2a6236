import math
import re
import shutil

import pytest
import torch

from tests.toy import run_tool
from volo.checkpoints.reading import read_checkpoint
from volo.engine.folder_lock import FolderLock
from volo.models import VOLO
from volo.visualization.curves import read_curves

pytestmark = pytest.mark.slow

LAST = dict(classify='epoch_2.pth', segment='iter_4.pth')


@pytest.mark.parametrize('task', LAST)
def test_trains_and_evaluates_to_the_end(trained, task):
    folder = trained / task
    assert (folder / LAST[task]).is_file()
    (log,) = folder.glob('*/*.log')
    metric = dict(classify='accuracy/top1', segment='mIoU')[task]
    assert f'{metric}: ' in log.read_text()


def test_resumes_where_it_stopped(trained, tmp_path):
    folder = tmp_path / 'run'
    folder.mkdir()
    shutil.copy(trained / 'segment/iter_2.pth', folder)
    (folder / 'last_checkpoint').write_text(str(folder / 'iter_2.pth'))
    done = run_tool(
        'train.py', trained / 'segment.py', '--work-dir', folder, '--resume'
    )
    assert done.returncode == 0, done.stderr
    assert 'resumed epoch: 0, iter: 2' in done.stdout + done.stderr
    assert (folder / 'iter_4.pth').is_file()
    again = tmp_path / 'again'
    done = run_tool(
        'train.py',
        trained / 'segment.py',
        '--work-dir',
        again,
        '--resume',
        folder / 'iter_2.pth',
    )
    assert done.returncode == 0, done.stderr
    assert (again / 'iter_4.pth').is_file() and not (again / 'iter_2.pth').exists()


def test_accumulates_scales_the_learning_rate_and_trains_in_bfloat16(toy, tmp_path):
    done = run_tool(
        'train.py',
        toy / 'classify.py',
        '--work-dir',
        tmp_path,
        '--amp',
        '--auto-scale-lr',
        '--cfg-options',
        'train_cfg.max_epochs=4',
        'default_hooks.logger.interval=1',
        'default_hooks.checkpoint.interval=4',
        'optim_wrapper.accumulative_counts=2',
        'auto_scale_lr.base_batch_size=28',
    )
    assert done.returncode == 0, done.stderr
    output = done.stdout + done.stderr
    # An update sees 2 x 7 images, the base is 28: half the rate.
    assert 'lr: 5.0000e-05' in output
    (log,) = tmp_path.glob('*/*.log')
    assert "type='BFloat16OptimWrapper'" in log.read_text()
    losses = read_curves(tmp_path)['loss'].values
    assert all(map(math.isfinite, losses)) and losses[-1] < losses[0]


def test_starts_a_segmentor_from_a_classifier(trained, tmp_path):
    done = run_tool(
        'train.py',
        trained / 'segment.py',
        '--work-dir',
        tmp_path,
        '--cfg-options',
        'model.backbone.init_cfg.type=Pretrained',
        f'model.backbone.init_cfg.checkpoint={trained / "classify/epoch_2.pth"}',
        'optim_wrapper.optimizer.lr=0',
        'train_cfg.max_iters=2',
    )
    assert done.returncode == 0, done.stderr
    theirs = read_checkpoint(trained / 'classify/epoch_2.pth')['state_dict']
    ours = read_checkpoint(tmp_path / 'iter_2.pth')['state_dict']
    names = [n for n, p in VOLO(arch='tiny').named_parameters() if n != 'pos_embed']
    assert all(
        torch.equal(ours[f'backbone.{n}'], theirs[f'backbone.{n}']) for n in names
    )


def refusal(*arguments, **environment):
    """Run ``tools/train.py`` and return its one line of complaint."""
    done = run_tool('train.py', *arguments, **environment)
    assert done.returncode == 2, done.stdout + done.stderr
    assert 'Traceback' not in done.stderr
    errors = [li for li in done.stderr.splitlines() if li.startswith('error: ')]
    assert len(errors) == 1
    return errors[0]


@pytest.mark.parametrize(
    'options, message',
    [
        (['model.backbone.arch=d7'], "unknown arch 'd7': VOLO has d1, d2"),
        (['model.backbone.drop_pth=1'], "backbone: VOLO has no option 'drop_pth'"),
        (['model.backbone.type=VOLLO'], "unknown type 'VOLLO'"),
        (['train_dataloder.batch_size=1'], 'Did you mean train_dataloader?'),
        (['train_dataloader.dataset.data_root=nowhere'], 'nowhere: no such folder'),
    ],
)
def test_a_wrong_option_is_one_clear_error(toy, tmp_path, options, message):
    arguments = ('--work-dir', tmp_path, '--cfg-options', *options)
    assert message in refusal(toy / 'segment.py', *arguments)


def test_a_broken_sample_is_one_clear_error_from_a_worker(toy, tmp_path):
    shutil.copytree(toy / 'data', tmp_path / 'data')
    for mask in (tmp_path / 'data/masks/train').rglob('*.png'):
        mask.write_bytes(mask.read_bytes()[:60])
    error = refusal(
        toy / 'segment.py',
        '--work-dir',
        tmp_path / 'run',
        '--cfg-options',
        f'train_dataloader.dataset.data_root={tmp_path / "data"}',
        'train_dataloader.num_workers=1',
    )
    assert '/data/masks/train/' in error and '.png: broken image' in error


@pytest.mark.parametrize(
    ('disturb', 'message'),
    [
        ('KILL_WORKER before_train_iter 1', r'worker .* \(pid \d+\) was killed \(Kill'),
        ('DELETE before_train_iter 1', 'run was deleted or moved while training: '),
    ],
)
def test_what_others_do_to_a_training_is_one_clear_error(
    toy, tmp_path, disturb, message
):
    config = tmp_path / 'disturbed.py'
    config.write_text(
        f"_base_ = ['{toy / 'segment.py'}']\n"
        "custom_imports = dict(imports=['volo', 'tests.disturbances'])\n"
        "custom_hooks = [dict(type='DisturbanceHook')]\n"
        'train_dataloader = dict(num_workers=1)\n'
    )
    error = refusal(config, '--work-dir', tmp_path / 'run', DISTURB=disturb)
    assert re.search(message, error)


def test_a_work_dir_in_use_and_a_read_only_one_are_refused(toy, tmp_path):
    with FolderLock() as lock:
        lock.acquire(tmp_path)
        error = refusal(toy / 'segment.py', '--work-dir', tmp_path)
        assert f'{tmp_path} is in use by another training (host ' in error
    error = refusal(toy / 'segment.py', '--work-dir', '/sys/volo')
    assert '/sys/volo cannot be written: ' in error and '--work-dir' in error


@pytest.mark.parametrize(
    'launch',
    [['--auto-scale-lr'], ['--launcher', 'pytorch']],
    ids=['auto-scale-lr', 'launcher'],
)
def test_what_a_flag_needs_is_said(toy, tmp_path, launch):
    config = tmp_path / 'bare.py'
    config.write_text(f"_base_ = ['{toy / 'segment.py'}']\nauto_scale_lr = None\n")
    assert f'error: {launch[0]}' in refusal(config, '--work-dir', tmp_path, *launch)
