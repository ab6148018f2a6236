"""The templates for one's own data train and predict after a user's edits."""

import json
import re

import mmcv
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DATASETS, MODELS, init_default_scope
from mmengine.structures import PixelData
from mmpretrain import ImageClassificationInferencer
from mmpretrain.structures import DataSample
from mmseg.apis import inference_model, init_model
from mmseg.structures import SegDataSample
from PIL import Image

from demo.shapes import SEGMENTATION_CLASSES, SHAPE_CLASSES
from tests.toy import run_tool
from volo.checkpoints.reading import read_checkpoint
from volo.paths import package_data_root

CONFIGS = package_data_root() / 'configs'
TEMPLATES = {
    'classify': 'volo_d1_custom_classification',
    'segment': 'volo_d1_upernet_custom',
}


def edited(folder, task, **values):
    """Copy a template beside a link to ``_base_`` and change its variables."""
    text = (CONFIGS / f'{TEMPLATES[task]}.py').read_text()
    for name, value in values.items():
        text, count = re.subn(rf'(?m)^{name} = .*$', f'{name} = {value!r}', text)
        assert count == 1, name
    text = text.replace('/volo_classifier.py', '/volo_tiny_classifier.py')
    text = text.replace('/upernet_volo_d1.py', '/upernet_volo_tiny.py')
    link = folder / '_base_'
    if not link.exists():
        link.symlink_to(CONFIGS / '_base_')
    path = folder / f'{task}.py'
    path.write_text(text)
    return path


def toy_config(toy, folder, task, **values):
    if task == 'classify':
        values = dict(
            classes=SHAPE_CLASSES,
            data_root=f'{toy}/data/images',
            load_from=None,
            **values,
        )
    else:
        values = dict(
            classes=SEGMENTATION_CLASSES,
            palette=[[0, 0, i] for i in range(8)],
            data_root=f'{toy}/data',
            crop_size=(64, 64),
            scale=(128, 64),
            **values,
        )
    return edited(folder, task, **values)


def options(task):
    loaders = [
        f'{split}_dataloader.{option}'
        for split in ('train', 'val')
        for option in ('num_workers=0', 'persistent_workers=False')
    ]
    length = dict(
        classify='train_cfg.max_epochs=1 train_dataloader.batch_size=7',
        segment='train_cfg.max_iters=2 train_cfg.val_interval=2 '
        'train_dataloader.batch_size=2',
    )
    return ['--cfg-options', *loaders, *length[task].split()]


def train(config, *arguments):
    done = run_tool(
        'train.py', config, '--work-dir', config.with_suffix(''), *arguments
    )
    return done, config.with_suffix('')


@pytest.fixture(scope='module')
def trained_templates(toy, tmp_path_factory):
    folder = tmp_path_factory.mktemp('templates')
    configs = {}
    for task in TEMPLATES:
        configs[task] = toy_config(toy, folder, task)
        done, _ = train(configs[task], *options(task))
        assert done.returncode == 0, done.stderr
    return configs


@pytest.mark.slow
def test_classification_trains_and_predicts(trained_templates, toy):
    config = trained_templates['classify']
    work_dir = config.with_suffix('')
    (scalars,) = work_dir.glob('*/vis_data/scalars.json')
    last = json.loads(scalars.read_text().splitlines()[-1])
    assert {'accuracy/top1', 'single-label/f1-score'} <= last.keys()
    assert list(work_dir.glob('best_accuracy_top1_epoch_1.pth'))
    classify = ImageClassificationInferencer(
        str(config), str(work_dir / 'epoch_1.pth'), device='cpu'
    )
    image = next((toy / 'data/images/val/star').glob('*.jpg'))
    assert classify(str(image))[0]['pred_class'] in SHAPE_CLASSES


@pytest.mark.slow
def test_segmentation_trains_and_predicts(trained_templates, toy):
    config = trained_templates['segment']
    work_dir = config.with_suffix('')
    (scalars,) = work_dir.glob('*/vis_data/scalars.json')
    assert 'mIoU' in json.loads(scalars.read_text().splitlines()[-1])
    model = init_model(str(config), str(work_dir / 'iter_2.pth'), device='cpu')
    assert model.dataset_meta['classes'] == SEGMENTATION_CLASSES
    image = next((toy / 'data/images/val/star').glob('*.jpg'))
    result = inference_model(model, str(image))
    size = mmcv.imread(image).shape[:2]
    assert result.pred_sem_seg.data.shape == (1, *size)


@pytest.mark.slow
def test_segmentation_predicts_with_test_time_augmentation(trained_templates):
    config = trained_templates['segment']
    checkpoint = config.with_suffix('') / 'iter_2.pth'
    work_dir = ('--work-dir', config.with_suffix('') / 'tta')
    loaders = options('segment')[:5]
    done = run_tool('test.py', config, checkpoint, '--tta', *work_dir, *loaders)
    assert done.returncode == 0, done.stderr
    assert 'mIoU' in done.stdout + done.stderr


