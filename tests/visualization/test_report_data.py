import numpy as np
import pytest
import torch
from mmengine.structures import PixelData
from mmpretrain.structures import DataSample
from mmseg.structures import SegDataSample

from volo.errors import ConfigError, DataError
from volo.visualization.report_data import (
    EXAMPLE_SIZE,
    MAX_CALIBRATION_PIXELS,
    Example,
    MeasureHook,
    Ranking,
    shrink,
)


def measure(samples, classes=('a', 'b', 'c'), num_examples=1):
    """Run a hook over samples in batches of one, without a Runner."""
    hook = MeasureHook(num_examples)
    hook.classes = list(classes)
    hook._highest, hook._lowest = Ranking(num_examples), Ranking(num_examples)
    hook._elapsed = 0.5
    for index, sample in enumerate(samples):
        hook.after_test_iter(None, index, {}, [sample])
    hook.best, hook.worst = hook._highest.examples(), hook._lowest.examples()
    return hook


def segmented(truth, logits, path='image.png'):
    """A prediction of mmseg from labels (H, W) and logits (C, H, W)."""
    prediction = (
        logits.argmax(0, keepdim=True) if len(logits) > 1 else (logits > 0.5).long()
    )
    return SegDataSample(
        metainfo=dict(img_path=path),
        gt_sem_seg=PixelData(data=truth[None]),
        seg_logits=PixelData(data=logits),
        pred_sem_seg=PixelData(data=prediction),
    )


def classified(truth, scores, path='image.png'):
    sample = DataSample(metainfo=dict(img_path=path))
    return sample.set_gt_label(truth).set_pred_score(torch.tensor(scores))


def test_pixels_are_counted_by_truth_and_prediction():
    truth = torch.tensor([[0, 0, 1], [2, 255, 255]])
    logits = torch.zeros(3, 2, 3)
    logits[0] = 1  # everything is a, ...
    logits[2, 1, 0] = 3  # ... but one pixel is c
    hook = measure([segmented(truth, logits)])
    assert hook.task == 'segmentation'
    assert hook.confusion.tolist() == [[2, 0, 0], [1, 0, 0], [0, 0, 1]]
    # Void pixels have no say in the calibration either.
    assert hook.bins[0].sum() == 4 and hook.bins[2].sum() == 3
    # The IoU of a, b and c: 2/3, 0 and 1.
    assert hook.best[0].score == pytest.approx(5 / 9)


def test_an_image_without_labels_is_not_ranked():
    void = torch.full((2, 2), 255)
    hook = measure([segmented(void, torch.rand(3, 2, 2))])
    assert hook.best == hook.worst == []
    assert hook.confusion.sum() == 0


def test_a_single_logit_is_the_probability_of_the_second_class():
    truth = torch.tensor([[0, 1]])
    hook = measure([segmented(truth, torch.tensor([[[0.2, 0.9]]]))], ('a', 'b'))
    assert hook.confusion.tolist() == [[1, 0], [0, 1]]
    assert hook.bins[1].sum().item() == pytest.approx(0.8 + 0.9)


def test_calibration_of_a_large_image_takes_a_grid_of_its_pixels():
    side = int(MAX_CALIBRATION_PIXELS**0.5) + 8
    truth = torch.zeros(side, side, dtype=torch.long)
    hook = measure([segmented(truth, torch.zeros(3, side, side))])
    assert hook.bins[0].sum() == ((side + 1) // 2) ** 2
    assert hook.confusion.sum() == side**2


def test_images_are_counted_and_ranked_by_the_probability_of_the_truth():
    hook = measure(
        [
            classified(0, [0.7, 0.2, 0.1], 'right.png'),
            classified(1, [0.9, 0.1, 0.0], 'wrong.png'),
            classified(2, [0.3, 0.3, 0.4], 'unsure.png'),
        ]
    )
    assert hook.task == 'classification'
    assert hook.confusion.tolist() == [[1, 0, 0], [1, 0, 0], [0, 0, 1]]
    assert hook.best[0].path == 'right.png'
    (worst,) = hook.worst
    assert (worst.path, int(worst.truth), int(worst.prediction)) == ('wrong.png', 1, 0)
    assert worst.confidence == pytest.approx(0.9)


def test_the_first_batch_is_not_timed():
    samples = [classified(0, [0.7, 0.2, 0.1])] * 3
    hook = measure(samples)
    assert (hook.seconds, hook.num_timed) == (1.0, 2)
    hook = measure(samples[:1])
    assert (hook.seconds, hook.num_timed) == (0.5, 1)


def test_classes_without_names_are_numbered():
    hook = measure([classified(0, [0.7, 0.2, 0.1])], classes=())
    assert hook.classes == ['0', '1', '2']


def test_several_labels_are_refused():
    with pytest.raises(ConfigError, match=r'image.png has 2 labels: a report is for'):
        measure([classified([0, 1], [0.7, 0.2, 0.1])])


def test_a_sample_without_label_is_refused():
    sample = DataSample(metainfo=dict(img_path='image.png'))
    sample.set_pred_score(torch.tensor([0.5, 0.5]))
    with pytest.raises(DataError, match=r'image.png has no label \(gt_label\)'):
        measure([sample])


def test_a_ranking_keeps_the_highest_scores():
    ranking = Ranking(2)
    label = np.array(0)
    for number, score in enumerate((0.1, 0.5, 0.3, 0.5)):
        ranking.offer(score, Example(str(number), score, label, label))
    assert [example.path for example in ranking.examples()] == ['1', '3']


@pytest.mark.parametrize('shape', [(4, 6), (3 * EXAMPLE_SIZE, 50), (1, 1000)])
def test_label_maps_shrink_to_the_size_of_an_example(shape):
    labels = np.random.default_rng(0).integers(0, 9, shape)
    small = shrink(labels)
    assert max(small.shape) == min(EXAMPLE_SIZE, max(shape)) and min(small.shape) > 0
    assert set(np.unique(small)) <= set(range(9))
    if max(shape) <= EXAMPLE_SIZE:
        assert np.array_equal(small, labels)
