import numpy as np
import pytest

from volo.deploy import overlays
from volo.deploy.overlays import draw_classification, draw_segmentation

PALETTE = np.array([[200, 0, 0], [0, 200, 0], [0, 0, 200]], np.uint8)
NAMES = ['red', 'green', 'blue']


def halves(height, width):
    """Return a gray image and a mask of two classes side by side."""
    mask = np.zeros((height, width), np.uint8)
    mask[:, width // 2 :] = 2
    return np.full((height, width, 3), 100, np.uint8), mask


def test_colors_are_mixed_and_outlines_opaque():
    drawn = np.asarray(draw_segmentation(*halves(400, 600), NAMES, PALETTE, 0.5))
    assert len(drawn) == 400 and drawn.shape[1] > 600
    assert (drawn[:, :299] == [150, 50, 50]).all()
    assert (drawn[:, 301:600] == [50, 50, 150]).all()
    assert (drawn[:, 299] == PALETTE[0]).all() and (drawn[:, 300] == PALETTE[2]).all()
    # The legend lists the classes of the image alone.
    legend = drawn[:, 600:].reshape(-1, 3).tolist()
    assert [200, 0, 0] in legend and [0, 0, 200] in legend
    assert [0, 200, 0] not in legend


def test_outlines_do_not_depend_on_the_bands_that_are_drawn_at_once():
    image = np.full((900, 900, 3), 100, np.uint8)
    mask = np.random.default_rng(0).integers(0, 3, (30, 30)).astype(np.uint8)
    mask = np.kron(mask, np.ones((30, 30), np.uint8))
    one = np.asarray(draw_segmentation(image, mask, NAMES, PALETTE))[:, :900]
    turned = draw_segmentation(image, np.ascontiguousarray(mask.T), NAMES, PALETTE)
    assert (np.asarray(turned)[:, :900] == one.transpose(1, 0, 2)).all()


@pytest.mark.parametrize(
    ('side', 'expected'), [(1, 320), (100, 400), (320, 320), (5000, 4096)]
)
def test_small_images_are_enlarged_and_large_ones_reduced(side, expected):
    drawn = draw_segmentation(*halves(side, side), NAMES, PALETTE)
    assert drawn.height == expected


def test_a_steady_legend_keeps_its_width_and_order():
    image, mask = halves(400, 600)
    sizes = set()
    for _ in range(3):
        mask = (mask + 1) % 3
        drawn = draw_segmentation(image, mask, NAMES, PALETTE, steady=True)
        sizes.add(drawn.size)
        legend = np.asarray(drawn)[:, 600:]
        tops = [np.argwhere((legend == color).all(-1))[0, 0] for color in PALETTE]
        assert tops == sorted(tops)
    assert len(sizes) == 1


def test_a_legend_of_many_classes_fits_the_image():
    mask = np.arange(60, dtype=np.uint8).repeat(60).reshape(60, 60)
    palette = np.random.default_rng(0).integers(0, 256, (60, 3)).astype(np.uint8)
    names = [f'class {i}' for i in range(60)]
    drawn = draw_segmentation(np.zeros((60, 60, 3), np.uint8), mask, names, palette)
    assert drawn.height == 360
    legend = np.asarray(drawn)[:, 360:].reshape(-1, 3)
    assert (legend == palette[0]).all(-1).any()
    assert not (legend == palette[59]).all(-1).any()


def test_a_classification_has_a_bar_for_each_class():
    image = np.zeros((350, 400, 3), np.uint8)
    drawn = np.asarray(
        draw_classification(image, ['a', 'é猫', 'c'], [0.9, 0.09, 0.0001])
    )
    blue = (drawn == (26, 115, 232)).all(-1)
    rows = np.flatnonzero(blue.any(1))
    lengths = blue[rows].sum(1)
    bars = np.split(lengths, np.flatnonzero(np.diff(rows) > 1) + 1)
    longest = [int(bar.max()) for bar in bars]
    assert len(longest) == 3 and longest[0] > 8 * longest[1] > 8 * longest[2] > 0


def test_a_font_that_is_not_installed_is_no_error(monkeypatch):
    monkeypatch.setattr(overlays, '_FONTS', ('none.ttf',))
    draw_classification(np.zeros((350, 400, 3), np.uint8), ['é'], [1.0])
