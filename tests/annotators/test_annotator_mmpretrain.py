import copy

import pytest
import torch
from mmengine.registry import DefaultScope
from mmpretrain.registry import MODELS

from tests.toy import ROOT
from volo.annotators.annotator_mmpretrain import (
    MMPretrainAnnotator,
    build_mmpretrain_annotator,
)
from volo.checkpoints.layouts import to_official_layout
from volo.errors import CheckpointError, ConfigError

GAP = dict(type='GlobalAveragePooling')
VIT_ARCH = dict(embed_dims=24, num_layers=1, num_heads=2, feedforward_channels=48)
VIT = dict(type='VisionTransformer', arch=VIT_ARCH, img_size=64, patch_size=16)
CONVNEXT = dict(
    type='ConvNeXt', arch=dict(depths=[1, 1, 1, 1], channels=[8, 12, 16, 24])
)
RESNET = dict(type='ResNet', depth=18, base_channels=8)
LINEAR = dict(type='LinearClsHead', num_classes=7, in_channels=24)
OF_RESNET = dict(LINEAR, in_channels=64)
STACKED = dict(
    type='StackedLinearClsHead', num_classes=7, in_channels=64, mid_channels=[10]
)
CONFIG = """
model = dict(
    type='ImageClassifier',
    backbone=dict(type='ResNet', depth=18, base_channels=8),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=7, in_channels=64),
)
data_preprocessor = dict(mean=[1, 2, 3], std=[4, 5, 6], to_rgb={to_rgb})
pipeline = [
    dict(type='ResizeEdge', scale=128),
    dict(type='CenterCrop', crop_size=96),
    dict(type='PackInputs'),
]
test_dataloader = dict(dataset=dict(pipeline=pipeline))
"""


def make(backbone, head, neck=None):
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(
            dict(type='ImageClassifier', backbone=backbone, neck=neck, head=head)
        )
    for name, value in model.named_parameters():
        if 'norm' in name or 'ln' in name or name.startswith('head'):
            torch.nn.init.normal_(value)
    return model.eval()


