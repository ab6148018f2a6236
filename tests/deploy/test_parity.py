import numpy as np
import pytest
from PIL import Image

from tests.deploy.small_models import build_classifier, build_segmentor
from tests.deploy.test_graph import images
from volo.deploy.parity import (
    BATCHES,
    SIZES,
    find_images,
    make_batches,
    measure_parity,
    predict_with_pytorch,
)
from volo.engine.launch import load_config
from volo.errors import ConfigError, DataError


class Altered:
    """A runtime that returns PyTorch's predictions with some changes."""

    def __init__(self, model, change, logits=True):
        self.model, self.change, self.logits = model, change, logits

    def run(self, array):
        outputs = predict_with_pytorch(self.model, array)
        if 'probabilities' in outputs:
            del outputs['classes']
        self.change(outputs)
        if not self.logits:
            del outputs['logits']
        return outputs


BATCH = [images(1, 40, 70), images(2, 32, 32)]


@pytest.mark.parametrize(
    'build', [build_classifier, lambda: build_segmentor('FCNHead')]
)
@pytest.mark.parametrize('logits', [True, False])
def test_the_same_is_the_same(build, logits):
    model = build()
    parity = measure_parity(Altered(model, lambda o: None, logits), model, BATCH)
    assert parity.is_within(0, 1)
    assert parity.compared == ('logits' if logits else 'log-probabilities')
    assert parity.images == 3 and parity.shapes == ['1x40x70', '2x32x32']
    assert str(parity).endswith('0.0e+00, 100.000% equal classes, on 3 images')


def test_differences_are_found():
    model = build_segmentor('FCNHead')

    def change(outputs):
        outputs['logits'][0, 0, 0, 0] += 0.5
        outputs['classes'][0, :4] = 9

    parity = measure_parity(Altered(model, change), model, [BATCH[0]])
    assert parity.difference == pytest.approx(0.5, abs=1e-5)
    assert parity.equal == 1 - 4 * 70 / (40 * 70)
    assert not parity.is_within(0.1, 0) and not parity.is_within(1, 0.999)
    assert parity.is_within(0.6, 0.89)


def test_differences_of_probabilities_are_found():
    for model, name in (
        (build_classifier(), 'probabilities'),
        (build_segmentor('FCNHead'), 'confidence'),
    ):

        def change(outputs, name=name):
            outputs[name][0] *= 1.1

        parity = measure_parity(Altered(model, change, logits=False), model, BATCH)
        assert parity.difference == pytest.approx(np.log(1.1), rel=1e-3)


@pytest.mark.parametrize('logits', [True, False])
def test_nan_is_never_within(logits):
    for model in (build_classifier(), build_segmentor('FCNHead')):

        def change(outputs):
            for name in outputs.keys() - {'classes'}:
                outputs[name].flat[0] = np.nan

        parity = measure_parity(Altered(model, change, logits), model, BATCH)
        assert np.isnan(parity.difference) and not parity.is_within(1e9, 0)


def test_batches_have_the_sizes_that_a_file_takes(tmp_path):
    paths = []
    for i in range(3):
        paths.append(tmp_path / f'{i}.png')
        Image.new('RGB', (30, 20), (i, 0, 0)).save(paths[-1])
    shapes = [batch.shape for batch in make_batches(paths, (32, 48))]
    assert shapes == [(1, 32, 48, 3), (3, 32, 48, 3)]
    batches = list(make_batches(paths, None))
    assert [b.shape[:3] for b in batches] == [(b, *s) for s in SIZES for b in BATCHES]
    assert [int(b) for b in batches[1][:, 0, 0, 0]] == [1, 2, 0]
    (tmp_path / 'bad.png').write_text('text')
    with pytest.raises(DataError, match='bad.png: cannot be read as an image'):
        next(make_batches([tmp_path / 'bad.png'], (32, 32)))


@pytest.mark.parametrize('task', ['classify', 'segment'])
def test_images_are_those_of_the_validation_set(toy, task):
    found = find_images(load_config(toy / f'{task}.py'), [])
    assert len(found) == 7 and all(path.is_file() for path in found)
    assert all('/val/' in str(path) for path in found)


def test_images_may_be_named(toy, tmp_path):
    cfg = load_config(toy / 'segment.py')
    Image.new('RGB', (8, 8)).save(tmp_path / 'a.png')
    (tmp_path / 'note.txt').touch()
    assert find_images(cfg, [str(tmp_path)]) == [tmp_path / 'a.png']
    assert find_images(cfg, [str(tmp_path / 'a.png')]) == [tmp_path / 'a.png']
    with pytest.raises(DataError, match='--images .*none: no such file or folder'):
        find_images(cfg, [str(tmp_path / 'none')])
    (tmp_path / 'a.png').unlink()
    with pytest.raises(DataError, match='no images to compare on'):
        find_images(cfg, [str(tmp_path)])
    cfg.val_dataloader = None
    with pytest.raises(ConfigError, match='has no val_dataloader: name images with'):
        find_images(cfg, [])
