import numpy as np
import pytest
from PIL import Image

from volo.errors import ConfigError
from volo.visualization.curves import Curve
from volo.visualization.runs import default_scalars, draw_runs, running_mean

LINE = Curve([1, 2, 3], [3.0, 1.0, 2.0])
METRIC = Curve([1], [50.0], 'epoch', validation=True)


def test_loss_metrics_and_rate_are_the_default():
    runs = [
        {'lr': LINE, 'time': LINE, 'loss': LINE, 'accuracy/top1': METRIC},
        {'mIoU': METRIC, 'val/time': METRIC},
    ]
    assert default_scalars(runs) == ['loss', 'accuracy/top1', 'mIoU', 'lr']
    assert default_scalars([{'time': LINE}]) == ['time']


def test_the_running_mean_looks_back():
    assert np.allclose(running_mean([3.0, 1.0, 2.0, 4.0], 2), [3, 2, 1.5, 3])
    assert np.allclose(running_mean([3.0, 1.0], 10), [3, 2])


@pytest.mark.parametrize('name', ['curves.png', 'new/curves.svg'])
def test_runs_that_differ_are_drawn(tmp_path, name):
    runs = {'a': {'loss': LINE, 'mIoU': METRIC}, 'b': {'loss': METRIC, 'lr': LINE}}
    draw_runs(runs, tmp_path / name, smooth=2)
    assert (tmp_path / name).stat().st_size > 1000


def test_one_line_per_run(tmp_path):
    draw_runs({'a': {'loss': LINE}, 'b': {'loss': LINE}}, tmp_path / 'a.png')
    with Image.open(tmp_path / 'a.png') as image:
        colors = {rgb for _, rgb in image.convert('RGB').getcolors(1 << 22)}
    assert {(31, 119, 180), (255, 127, 14)} <= colors


def test_invalid_drawings_are_errors(tmp_path):
    runs = {'a': {'loss': LINE, 'lr': LINE}}
    with pytest.raises(ConfigError, match="no scalar 'los': there are loss, lr"):
        draw_runs(runs, tmp_path / 'a.png', ['los'])
    with pytest.raises(ConfigError, match=r'a\.doc: unknown image format: .*\.png'):
        draw_runs(runs, tmp_path / 'a.doc')
    (tmp_path / 'file').touch()
    with pytest.raises(ConfigError, match='cannot be written'):
        draw_runs(runs, tmp_path / 'file/a.png')
