import pytest
import torch
from mmengine.config import Config

from benchmarks import segmentor
from benchmarks.segmentor import (
    build_segmentor,
    make_step,
    measure_segmentor,
    set_crop,
    timm_backbone,
    window_size,
)
from benchmarks.steps import StepOptions
from tests.toy import ROOT
from volo.errors import ConfigError

EAGER = dict(compile=['eager'], repeats=1)


@pytest.fixture
def cfg():
    """A config with thin heads, which compute fast."""
    cfg = Config.fromfile(ROOT / 'configs/volo_d1_upernet_cityscapes.py')
    cfg.model.decode_head.channels = cfg.model.auxiliary_head.channels = 8
    return cfg


def test_windows_of_the_config(cfg):
    crop = set_crop(cfg, None)
    assert crop == (1024, 1024)
    assert window_size(cfg, crop, 'training', (512, 1024)) == (1024, 1024)
    assert window_size(cfg, crop, 'inference', (512, 1024)) == (512, 1024)
    assert window_size(cfg, crop, 'inference', (2048, 4096)) == (1024, 1024)
    cfg.model.test_cfg = dict(mode='whole')
    assert window_size(cfg, crop, 'inference', (2048, 4096)) == (2048, 4096)


def test_another_crop(cfg):
    assert set_crop(cfg, 96) == (96, 96)
    assert cfg.model.backbone.img_size == (96, 96)
    assert cfg.model.test_cfg.crop_size == (96, 96)
    assert cfg.model.test_cfg.stride == (64, 64)


def test_timm_returns_maps_of_the_same_shapes(cfg):
    set_crop(cfg, 64)
    window = (32, 64)
    shapes, sizes = [], []
    for backbone in segmentor.BACKBONES:
        net = build_segmentor(cfg, backbone, window).backbone.eval()
        with torch.inference_mode():
            shapes.append([tuple(m.shape) for m in net(torch.zeros(1, 3, *window))])
        sizes.append(
            sum(p.numel() for n, p in net.named_parameters() if 'pos_embed' not in n)
        )
    assert shapes[0] == shapes[1]
    assert shapes[0] == [(1, 192, 4, 8), *[(1, 384, 2, 4)] * 3]
    # timm has neither class attention nor classifiers here.
    assert sizes[0] == sizes[1]


def test_timm_config_keeps_our_options():
    ours = dict(type='VOLO', arch='d3', out_indices=(0, 3), drop_path_rate=0.2)
    timms = timm_backbone(ours, (512, 1024))
    assert timms['model_name'] == 'volo_d3_224' and timms['img_size'] == (512, 1024)
    assert timms['out_indices'] == (0, 3) and timms['drop_path_rate'] == 0.2


@pytest.mark.parametrize('mode', ['inference', 'training'])
def test_a_row_for_each_backbone(cfg, mode):
    batch_size = 2 if mode == 'training' else 1
    options = StepOptions(mode=mode, batch_size=batch_size, **EAGER)
    report = measure_segmentor(cfg, 32, (16, 48), options)
    assert [row['name'] for row in report.rows] == ['ours eager', 'timm eager']
    assert all(row['reference'] == 'timm eager' for row in report.rows)
    training = mode == 'training'
    assert report.options['image'] == ([32, 32] if training else [16, 48])
    assert report.options['window'] == ([32, 32] if training else [16, 32])
    assert len(report.cells()) == 2


def test_backbone_and_heads_are_compiled(cfg, monkeypatch):
    compiled = []
    monkeypatch.setattr(
        segmentor, 'compile_forward', lambda part, how: compiled.append((part, how))
    )
    set_crop(cfg, 32)
    model = build_segmentor(cfg, 'ours', (32, 32))
    make_step(model, 'compiled', (32, 32), StepOptions())
    parts = [model.backbone, model.decode_head, model.auxiliary_head]
    assert compiled == [(part, 'compiled') for part in parts]


def test_impossible_options_are_refused(cfg):
    with pytest.raises(ConfigError, match='windows of 24 x 64'):
        measure_segmentor(cfg, 64, (24, 64), StepOptions(**EAGER))
    with pytest.raises(ConfigError, match='need two images'):
        measure_segmentor(cfg, 64, (64, 64), StepOptions(mode='training', **EAGER))
    tiny = Config.fromfile(ROOT / 'configs/volo_tiny_upernet_camvid.py')
    with pytest.raises(ConfigError, match="timm has no VOLO 'tiny'"):
        measure_segmentor(tiny, 64, (64, 64), StepOptions(**EAGER))
    classifier = Config.fromfile(ROOT / 'configs/volo_d1_imagenet.py')
    with pytest.raises(ConfigError, match='no segmentor'):
        measure_segmentor(classifier, None, (64, 64), StepOptions(**EAGER))
