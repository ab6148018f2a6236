"""Every config builds, and its model trains with a gradient everywhere."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmcv.transforms import Compose
from mmengine.config import Config
from mmengine.registry import DATASETS, HOOKS, MODELS, init_default_scope
from mmengine.structures import PixelData
from mmpretrain.structures import DataSample
from mmseg.structures import SegDataSample
from PIL import Image
from timm.data import create_transform

from tools.update_model_zoo import read_models
from volo.model_zoo import METAFILES
from volo.paths import package_data_root

CONFIGS = sorted((package_data_root() / 'configs').glob('*.py'))
#: Heads included, of every arch with a recipe at 224.
PARAMETERS = {
    model['Name'].removeprefix('volo-').removesuffix('_imagenet'): (
        model['Metadata']['Parameters']
    )
    for model in read_models(METAFILES[0])
    if model['Name'].count('_') == 1
}
#: Published for d1 to d3; d4 and d5 follow d3.
LEARNING_RATES = dict(d1=1.6e-3, d2=1e-3, d3=1e-3, d4=1e-3, d5=1e-3)
#: Published, of the evaluation.
CROP_RATIOS = dict(d1=0.96, d2=0.96, d3=0.96, d4=1.15, d5=1.15)


def read(path):
    cfg = Config.fromfile(path)
    init_default_scope(cfg.default_scope)
    return cfg


def tiny_twin(cfg):
    """The recipe's model at tiny width, for a CPU."""
    options = {
        'model.backbone.arch': 'tiny',
        'model.backbone.norm_cfg': dict(type='BN'),
    }
    if 'decode_head' in cfg.model:
        for head in ('decode_head', 'auxiliary_head'):
            options[f'model.{head}.channels'] = 16
            options[f'model.{head}.norm_cfg'] = dict(type='BN')
        options['model.decode_head.in_channels'] = [64, 160, 160, 160]
        options['model.auxiliary_head.in_channels'] = 160
    cfg.merge_from_dict(options)
    return MODELS.build(cfg.model)


def labels(cfg):
    if 'head' in cfg.model:
        return [DataSample().set_gt_label(i) for i in range(2)]
    masks = torch.randint(0, cfg.model.decode_head.num_classes, (2, 1, 64, 80))
    return [SegDataSample(gt_sem_seg=PixelData(data=mask)) for mask in masks]


def test_there_are_configs():
    names = {path.stem for path in CONFIGS}
    assert {'volo_d1_imagenet', 'volo_d1_upernet_cityscapes'} <= names
    assert {'d1', 'd2', 'd3', 'd4', 'd5'} <= PARAMETERS.keys()


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_model_builds_as_configured(path):
    cfg = read(path)
    with torch.device('meta'):  # d5 does not fit the memory of a small machine
        model = MODELS.build(cfg.model)
        assert model.backbone.arch == MODELS.build(dict(cfg.model.backbone)).arch
    arch = path.stem.split('_')[1]
    if path.stem == f'volo_{arch}_imagenet':
        assert sum(p.numel() for p in model.parameters()) == PARAMETERS[arch]
    if 'head' in cfg.model:
        assert model.head.arch == model.backbone.arch
        assert model.head.cls_token.shape[-1] == model.backbone.arch.embed_dims[-1]
    else:
        fine, coarse = model.backbone.arch.embed_dims
        assert list(model.decode_head.in_channels) == [fine, coarse, coarse, coarse]
        assert model.auxiliary_head.in_channels == coarse


@pytest.mark.parametrize('arch', PARAMETERS)
@pytest.mark.parametrize('task', ['imagenet', 'upernet_cityscapes', 'upernet_ade20k'])
def test_every_arch_has_a_recipe(arch, task):
    assert f'volo_{arch}_{task}' in {path.stem for path in CONFIGS}


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_sizes_belong_together(path):
    cfg = read(path)
    if not path.stem.endswith('imagenet'):
        return
    size = cfg.model.backbone.img_size
    arch = cfg.model.backbone.arch
    train = cfg.train_dataloader.dataset
    train = train.get('dataset', train).pipeline
    crops = next(step.transforms for step in train if step.type == 'RandomChoice')
    assert [crop.scale for (crop,) in crops] == [size, size]
    test = cfg.test_dataloader.dataset.pipeline
    assert test[3].size == size
    if arch in CROP_RATIOS:
        assert test[2].size == int(size / CROP_RATIOS[arch])
    assert cfg.val_dataloader.dataset.pipeline == test
    images = 8 * cfg.train_dataloader.batch_size
    assert cfg.auto_scale_lr.base_batch_size == images


@pytest.mark.parametrize('name', ['volo_d1_imagenet', 'volo_d5_imagenet'])
@pytest.mark.parametrize('shape', [(375, 500), (500, 333), (224, 224), (60, 90)])
def test_evaluation_shows_the_pixels_of_timms(name, shape):
    cfg = read(package_data_root() / f'configs/{name}.py')
    size = cfg.model.backbone.img_size
    pixels = np.random.RandomState(0).randint(0, 255, (*shape, 3), dtype=np.uint8)
    pipeline = Compose(cfg.test_dataloader.dataset.pipeline[1:])
    ours = pipeline(dict(img=pixels[..., ::-1].copy()))['inputs'].flip(0)
    ratio = 1.15 if 'd5' in name else 0.96
    timms = create_transform(
        size, interpolation='bicubic', crop_pct=ratio, mean=(0,) * 3, std=(1,) * 3
    )
    theirs = (255 * timms(Image.fromarray(pixels))).round()
    assert torch.equal(ours.float(), theirs)


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_every_parameter_receives_a_gradient(path):
    cfg = read(path)
    model = tiny_twin(cfg)
    losses = model(torch.rand(2, 3, 64, 80), labels(cfg), mode='loss')
    sum(value for name, value in losses.items() if 'loss' in name).backward()
    without = [name for name, p in model.named_parameters() if p.grad is None]
    assert without == []


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_datasets_and_pipelines_build(path):
    cfg = read(path)
    for split in ('train', 'val', 'test'):
        dataset = DATASETS.build(
            dict(cfg[f'{split}_dataloader'].dataset, lazy_init=True)
        )
        assert len(getattr(dataset, 'dataset', dataset).pipeline.transforms) > 2


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_schedule_is_complete(path):
    cfg = read(path)
    assert cfg.optim_wrapper.optimizer.type == 'AdamW'
    assert cfg.auto_scale_lr.base_batch_size > 0
    assert cfg.custom_imports.imports == ['volo']


