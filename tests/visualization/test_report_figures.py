import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from volo.visualization.curves import Curve
from volo.visualization.report_figures import (
    draw_confusion,
    draw_curve,
    draw_reliability,
)


def texts(svg):
    root = ElementTree.fromstring(svg)
    assert root.tag.endswith('svg')
    return [e.text for e in root.iter() if e.tag.endswith('}text')]


def test_a_curve():
    curve = Curve([1, 2, 3], [3.0, 2.0, 1.0], 'epoch', validation=True)
    assert 'epoch' in texts(draw_curve('mIoU', curve))


def test_a_long_curve_stays_small():
    steps = list(range(1, 200_001))
    values = np.random.default_rng(0).random(200_000).tolist()
    assert len(draw_curve('loss', Curve(steps, values))) < 100_000


@pytest.mark.parametrize('size', [2, 30, 100])
def test_a_confusion_matrix_names_classes_while_they_are_legible(size):
    confusion = np.eye(size, dtype=int) * 7
    confusion[0, 1], confusion[1] = 3, 0  # class 1 does not occur
    names = [f'class {i}' for i in range(size)]
    drawn = texts(draw_confusion(confusion, names))
    assert ('class 1' in drawn) == (size <= 40)
    assert ('70' in drawn) == (size <= 21)


def test_reliability_leaves_out_empty_bins():
    bins = [
        dict(low=0.0, high=0.5, count=0, confidence=None, accuracy=None),
        dict(low=0.5, high=1.0, count=3, confidence=0.8, accuracy=0.6),
    ]
    assert {'confidence', 'accuracy', 'share (%)'} <= set(texts(draw_reliability(bins)))
