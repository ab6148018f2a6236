"""Images that turn into NaN, in the real commands."""

import math
import re

import pytest

from tests.toy import run_tool
from volo.visualization.curves import read_curves

pytestmark = pytest.mark.slow

CONFIG = """
_base_ = ['{toy}/classify.py']
custom_imports = dict(
    imports=['volo', 'volo.engine.hooks.non_finite', 'tests.poison'],
    allow_failed_imports=False,
)
train_pipeline = [
    dict(type='LoadImageFromFile', imdecode_backend='pillow'),
    dict(type='Poison', name='{name}'),
    dict(type='PackInputs'),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
default_hooks = dict(
    non_finite=dict(type='SkipNonFiniteHook', max_in_a_row=3),
    logger=dict(interval=1),
)
"""


def train(toy, folder, name):
    config = folder / 'poisoned.py'
    config.write_text(CONFIG.format(toy=toy, name=name))
    return run_tool('train.py', config, '--work-dir', folder / 'run')


def test_a_poisoned_batch_is_skipped_counted_and_named(toy, tmp_path):
    path = str(sorted((toy / 'data/images/train').glob('*/*'))[0])
    done = train(toy, tmp_path, path)
    assert done.returncode == 0, done.stderr
    # It is in one of the batches of each of the two epochs.
    output = done.stdout + done.stderr
    for count in '12':
        assert re.search(
            rf'the loss is nan: step skipped \({count} so far, . in a row\). '
            rf'Files with values that are not finite: {re.escape(path)}\n',
            output,
        )
    assert '(3 so far' not in output
    curves = read_curves(tmp_path / 'run')
    assert curves['skipped_steps'].values[-1] == 2
    assert all(map(math.isfinite, curves['loss'].values))
    assert (tmp_path / 'run/epoch_2.pth').is_file()


def test_where_all_are_poisoned_training_stops(toy, tmp_path):
    done = train(toy, tmp_path, '.')
    assert done.returncode == 2, done.stdout + done.stderr
    assert 'Traceback' not in done.stderr
    (error,) = [li for li in done.stderr.splitlines() if li.startswith('error: ')]
    assert '3 steps in a row were skipped, the last at iteration 3' in error
    assert 'the loss is nan' in error and 'and 4 more' in error
    assert '--resume' in error
