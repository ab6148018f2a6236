"""Real models leave, and their files are evaluated like their checkpoints."""

import json

import pytest

from tests.toy import run_tool

pytestmark = pytest.mark.slow

CHECKPOINTS = dict(classify='epoch_2.pth', segment='iter_4.pth')


def run(*arguments):
    done = run_tool(*arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.fixture(scope='module')
def exported(trained):
    """The trained toy models as files: one of any size, one of a fixed size."""
    files = {}
    for task, options in (('classify', ['onnx']), ('segment', ['openvino'])):
        out = trained / f'exported-{task}'
        config, checkpoint = trained / f'{task}.py', trained / task / CHECKPOINTS[task]
        done = run('export.py', config, checkpoint, '--out', out, '--format', *options)
        path = next(p for p in out.iterdir() if p.suffix in ('.onnx', '.xml'))
        assert f'{path}: largest difference of lo' in done.stdout
        files[task] = path
    return files


@pytest.mark.parametrize(
    'task, metric', [('classify', 'accuracy/top1'), ('segment', 'mIoU')]
)
def test_files_are_evaluated_beside_their_checkpoint(
    trained, exported, tmp_path, task, metric
):
    out = tmp_path / 'metrics.json'
    checkpoint = trained / task / CHECKPOINTS[task]
    done = run(
        'test.py',
        trained / f'{task}.py',
        exported[task],
        '--compare',
        checkpoint,
        '--work-dir',
        tmp_path,
        '--out',
        out,
    )
    results = json.loads(out.read_text())
    assert results[metric] == pytest.approx(results['pytorch'][metric], abs=0.05)
    assert results['images/s'] > 0 and results['pytorch']['images/s'] > 0
    rows = {line.split()[0]: line.split() for line in done.stdout.splitlines() if line}
    assert rows['metric'] == ['metric', exported[task].name, 'PyTorch', 'difference']
    assert float(rows[metric][1]) == pytest.approx(results[metric], abs=0.01)
    assert rows['images/s'][3][0] in '+-'


@pytest.mark.parametrize(
    'arguments, message',
    [
        (['{segment}.py', '{classify}', '--format', 'openvino'], 'does not belong'),
        (
            ['{segment}.py', '{checkpoint}', '--format', 'tflite'],
            '--format tflite: unk',
        ),
        (
            ['{segment}.py', '{checkpoint}', '--images', 'none'],
            '--images none: no such',
        ),
        (['{segment}.py', 'none.pth'], 'none.pth does not exist'),
    ],
)
def test_a_wrong_export_is_one_clear_error(trained, tmp_path, arguments, message):
    names = dict(
        segment=trained / 'segment',
        classify=trained / 'classify/epoch_2.pth',
        checkpoint=trained / 'segment/iter_4.pth',
    )
    arguments = [argument.format(**names) for argument in arguments]
    expect_error(message, 'export.py', *arguments, '--out', tmp_path / 'out')
    assert not (tmp_path / 'out').exists()


def test_a_wrong_evaluation_is_one_clear_error(trained, exported, tmp_path):
    (tmp_path / 'model.onnx').write_bytes(exported['classify'].read_bytes()[:10000])
    segment, work = trained / 'segment.py', ['--work-dir', tmp_path / 'work']
    for path, message, options in (
        (
            exported['classify'],
            'was exported for classification, not for segmentation',
            [],
        ),
        (tmp_path / 'model.onnx', 'cannot be opened by ONNX Runtime: damaged', []),
        (exported['segment'], 'is an exported model, which neither changes', ['--amp']),
        (trained / 'segment/iter_4.pth', '--compare: ', ['--compare', 'x.pth']),
    ):
        expect_error(message, 'test.py', segment, path, *options, *work)


def test_a_file_that_differs_is_removed(trained, tmp_path):
    config, checkpoint = trained / 'classify.py', trained / 'classify/epoch_2.pth'
    options = ['--out', tmp_path / 'out', '--format', 'openvino', '--tolerance', 0]
    message = (
        'computes something else than the model and is removed: largest difference'
    )
    expect_error(message, 'export.py', config, checkpoint, *options)
    assert list((tmp_path / 'out').iterdir()) == []


def expect_error(message, *arguments):
    done = run_tool(*arguments)
    assert done.returncode == 2, done.stdout + done.stderr
    assert 'Traceback' not in done.stderr
    (error,) = [line for line in done.stderr.splitlines() if line.startswith('error: ')]
    assert message in error
