import pytest
from PIL import Image
from tests.toy import run_tool

from volo.demo.run import _is_progress

pytestmark = pytest.mark.slow


def test_runs_every_stage_and_says_when_a_result_is_missed(tmp_path):
    demo = tmp_path / 'demo'
    demo.mkdir()
    (demo / 'earlier.txt').write_text('kept')
    done = run_tool(
        'demo.py',
        *('--work-dir', demo, '--epochs', 1, '--iters', 2, '--pictures', 3),
    )
    # One epoch is not enough, and the demo does not pretend that it was.
    assert done.returncode == 2, done.stdout + done.stderr
    assert 'a result is not what is wanted' in done.stderr
    assert 'Traceback' not in done.stderr
    assert (tmp_path / 'demo.1/earlier.txt').read_text() == 'kept'
    for stage in range(1, 6):
        assert f'{stage}/5' in done.stdout
    for name in ('predictions.png', 'curves.png'):
        assert Image.open(demo / name).width > 300
        assert name in done.stdout
    assert 'tools/train.py' in done.stdout and 'Epoch(train)' in done.stdout


def test_progress_is_told_from_the_setup():
    assert _is_progress('11/22 16:58:39 - mmengine - INFO - Epoch(train) [12][20/87]')
    assert _is_progress('11/22 16:58:39 - mmengine - INFO - Iter(val) [7/7] mIoU: 8.06')
    assert not _is_progress('11/22 16:58:39 - mmengine - INFO - paramwise_options')
