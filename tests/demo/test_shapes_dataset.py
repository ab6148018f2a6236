import hashlib
import json

import numpy as np
import pytest
from mmengine.config import Config
from mmengine.registry import DATASETS
from PIL import Image

import volo  # noqa: F401  registers the datasets
from demo import shapes_dataset
from demo.shapes import SHAPE_CLASSES, draw_shape
from demo.shapes_dataset import generate_shapes_dataset
from tests.toy import ROOT
from volo.errors import DataError

SMALL = dict(train_per_class=2, val_per_class=1, size=48)


def digests(root):
    """Return the digest of every file below a folder, hidden ones included."""
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in root.rglob('*')
        if path.is_file()
    }


@pytest.fixture
def root(tmp_path):
    generate_shapes_dataset(tmp_path / 'shapes', **SMALL)
    return tmp_path / 'shapes'


def test_layout(root):
    files = set(digests(root))
    assert len(files) == 1 + 2 * 7 * (2 + 1)
    for name in SHAPE_CLASSES:
        for split, count in (('train', 2), ('val', 1)):
            images = sorted((root / 'images' / split / name).iterdir())
            assert [path.name for path in images] == [
                f'{name}_{number:04d}.jpg' for number in range(count)
            ]
            for path in images:
                mask = root / 'masks' / split / name / f'{path.stem}.png'
                with Image.open(path) as image, Image.open(mask) as labels:
                    assert image.mode == 'RGB' and labels.mode == 'L'
                    assert image.size == labels.size == (48, 48)
                    assert set(np.unique(labels)) == {0, 1 + SHAPE_CLASSES.index(name)}


def test_same_bytes_for_the_same_seed_and_others_for_another(root, tmp_path):
    generate_shapes_dataset(tmp_path / 'again', **SMALL)
    assert digests(tmp_path / 'again') == digests(root)
    generate_shapes_dataset(tmp_path / 'other', seed=1, **SMALL)
    same = digests(tmp_path / 'other').items() & digests(root).items()
    assert not same


def test_more_images_keep_those_of_fewer(root, tmp_path):
    larger = {**SMALL, 'train_per_class': 3, 'val_per_class': 2}
    generate_shapes_dataset(tmp_path / 'larger', **larger)
    few, many = digests(root), digests(tmp_path / 'larger')
    del few['dataset.json']
    assert few.items() < many.items()


def test_all_images_differ(root):
    contents = [
        content for name, content in digests(root).items() if name.startswith('images')
    ]
    assert len(set(contents)) == len(contents) == 21


def test_second_call_leaves_every_file_alone(root):
    def state():
        return {path: path.stat().st_mtime_ns for path in root.rglob('*')}

    (root / 'notes.txt').write_text('mine')
    before = state()
    generate_shapes_dataset(root, **SMALL)
    assert state() == before


def test_missing_files_are_drawn_again(root):
    before = digests(root)
    (root / 'images/train/ring/ring_0001.jpg').unlink()
    (root / 'masks/val/star/star_0000.png').unlink()
    generate_shapes_dataset(root, **SMALL)
    assert digests(root) == before


def test_interrupted_drawing_leaves_nothing_and_can_be_repeated(tmp_path, monkeypatch):
    calls = []

    def interrupted(*args):
        calls.append(args)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return draw_shape(*args)

    root = tmp_path / 'parent/shapes'
    with monkeypatch.context() as patch:
        patch.setattr(shapes_dataset, 'draw_shape', interrupted)
        with pytest.raises(KeyboardInterrupt):
            generate_shapes_dataset(root, **SMALL)
    assert not any(root.parent.iterdir())
    generate_shapes_dataset(root, **SMALL)
    assert [path.name for path in root.parent.iterdir()] == ['shapes']
    assert len(digests(root)) == 43


def test_fills_an_empty_folder(tmp_path):
    generate_shapes_dataset(tmp_path, **SMALL)
    assert len(digests(tmp_path)) == 43


def test_refuses_other_settings_and_keeps_the_files(root):
    before = digests(root)
    with pytest.raises(DataError, match='other settings.*choose another folder'):
        generate_shapes_dataset(root, seed=1, **SMALL)
    assert digests(root) == before


def test_refuses_a_folder_of_something_else(tmp_path):
    (tmp_path / 'holiday.jpg').write_bytes(b'precious')
    with pytest.raises(DataError, match='no shapes dataset'):
        generate_shapes_dataset(tmp_path, **SMALL)
    assert digests(tmp_path).keys() == {'holiday.jpg'}


def test_refuses_a_broken_manifest(root):
    (root / 'dataset.json').write_text('{')
    with pytest.raises(DataError, match='dataset.json is not readable'):
        generate_shapes_dataset(root, **SMALL)


@pytest.mark.parametrize(
    'wrong',
    [dict(train_per_class=0), dict(val_per_class=0), dict(size=16), dict(seed=-1)],
)
def test_refuses_numbers_out_of_range(tmp_path, wrong):
    with pytest.raises(DataError, match=f'{next(iter(wrong))}='):
        generate_shapes_dataset(tmp_path / 'shapes', **{**SMALL, **wrong})
    assert not (tmp_path / 'shapes').exists()


@pytest.mark.parametrize('split', ['train', 'val'])
def test_the_configs_read_it(root, split):
    count = json.loads((root / 'dataset.json').read_text())[f'{split}_per_class']
    cfg = Config.fromfile(ROOT / 'configs/volo_tiny_shapes.py')
    dataset = DATASETS.build(
        {
            **cfg[f'{split}_dataloader'].dataset,
            'data_root': str(root),
            '_scope_': 'mmpretrain',
        }
    )
    assert tuple(dataset.metainfo['classes']) == SHAPE_CLASSES
    assert len(dataset) == 7 * count
    sample = dataset[0]
    assert sample['inputs'].shape == (3, 64, 64)
    assert sample['data_samples'].gt_label.item() == 0

    cfg = Config.fromfile(ROOT / 'configs/volo_tiny_upernet_shapes.py')
    dataset = DATASETS.build(
        {
            **cfg[f'{split}_dataloader'].dataset,
            'data_root': str(root),
            '_scope_': 'mmseg',
        }
    )
    assert len(dataset) == 7 * count
    sample = dataset[len(dataset) - 1]
    assert set(sample['data_samples'].gt_sem_seg.data.unique().tolist()) == {0, 7}
