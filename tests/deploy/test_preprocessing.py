import numpy as np
import pytest
from mmcv.transforms import Compose
from mmengine.registry import DefaultScope

import volo  # noqa: F401  registers transforms
from tests.forked import ROOT
from volo.deploy.preprocessing import last_size, prepare, read_rule
from volo.engine.launch import load_config


def image(height, width):
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (height // 8 + 1, width // 8 + 1, 3), dtype=np.uint8)
    return coarse.repeat(8, axis=0).repeat(8, axis=1)[:height, :width]


CLASSIFICATION = [
    [
        dict(type='NumpyToPIL', to_rgb=True),
        dict(type='torchvision/Resize', size=50, interpolation='bicubic'),
        dict(type='torchvision/CenterCrop', size=48),
        dict(type='PILToNumpy', to_bgr=True),
    ],
    [
        dict(type='NumpyToPIL', to_rgb=True),
        dict(type='torchvision/Resize', size=(30, 44)),
        dict(type='torchvision/CenterCrop', size=[40, 50]),  # pads
        dict(type='PILToNumpy', to_bgr=True),
    ],
    [
        dict(type='ResizeEdge', scale=50, edge='short', backend='pillow'),
        dict(type='CenterCrop', crop_size=33),
    ],
    [dict(type='Resize', scale=64, backend='pillow', interpolation='bicubic')],
    [dict(type='Resize', scale=(90, 70))],
]
SEGMENTATION = [
    [dict(type='Resize', scale=(160, 50), keep_ratio=True)],
    [dict(type='Resize', scale=(300, 200), keep_ratio=True, interpolation='bicubic')],
    [dict(type='Resize', scale=(60, 70), keep_ratio=False, interpolation='nearest')],
    [],
]


@pytest.mark.parametrize(
    'scope, pipeline',
    [
        *(('mmpretrain', pipeline) for pipeline in CLASSIFICATION),
        *(('mmseg', pipeline) for pipeline in SEGMENTATION),
    ],
)
@pytest.mark.parametrize('size', [(97, 131), (120, 80)], ids=str)
def test_prepares_as_the_pipeline_does(scope, pipeline, size):
    rule = read_rule([dict(type='LoadImageFromFile'), *pipeline])
    assert rule['unknown'] == []
    array = image(*size)
    ours = prepare(array, rule)
    with DefaultScope.overwrite_default_scope(scope):
        results = Compose(pipeline)(
            dict(img=array[..., ::-1].copy(), img_shape=size, ori_shape=size)
        )
    expected = results['img'][..., ::-1]
    assert ours.shape == expected.shape and ours.dtype == np.uint8
    difference = np.abs(ours.astype(int) - expected)
    assert difference.max() <= 1


def test_what_no_step_describes_is_named():
    rule = read_rule([dict(type='mmseg.ResizeShortestEdge', scale=3, max_size=9)])
    assert rule == dict(steps=[], unknown=['mmseg.ResizeShortestEdge'])
    rule = read_rule([dict(type='Resize', scale_factor=0.5)])
    assert rule['unknown'] == ['Resize']


@pytest.mark.parametrize('path', sorted((ROOT / 'configs').glob('*.py')), ids=str)
def test_rules_describe_the_configs(path):
    cfg = load_config(path)
    rule = read_rule(cfg.test_dataloader.dataset.pipeline)
    assert rule['unknown'] == []
    if cfg.default_scope == 'mmpretrain' and 'imagenet' in path.stem:
        side = cfg.model.backbone.img_size
        assert last_size(rule) == (side, side)
