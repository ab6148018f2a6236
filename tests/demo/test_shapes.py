import hashlib
import json

import numpy as np
import pytest
from mmengine.config import Config
from mmengine.registry import DATASETS
from PIL import Image

import volo  # noqa: F401  registers the datasets
from demo import shapes
from demo.shapes import (
    SEGMENTATION_CLASSES,
    SEGMENTATION_PALETTE,
    SHAPE_CLASSES,
    draw_shape,
    generate_shapes_dataset,
)
from tests.toy import ROOT
from volo.errors import DataError

SMALL = dict(train_per_class=2, val_per_class=1, size=48)


def digests(root):
    """Content of every file below a folder, hidden ones included."""
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


def test_no_image_twice(root):
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
        patch.setattr(shapes, 'draw_shape', interrupted)
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
def test_refuses_senseless_numbers(tmp_path, wrong):
    with pytest.raises(DataError, match=f'{next(iter(wrong))}='):
        generate_shapes_dataset(tmp_path / 'shapes', **{**SMALL, **wrong})
    assert not (tmp_path / 'shapes').exists()


@pytest.mark.parametrize('name', SHAPE_CLASSES)
def test_shape_covers_a_good_part_and_is_brighter(name):
    for seed in range(10):
        image, mask = draw_shape(name, np.random.default_rng(seed), 96)
        assert image.shape == (96, 96, 3) and mask.shape == (96, 96)
        assert image.dtype == mask.dtype == np.uint8
        shape = mask > 0
        assert 0.04 < shape.mean() < 0.5
        assert image[shape].mean() > image[~shape].mean()


def test_color_says_nothing_about_the_class():
    # Class means of red, green and blue differ by no more than chance allows.
    number = 60
    colors = np.array(
        [
            [
                image[mask > 0].mean(axis=0)
                for image, mask in (
                    draw_shape(name, np.random.default_rng((label, seed)), 32)
                    for seed in range(number)
                )
            ]
            for label, name in enumerate(SHAPE_CLASSES)
        ]
    )  # class, image, channel
    deviation = colors.mean(axis=1) - colors.mean(axis=(0, 1))
    standard_error = colors.std(axis=(0, 1)) / np.sqrt(number)
    assert (np.abs(deviation) < 4 * standard_error).all()


def test_outlines_are_what_their_names_say():
    axis = np.linspace(-1.2, 1.2, 481)
    u, v = np.meshgrid(axis, axis)
    area = {
        name: outline(u, v).mean() * 2.4**2
        for name, outline in shapes._OUTLINES.items()
    }
    assert area['circle'] == pytest.approx(np.pi * 0.9**2, rel=0.02)
    assert area['ring'] == pytest.approx(np.pi * (0.95**2 - 0.5**2), rel=0.02)
    assert area['square'] == pytest.approx(1.56**2, rel=0.02)
    assert area['cross'] == pytest.approx(2 * 0.64 * 1.9 - 0.64**2, rel=0.02)
    # Equilateral in a circle of radius R: 3 sqrt(3) / 4 R^2.
    assert area['triangle'] == pytest.approx(3**1.5 / 4 * 1.1**2, rel=0.02)
    # Ten triangles between neighbouring corners at 36 degrees.
    star = 10 * 0.5 * 1.1 * 0.45 * np.sin(np.pi / 5)
    assert area['star'] == pytest.approx(star, rel=0.02)
    assert not shapes._OUTLINES['ring'](np.zeros(1), np.zeros(1))
    assert not shapes._OUTLINES['crescent'](np.full(1, 0.5), np.zeros(1))
    assert shapes._OUTLINES['crescent'](np.full(1, -0.6), np.zeros(1))


def test_constants_agree_with_each_other_and_with_the_config():
    assert tuple(sorted(SHAPE_CLASSES)) == SHAPE_CLASSES
    assert SEGMENTATION_CLASSES == ('background', *SHAPE_CLASSES)
    assert len(set(SEGMENTATION_PALETTE)) == len(SEGMENTATION_CLASSES)
    cfg = Config.fromfile(ROOT / 'configs/volo_tiny_upernet_shapes.py')
    assert tuple(cfg.metainfo.classes) == SEGMENTATION_CLASSES
    assert tuple(map(tuple, cfg.metainfo.palette)) == SEGMENTATION_PALETTE
    assert cfg.model.decode_head.num_classes == len(SEGMENTATION_CLASSES)
    assert cfg.model.auxiliary_head.num_classes == len(SEGMENTATION_CLASSES)


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
