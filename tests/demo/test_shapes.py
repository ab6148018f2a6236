import numpy as np
import pytest
from mmengine.config import Config

from demo import shapes
from demo.shapes import (
    SEGMENTATION_CLASSES,
    SEGMENTATION_PALETTE,
    SHAPE_CLASSES,
    draw_shape,
)
from tests.toy import ROOT


@pytest.mark.parametrize('name', SHAPE_CLASSES)
def test_shape_covers_a_good_part_and_is_brighter(name):
    for seed in range(10):
        image, mask = draw_shape(name, np.random.default_rng(seed), 96)
        assert image.shape == (96, 96, 3) and mask.shape == (96, 96)
        assert image.dtype == mask.dtype == np.uint8
        shape = mask > 0
        assert 0.04 < shape.mean() < 0.5
        assert image[shape].mean() > image[~shape].mean()


def test_color_does_not_depend_on_the_class():
    # Class means of red, green and blue differ by no more than chance allows.
    number = 60
    colors = np.array(
        [
            [
                image[mask > 0].mean(axis=0)
                for image, mask in (
                    draw_shape(name, np.random.default_rng((label, seed)), 32)
                    for seed in range(number)
                )
            ]
            for label, name in enumerate(SHAPE_CLASSES)
        ]
    )  # class, image, channel
    deviation = colors.mean(axis=1) - colors.mean(axis=(0, 1))
    standard_error = colors.std(axis=(0, 1)) / np.sqrt(number)
    assert (np.abs(deviation) < 4 * standard_error).all()


def test_outlines_have_the_area_of_their_shape():
    axis = np.linspace(-1.2, 1.2, 481)
    u, v = np.meshgrid(axis, axis)
    area = {
        name: outline(u, v).mean() * 2.4**2
        for name, outline in shapes._OUTLINES.items()
    }
    assert area['circle'] == pytest.approx(np.pi * 0.9**2, rel=0.02)
    assert area['ring'] == pytest.approx(np.pi * (0.95**2 - 0.5**2), rel=0.02)
    assert area['square'] == pytest.approx(1.56**2, rel=0.02)
    assert area['cross'] == pytest.approx(2 * 0.64 * 1.9 - 0.64**2, rel=0.02)
    # Equilateral in a circle of radius R: 3 sqrt(3) / 4 R^2.
    assert area['triangle'] == pytest.approx(3**1.5 / 4 * 1.1**2, rel=0.02)
    # Ten triangles between neighboring corners at 36 degrees.
    star = 10 * 0.5 * 1.1 * 0.45 * np.sin(np.pi / 5)
    assert area['star'] == pytest.approx(star, rel=0.02)
    assert not shapes._OUTLINES['ring'](np.zeros(1), np.zeros(1))
    assert not shapes._OUTLINES['crescent'](np.full(1, 0.5), np.zeros(1))
    assert shapes._OUTLINES['crescent'](np.full(1, -0.6), np.zeros(1))


def test_constants_agree_with_each_other_and_with_the_config():
    assert tuple(sorted(SHAPE_CLASSES)) == SHAPE_CLASSES
    assert SEGMENTATION_CLASSES == ('background', *SHAPE_CLASSES)
    assert len(set(SEGMENTATION_PALETTE)) == len(SEGMENTATION_CLASSES)
    cfg = Config.fromfile(ROOT / 'configs/volo_tiny_upernet_shapes.py')
    assert tuple(cfg.metainfo.classes) == SEGMENTATION_CLASSES
    assert tuple(map(tuple, cfg.metainfo.palette)) == SEGMENTATION_PALETTE
    assert cfg.model.decode_head.num_classes == len(SEGMENTATION_CLASSES)
    assert cfg.model.auxiliary_head.num_classes == len(SEGMENTATION_CLASSES)
