import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS
from mmpretrain.structures import DataSample
from mmseg.structures import SegDataSample

from tests.deploy.small_models import build_classifier, build_segmentor
from tests.deploy.test_graph import images
from volo.deploy import evaluation
from volo.deploy.evaluation import (
    ThroughputHook,
    compare_metrics,
    is_exported,
    use_exported,
)
from volo.deploy.parity import predict_with_pytorch
from volo.errors import ConfigError


class PyTorch:
    """A runtime that is the model itself."""

    path = 'model.onnx'

    def __init__(self, model, outputs):
        self.model = model
        self.metadata = dict(
            outputs=outputs, classes=['a'] * 5, align_corners=False, threshold=None
        )

    def run(self, array):
        assert array.dtype == np.uint8
        outputs = predict_with_pytorch(self.model, array)
        outputs['classes'] = outputs['classes'].astype(np.uint8)
        return {name: outputs[name] for name in self.metadata['outputs']}


def open_as(monkeypatch, model, outputs):
    def open_exported(path, task):
        assert path == 'model.onnx' and task in ('segmentation', 'classification')
        return PyTorch(model, outputs)

    monkeypatch.setattr(evaluation, 'open_exported', open_exported)


def batch(array, sample, **meta):
    """Make what a loader gives: BGR, channels first."""
    inputs = [torch.from_numpy(i[..., ::-1].copy()).permute(2, 0, 1) for i in array]
    size = array.shape[1:3]
    info = dict(ori_shape=size, img_shape=size, pad_shape=size) | meta
    return dict(inputs=inputs, data_samples=[sample(metainfo=info) for _ in inputs])


SLIDE = dict(mode='slide', crop_size=(32, 32), stride=(20, 20))


@pytest.mark.parametrize(
    'test_cfg, meta',
    [
        (dict(mode='whole'), {}),
        (SLIDE, {}),
        (SLIDE, dict(ori_shape=(80, 100))),
        (dict(mode='whole'), dict(flip=True, flip_direction='horizontal')),
    ],
    ids=str,
)
def test_segmentors_predict_as_the_model_does(monkeypatch, test_cfg, meta):
    model = build_segmentor('FCNHead')
    model.test_cfg = Config(test_cfg)
    open_as(monkeypatch, model, ['classes', 'confidence', 'logits'])
    exported = evaluation.ExportedSegmentor('model.onnx', test_cfg)
    array = images(2, 40, 70)
    (ours, expected) = [
        m.test_step(batch(array, SegDataSample, **meta)) for m in (exported, model)
    ]
    for one, other in zip(ours, expected, strict=True):
        logits = other.seg_logits.data
        torch.testing.assert_close(one.seg_logits.data, logits, atol=1e-4, rtol=1e-4)
        assert (one.pred_sem_seg.data == other.pred_sem_seg.data).float().mean() > 0.999


def test_class_maps_are_enough_for_whole_images(monkeypatch):
    model = build_segmentor('FCNHead')
    open_as(monkeypatch, model, ['classes', 'confidence'])
    exported = evaluation.ExportedSegmentor('model.onnx')
    array = images(2, 40, 70)
    for one, classes in zip(
        exported.test_step(batch(array, SegDataSample)),
        predict_with_pytorch(model, array)['classes'],
        strict=True,
    ):
        assert (one.pred_sem_seg.data.numpy() == classes[None]).all()
    message = 'model.onnx returns no logits, but the pipeline resizes or flips: export'
    with pytest.raises(ConfigError, match=message):
        exported.test_step(batch(array, SegDataSample, ori_shape=(80, 140)))
    with pytest.raises(ConfigError, match='but slide inference averages logits'):
        evaluation.ExportedSegmentor('model.onnx', SLIDE)


def test_classifiers_predict_as_the_model_does(monkeypatch):
    model = build_classifier()
    open_as(monkeypatch, model, ['probabilities'])
    exported = evaluation.ExportedClassifier('model.onnx')
    array = images(3, 40, 70)
    ours, expected = [m.test_step(batch(array, DataSample)) for m in (exported, model)]
    for one, other in zip(ours, expected, strict=True):
        torch.testing.assert_close(one.pred_score, other.pred_score)
        assert one.pred_label == other.pred_label


@pytest.mark.parametrize('scope', ['mmseg', 'mmpretrain'])
def test_the_model_of_a_config_is_replaced(monkeypatch, scope):
    model = build_segmentor('FCNHead') if scope == 'mmseg' else build_classifier()
    open_as(monkeypatch, model, ['logits', 'probabilities', 'classes'])
    cfg = Config(dict(default_scope=scope, model=dict(test_cfg=dict(mode='whole'))))
    use_exported(cfg, 'model.onnx')
    built = MODELS.build(cfg.model)
    kind = 'Segmentor' if scope == 'mmseg' else 'Classifier'
    assert type(built).__name__ == f'Exported{kind}' and cfg.load_from is None
    assert is_exported('a/model.xml') and not is_exported('a/model.pth')


def test_the_first_batch_is_not_timed(monkeypatch):
    times = iter([0, 100, 200, 202, 300, 303])
    monkeypatch.setattr(ThroughputHook, '_now', lambda self: next(times))
    hook, metrics = ThroughputHook(), {}
    hook.before_test_epoch(None)
    for i in range(3):
        hook.before_test_iter(None, i)
        hook.after_test_iter(None, i, outputs=['image'] * 10)
    hook.after_test_epoch(None, metrics)
    assert metrics == {'images/s': 20 / 5}


def test_metrics_stand_side_by_side():
    table = compare_metrics(
        {'mIoU': np.float32(50.25), 'confusion': [[1]], 'images/s': 8.0},
        {'mIoU': np.float32(50.3), 'confusion': [[1]], 'images/s': 4.0},
        'model.onnx',
    )
    assert [line.split() for line in table.splitlines()] == [
        ['metric', 'model.onnx', 'PyTorch', 'difference'],
        ['mIoU', '50.25', '50.30', '-0.05'],
        ['images/s', '8.00', '4.00', '+4.00'],
    ]
