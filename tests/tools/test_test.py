import json
import re

import pytest
import torch

from tests.toy import run_tool

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    'task, last, metric',
    [
        ('classify', 'epoch_2.pth', 'accuracy/top1'),
        ('segment', 'iter_4.pth', 'mIoU'),
    ],
)
def test_reproduces_the_evaluation_of_training(trained, tmp_path, task, last, metric):
    (log,) = (trained / task).glob('*/*.log')
    logged = re.findall(rf'{metric}: ([\d.]+)', log.read_text())[-1]
    done = run_tool(
        'test.py',
        trained / f'{task}.py',
        trained / task / last,
        '--work-dir',
        tmp_path,
        '--out',
        tmp_path / 'metrics.json',
    )
    assert done.returncode == 0, done.stderr
    metrics = json.loads((tmp_path / 'metrics.json').read_text())
    assert metrics[metric] == pytest.approx(float(logged), abs=1e-3)


@pytest.mark.parametrize(
    'task, last, flags',
    [('classify', 'epoch_2.pth', ['--amp']), ('segment', 'iter_4.pth', ['--tta'])],
)
def test_draws_predictions(trained, tmp_path, task, last, flags):
    done = run_tool(
        'test.py',
        trained / f'{task}.py',
        trained / task / last,
        '--work-dir',
        tmp_path / 'work',
        '--show-dir',
        tmp_path / 'show',
        *flags,
    )
    assert done.returncode == 0, done.stderr
    images = [p for p in (tmp_path / 'show').rglob('*') if p.suffix in ('.png', '.jpg')]
    assert len(images) == 7


class Malicious:
    def __init__(self, canary):
        self.canary = canary

    def __reduce__(self):
        return open, (str(self.canary), 'w')


@pytest.mark.parametrize(
    'kind', ['absent', 'text', 'malicious', 'another task', 'another arch']
)
def test_a_wrong_checkpoint_is_one_clear_error(trained, tmp_path, kind):
    path, canary = tmp_path / 'weights.pth', tmp_path / 'canary'
    if kind == 'text':
        path.write_text('these are not weights')
    elif kind == 'malicious':
        torch.save(dict(state_dict={}, meta=Malicious(canary)), path)
    elif kind == 'another task':
        path = trained / 'classify/epoch_2.pth'
    options = [
        'model.backbone.arch=d1',
        'model.decode_head.in_channels=[192,384,384,384]',
    ]
    options.append('model.auxiliary_head.in_channels=384')
    if kind == 'another arch':
        path = trained / 'segment/iter_4.pth'
    done = run_tool(
        'test.py',
        trained / 'segment.py',
        path,
        '--work-dir',
        tmp_path,
        *(['--cfg-options', *options] if kind == 'another arch' else []),
    )
    assert done.returncode == 2, done.stdout + done.stderr
    assert 'Traceback' not in done.stderr
    (error,) = [li for li in done.stderr.splitlines() if li.startswith('error: ')]
    message = {
        'absent': 'no such checkpoint',
        'text': 'weights.pth',
        'malicious': 'weights.pth',
        'another task': 'does not belong to this model',
        'another arch': 'does not belong to this model',
    }
    assert message[kind] in error
    assert not canary.exists()
