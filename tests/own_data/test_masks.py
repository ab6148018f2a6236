"""Masks are paired with their images, and their values become labels."""

import numpy as np
import pytest
from PIL import Image

from tests.own_data.test_formats import save
from volo.errors import DataError
from volo.own_data.detect import find_dataset
from volo.own_data.legend import Entry, read_legend
from volo.own_data.mask_folders import pair

COLORS = np.array([[0, 0, 0], [200, 0, 0], [0, 0, 7]], np.uint8)


def masks(folder, *arrays, images='images', kind='masks', suffix='.png'):
    for index, array in enumerate(arrays):
        array = np.asarray(array, np.uint8)
        save(folder / images / f'{index}.jpg', np.zeros((*array.shape[:2], 3)))
        save(folder / kind / f'{index}{suffix}', array)


def test_zero_and_255_are_two_classes(tmp_path):
    masks(tmp_path, [[0, 255]], [[0, 0]])
    found = find_dataset(tmp_path)
    assert found.classes == ('background', 'object')
    assert found.label_map == {255: 1} and found.samples[0].draw is None
    assert [list(sample.counts) for sample in found.samples] == [[1, 1], [2, 0]]


def test_indices_are_used_as_they_are(tmp_path):
    masks(tmp_path, [[0, 1, 2]], [[2, 2, 255]])
    found = find_dataset(tmp_path)
    assert found.classes == ('background', 'class_1', 'class_2')
    assert found.label_map == {} and found.samples[1].mask == 'masks/1.png'
    assert list(found.samples[1].counts) == [0, 0, 2]
    assert 'rename them in the config' in found.notes[-1]


def test_values_with_gaps_are_numbered(tmp_path):
    masks(tmp_path, [[0, 100, 200]], [[0, 0, 0]])
    found = find_dataset(tmp_path)
    assert found.label_map == {100: 1, 200: 2}


def test_a_legend_names_the_values(tmp_path):
    masks(tmp_path, [[0, 2]], [[0, 0]])
    (tmp_path / 'classes.txt').write_text('sky\nroad\ncar\n')
    found = find_dataset(tmp_path, 'segmentation')
    assert found.classes == ('sky', 'road', 'car') and found.label_map == {}
    (tmp_path / 'classes.txt').write_text('sky\nroad\n')
    assert find_dataset(tmp_path).classes == ('sky', 'road')


def test_colors_follow_the_legend_and_others_are_void(tmp_path):
    labels = np.array([[0, 1, 2]])
    masks(
        tmp_path, COLORS[labels], np.concatenate([COLORS[[[1, 1]]], [[[9, 9, 9]]]], 1)
    )
    (tmp_path / 'legend.txt').write_text('car 0 0 7\nroad 200 0 0\nsky 0 0 0\n')
    found = find_dataset(tmp_path)
    assert found.classes == ('car', 'road', 'sky')
    assert found.palette == [[0, 0, 7], [200, 0, 0], [0, 0, 0]]
    assert [s.draw().tolist() for s in found.samples] == [[[2, 1, 0]], [[1, 1, 255]]]
    assert any('have no color of the legend: void' in note for note in found.notes)


def test_colors_without_a_legend_are_named_by_color(tmp_path):
    masks(tmp_path, COLORS[[[0, 1, 2]]], COLORS[[[0, 0, 0]]])
    found = find_dataset(tmp_path)
    assert found.classes == ('color_000000', 'color_000007', 'color_c80000')
    assert 'legend.txt' in found.notes[0]


def test_gray_masks_with_three_channels_are_written_with_one(tmp_path):
    one = np.array([[0, 1, 2]])
    masks(tmp_path, np.stack([one] * 3, -1), np.stack([one * 0] * 3, -1))
    assert find_dataset(tmp_path).samples[0].draw().tolist() == one.tolist()


def test_palette_masks_keep_their_indices(tmp_path):
    for name in ('a', 'b'):
        save(tmp_path / f'images/{name}.jpg')
        mask = Image.new('P', (8, 6))
        mask.putpalette(COLORS.flatten().tolist())
        mask.putdata([0, 1, 2] * 16)
        (tmp_path / 'masks').mkdir(exist_ok=True)
        mask.save(tmp_path / f'masks/{name}.png')
    found = find_dataset(tmp_path)
    assert len(found.classes) == 3 and found.samples[0].draw is None


def test_smooth_masks_and_a_single_value_are_refused(tmp_path):
    masks(tmp_path / 'smooth', np.arange(240).reshape(1, -1))
    with pytest.raises(DataError, match='0.png: 240 different values'):
        find_dataset(tmp_path / 'smooth')
    masks(tmp_path / 'one', [[1, 1]])
    with pytest.raises(DataError, match='values 1 only'):
        find_dataset(tmp_path / 'one')


def test_masks_of_a_named_folder(tmp_path):
    masks(tmp_path, [[0, 1]], [[1, 1]], images='photos', kind='drawn')
    found = find_dataset(tmp_path, masks_dir=tmp_path / 'drawn')
    assert [s.mask for s in found.samples] == ['drawn/0.png', 'drawn/1.png']
    with pytest.raises(DataError, match='no such folder'):
        find_dataset(tmp_path, masks_dir=tmp_path / 'gone')


@pytest.mark.parametrize(
    ('image', 'mask'),
    [
        ('images/train/a.jpg', 'masks/train/a.png'),
        ('train/images/a.jpg', 'train/labels/a.png'),
        ('a.jpg', 'a_mask.png'),
        ('images/img_1.tif', 'gt/mask_1.png'),
        ('leftImg8bit/val/b_leftImg8bit.png', 'gtFine/val/b_gtFine_labelIds.png'),
        ('701_StillsRaw/0001.png', 'LabeledApproved/0001_L.png'),
    ],
)
def test_names_that_belong_together(image, mask):
    assert pair(['other.jpg', image], [mask]) == ([(image, mask)], 0)


@pytest.mark.parametrize(
    ('name', 'text', 'entry'),
    [
        ('a.txt', 'road 128 64 128', Entry('road', (128, 64, 128))),
        ('a.txt', '128 64 128 the road', Entry('the road', (128, 64, 128))),
        ('a.csv', 'name,r,g,b\nroad,128,64,128', Entry('road', (128, 64, 128))),
        (
            'a.txt',
            '# label:color_rgb\nroad:128,64,128::',
            Entry('road', (128, 64, 128)),
        ),
        ('a.txt', '#804080 road', Entry('road', (128, 64, 128))),
        ('a.txt', '3 road', Entry('road', value=3)),
        ('a.txt', 'the road', Entry('the road')),
        ('a.json', '{"road": [128, 64, 128]}', Entry('road', (128, 64, 128))),
        ('a.json', '[{"name": "road", "id": 3}]', Entry('road', value=3)),
        ('a.json', '{"3": "road"}', Entry('road', value=3)),
    ],
)
def test_legends(tmp_path, name, text, entry):
    (tmp_path / name).write_text(text)
    assert read_legend(tmp_path / name) == [entry]


def test_a_broken_legend_is_named(tmp_path):
    for text in ('', '12 34\n', 'road 1 2 999\n'):
        (tmp_path / 'legend.txt').write_text(text)
        with pytest.raises(DataError, match='legend.txt: '):
            read_legend(tmp_path / 'legend.txt')