def test_cityscapes_is_the_published_recipe():
    cfg = read(package_data_root() / 'configs/volo_d1_upernet_cityscapes.py')
    assert cfg.optim_wrapper.optimizer.lr == 6e-5
    assert cfg.optim_wrapper.optimizer.weight_decay == 0.01
    assert cfg.train_cfg.max_iters == 80000
    warm_up, decay = cfg.param_scheduler
    assert (warm_up.type, warm_up.end) == ('LinearLR', 1500)
    assert (decay.type, decay.power, decay.end) == ('PolyLR', 1.0, 80000)
    assert cfg.train_dataloader.batch_size * 8 == cfg.auto_scale_lr.base_batch_size
    assert cfg.model.test_cfg.mode == 'slide'
    assert cfg.model.auxiliary_head.loss_decode.loss_weight == 0.4


def test_imagenet_is_the_published_recipe():
    cfg = read(package_data_root() / 'configs/volo_d1_imagenet.py')
    assert cfg.train_dataloader.dataset.type == 'TokenLabelDataset'
    assert cfg.optim_wrapper.optimizer.lr == 1.6e-3
    assert cfg.optim_wrapper.optimizer.weight_decay == 0.05
    assert cfg.optim_wrapper.type == 'AmpOptimWrapper'
    assert cfg.train_cfg.max_epochs == 310
    assert cfg.train_dataloader.batch_size * 8 == cfg.auto_scale_lr.base_batch_size
    model = cfg.model
    assert model.backbone.drop_path_rate == 0.1
    assert model.mix_token_alpha == 1.0 and model.label_smooth_val == 0.1
    assert model.head.dense_weight == 0.5
    assert 'train_cfg' not in model  # neither mixup nor cutmix


def test_an_epoch_of_imagenet_has_the_published_steps():
    cfg = read(package_data_root() / 'configs/volo_d1_imagenet.py')
    loader = cfg.train_dataloader
    images = range(-(-1281167 // 8))  # of each of 8 processes
    sampler = torch.utils.data.BatchSampler(images, loader.batch_size, loader.drop_last)
    assert len(sampler) == 1251


def test_ema_is_the_published_one(tmp_path):
    cfg = read(package_data_root() / 'configs/volo_d1_ema_imagenet.py')
    (options,) = (dict(hook) for hook in cfg.custom_hooks if hook.type == 'EMAHook')
    del options['priority']
    hook = HOOKS.build(options)
    runner = SimpleNamespace(model=tiny_twin(cfg).train(), iter=0, epoch=0)
    hook.before_run(runner)
    norm = runner.model.backbone.stem.conv[1]
    averaged = hook.ema_model.module.backbone.stem.conv[1]
    for _ in range(2):  # the first step copies
        hook.after_train_iter(runner, 0)
        norm.weight.data.fill_(2.0)
        norm.running_mean.fill_(1.0)
    decay = 0.99992
    torch.testing.assert_close(
        averaged.weight, torch.full((32,), decay + 2 - 2 * decay)
    )
    torch.testing.assert_close(averaged.running_mean, torch.full((32,), 1 - decay))


def test_fine_tuning_is_the_published_recipe():
    cfg = read(package_data_root() / 'configs/volo_d1_384_imagenet.py')
    assert cfg.optim_wrapper.optimizer.lr == 8e-6
    assert cfg.optim_wrapper.optimizer.weight_decay == 1e-8
    schedule = cfg.param_scheduler
    assert (schedule.T_max, schedule.warmup, schedule.eta_min) == (30, 5, 4e-6)
    assert cfg.train_cfg.max_epochs == 40  # the last 10 at the lowest rate
    assert cfg.train_dataloader.batch_size * 8 == cfg.auto_scale_lr.base_batch_size
    assert cfg.model.ground_truth and cfg.model.backbone.img_size == 384
    train = cfg.train_dataloader.dataset.dataset.pipeline
    crops = next(step.transforms for step in train if step.type == 'RandomChoice')
    assert [crop.scale for (crop,) in crops] == [384, 384]


@pytest.mark.parametrize('arch', PARAMETERS)
def test_no_weight_decay_on_norms_and_tokens(arch):
    from mmengine.optim import build_optim_wrapper

    cfg = read(package_data_root() / f'configs/volo_{arch}_imagenet.py')
    rate = cfg.optim_wrapper.optimizer.lr
    assert rate == LEARNING_RATES.get(arch, rate)
    cfg.optim_wrapper.type = 'OptimWrapper'
    del cfg.optim_wrapper['loss_scale']
    model = tiny_twin(cfg)
    groups = build_optim_wrapper(model, cfg.optim_wrapper).param_groups
    decay = {id(p): group['weight_decay'] for group in groups for p in group['params']}
    for name, parameter in model.named_parameters():
        exempt = parameter.ndim == 1 or name.endswith(('pos_embed', 'cls_token'))
        assert decay[id(parameter)] == (0.0 if exempt else 0.05), name
    assert {group['lr'] for group in groups} == {rate}
