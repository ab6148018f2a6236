"""The written config loads, builds its datasets and model, and nothing is lost."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.registry import DATASETS, MODELS, init_default_scope
from PIL import Image

from tests.own_data.test_formats import SQUARE, save, write_coco
from volo.engine.launch import load_config
from volo.errors import ConfigError, DataError
from volo.models import VOLO
from volo.own_data.init import Request, describe, init_config
from volo.own_data.plan import Machine

CPU, GPU = Machine(), Machine(gpu_gib=24)


def initialize(folder, machine=CPU, **options):
    """Write the config of a dataset beside it; return it and the result."""
    out = options.pop('out', folder.parent / 'my_config.py')
    result = init_config(Request(folder, out, **options), machine)
    lines = out.read_text().splitlines()
    assert len(lines) < 60
    return load_config(out), result


def built(cfg, split='train'):
    init_default_scope(cfg.default_scope)
    return DATASETS.build(cfg[f'{split}_dataloader'].dataset)


def class_folders(folder, shape=(70, 80, 3), count=10, dtype=np.uint8, suffix='.png'):
    random = np.random.default_rng(0)
    for name in ('cat', 'dog'):
        for index in range(count):
            path = folder / name / f'{index}{suffix}'
            path.parent.mkdir(parents=True, exist_ok=True)
            high = np.iinfo(dtype).max
            array = random.integers(0, high, shape, dtype)
            Image.fromarray(array).save(path)
    return folder


def masked(folder, mask_suffix='.png', suffixes=('.png',), kind='masks'):
    for index in range(10):
        stem, suffix = f'{index:02}', suffixes[index % len(suffixes)]
        save(folder / f'images/{stem}{suffix}', np.full((70, 80), 100 + index))
        mask = np.zeros((70, 80))
        mask[:, :40] = 255
        save(folder / kind / f'{stem}{mask_suffix}', mask)
    return folder


@pytest.mark.parametrize('machine', [CPU, GPU])
def test_class_folders(tmp_path, machine):
    cfg, result = initialize(class_folders(tmp_path / 'data'), machine)
    train, val, test = (built(cfg, split) for split in ('train', 'val', 'test'))
    assert (len(train), len(val), len(test)) == (16, 4, 4)
    assert train.metainfo['classes'] == ('cat', 'dog')
    sample = train[0]
    side = result.plan.size
    assert sample['inputs'].shape == (3, side, side)
    folder = Path(sample['data_samples'].img_path).parent.name
    assert ('cat', 'dog')[int(sample['data_samples'].gt_label)] == folder
    assert cfg.model.backbone.arch == ('d1' if machine.gpu_gib else 'tiny')


def test_gray_images_and_binary_masks(tmp_path):
    cfg, result = initialize(masked(tmp_path / 'data'))
    assert cfg.train_dataloader.dataset.label_map == {255: 1}
    assert cfg.model.backbone.in_channels == 1
    assert cfg.model.data_preprocessor.mean == [104.5]
    sample = built(cfg, 'val')[0]
    assert sample['inputs'].shape[0] == 1
    values = sample['data_samples'].gt_sem_seg.data.unique()
    assert values.tolist() == [0, 1]
    assert 'masks of 0 and 255' in describe(result)[0]
    model = MODELS.build(cfg.model).eval()
    with torch.no_grad():
        data = dict(inputs=[sample['inputs']], data_samples=[sample['data_samples']])
        (predicted,) = model.test_step(data)
    assert predicted.pred_sem_seg.data.shape == (1, 70, 80)


@pytest.mark.parametrize('task', ['classification', 'segmentation'])
@pytest.mark.parametrize('kind', ['16 bits', 'four bands'])
def test_deep_and_multi_band_images_are_read_as_they_are(tmp_path, task, kind):
    shape, dtype = (
        ((70, 80), np.uint16) if kind == '16 bits' else ((70, 80, 4), np.uint8)
    )
    folder = tmp_path / 'data'
    if task == 'classification':
        class_folders(folder, shape, dtype=dtype, suffix='.tif')
    else:
        masked(folder)
        images = class_folders(tmp_path / 'other', shape, dtype=dtype, suffix='.tif')
        for index in range(10):
            (folder / f'images/{index:02}.png').unlink()
            (images / f'cat/{index}.tif').rename(folder / f'images/{index:02}.tif')
    cfg, result = initialize(folder)
    channels = 1 if kind == '16 bits' else 4
    assert result.survey.channels == channels
    high = np.iinfo(dtype).max
    assert result.survey.mean[0] == pytest.approx(high / 2, rel=0.02)
    init_default_scope(cfg.default_scope)
    model = MODELS.build(cfg.model)
    for split in ('train', 'val'):
        sample = built(cfg, split)[0]
        assert sample['inputs'].shape[0] == channels
        if kind == '16 bits':
            assert sample['inputs'].max() > 256
        batch = dict(inputs=[sample['inputs']], data_samples=[sample['data_samples']])
        inputs = model.data_preprocessor(batch, training=True)['inputs']
        assert abs(float(inputs.mean())) < 0.7


def test_coco_is_drawn_beside_the_images(tmp_path):
    folder = tmp_path / 'data'
    for index in range(4):
        save(folder / f'images/{index}.jpg')
    outline = [[c for point in SQUARE for c in point]]
    write_coco(folder, dict(segmentation=outline), [f'{i}.jpg' for i in range(4)])
    cfg, _ = initialize(folder)
    assert (folder / 'volo_init/masks/images/0.jpg.png').is_file()
    datasets = [built(cfg, split) for split in ('train', 'val')]
    assert sum(map(len, datasets)) == 4
    values = [
        int(d[i]['data_samples'].gt_sem_seg.data.max())
        for d in datasets
        for i in range(len(d))
    ]
    assert 1 in values and set(values) <= {0, 1, 255}


@pytest.mark.parametrize(
    'options',
    [dict(mask_suffix='_mask.png'), dict(suffixes=('.png', '.bmp')), dict(kind='gt')],
)
def test_other_names_of_masks(tmp_path, options):
    cfg, _ = initialize(masked(tmp_path / 'data', **options))
    for split, number in (('train', 8), ('val', 2)):
        dataset = built(cfg, split)
        assert len(dataset) == number
        for index in range(number):
            info = dataset.get_data_info(index)
            stem = Path(info['img_path']).stem
            assert Path(info['seg_map_path']).name.startswith(stem)
            assert Path(info['img_path']).exists()
            assert Path(info['seg_map_path']).exists()


def test_a_test_set_is_kept_apart(tmp_path):
    for split in ('train', 'val', 'test'):
        class_folders(tmp_path / 'data' / split, count=3)
    cfg, _ = initialize(tmp_path / 'data')
    paths = [built(cfg, 'test').get_data_info(i)['img_path'] for i in range(6)]
    assert all('/test/' in path for path in paths)


def test_weights_start_the_training(tmp_path):
    weights = tmp_path / 'tiny.pth'
    torch.save(VOLO(arch='tiny').state_dict(), weights)
    cfg, _ = initialize(masked(tmp_path / 'data'), weights=str(weights))
    assert cfg.model.backbone.init_cfg.checkpoint == str(weights)
    assert 'constructor' in cfg.optim_wrapper
    init_default_scope(cfg.default_scope)
    MODELS.build(cfg.model).backbone.init_weights()
    out = tmp_path / 'classes.py'
    folder = class_folders(tmp_path / 'more')
    cfg, _ = initialize(folder, weights=str(weights), out=out)
    assert cfg.load_from == str(weights)


@pytest.mark.parametrize('arch', ['tiny', 'd1', 'd3'])
@pytest.mark.parametrize('task', ['classification', 'segmentation'])
def test_every_arch_builds(tmp_path, arch, task):
    make = class_folders if task == 'classification' else masked
    cfg, _ = initialize(make(tmp_path / 'data'), arch=arch)
    assert cfg.model.backbone.arch == arch
    init_default_scope(cfg.default_scope)
    with torch.device('meta'):
        MODELS.build(cfg.model)


def test_nothing_is_written_over_without_force(tmp_path):
    folder = masked(tmp_path / 'data')
    before = {p: p.read_bytes() for p in folder.rglob('*.png')}
    cfg, _ = initialize(folder)
    with pytest.raises(ConfigError, match='my_config.py.*exists already.*--force'):
        initialize(folder)
    other, _ = initialize(folder, out=tmp_path / 'second.py')
    assert built(other).get_data_info(0) == built(cfg).get_data_info(0)
    initialize(folder, force=True, seed=3)
    assert before == {p: p.read_bytes() for p in folder.rglob('*.png')}


def test_drawn_masks_are_not_written_over_without_force(tmp_path):
    folder = tmp_path / 'data'
    shape = dict(label='x', points=SQUARE, shape_type='polygon')
    for index in range(3):
        save(folder / f'{index}.jpg')
        content = dict(imagePath=f'{index}.jpg', shapes=[shape])
        (folder / f'{index}.json').write_text(json.dumps(content))
    initialize(folder)
    mask = folder / 'volo_init/masks/0.jpg.png'
    save(mask, np.zeros((6, 8)))
    corrected = mask.read_bytes()
    with pytest.raises(ConfigError, match='0.jpg.png: differs'):
        initialize(folder, out=tmp_path / 'second.py')
    assert mask.read_bytes() == corrected
    initialize(folder, force=True)
    assert mask.read_bytes() != corrected


def test_unusable_options_are_named(tmp_path):
    folder = class_folders(tmp_path / 'data')
    for options, message in (
        (dict(out=tmp_path / 'config.txt'), 'ends in .py'),
        (dict(weights='no.pth'), '--weights no.pth: no such file'),
    ):
        with pytest.raises(ConfigError, match=message):
            initialize(folder, **options)
    with pytest.raises(DataError, match='gone: no such folder'):
        initialize(tmp_path / 'gone')
