import numpy as np
import pytest

from volo.doctor.class_counts import ClassCounts
from volo.doctor.samples import SampleReport


def mask(**pixels):
    """A sample with so many pixels of each label."""
    counts = np.zeros(256, np.int64)
    for label, number in pixels.items():
        counts[int(label[1:])] = number
    return SampleReport('x', counts=counts)


def test_pixels_of_masks():
    counts = ClassCounts(('a', 'b', 'c'))
    counts.add(mask(_0=30, _1=10, _255=999))
    counts.add(mask(_0=20, _2=0))
    assert counts.unit == 'pixels'
    assert counts.counts.tolist() == [50, 10, 0]
    assert counts.images.tolist() == [2, 1, 0]
    # What is ignored counts nowhere.
    assert counts.labeled.tolist() == [60, 40, 0]
    np.testing.assert_allclose(counts.shares(), [50 / 60, 10 / 60, 0])


def test_weights_follow_median_frequency_balancing():
    counts = ClassCounts(('a', 'b', 'c', 'd'))
    counts.add(mask(_0=60, _1=40))
    counts.add(mask(_0=70, _2=30))
    # 130 of 200, 40 of 100 and 30 of 100; the median of what occurs is 0.4.
    expected = [0.4 / 0.65, 1.0, 0.4 / 0.3]
    *weights, absent = counts.weights()
    assert weights == pytest.approx(expected, abs=1e-4) and absent is None


def test_labels_of_images():
    counts = ClassCounts(('a', 'b', 'c'))
    for labels in ((0,), (0,), (0, 1), (1,), (3,), (-1,)):
        counts.add(SampleReport('x', labels=labels))
    assert counts.unit == 'images'
    assert counts.counts.tolist() == counts.images.tolist() == [3, 2, 0]
    assert counts.weights() == [pytest.approx(2.5 / 3, abs=1e-4), 1.25, None]


def test_nothing_counted_yet():
    counts = ClassCounts(('a', 'b'))
    assert counts.shares().tolist() == [0, 0]
    assert counts.weights() == [None, None]
    counts.add(SampleReport('x'))
    assert counts.weights() == [None, None]


def test_more_than_256_classes():
    counts = ClassCounts(tuple(map(str, range(300))))
    counts.add(mask(_0=1, _255=3))
    assert counts.counts[[0, 255]].tolist() == [1, 3]
    assert len(counts.weights()) == 300


def test_rows_are_plain_values_of_the_unit():
    counts = ClassCounts(('a', 'b'))
    counts.add(mask(_0=2))
    first, second = counts.rows()
    assert first == dict(name='a', pixels=2, shown_in=1, share=1.0, weight=1.0)
    assert second == dict(name='b', pixels=0, shown_in=0, share=0.0, weight=None)
    assert {type(value) for value in first.values()} == {str, int, float}
