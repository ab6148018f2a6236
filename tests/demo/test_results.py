import json

import pytest

from volo.demo.results import last_checkpoint, read_curves, read_metric
from volo.errors import DataError


def test_curves_are_read_by_name(tmp_path):
    log = tmp_path / '20200101_000000/vis_data/scalars.json'
    log.parent.mkdir(parents=True)
    log.write_text(
        '{"loss": 2.0, "step": 1}\n{"loss": 1.0, "step": 2}\n{"mIoU": 50, "step": 2}\n'
    )
    curves = read_curves(tmp_path)
    assert curves['loss'].steps == [1, 2] and curves['loss'].values == [2.0, 1.0]
    assert curves['mIoU'].values == [50]


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
