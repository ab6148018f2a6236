"""The inference APIs of mmsegmentation and mmpretrain, as their users call them."""

import numpy as np
import pytest
from mmpretrain import ImageClassificationInferencer
from mmseg.apis import MMSegInferencer, inference_model, init_model
from PIL import Image

import volo  # noqa: F401  registers what the configs name
from volo.errors import CheckpointError

pytestmark = pytest.mark.slow

SIZES = [(64, 64), (97, 180), (250, 333)]


def image(height, width):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture
def segmentor(trained):
    config, checkpoint = trained / 'segment.py', trained / 'segment/iter_4.pth'
    return init_model(config, str(checkpoint), device='cpu')


@pytest.mark.parametrize('height, width', SIZES)
def test_mmseg_inference_model(segmentor, tmp_path, height, width):
    array = image(height, width)
    Image.fromarray(array[..., ::-1]).save(tmp_path / 'image.png')
    # The file first: for an array, mmseg alters the pipeline of the model for good.
    path = str(tmp_path / 'image.png')
    of_file = inference_model(segmentor, path).pred_sem_seg.data
    of_array = inference_model(segmentor, array).pred_sem_seg.data
    assert of_array.shape == (1, height, width)
    assert (of_array == of_file).all()
    assert segmentor.dataset_meta['classes'][0] == 'background'


def test_mmseg_inferencer(trained, tmp_path):
    inferencer = MMSegInferencer(
        model=str(trained / 'segment.py'),
        weights=str(trained / 'segment/iter_4.pth'),
        device='cpu',
    )
    Image.fromarray(image(70, 90)).save(tmp_path / 'image.png')
    result = inferencer(str(tmp_path / 'image.png'), out_dir=str(tmp_path / 'out'))
    assert result['predictions'].shape == (70, 90)
    assert len(list((tmp_path / 'out').rglob('*.png'))) == 2


@pytest.mark.parametrize('height, width', SIZES)
def test_mmpretrain_inferencer(trained, height, width):
    inferencer = ImageClassificationInferencer(
        model=str(trained / 'classify.py'),
        pretrained=str(trained / 'classify/epoch_2.pth'),
        device='cpu',
    )
    (result,) = inferencer(image(height, width))
    assert result['pred_class'] in inferencer.classes
    assert result['pred_scores'].sum() == pytest.approx(1, abs=1e-5)


def test_init_model_refuses_another_arch(trained):
    options = {'model.backbone.arch': 'd1'}
    with pytest.raises(CheckpointError, match='do not belong to this VOLO'):
        init_model(
            trained / 'segment.py',
            str(trained / 'segment/iter_4.pth'),
            device='cpu',
            cfg_options=options,
        )
