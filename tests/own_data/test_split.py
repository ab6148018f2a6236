"""Splits are stratified, keep groups together and depend on the seed alone."""

import pytest

from volo.errors import ConfigError
from volo.own_data.found import Found, Sample, split_name
from volo.own_data.split import assign_splits, choose_validation


def dataset(*images, labels=None, splits=None):
    samples = [Sample(image, 0) for image in images]
    for sample, label in zip(samples, labels or [], strict=False):
        sample.label = label
    for sample, split in zip(samples, splits or [], strict=False):
        sample.split = split
    return Found('classification', 'test', ('a', 'b', 'c'), samples)


def test_every_class_has_its_share_and_a_rare_one_is_in_both_splits():
    shown = [{0}] * 50 + [{0, 1}] * 20 + [{0, 2}] * 2
    chosen = choose_validation(shown, [str(i) for i in range(72)], 0.2, seed=0)
    for label, count in ((0, 14), (1, 4), (2, 1)):
        found = sum(chosen[i] for i, classes in enumerate(shown) if label in classes)
        assert abs(found - count) <= 1, label
    assert chosen == choose_validation(shown, [str(i) for i in range(72)], 0.2, seed=0)
    assert chosen != choose_validation(shown, [str(i) for i in range(72)], 0.2, seed=1)


def test_the_order_of_the_images_does_not_matter():
    names = [str(i) for i in range(30)]
    forward = choose_validation([{0}] * 30, names, 0.3, 0)
    backward = choose_validation([{0}] * 30, names[::-1], 0.3, 0)
    assert forward == backward[::-1] and sum(forward) == 9


@pytest.mark.parametrize('pattern', [r'^p\d+', r'^p(\d+)_'])
def test_groups_stay_together(pattern):
    found = dataset(*(f'p{i // 4}_{i}.jpg' for i in range(40)))
    assert '10 groups kept together' in assign_splits(found, 0.2, 0, pattern)
    groups = {}
    for sample in found.samples:
        groups.setdefault(sample.image.split('_')[0], set()).add(sample.split)
    assert all(len(splits) == 1 for splits in groups.values())
    assert sum(splits == {'val'} for splits in groups.values()) == 2


def test_one_image_per_class_still_gives_two_splits():
    found = dataset('a', 'b', 'c', labels=[0, 1, 2])
    assign_splits(found, 0.2, 0)
    assert sorted(s.split for s in found.samples) == ['train', 'train', 'val']


@pytest.mark.parametrize(
    ('given', 'expected'),
    [
        (['train', 'val', 'test'], ['train', 'val', 'test']),
        (['train', 'test', 'test'], ['train', 'val', 'val']),
        (['train', 'val', ''], ['train', 'val']),
    ],
)
def test_splits_of_the_dataset_are_kept(given, expected):
    found = dataset('a', 'b', 'c', splits=given)
    assert assign_splits(found, 0.2, 0) == 'the splits of the dataset'
    assert [s.split for s in found.samples] == expected


@pytest.mark.parametrize('fraction', [0, 1, -0.1])
def test_unusable_fractions_are_refused(fraction):
    with pytest.raises(ConfigError, match='--val-fraction .*between 0 and 1'):
        assign_splits(dataset('a', 'b'), fraction, 0)


def test_unusable_groups_are_refused():
    with pytest.raises(ConfigError, match='2 images in 1 group'):
        assign_splits(dataset('p1_a', 'p1_b'), 0.2, 0, 'p1')
    with pytest.raises(ConfigError, match='--group '):
        assign_splits(dataset('p1_a', 'p1_b'), 0.2, 0, '(')


def test_names_of_splits():
    names = ('train', 'Training', 'val2017', 'valid', 'testing', 'trainer', 'contest')
    assert [split_name(n) for n in names] == [
        *('train', 'train', 'val', 'val', 'test'),
        *('', ''),
    ]