@pytest.mark.parametrize('head', [OF_RESNET, STACKED])
def test_locations_of_a_map_go_through_the_head(head):
    model = make(RESNET, head, GAP)
    original = copy.deepcopy(model)
    annotator = MMPretrainAnnotator(model, 'it', 96)
    images = torch.randn(2, 3, 96, 96)
    scores, logits = annotator(images)
    assert annotator.grid == (3, 3) and annotator.num_classes == 7
    torch.testing.assert_close(logits, original(images))
    with torch.inference_mode():
        vectors = original.backbone(images)[-1][:, :, 1, 2]
        torch.testing.assert_close(scores[..., 1, 2], original.head((vectors,)))
    if head is OF_RESNET:
        torch.testing.assert_close(scores.mean((2, 3)), logits, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('out_type', ['cls_token', 'avg_featmap'])
@pytest.mark.parametrize('head', ['LinearClsHead', 'VisionTransformerClsHead'])
def test_tokens_go_through_the_head(out_type, head):
    model = make(dict(VIT, out_type=out_type), dict(LINEAR, type=head))
    original = copy.deepcopy(model)
    images = torch.randn(2, 3, 96, 96)  # Not the size that the model was made for.
    scores, logits = MMPretrainAnnotator(model, 'it', 96)(images)
    torch.testing.assert_close(logits, original(images))
    original.backbone.out_type = 'featmap'
    with torch.inference_mode():
        tokens = original.backbone(images)[-1].permute(0, 2, 3, 1)
        if out_type == 'avg_featmap':
            tokens = original.backbone.ln2(tokens)
        classify = getattr(original.head, 'fc', None) or original.head.layers
        expected = classify(tokens).permute(0, 3, 1, 2)
    assert scores.shape == (2, 7, 6, 6)
    torch.testing.assert_close(scores, expected)


def test_convnexts_norm_after_the_pooling_is_applied_to_locations():
    model = make(CONVNEXT, LINEAR)
    original = copy.deepcopy(model)
    images = torch.randn(2, 3, 96, 96)
    scores, logits = MMPretrainAnnotator(model, 'it', 96)(images)
    torch.testing.assert_close(logits, original(images))
    original.backbone.gap_before_final_norm = False
    with torch.inference_mode():
        normed = original.backbone(images)[-1].permute(0, 2, 3, 1)
        expected = original.head.fc(normed).permute(0, 3, 1, 2)
    torch.testing.assert_close(scores, expected)


@pytest.fixture(scope='module')
def volo_tiny(tmp_path_factory):
    """A config of VOLO tiny, a model of it, and its weights in both layouts."""
    folder = tmp_path_factory.mktemp('volo')
    config = ROOT / 'configs/volo_tiny_cifar10.py'
    torch.manual_seed(0)
    annotator = build_mmpretrain_annotator(config, None)
    weights = annotator.model.state_dict()
    torch.save(dict(meta={}, state_dict=weights), folder / 'ours.pth')
    torch.save(to_official_layout(weights), folder / 'theirs.pth')
    return config, annotator.model, folder


def test_volo_gives_its_token_logits(volo_tiny):
    config, model, folder = volo_tiny
    images = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        expected = model(images)
        feats = model.backbone(images)
        tokens = model.head.aux_fc(model.head.pre_logits(feats)[:, 1:])
    for file in ('ours.pth', 'theirs.pth'):
        annotator = build_mmpretrain_annotator(config, folder / file)
        assert annotator.grid == (4, 4) and annotator.num_classes == 10
        scores, logits = annotator(images)
        torch.testing.assert_close(logits, expected)
        torch.testing.assert_close(scores[:, :, 1, 2], tokens[:, 6])
    assert build_mmpretrain_annotator(config, None, input_size=96).grid == (6, 6)
    with pytest.raises(ConfigError, match='must be a multiple of 16'):
        build_mmpretrain_annotator(config, None, input_size=100)


def test_volos_weights_of_other_classes_are_refused(volo_tiny, tmp_path):
    config, _, folder = volo_tiny
    text = f"_base_ = ['{config}']\nmodel = dict(head=dict(num_classes=3))\n"
    (tmp_path / 'three.py').write_text(text)
    for file in ('ours.pth', 'theirs.pth'):
        with pytest.raises(CheckpointError, match='has 10 classes, the model 3'):
            build_mmpretrain_annotator(tmp_path / 'three.py', folder / file)


def test_a_config_gives_size_and_normalization(tmp_path):
    config = tmp_path / 'resnet.py'
    for to_rgb in (True, False):
        config.write_text(CONFIG.format(to_rgb=to_rgb))
        preprocess = build_mmpretrain_annotator(config, None).preprocess
        assert preprocess.size == 96 and preprocess.bgr is not to_rgb
        assert preprocess.mean == (1, 2, 3) and preprocess.std == (4, 5, 6)
    config.write_text(CONFIG.format(to_rgb=True).replace('test_dataloader', 'x'))
    with pytest.raises(ConfigError, match='give --input-size'):
        build_mmpretrain_annotator(config, None)
    model = build_mmpretrain_annotator(config, None, input_size=64).model
    del model.head.fc
    torch.save(model.state_dict(), tmp_path / 'cut.pth')
    with pytest.raises(CheckpointError, match='cut.pth does not fit the model'):
        build_mmpretrain_annotator(config, tmp_path / 'cut.pth', input_size=64)


@pytest.mark.parametrize(
    ('backbone', 'head', 'neck', 'message'),
    [
        (RESNET, dict(OF_RESNET, type='ArcFaceClsHead'), GAP, 'a ArcFaceClsHead'),
        (
            RESNET,
            OF_RESNET,
            dict(type='GeneralizedMeanPooling'),
            'through a GeneralizedMeanPooling',
        ),
        (RESNET, OF_RESNET, None, 'ResNet does not return the feature map'),
        (
            dict(type='TinyViT', arch='5m'),
            LINEAR,
            None,
            'TinyViT does not return',
        ),
    ],
)
def test_other_classifiers_are_refused(backbone, head, neck, message):
    with pytest.raises(ConfigError, match=message):
        MMPretrainAnnotator(make(backbone, head, neck), 'it', 64)


def test_a_segmentor_is_refused(tmp_path):
    config = ROOT / 'configs/volo_tiny_upernet_shapes.py'
    with pytest.raises(ConfigError, match='no classifier, but EncoderDecoder'):
        build_mmpretrain_annotator(config, None)
    with pytest.raises(ConfigError, match='no such config file'):
        build_mmpretrain_annotator(tmp_path / 'none.py', None)