@pytest.mark.slow
def test_frozen_stages_and_weights_from_another_task(trained_templates, toy, tmp_path):
    """Seven classes give their backbone to three, and its frozen part stays."""
    seven = trained_templates['classify'].with_suffix('') / 'epoch_1.pth'
    three = tmp_path / 'data'
    for split in ('train', 'val'):
        (three / split).mkdir(parents=True)
        for name in SHAPE_CLASSES[:3]:
            (three / split / name).symlink_to(toy / 'data/images' / split / name)
    config = edited(
        tmp_path,
        'classify',
        classes=SHAPE_CLASSES[:3],
        class_weight=[1.0, 1.0, 5.0],
    )
    done, work_dir = train(
        config,
        *options('classify'),
        f'data_root={three}',
        f'load_from={seven}',
        'model.backbone.frozen_stages=2',
        'train_dataloader.batch_size=3',
    )
    assert done.returncode == 0, done.stderr
    assert 'another number of classes' in done.stdout + done.stderr
    theirs, ours = (
        read_checkpoint(path)['state_dict']
        for path in (seven, work_dir / 'epoch_1.pth')
    )
    moved = {n for n, value in ours.items() if not torch.equal(value, theirs[n])}
    frozen = ('backbone.stem.', 'backbone.stages.0.', 'backbone.stages.1.')
    assert not any(name.startswith(frozen) for name in moved)
    assert 'backbone.stages.3.0.attn.proj.weight' in moved


@pytest.mark.slow
def test_another_number_of_folders_is_one_clear_error(toy, tmp_path):
    config = edited(
        tmp_path, 'classify', data_root=f'{toy}/data/images', load_from=None
    )
    done, _ = train(config, *options('classify'))
    assert done.returncode == 2
    assert 'number of subfolders (7)' in done.stderr
    assert 'specified classes (3)' in done.stderr and 'Traceback' not in done.stderr


@pytest.mark.slow
def test_another_number_of_classes_in_the_head_is_one_clear_error(toy, tmp_path):
    config = toy_config(toy, tmp_path, 'classify')
    done, _ = train(config, *options('classify'), 'model.head.num_classes=5')
    assert done.returncode == 2 and 'Traceback' not in done.stderr
    assert 'model.head.num_classes is 5, but the train dataset has 7' in done.stderr


@pytest.mark.parametrize('label_map', [{255: 1}, {}])
def test_label_map_of_the_template_reaches_the_masks(tmp_path, label_map):
    for kind, suffix in (('images', 'jpg'), ('masks', 'png')):
        (tmp_path / kind / 'train').mkdir(parents=True)
        array = np.array([[0, 255]] * 2, np.uint8)
        Image.fromarray(array).save(tmp_path / kind / f'train/a.{suffix}')
    config = edited(tmp_path, 'segment', data_root=str(tmp_path), label_map=label_map)
    cfg = Config.fromfile(config)
    init_default_scope('mmseg')
    dataset = DATASETS.build(cfg.train_dataloader.dataset)
    loaded = dataset.pipeline.transforms[1](dict(dataset.get_data_info(0)))
    expected = [0, label_map.get(255, 255)]
    assert loaded['gt_seg_map'].tolist() == [expected] * 2


def losses(config, samples):
    """Compute the losses of a model that is the same with any class weights."""
    cfg = Config.fromfile(config)
    if 'decode_head' in cfg.model:
        options = dict(norm_cfg=dict(type='BN'), dropout_ratio=0.0)
        cfg.model.backbone.norm_cfg = options['norm_cfg']
        cfg.model.decode_head.update(options)
        cfg.model.auxiliary_head.update(options)
    init_default_scope(cfg.default_scope)
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    return model(torch.rand(2, 3, 64, 64), samples, mode='loss')


def test_class_weights_reach_the_classifiers_losses(toy, tmp_path):
    samples = [DataSample().set_gt_label(0) for _ in range(2)]
    plain, heavy = (
        losses(toy_config(toy, tmp_path, 'classify', class_weight=w), samples)
        for w in (None, [5.0] * 7)
    )
    for name in ('loss_cls', 'loss_token'):
        assert heavy[name].item() == pytest.approx(5 * plain[name].item(), rel=1e-4)


def test_unlabeled_pixels_do_not_count_with_or_without_class_weights(toy, tmp_path):
    mask = torch.zeros(1, 64, 64, dtype=torch.long)
    mask[:, :, 32:] = 1
    void = mask.clone()
    void[:, :, :32] = 255
    # Three ways to say that the left half does not count.
    ways = [(None, void), ([1.0] * 8, void), ([0.0, *[1.0] * 7], mask)]
    first, *others = (
        losses(
            toy_config(toy, tmp_path, 'segment', class_weight=weight),
            [SegDataSample(gt_sem_seg=PixelData(data=labels)) for _ in range(2)],
        )
        for weight, labels in ways
    )
    for name in ('decode.loss_ce', 'aux.loss_ce'):
        assert first[name] > 0
        for other in others:
            assert other[name].item() == pytest.approx(first[name].item(), rel=1e-4)


def test_masks_that_start_at_one_lose_their_zero(tmp_path):
    """``reduce_zero_label``, as docs/own_data.md says."""
    from volo.datasets import SegmentationDataset

    for kind, suffix in (('images', 'jpg'), ('masks', 'png')):
        (tmp_path / kind).mkdir()
        array = np.array([[0, 1], [2, 3]], np.uint8)
        Image.fromarray(array).save(tmp_path / kind / f'a.{suffix}')
    init_default_scope('mmseg')
    dataset = SegmentationDataset(
        data_root=str(tmp_path),
        data_prefix=dict(img_path='images', seg_map_path='masks'),
        metainfo=dict(classes=('a', 'b', 'c')),
        reduce_zero_label=True,
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='LoadAnnotations'),
            dict(type='CheckSegmentationSample'),
        ],
    )
    assert dataset[0]['gt_seg_map'].tolist() == [[255, 0], [1, 2]]
