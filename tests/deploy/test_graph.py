import numpy as np
import pytest
import torch
from mmengine.model import BaseModel

from tests.deploy.small_models import (
    DECODE_HEADS,
    build_classifier,
    build_segmentor,
)
from volo.deploy.graph import build_graph
from volo.deploy.parity import predict_with_pytorch
from volo.errors import ConfigError


def images(batch, height, width):
    shape = (batch, height, width, 3)
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def run(graph, array):
    with torch.no_grad():
        outputs = graph(torch.from_numpy(array))
    return {
        name: output.numpy()
        for name, output in zip(graph.output_names, outputs, strict=True)
    }


def assert_equal(ours, expected):
    for name, output in ours.items():
        np.testing.assert_allclose(output, expected[name], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize('head', DECODE_HEADS)
def test_segmentors_predict_as_mmseg_does(head):
    model = build_segmentor(head)
    array = images(2, 40, 70)
    ours = run(build_graph(model, logits=True), array)
    assert ours['classes'].dtype == np.uint8 and ours['classes'].shape == (2, 40, 70)
    assert ours['logits'].shape == (2, 5, 40, 70)
    expected = predict_with_pytorch(model, array)
    assert len(np.unique(expected['classes'])) > 1
    assert_equal(ours, expected)


@pytest.mark.parametrize('head', ['VOLOHead', 'LinearClsHead'])
def test_classifiers_predict_as_mmpretrain_does(head):
    model = build_classifier(head)
    array = images(2, 40, 70)
    ours = run(build_graph(model, logits=True), array)
    assert ours['probabilities'].shape == (2, 5)
    assert_equal(ours, predict_with_pytorch(model, array))


def test_logits_are_on_request():
    assert build_graph(build_segmentor()).output_names == ('classes', 'confidence')
    graph = build_graph(build_classifier())
    assert graph.output_names == ('probabilities',)
    assert run(graph, images(1, 32, 32)).keys() == {'probabilities'}


@pytest.mark.parametrize(
    'preprocessor',
    [
        dict(test_cfg=dict(size_divisor=32), pad_val=3),
        dict(bgr_to_rgb=False),
        dict(mean=None, std=None),
    ],
    ids=str,
)
def test_preprocessing_is_that_of_the_config(preprocessor):
    model = build_segmentor('FCNHead', preprocessor=preprocessor)
    array = images(1, 40, 70)
    ours = run(build_graph(model, logits=True), array)
    assert_equal(ours, predict_with_pytorch(model, array))


def test_classifiers_pad_as_mmpretrain_does():
    model = build_classifier()
    model.data_preprocessor.pad_size_divisor = 64
    model.data_preprocessor.pad_value = 2
    array = images(1, 40, 70)
    ours = run(build_graph(model), array)
    assert_equal(ours, predict_with_pytorch(model, array))


def test_two_classes_may_come_from_one_logit():
    model = build_segmentor('FCNHead', num_classes=2, out_channels=1, threshold=0.4)
    array = images(1, 40, 70)
    ours = run(build_graph(model), array)
    expected = predict_with_pytorch(model, array)
    assert len(np.unique(expected['classes'])) == 2
    assert_equal(ours, expected)


def test_float16_is_close():
    model = build_segmentor()
    array = images(1, 40, 70)
    ours = run(build_graph(model, logits=True, half=True), array)
    expected = predict_with_pytorch(model, array)
    assert ours['logits'].dtype == np.float32
    scale = np.abs(expected['logits']).max()
    assert np.abs(ours['logits'] - expected['logits']).max() < 0.01 * scale
    assert (ours['classes'] == expected['classes']).mean() > 0.99


def test_what_cannot_be_exported_is_named():
    with pytest.raises(ConfigError, match='BaseModel cannot be exported'):
        build_graph(type('BaseModel', (BaseModel,), dict(forward=None))())
    model = build_segmentor('FCNHead', preprocessor=dict(test_cfg=dict(size=(64, 64))))
    with pytest.raises(ConfigError, match='padding to a fixed size'):
        build_graph(model)
    model = build_segmentor('FCNHead', num_classes=300)
    with pytest.raises(ConfigError, match='300 classes do not fit'):
        build_graph(model)
