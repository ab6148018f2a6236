import numpy as np
import pytest

from volo.datasets import CheckSegmentationSample
from volo.errors import DataError


def sample(mask, **changes):
    defaults = dict(num_classes=3, ignore_index=255, ori_shape=(4, 6))
    paths = dict(img_path='p.jpg', seg_map_path='m.png')
    return {**defaults, **paths, 'gt_seg_map': mask, **changes}


def test_good_and_absent_masks_pass():
    check = CheckSegmentationSample()
    good = sample(np.array([[0, 1, 2, 255, 0, 0]] * 4, np.uint8))
    assert check(good) is good
    image = dict(img_path='p.jpg')
    assert check(image) is image


def test_label_out_of_range():
    mask = np.zeros((4, 6), np.uint8)
    mask[0, :2] = 7, 3
    with pytest.raises(DataError, match=r'm.png: labels 3, 7 on 2 pixels.*3 classes'):
        CheckSegmentationSample()(sample(mask))


@pytest.mark.parametrize('shape', [(6, 4), (4, 5), (4, 6, 3)])
def test_another_size_than_the_images(shape):
    with pytest.raises(DataError, match='m.png: the mask has shape .* p.jpg is 4x6'):
        CheckSegmentationSample()(sample(np.zeros(shape, np.uint8)))
