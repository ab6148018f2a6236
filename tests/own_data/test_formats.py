"""Every format of annotations becomes the labels that it means."""

import base64
import io
import json

import numpy as np
import pytest
from PIL import Image

from volo.errors import DataError
from volo.own_data.coco import decode_run_lengths
from volo.own_data.detect import find_dataset

#: A square of pixels 2..5 in an image 8 wide and 6 high.
SQUARE = [(2, 1), (5, 1), (5, 4), (2, 4)]
EXPECTED = np.zeros((6, 8), np.uint8)
EXPECTED[1:5, 2:6] = 1


def save(path, array=None, mode=None):
    """Save an image; by default a gray one of 6x8 pixels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    array = np.full((6, 8, 3), 90, np.uint8) if array is None else array
    Image.fromarray(np.asarray(array, np.uint8), mode).save(path)


def drawn(found):
    """Return the masks of a dataset by the path of the image."""
    return {sample.image: sample.draw() for sample in found.samples}


def write_coco(folder, segmentation, names=('a.jpg',)):
    content = dict(
        images=[
            dict(id=i, file_name=name, width=8, height=6)
            for i, name in enumerate(names)
        ],
        categories=[dict(id=9, name='later'), dict(id=4, name='first')],
        annotations=[dict(id=1, image_id=0, category_id=4, **segmentation)],
    )
    (folder / 'instances.json').write_text(json.dumps(content))


def test_class_folders_without_and_with_splits(tmp_path):
    for name in ('cat/1.jpg', 'cat/2.jpg', 'dog/1.jpg'):
        save(tmp_path / 'plain/images' / name)
        save(tmp_path / 'split/train' / name)
        save(tmp_path / 'split/valid' / name)
    save(tmp_path / 'split/test/unknown/9.jpg')
    plain = find_dataset(tmp_path / 'plain')
    assert plain.task == 'classification' and plain.classes == ('cat', 'dog')
    assert [(s.image, s.label, s.split) for s in plain.samples][1:] == [
        ('images/cat/2.jpg', 0, ''),
        ('images/dog/1.jpg', 1, ''),
    ]
    split = find_dataset(tmp_path / 'split')
    assert [s.split for s in split.samples] == ['train'] * 3 + ['val'] * 3
    assert '1 images are in no class folder' in split.notes[0]


@pytest.mark.parametrize('other', ['without_mask', 'bare'])
def test_class_folders_named_mask_are_not_masks(tmp_path, other):
    for name in ('with_mask/1.jpg', 'with_mask/2.jpg', f'{other}/1.jpg'):
        save(tmp_path / name)
    assert set(find_dataset(tmp_path).classes) == {'with_mask', other}


@pytest.mark.parametrize(
    'segmentation',
    [
        dict(segmentation=[[c for point in SQUARE for c in point]]),
        dict(segmentation=dict(size=[6, 8], counts=[13, 4, 2, 4, 2, 4, 2, 4, 13])),
    ],
)
def test_coco(tmp_path, segmentation):
    save(tmp_path / 'images/a.jpg')
    save(tmp_path / 'images/b.jpg')
    write_coco(tmp_path, segmentation, ('a.jpg', 'b.jpg', 'gone.jpg'))
    found = find_dataset(tmp_path)
    # In the order of the ids, after the background.
    assert found.classes == ('background', 'first', 'later')
    masks = drawn(found)
    assert masks['images/a.jpg'].tolist() == EXPECTED.tolist()
    assert not masks['images/b.jpg'].any()
    assert '1 images are missing: gone.jpg' in found.notes[0]


def test_coco_annotations_of_an_unknown_category_are_named(tmp_path):
    save(tmp_path / 'a.jpg')
    outline = [[c for point in SQUARE for c in point]]
    write_coco(tmp_path, dict(segmentation=outline))
    path = tmp_path / 'instances.json'
    path.write_text(path.read_text().replace('"category_id": 4', '"category_id": 5'))
    with pytest.raises(DataError, match='instances.json: annotations of category 5'):
        find_dataset(tmp_path)


def test_coco_run_lengths_as_text():
    """The text is what pycocotools writes for the same counts."""
    counts = [13, 4, 2, 4, 2, 4, 2, 4, 13]
    plain = decode_run_lengths(dict(size=[6, 8], counts=counts))
    text = ''
    for index, count in enumerate(counts):
        value = count - (counts[index - 2] if index > 2 else 0)
        while True:
            bits, value = value & 31, value >> 5
            done = value == (-1 if bits & 16 else 0)
            text += chr((bits | (0 if done else 32)) + 48)
            if done:
                break
    assert decode_run_lengths(dict(size=[6, 8], counts=text)).tolist() == plain.tolist()
    assert plain.astype(int).tolist() == EXPECTED.tolist()


def test_boxes_without_outlines_are_refused(tmp_path):
    save(tmp_path / 'coco/a.jpg')
    write_coco(tmp_path / 'coco', dict(bbox=[1, 1, 3, 3]))
    save(tmp_path / 'yolo/a.jpg')
    (tmp_path / 'yolo/a.txt').write_text('0 0.5 0.5 0.2 0.2\n')
    for name in ('coco', 'yolo'):
        with pytest.raises(DataError, match='boxes but no'):
            find_dataset(tmp_path / name)


def test_labelme(tmp_path):
    save(tmp_path / 'a.jpg')
    save(tmp_path / 'bare.jpg')
    buffer = io.BytesIO()
    Image.fromarray(np.full((1, 2), 255, np.uint8)).save(buffer, 'PNG')
    shapes = [
        dict(label='square', shape_type='rectangle', points=[[5, 4], [2, 1]]),
        dict(label='__ignore__', shape_type='polygon', points=[[0, 0], [1, 0], [0, 1]]),
        dict(
            label='dot',
            shape_type='mask',
            points=[[6, 5], [7, 5]],
            mask=base64.b64encode(buffer.getvalue()).decode(),
        ),
    ]
    content = dict(imagePath='a.jpg', imageWidth=8, imageHeight=6, shapes=shapes)
    (tmp_path / 'a.json').write_text(json.dumps(content))
    found = find_dataset(tmp_path)
    assert found.classes == ('background', 'dot', 'square')
    (mask,) = drawn(found).values()
    assert (mask == 2).tolist() == (EXPECTED == 1).tolist()
    assert mask[0, 0] == 255 and mask[5, 6:].tolist() == [1, 1]
    assert '1 images have no JSON file' in found.notes[0]


def test_yolo_polygons(tmp_path):
    outline = ' '.join(f'{x / 8} {y / 6}' for x, y in SQUARE)
    for split in ('train', 'val'):
        save(tmp_path / f'images/{split}/a.jpg')
        (tmp_path / f'labels/{split}').mkdir(parents=True)
        (tmp_path / f'labels/{split}/a.txt').write_text(f'1 {outline}\n')
    save(tmp_path / 'images/val/empty.jpg')
    (tmp_path / 'data.yaml').write_text('names: [cat, dog]\n')
    found = find_dataset(tmp_path)
    assert found.classes == ('background', 'cat', 'dog')
    masks = drawn(found)
    assert masks['images/val/a.jpg'].tolist() == (2 * EXPECTED).tolist()
    assert not masks['images/val/empty.jpg'].any()
    assert [s.split for s in found.samples] == ['train', 'val', 'val']
    (tmp_path / 'data.yaml').write_text('names: [cat]\n')
    with pytest.raises(DataError, match='data.yaml: 1 names, .* class 1'):
        find_dataset(tmp_path)


def test_pascal_voc(tmp_path):
    for name in ('a', 'b', 'c'):
        save(tmp_path / f'VOC2012/JPEGImages/{name}.jpg')
    for name in ('a', 'b'):
        mask = Image.fromarray(EXPECTED * 15).convert('P')
        mask.putdata(list((EXPECTED * 15).flatten()))
        path = tmp_path / f'VOC2012/SegmentationClass/{name}.png'
        path.parent.mkdir(exist_ok=True)
        mask.save(path)
    lists = tmp_path / 'VOC2012/ImageSets/Segmentation'
    lists.mkdir(parents=True)
    (lists / 'train.txt').write_text('a\n')
    (lists / 'val.txt').write_text('b\n')
    found = find_dataset(tmp_path)
    assert found.classes[:2] == ('background', 'person')
    assert found.label_map == {15: 1}
    assert [(s.mask.split('/')[-1], s.split) for s in found.samples] == [
        ('a.png', 'train'),
        ('b.png', 'val'),
    ]


def test_nothing_to_learn_from_is_one_clear_error(tmp_path):
    with pytest.raises(DataError, match='no images found'):
        find_dataset(tmp_path)
    save(tmp_path / 'a.jpg')
    with pytest.raises(DataError, match='1 images .a.jpg. but no annotations'):
        find_dataset(tmp_path)
    with pytest.raises(DataError, match='Expected: one folder per class. docs'):
        find_dataset(tmp_path, 'classification')
