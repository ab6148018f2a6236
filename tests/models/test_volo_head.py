import json
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.registry import DefaultScope
from mmpretrain.models import ImageClassifier
from mmpretrain.structures import DataSample

from tests.synth_weights import synth_images, synth_state_dict
from volo.checkpoints.layouts import convert_state_dict
from volo.errors import ConfigError
from volo.models import ARCHS, VOLOHead

DATA = Path(__file__).parents[1] / 'data'


def classifier(arch='tiny', num_classes=1000, img_size=224, **head):
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        return ImageClassifier(
            backbone=dict(type='VOLO', arch=arch, img_size=img_size),
            head=dict(type='VOLOHead', arch=arch, num_classes=num_classes, **head),
        )


@pytest.mark.parametrize('size, batch, seed', [(224, 2, 1), (384, 1, 21)])
def test_logits_equal_the_authors(size, batch, seed):
    manifest = json.loads((DATA / 'volo_d1.json').read_text())
    model = classifier('d1', img_size=size).eval()
    model.load_state_dict(convert_state_dict(synth_state_dict(manifest)))
    golden = np.load(DATA / f'volo_d1_{size}_eval.npz')['logits']
    with torch.no_grad():
        logits = model(synth_images(batch, size, size, seed=seed))
    np.testing.assert_allclose(logits.numpy(), golden, atol=1e-4)


def test_prediction_adds_half_the_best_token():
    torch.manual_seed(0)
    head = VOLOHead(arch='tiny', num_classes=4).eval()
    feats = (torch.randn(2, 160, 3, 5),)
    cls_logits, token_logits = head.class_and_token_logits(feats)
    assert cls_logits.shape == (2, 4) and token_logits.shape == (2, 15, 4)
    expected = cls_logits + token_logits.max(dim=1).values / 2
    torch.testing.assert_close(head(feats), expected)


@pytest.mark.parametrize('num_classes', [1, 2, 3, 7])
@pytest.mark.parametrize('loss', ['CrossEntropyLoss', 'LabelSmoothLoss'])
def test_trains_on_plain_labels_with_any_number_of_classes(num_classes, loss):
    loss = dict(type=loss)
    if loss['type'] == 'LabelSmoothLoss':
        loss.update(label_smooth_val=0.1, mode='original')
    model = classifier(num_classes=num_classes, img_size=32, loss=loss)
    samples = [DataSample().set_gt_label(i % num_classes) for i in range(4)]
    losses = model(torch.rand(4, 3, 32, 32), samples, mode='loss')
    assert set(losses) == {'loss_cls', 'loss_token'}
    sum(losses.values()).backward()
    without = [n for n, p in model.named_parameters() if p.grad is None]
    assert without == []


def test_losses_are_cross_entropies_of_class_token_and_tokens():
    torch.manual_seed(0)
    head = VOLOHead(arch='tiny', num_classes=3, dense_weight=0.25)
    feats = (torch.randn(2, 160, 2, 2),)
    labels = torch.tensor([2, 0])
    cls_logits, token_logits = head.class_and_token_logits(feats)
    log_cls, log_tokens = cls_logits.log_softmax(-1), token_logits.log_softmax(-1)
    loss_cls = -(log_cls[0, 2] + log_cls[1, 0]) / 2
    loss_token = -(log_tokens[0, :, 2].sum() + log_tokens[1, :, 0].sum()) / 8
    hard = [DataSample().set_gt_label(label) for label in labels]
    soft = [
        DataSample().set_gt_score(torch.eye(3)[label]).set_gt_label(label)
        for label in labels
    ]
    for samples in (hard, soft):
        losses = head.loss(feats, samples)
        torch.testing.assert_close(losses['loss_cls'], loss_cls)
        torch.testing.assert_close(losses['loss_token'], 0.25 * loss_token)


def without_arch(**backbone):
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        return ImageClassifier(
            backbone=dict(type='VOLO', **backbone),
            head=dict(type='VOLOHead', num_classes=3),
        )


def test_a_head_without_arch_takes_the_backbones():
    for arch in ('tiny', 'd2'):
        with torch.device('meta'):
            assert without_arch(arch=arch).head.arch == ARCHS[arch]
    own = dict(depths=(1, 1, 1, 1), embed_dims=(32, 64), num_heads=(1, 2))
    model = without_arch(arch=own)
    assert model.head.cls_token.shape[-1] == 64
    assert model(torch.rand(1, 3, 32, 32)).shape == (1, 3)


def test_a_head_of_another_arch_names_both():
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = ImageClassifier(
            backbone=dict(type='VOLO', arch='tiny'),
            head=dict(type='VOLOHead', arch='d2', num_classes=3),
        )
    with pytest.raises(ConfigError, match='has arch d2, .* 160 channels, as tiny does'):
        model(torch.rand(1, 3, 32, 32))


def test_predictions_are_mmpretrains():
    model = classifier(num_classes=3, img_size=32).eval()
    predictions = model(torch.rand(2, 3, 40, 56), mode='predict')
    assert [p.pred_score.shape for p in predictions] == [(3,), (3,)]
    assert all(p.pred_score.sum().item() == pytest.approx(1) for p in predictions)
