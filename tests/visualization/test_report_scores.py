import math

import numpy as np
import pytest
import torch
from mmpretrain.evaluation import SingleLabelMetric
from mmseg.evaluation import IoUMetric

from volo.visualization.report_data import NUM_BINS
from volo.visualization.report_scores import calibration, class_scores, to_plain

CLASSES = 5


@pytest.fixture
def labels():
    """True and predicted labels (1000,); class 4 occurs in neither."""
    generator = torch.Generator().manual_seed(0)
    truth = torch.randint(CLASSES - 1, (1000,), generator=generator)
    wrong = torch.rand(1000, generator=generator) < 0.3
    random = torch.randint(CLASSES - 1, (1000,), generator=generator)
    return truth, torch.where(wrong, random, truth)


@pytest.fixture
def scores(labels):
    truth, prediction = labels
    pairs = torch.bincount(truth * CLASSES + prediction, minlength=CLASSES**2)
    return class_scores(pairs.reshape(CLASSES, CLASSES).numpy())


def test_segmentation_scores_equal_mmsegs(labels, scores):
    truth, prediction = labels
    areas = IoUMetric.intersect_and_union(prediction, truth, CLASSES, 255)
    expected = IoUMetric.total_area_to_metrics(*areas, ['mIoU', 'mFscore'])
    for ours, theirs in (
        ('iou', 'IoU'),
        ('accuracy', 'Acc'),
        ('precision', 'Precision'),
        ('recall', 'Recall'),
        ('f1', 'Fscore'),
    ):
        np.testing.assert_allclose(scores[ours], expected[theirs], rtol=1e-6)


def test_classification_scores_equal_mmpretrains(labels, scores):
    truth, prediction = labels
    expected = SingleLabelMetric.calculate(
        prediction, truth, num_classes=CLASSES, average=None
    )
    for ours, theirs in zip(
        ('precision', 'recall', 'f1', 'count'), expected, strict=True
    ):
        percent = scores[ours] * (1 if ours == 'count' else 100)
        # Where we say that nothing is known, mmpretrain says 0.
        np.testing.assert_allclose(np.nan_to_num(percent), theirs, rtol=1e-5)


def test_a_class_that_occurs_nowhere_has_no_scores(scores):
    assert scores['count'][4] == 0
    assert all(np.isnan(scores[key][4]) for key in ('iou', 'accuracy', 'precision'))


def test_calibration_error():
    bins = np.zeros((3, NUM_BINS))
    bins[:, 9] = 4, 4 * 0.64, 2  # 0.5 right at a confidence of 0.64
    bins[:, 14] = 6, 6 * 0.98, 6  # 1.0 right at 0.98
    result = calibration(bins)
    assert result['ece'] == pytest.approx((4 * 0.14 + 6 * 0.02) / 10)
    assert result['count'] == 10
    assert result['bins'][9]['accuracy'] == 0.5
    assert result['bins'][14]['confidence'] == pytest.approx(0.98)
    assert result['bins'][0]['accuracy'] is None


def test_values_become_what_json_can_hold(tmp_path):
    value = dict(
        array=np.array([1, 2]),
        nan=math.nan,
        path=tmp_path,
        tensor=torch.tensor([[0.5, math.inf]]),
        text='a',
        tuple=(np.float32(1), None),
    )
    assert to_plain(value) == dict(
        array=[1, 2],
        nan=None,
        path=str(tmp_path),
        tensor=[[0.5, None]],
        text='a',
        tuple=[1.0, None],
    )
