import json
import re

import numpy as np
import pytest
import torch
from PIL import Image

from demo.shapes import SEGMENTATION_CLASSES, SHAPE_CLASSES
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
    root = trained / 'data/images/val'
    names = {path.relative_to(root) for path in files_in(root)}
    drawn = {p.relative_to(tmp_path / 'show') for p in files_in(tmp_path / 'show')}
    assert len(drawn) == 7 and drawn == {name.with_suffix('.jpg') for name in names}
    # Left of the legend is the image, enlarged, in its own colors.
    name = next(iter(names))
    source = np.asarray(Image.open(root / name).convert('RGB'), int)
    drawing = Image.open(tmp_path / 'show' / name.with_suffix('.jpg'))
    image = drawing.crop((0, 0, drawing.height, drawing.height)).resize((64, 64))
    if task == 'classify':
        assert np.abs(np.asarray(image) - source).mean() < 8


def files_in(folder):
    return [path for path in folder.rglob('*') if path.is_file()]


def test_json_has_every_class_by_name_and_matrices(trained, tmp_path):
    out = tmp_path / 'metrics.json'
    arguments = ('--work-dir', tmp_path, '--out', out)
    config, checkpoint = trained / 'segment.py', trained / 'segment/iter_4.pth'
    done = run_tool('test.py', config, checkpoint, *arguments)
    assert done.returncode == 0, done.stderr
    results = json.loads(out.read_text())
    ious = [scores['IoU'] for scores in results['per_class'].values()]
    assert tuple(results['per_class']) == SEGMENTATION_CLASSES
    assert np.nanmean(np.array(ious, float)) == pytest.approx(results['mIoU'], abs=0.01)

    config = tmp_path / 'matrix.py'
    config.write_text(
        f"_base_ = ['{trained / 'classify.py'}']\n"
        "test_evaluator = [dict(type='SingleLabelMetric', average=None), "
        "dict(type='ConfusionMatrix')]\n"
    )
    checkpoint = trained / 'classify/epoch_2.pth'
    done = run_tool('test.py', config, checkpoint, *arguments)
    assert done.returncode == 0, done.stderr
    results = json.loads(out.read_text())
    assert np.sum(results['confusion_matrix/result']) == 7
    assert set(results['single-label/precision_classwise']) == set(SHAPE_CLASSES)


def test_an_impossible_out_is_refused_before_the_evaluation(trained, tmp_path):
    arguments = (trained / 'segment.py', trained / 'segment/iter_4.pth')
    done = run_tool('test.py', *arguments, '--out', tmp_path / 'no/metrics.json')
    assert done.returncode == 2 and f'no folder {tmp_path / "no"}' in done.stderr


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
