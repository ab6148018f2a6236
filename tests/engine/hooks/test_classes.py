"""Numbers of classes are compared, and classes that never occur are reported."""

from types import SimpleNamespace

import pytest
import torch
from mmengine.structures import PixelData
from mmpretrain.structures import DataSample
from mmseg.structures import SegDataSample
from PIL import Image
from torch import nn

from volo.datasets import ImageNetFolder
from volo.engine import ClassesHook
from volo.errors import ConfigError


@pytest.fixture
def logged(monkeypatch):
    """The lines that the hook logs."""
    lines = []
    monkeypatch.setattr(
        'volo.engine.hooks.classes.print_log', lambda text, **_: lines.append(text)
    )
    return lines


def make_runner(classes=('a', 'b', 'c'), num_classes=3, images=8, iteration=0):
    """Return a stand-in for a runner with batches of two images."""

    class Dataset(list):
        metainfo = dict(classes=classes)

    model = nn.Module()
    model.head = nn.Module()
    model.head.num_classes = num_classes
    loader = SimpleNamespace(dataset=Dataset(range(images)), batch_size=2)
    return SimpleNamespace(
        model=model,
        iter=iteration,
        train_dataloader=loader,
        val_dataloader=loader,
        test_dataloader=loader,
    )


def train(labels, **options):
    """Train on batches of labels of images, or of masks."""
    runner = make_runner(images=2 * len(labels), **options)
    hook = ClassesHook()
    hook.before_train(runner)
    for batch in labels:
        samples = [
            DataSample().set_gt_label(label)
            if isinstance(label, int)
            else SegDataSample(gt_sem_seg=PixelData(data=torch.tensor([label])))
            for label in batch
        ]
        hook.after_train_iter(runner, 0, dict(inputs=[], data_samples=samples))
        runner.iter += 1


def mask(*values):
    return [list(values)] * 2


def test_masks_of_zero_and_void_are_reported_once(logged):
    train([[mask(0, 255), mask(0, 0)]] * 4)
    assert len(logged) == 1 and 'label_map={255: 1}' in logged[0]


def test_masks_of_void_alone_are_reported_before_a_long_epoch_ends(logged):
    train([[mask(255, 255)] * 2] * 50 + [[mask(1, 2)] * 2] * 50)
    assert len(logged) == 1 and 'first 50 iterations' in logged[0]


def test_absent_classes_are_named_after_the_first_epoch(logged):
    train([[0, 1], [0, 0]])
    (line,) = logged
    assert line.startswith('1 of 3 classes did not occur in the first epoch: c.')


def test_nothing_is_said_if_all_classes_occur(logged):
    train([[mask(0, 1), mask(255, 2)]] * 3)
    train([[0, 1], [1, 2]])
    assert logged == []


def test_a_resumed_training_and_later_epochs_are_not_counted(logged):
    train([[0, 1], [0, 0]], iteration=7)
    runner = make_runner()
    ClassesHook().after_train_iter(runner, 0, dict(data_samples=[]))
    assert logged == []


@pytest.mark.parametrize('moment', ['before_train', 'before_val', 'before_test'])
@pytest.mark.parametrize('number', [2, 1000])
def test_another_number_of_classes_is_refused(moment, number):
    runner = make_runner(num_classes=number)
    with pytest.raises(ConfigError, match=f'head.num_classes is {number}, .* has 3 cl'):
        getattr(ClassesHook(), moment)(runner)


def test_datasets_without_names_pass():
    runner = make_runner(classes=None, num_classes=5)
    ClassesHook().before_train(runner)


def test_a_subset_of_imagenet_is_not_scored_with_the_labels_of_its_folders(tmp_path):
    for name in ('n01440764', 'n02099712'):
        (tmp_path / 'val' / name).mkdir(parents=True)
        Image.new('RGB', (8, 8)).save(tmp_path / 'val' / name / 'a.JPEG')
    (tmp_path / 'labels.txt').write_text('n02099712/a.JPEG 207\n')
    runner = make_runner(num_classes=1000)
    options = dict(data_root=str(tmp_path), data_prefix='val')
    loader = SimpleNamespace(dataset=ImageNetFolder(split='', **options), batch_size=2)
    runner.test_dataloader = loader
    with pytest.raises(ConfigError, match='1000, but the test dataset has 2 classes'):
        ClassesHook().before_test(runner)
    loader.dataset = ImageNetFolder(split='', ann_file='labels.txt', **options)
    ClassesHook().before_test(runner)
    assert loader.dataset[0]['gt_label'] == 207
