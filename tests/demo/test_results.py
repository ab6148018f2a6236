import json

import pytest

from demo.results import DemoResults, last_checkpoint, read_metric
from volo.errors import DataError
from volo.visualization.curves import read_curves


def test_a_missing_run_is_named(tmp_path):
    for read in (read_curves, last_checkpoint):
        with pytest.raises(DataError, match=tmp_path.name):
            read(tmp_path)


def test_the_pointer_survives_a_move(tmp_path):
    (tmp_path / 'iter_4.pth').touch()
    (tmp_path / 'last_checkpoint').write_text('/somewhere/else/iter_4.pth')
    assert last_checkpoint(tmp_path) == tmp_path / 'iter_4.pth'


def test_metrics_are_read(tmp_path):
    (tmp_path / 'm.json').write_text(json.dumps({'mIoU': 61.5}))
    assert read_metric(tmp_path / 'm.json', 'mIoU') == 61.5


@pytest.mark.parametrize(
    'metrics, missed',
    [
        ((90, 70, 40), []),
        ((80, 70, 40), ['top-1 80.0']),
        ((90, 50, 40), ['mIoU 50.0']),
        ((90, 70, 69), ['pretraining gains 1.0']),
        ((80, 50, 49), ['top-1', 'mIoU', 'pretraining gains']),
    ],
)
def test_missed_bars_are_named(metrics, missed):
    found = DemoResults(*metrics).shortcomings()
    assert len(found) == len(missed)
    assert all(
        text.startswith(start) for text, start in zip(found, missed, strict=True)
    )
