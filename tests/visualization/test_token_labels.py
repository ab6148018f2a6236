import numpy as np
import pytest
from matplotlib.patches import Polygon
from PIL import Image

from volo.token_label import TokenLabel
from volo.visualization import token_labels as figures
from volo.visualization.token_labels import draw_token_label

BLUE, ORANGE, GREY = (31, 119, 180), (255, 127, 14), (127, 127, 127)
RIGHT_HALF = np.array([[0.5, 0, 0.5], [0, 1, 0], [0, 0, 1]])


@pytest.fixture
def drawn(monkeypatch):
    """The figures that were drawn."""
    found = []

    class Figure(figures.Figure):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            found.append(self)

    monkeypatch.setattr(figures, 'Figure', Figure)
    return found


def draw(path, classes, names, scores=None, matrix=RIGHT_HALF, grid=(2, 2)):
    """Draw on black; classes (h, w) are those of the cells."""
    classes = np.array([classes])
    if scores is None:
        scores = np.full(classes.shape, 9.0)
    label = TokenLabel(scores, classes, matrix, np.empty((0, 3, 3)))
    crop = np.zeros((16, 16, 3), np.uint8)
    draw_token_label(Image.new('RGB', (32, 16)), crop, label, names, grid, path)
    with Image.open(path) as image:
        return {rgb for _, rgb in image.convert('RGB').getcolors(1 << 22)}


def painted(axes):
    """The color of every cell or token of a panel, without its strength."""
    return np.round(255 * axes.images[-1].get_array()[..., :3]).astype(int).tolist()


def test_cells_and_tokens_have_the_color_of_their_class(drawn, tmp_path):
    classes = [[0, 0, 1, 1], [0, 0, 0, 1]]
    colors = draw(tmp_path / 'a.png', classes, ('x', 'y'))
    (figure,) = drawn
    whole, augmented, tokens = figure.axes
    of_cells = np.array([BLUE, ORANGE])[classes]
    assert painted(whole) == of_cells.tolist()
    assert painted(tokens) == of_cells[:, 2:].tolist()
    assert len(augmented.images) == 1
    # The surest cells hide 0.7 of the image.
    for color in (BLUE, ORANGE):
        assert abs(np.array([*colors]) - 0.7 * np.array(color)).max(1).min() <= 2
    titles = [axes.get_title() for axes in figure.axes]
    assert titles[0] == 'label map, 2 x 4 cells'
    assert titles[2] == 'targets of 2 x 2 tokens'


def test_less_probable_classes_have_weaker_colors(drawn, tmp_path):
    scores = np.array([[[9.0, 1.0, 0.2, 0.0]]])
    draw(tmp_path / 'a.png', [[0, 0, 0, 0]], ('x', 'y'), scores)
    strength = drawn[0].axes[0].images[-1].get_array()[0, :, 3]
    assert strength[0] == pytest.approx(0.7)
    shares = np.exp(scores[0, 0]) / (np.exp(scores[0, 0]) + 1)
    np.testing.assert_allclose(strength, 0.1 + 0.6 * shares / shares[0], rtol=1e-5)


def test_the_crop_is_outlined_on_the_image(drawn, tmp_path):
    draw(tmp_path / 'a.png', [[0, 0]], ('x', 'y'))
    (outline,) = (p for p in drawn[0].axes[0].patches if isinstance(p, Polygon))
    corners = {tuple(corner) for corner in outline.get_xy()}
    assert corners == {(16, 0), (32, 0), (32, 16), (16, 16)}


def test_the_legend_has_first_names(drawn, tmp_path):
    names = ('tench, Tinca tinca', 'goldfish')
    draw(tmp_path / 'a.png', [[0, 0, 1, 7]], names, matrix=np.eye(3), grid=(1, 4))
    (legend,) = drawn[0].legends
    names = [text.get_text() for text in legend.get_texts()]
    assert names[0] == 'tench' and set(names) == {'tench', 'goldfish', 'class 7'}


def test_the_ten_commonest_classes_have_colors(drawn, tmp_path):
    # Class 11 is in one cell and in no token; all others are in two cells.
    classes = [[11, *range(10)], [9, *range(10)]]
    matrix = np.array([[10 / 11, 0, 1 / 11], [0, 1, 0], [0, 0, 1]])
    names = tuple('abcdefghijkl')
    draw(tmp_path / 'a.png', classes, names, matrix=matrix, grid=(2, 10))
    (legend,) = drawn[0].legends
    assert {t.get_text() for t in legend.get_texts()} == set('abcdefghij')
    first, *others = painted(drawn[0].axes[0])[0]
    assert abs(np.array(first) - GREY).max() <= 1
    assert len({tuple(color) for color in others}) == 10
