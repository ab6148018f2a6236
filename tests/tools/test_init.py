"""From a folder to a config, a training and a report of the doctor."""

import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from tests.toy import ROOT, run_tool, tool_environment
from volo.engine.launch import load_config

pytestmark = pytest.mark.slow


def gray_masks(folder):
    """Write ten gray images with masks of 0 and 255."""
    random = np.random.default_rng(0)
    for index in range(10):
        for kind in ('images', 'masks'):
            (folder / kind).mkdir(parents=True, exist_ok=True)
        mask = np.zeros((64, 64), np.uint8)
        left = int(random.integers(0, 32))
        mask[16:48, left : left + 32] = 255
        image = random.integers(40, 80, (64, 64), np.uint8) + mask // 2
        Image.fromarray(image).save(folder / f'images/{index}.png')
        Image.fromarray(mask).save(folder / f'masks/{index}.png')
    return folder


def shorten(*options):
    loaders = [
        f'{split}_dataloader.{option}'
        for split in ('train', 'val')
        for option in ('num_workers=0', 'persistent_workers=False')
    ]
    return ['--cfg-options', *loaders, *options]


def test_gray_images_train_and_resume_without_an_edit(tmp_path):
    folder, out = gray_masks(tmp_path / 'cells'), tmp_path / 'cells.py'
    done = run_tool('init.py', folder, '--out', out)
    assert done.returncode == 0, done.stderr
    for text in (
        'masks of 0 and 255',
        '10, gray, all 64x64',
        '8 train, 2 val',
        'minutes on this machine',
        f'volo train {out}',
        f'volo predict {out}',
    ):
        assert text in done.stdout
    assert done.stdout.rstrip().endswith('No findings.')

    work_dir = ('--work-dir', tmp_path / 'work')
    for length, resume in ((2, ()), (4, ('--resume',))):
        loop = (f'train_cfg.max_iters={length}', 'train_cfg.val_interval=2')
        options = shorten(*loop, 'default_hooks.checkpoint.interval=2')
        done = run_tool('train.py', out, *work_dir, *resume, *options)
        assert done.returncode == 0, done.stderr
    assert (tmp_path / 'work/iter_4.pth').is_file()


def test_findings_end_the_report_and_exit_with_1(tmp_path):
    folder = gray_masks(tmp_path / 'cells')
    (folder / 'images/3.png').write_bytes(b'')
    done = run_tool('init.py', folder, '--out', tmp_path / 'cells.py')
    assert done.returncode == 1, done.stderr
    assert '[file-broken]' in done.stdout and '1 finding.' in done.stdout
    assert load_config(tmp_path / 'cells.py').train_dataloader


def test_unusable_folders_and_options_exit_with_2(tmp_path):
    out = ('--out', tmp_path / 'config.py')
    done = run_tool('init.py', tmp_path / 'gone', *out)
    assert done.returncode == 2 and 'error: ' in done.stderr
    assert 'no such folder' in done.stderr and 'Traceback' not in done.stderr
    assert not (tmp_path / 'config.py').exists()
    (tmp_path / 'config.py').touch()
    done = run_tool('init.py', gray_masks(tmp_path / 'cells'), *out)
    assert done.returncode == 2 and '--force' in done.stderr


def test_help_answers_before_the_libraries_are_imported():
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, '-X', 'importtime', ROOT / 'tools/init.py', '--help'],
        capture_output=True,
        text=True,
        env=tool_environment(),
    )
    assert done.returncode == 0 and '--val-fraction' in done.stdout
    assert 'torch' not in done.stderr and time.perf_counter() - start < 5
