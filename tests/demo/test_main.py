import json
import re

import pytest
from PIL import Image

from tests.toy import run_tool
from volo.token_label import PackedLabelMaps

pytestmark = pytest.mark.slow


def test_every_stage_runs_and_missed_bars_are_an_error(tmp_path):
    work_dir = tmp_path / 'demo'
    work_dir.mkdir()
    (work_dir / 'earlier.txt').write_text('kept')
    done = run_tool(
        'demo',
        *('--work-dir', work_dir, '--data-root', tmp_path / 'data'),
        *('--epochs', 1, '--iterations', 2, '--images-per-class', 5),
    )
    # One epoch is not enough, and the demo says so.
    assert done.returncode == 2, done.stdout + done.stderr
    assert 'Traceback' not in done.stderr
    (error,) = [li for li in done.stderr.splitlines() if li.startswith('error: ')]
    assert 'top-1' in error and 'is below 85 %' in error
    for stage in range(1, 8):
        assert f'[{stage}/7]' in done.stdout
    assert len(PackedLabelMaps(work_dir / 'token_labels')) == 35
    for name in ('predictions.png', 'curves.png'):
        assert Image.open(work_dir / name).width > 300
        assert name in done.stdout
    # The table shows what the evaluation measured.
    for run, metric, label in (
        ('classifier', 'accuracy/top1', 'classification, top-1'),
        ('segmentor_pretrained', 'mIoU', 'segmentation, mIoU, pretrained'),
        ('segmentor_scratch', 'mIoU', 'segmentation, mIoU, from scratch'),
    ):
        measured = json.loads((work_dir / run / 'metrics.json').read_text())[metric]
        (shown,) = re.findall(rf'{label} +(\d+\.\d+) %', done.stdout)
        assert float(shown) == pytest.approx(measured, abs=0.006)
        assert (work_dir / run / 'console.log').stat().st_size > 0
    (kept,) = tmp_path.glob('demo-*/earlier.txt')
    assert kept.read_text() == 'kept'
