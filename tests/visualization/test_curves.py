import json

import pytest

from volo.errors import DataError
from volo.visualization.curves import Curve, read_curves


def write(run, name, *lines):
    log = run / name / 'vis_data/scalars.json'
    log.parent.mkdir(parents=True)
    log.write_text(''.join(f'{json.dumps(line)}\n' for line in lines))
    return log


def training(iteration, loss, **more):
    return dict(loss=loss, time=0.1, iter=iteration, step=iteration, **more)


def test_curves_are_read_by_name_and_unit(tmp_path):
    write(
        tmp_path,
        '1',
        training(3, 3.0, epoch=1),
        {'accuracy/top1': 40.0, 'time': 9.0, 'step': 1},
        training(6, 2.0, epoch=2),
        {'accuracy/top1': 50.0, 'time': 9.0, 'step': 2},
    )
    assert read_curves(tmp_path) == {
        'loss': Curve([3, 6], [3.0, 2.0]),
        'time': Curve([3, 6], [0.1, 0.1]),
        'accuracy/top1': Curve([1, 2], [40.0, 50.0], 'epoch', validation=True),
        'val/time': Curve([1, 2], [9.0, 9.0], 'epoch', validation=True),
    }


def test_validation_by_iteration_is_not_training(tmp_path):
    write(tmp_path, '1', training(50, 1.0), dict(mIoU=50, step=80))
    assert read_curves(tmp_path)['mIoU'] == Curve([80], [50], validation=True)


def test_a_resumed_run_may_validate_before_it_logs_an_iteration(tmp_path):
    scores = [{'accuracy/top1': 40.0 + i, 'time': 9.0, 'step': i} for i in range(1, 5)]
    write(tmp_path, '1', training(3, 3.0, epoch=1), scores[0])
    write(tmp_path, '2', scores[1], training(9, 1.0, epoch=3), scores[2])
    write(tmp_path, '3', scores[3])
    curves = read_curves(tmp_path)
    assert curves['accuracy/top1'] == Curve(
        [1, 2, 3, 4], [41.0, 42.0, 43.0, 44.0], 'epoch', validation=True
    )
    assert curves['time'] == Curve([3, 9], [0.1, 0.1])
    assert curves['val/time'].steps == [1, 2, 3, 4]


def test_a_resumed_run_replaces_repeated_steps(tmp_path):
    write(tmp_path, '20200102', training(25, 0.5), training(35, 0.4))
    write(tmp_path, '20200101', *(training(i, 9.0) for i in (10, 20, 30, 40)))
    assert read_curves(tmp_path)['loss'] == Curve([10, 20, 25, 35], [9, 9, 0.5, 0.4])


def test_a_missing_run_is_named(tmp_path):
    with pytest.raises(DataError, match=tmp_path.name):
        read_curves(tmp_path)


@pytest.mark.parametrize('broken', ['{"loss": 1', '{"loss": 1}', '[1]'])
def test_a_broken_line_is_named(tmp_path, broken):
    log = write(tmp_path, '1', training(1, 1.0))
    log.write_text(log.read_text() + broken)
    with pytest.raises(DataError, match=r'scalars\.json, line 2: .* delete it'):
        read_curves(tmp_path)
