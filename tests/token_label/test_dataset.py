import pickle

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DATASETS, init_default_scope
from mmpretrain.datasets.transforms import PackInputs
from PIL import Image
from torch.utils.data import DataLoader

from volo.engine.failures import readable_errors
from volo.errors import ConfigError, DataError, MissingLabelMapError
from volo.token_label import (
    LabelMap,
    LabelMapFolder,
    PackedWriter,
    read_label_map,
    write_label_map,
)

PIPELINE = [
    dict(type='LoadImageFromFile'),
    dict(type='RandomResizedCrop', scale=32),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='PackInputs'),
]


@pytest.fixture(autouse=True)
def scope():
    init_default_scope('mmpretrain')


@pytest.fixture
def folder(tmp_path):
    """Six images of two classes, and a label map of each, 3 x 4 cells."""
    rng = np.random.RandomState(0)
    for i in range(6):
        name = f'{"ab"[i % 2]}/{i}'
        image = tmp_path / f'train/{name}.png'
        image.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.randint(0, 255, (40, 50, 3), dtype=np.uint8)).save(image)
        classes = np.full((2, 3, 4), i)
        label_map = LabelMap(rng.randn(2, 3, 4).astype(np.float16), classes)
        write_label_map(tmp_path / f'maps/{name}.pt', label_map)
    return tmp_path


def build(folder, pipeline=PIPELINE, **options):
    dataset = dict(
        type='ImageFolder',
        data_root=str(folder),
        data_prefix='train',
        pipeline=pipeline,
    )
    return DATASETS.build(
        dict(type='TokenLabelDataset', dataset=dataset, label_root='maps') | options
    )


def test_every_image_comes_with_its_map_and_geometry(folder):
    np.random.seed(0)
    dataset = build(folder)
    assert len(dataset) == 6
    assert dataset.metainfo['classes'] == ('a', 'b')
    assert dataset.get_cat_ids(0) == [0] and dataset.get_cat_ids(5) == [1]
    for i in range(6):
        sample = dataset[i]['data_samples']
        expected = read_label_map(
            sample.img_path.replace('train', 'maps').replace('.png', '.pt')
        )
        label = sample.token_label
        np.testing.assert_array_equal(label.scores, expected.scores)
        np.testing.assert_array_equal(label.classes, expected.classes)
        corners = label.matrix @ [[0, 1], [0, 1], [1, 1]]
        assert corners.min() >= 0 and corners.max() <= 1
        assert not np.allclose(label.matrix, np.eye(3))
        assert label.frames.shape == (0, 3, 3)


def test_a_packed_store_gives_the_same(folder):
    maps = LabelMapFolder(folder / 'maps')
    writer = PackedWriter.create(folder / 'packed', maps.keys(), (2, 3, 4))
    for key in writer.missing():
        writer.write(key, maps.read(key))
    writer.finish()
    labels = []
    for root in ('maps', 'packed'):
        dataset = build(folder, label_root=root)
        np.random.seed(0)
        labels.append([dataset[i]['data_samples'].token_label for i in range(6)])
    for first, second in zip(*labels, strict=True):
        for name in ('scores', 'classes', 'matrix', 'frames'):
            np.testing.assert_array_equal(getattr(first, name), getattr(second, name))


def test_an_absolute_label_root_and_transposed_maps(folder):
    dataset = build(folder, label_root=str(folder / 'maps'), transposed=True)
    assert dataset[0]['data_samples'].token_label.scores.shape == (2, 4, 3)


def test_workers_can_load_it(folder):
    pickle.loads(pickle.dumps(build(folder)))[0]
    loader = DataLoader(
        build(folder),
        batch_size=3,
        num_workers=2,
        multiprocessing_context='fork',
        collate_fn=list,
    )
    samples = [sample for batch in loader for sample in batch]
    assert [s['data_samples'].token_label.classes[0, 0, 0] for s in samples] == [
        *(0, 2, 4, 1, 3, 5)
    ]


def test_a_missing_map_is_an_error_or_the_label(folder):
    (folder / 'maps/a/2.pt').unlink()
    with pytest.raises(
        MissingLabelMapError, match=r"a/2\.pt: no such.*missing='label'"
    ):
        build(folder)[1]
    sample = build(folder, missing='label')[1]['data_samples']
    assert 'token_label' not in sample and sample.gt_label.item() == 0
    assert 'token_label' in build(folder, missing='label')[0]['data_samples']


def test_a_broken_map_is_an_error_either_way(folder):
    (folder / 'maps/a/2.pt').write_bytes(b'not a tensor')
    for missing in ('error', 'label'):
        with pytest.raises(DataError, match=r'a/2\.pt: broken label map'):
            build(folder, missing=missing)[1]


def test_missing_folder_is_an_error_before_training(folder):
    with pytest.raises(DataError, match=r'nowhere: no such folder of label maps'):
        build(folder, label_root='nowhere')
    build(folder, label_root='nowhere', lazy_init=True)


def test_invalid_datasets_are_refused(folder):
    with pytest.raises(ConfigError, match='may move pixels'):
        rotation = dict(type='torchvision/RandomRotation', degrees=9)
        build(folder, [*PIPELINE[:1], rotation, *PIPELINE[1:]])
    with pytest.raises(ConfigError, match='must end in PackInputs, not in RandomFlip'):
        build(folder, PIPELINE[:-1])
    with pytest.raises(
        ConfigError, match="missing must be 'error' or 'label', not 'skip'"
    ):
        build(folder, missing='skip')


def test_removed_options_are_one_clear_error(folder):
    cfg = Config(dict(x=dict(type='TokenLabelDataset', published_axes=True)))
    message = "x: TokenLabelDataset has no option 'published_axes'"
    with pytest.raises(ConfigError, match=message), readable_errors(cfg):
        build(folder, published_axes=True)


def test_custom_pack_inputs_keeps_its_keys(folder):
    pack = dict(type='PackInputs', algorithm_keys=('img_path',), meta_keys=())
    dataset = build(folder, [*PIPELINE[:-1], pack])
    assert {'img_path', 'token_label'} <= set(dataset[0]['data_samples'].keys())
    assert torch.is_tensor(dataset[0]['inputs'])
    assert PackInputs().algorithm_keys == ()
