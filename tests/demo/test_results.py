import json

import pytest

from demo.results import last_checkpoint, read_metric
from volo.errors import DataError
from volo.visualization.curves import read_curves


def test_a_run_that_never_was_is_named(tmp_path):
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
