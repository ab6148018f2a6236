import pytest
from mmengine.config import Config

from volo.engine.configs import load_config
from volo.errors import ConfigError
from volo.models.head_options import head_options
from volo.paths import package_data_root

CONFIGS = package_data_root() / 'configs'
ARCH = 'model.backbone.arch'
CLASSIFIER = dict(
    backbone=dict(type='VOLO', arch='tiny'), head=dict(type='VOLOHead', num_classes=3)
)


def load(tmp_path, model, **options):
    path = tmp_path / 'config.py'
    Config(dict(model=model)).dump(path)
    return load_config(path, {key.replace('__', '.'): v for key, v in options.items()})


@pytest.mark.parametrize('path', sorted(CONFIGS.glob('*.py')), ids=lambda p: p.stem)
def test_another_arch_is_one_option(path):
    model = load_config(path, {ARCH: 'tiny'}).model
    if 'head' in model:
        assert model.head.arch == 'tiny'
    else:
        assert model.decode_head.in_channels == [64, 160, 160, 160]
        assert model.auxiliary_head.in_channels == 160


def test_what_is_absent_is_filled_in(tmp_path):
    assert load(tmp_path, CLASSIFIER).model.head.arch == 'tiny'
    segmentor = dict(
        backbone=dict(type='VOLO', arch='d2', out_indices=(0, -1)),
        decode_head=dict(type='SegformerHead', in_index=[0, 1]),
        auxiliary_head=[dict(type='FCNHead', in_index=i) for i in (0, -1)],
    )
    model = load(tmp_path, segmentor).model
    assert model.decode_head.in_channels == [256, 512]
    assert [head.in_channels for head in model.auxiliary_head] == [256, 512]


@pytest.mark.parametrize(
    'change',
    [
        dict(backbone=dict(type='ResNet', depth=18)),
        dict(neck=dict(type='GlobalAveragePooling')),
        dict(head=dict(type='LinearClsHead')),
        dict(head=None, decode_head=dict(type='Mask2FormerHead', in_channels=[1])),
    ],
)
def test_nothing_follows_in_other_models(tmp_path, change):
    model = {**CLASSIFIER, **change}
    assert head_options(model) == {}
    assert load(tmp_path, model).model == model


def test_a_mismatch_names_both():
    classifier = CONFIGS / 'volo_d1_imagenet.py'
    with pytest.raises(ConfigError, match='head.arch is d2, but .* is d1'):
        load_config(classifier, {'model.head.arch': 'd2'})
    with pytest.raises(ConfigError, match='head.arch is d1, but .* is tiny'):
        load_config(classifier, {'model.head.arch': 'd1', ARCH: 'tiny'})
    segmentor = CONFIGS / 'volo_d1_upernet_camvid.py'
    with pytest.raises(ConfigError, match='auxiliary_head.in_channels is 7, .*384'):
        load_config(segmentor, {'model.auxiliary_head.in_channels': 7})
    with pytest.raises(ConfigError, match='in_index is 2, but .* 2 outputs'):
        load_config(
            segmentor,
            {
                'model.backbone.out_indices': (0, 1),
                'model.decode_head.in_index': (0, 1),
            },
        )


def test_a_dict_is_the_arch_that_it_describes(tmp_path):
    model = dict(
        backbone=dict(type='VOLO', arch=dict(depths=[4, 4, 8, 2])),
        head=dict(type='VOLOHead', arch='d1'),
    )
    assert load(tmp_path, model).model.head.arch == 'd1'
