import os
from functools import partial

import numpy as np
import pytest
import torch
from mmcv.transforms import LoadImageFromFile
from PIL import Image
from torch import nn

from volo.annotators.annotator import Annotator, Preprocess
from volo.annotators.generate import generate_label_maps
from volo.annotators.images import find_images, number_classes, read_image
from volo.engine.launch import join_processes
from volo.errors import ConfigError, DataError
from volo.token_label import LabelMapFolder, PackedWriter
from volo.token_label.folder_writer import FolderWriter
from volo.token_label.packed import PackedLabelMaps


class Colors(Annotator):
    """Red, green and blue are the first classes of ``count``; a cell is 8 x 8."""

    def __init__(self, count=3, factor=1.0):
        self.count, self.factor = count, factor
        super().__init__(nn.Linear(1, 1), 'colors', Preprocess(32))

    def features(self, images):
        return nn.functional.avg_pool2d(images, 8) * self.factor

    def classify(self, features):
        colors = features.mean((2, 3))
        return torch.cat([colors, colors.new_zeros(len(colors), self.count - 3)], 1)


@pytest.fixture
def images(tmp_path):
    """Red in ``a``, green in ``b``, but blue in ``c/1`` alone and red in ``c/2``."""
    folder = tmp_path / 'images'
    colors = dict(a=('red', 'red'), b=('lime', 'lime'), c=('blue', 'red'))
    for name, (first, second) in colors.items():
        (folder / name).mkdir(parents=True)
        Image.new('RGB', (40, 30), first).save(folder / name / '1.jpg')
        Image.new('RGB', (30, 40), second).save(folder / name / '2.PNG')
    (folder / 'a' / 'notes.txt').touch()
    return folder


def generate(images, out, annotator=None, packed=False, **options):
    annotator = annotator or Colors()
    options = dict(k=2, batch_size=4, workers=0) | options
    if packed:
        classes = annotator.num_classes
        open_writer = partial(PackedWriter.create, out, num_classes=classes)
    else:
        open_writer = partial(FolderWriter, out)
    return generate_label_maps(annotator, images, open_writer, **options)


def test_every_image_gets_a_map(images, tmp_path):
    report = generate(images, tmp_path / 'out', workers=1)
    store = LabelMapFolder(tmp_path / 'out')
    assert sorted(store.keys()) == ['a/1', 'a/2', 'b/1', 'b/2', 'c/1', 'c/2']
    label_map = store.read('c/1')
    assert label_map.scores.shape == (2, 4, 4)
    assert (label_map.classes[0] == 2).all() and label_map.scores[0].min() > 200
    assert (report.total, report.new, report.correct) == (6, 6, 5)
    assert str(report) == (
        f'{tmp_path / "out"}: 6 label maps (6 new) of 4 x 4 cells, 2 classes each; '
        "annotator's top-1: 83.33% of the 6 new"
    )


def test_a_fifo_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / 'a.png')
    with pytest.raises(DataError, match=r'a.png: broken image \(a FIFO\)'):
        read_image(tmp_path / 'a.png')


@pytest.mark.parametrize('packed', [False, True])
def test_an_interrupted_run_continues(images, tmp_path, packed):
    broken = images / 'b' / '2.PNG'
    whole = broken.read_bytes()
    broken.write_bytes(whole[:60])
    out = tmp_path / 'out'
    with pytest.raises(DataError, match=r'2\.PNG: broken image .* same command'):
        generate(images, out, batch_size=1, packed=packed)
    broken.write_bytes(whole)
    report = generate(images, out, packed=packed)
    assert (report.total, report.new, report.correct) == (6, 3, 2)
    # Nothing is done twice.
    report = generate(images, out, packed=packed)
    assert report.new == 0 and 'no image was annotated' in str(report)
    with pytest.raises(DataError, match='shape'):
        generate(images, out, packed=packed, k=1)


def test_the_packed_store_holds_the_same_maps(images, tmp_path):
    generate(images, tmp_path / 'folder')
    generate(images, tmp_path / 'packed', packed=True)
    folder = LabelMapFolder(tmp_path / 'folder')
    packed = PackedLabelMaps(tmp_path / 'packed')
    assert packed.num_classes == 3
    for key in folder.keys():
        ours, theirs = folder.read(key), packed.read(key)
        np.testing.assert_array_equal(ours.scores, theirs.scores)
        np.testing.assert_array_equal(ours.classes, theirs.classes)
    with pytest.raises(DataError, match='give --packed'):
        generate(images, tmp_path / 'packed')


@pytest.mark.parametrize('packed', [False, True])
def test_more_classes_than_float16_counts(images, tmp_path, packed):
    class Last(Colors):
        def classify(self, features):
            return super().classify(features).flip(1)

    generate(images, tmp_path / 'out', Last(70_001), packed=packed)
    store = (PackedLabelMaps if packed else LabelMapFolder)(tmp_path / 'out')
    assert (store.read('a/1').classes[0] == 70_000).all()
    assert (store.read('b/1').classes[0] == 69_999).all()


@pytest.mark.parametrize('factor', [1e3, float('nan')])
def test_scores_that_label_maps_cannot_hold_are_refused(images, tmp_path, factor):
    annotator = Colors()
    annotator.factor = factor
    with pytest.raises(DataError, match='a/1: .* not finite in float16'):
        generate(images, tmp_path / 'out', annotator)
    assert not any((tmp_path / 'out').iterdir())


def test_k_is_at_most_the_number_of_classes(images, tmp_path):
    with pytest.raises(ConfigError, match='--top-k 4: give a number from 1 to 3'):
        generate(images, tmp_path / 'out', k=4)
    assert not (tmp_path / 'out').exists()


@pytest.fixture
def rotated(tmp_path):
    """A JPEG whose EXIF orientation says to rotate it by 90 degrees, and its pixels."""
    stored = np.zeros((32, 16, 3), np.uint8)
    stored[:16] = 255
    exif = Image.Exif()
    exif[0x0112] = 6
    (tmp_path / 'rotated').mkdir()
    path = tmp_path / 'rotated/a.jpg'
    Image.fromarray(stored).save(path, exif=exif, quality=95)
    with Image.open(path) as image:
        return path, np.asarray(image)


@pytest.mark.parametrize('upright', [False, True])
def test_images_are_read_as_training_reads_them(rotated, tmp_path, upright):
    path, stored = rotated
    found = np.asarray(read_image(path, upright))
    np.testing.assert_array_equal(found, np.rot90(stored, -1) if upright else stored)
    color_type = 'color' if upright else 'color_ignore_orientation'
    load = LoadImageFromFile(color_type=color_type, imdecode_backend='pillow')
    loaded = load(dict(img_path=str(path)))['img']
    np.testing.assert_array_equal(found, loaded[..., ::-1])
    Image.new('L', (4, 4), 7).save(tmp_path / 'gray.png')
    assert read_image(tmp_path / 'gray.png', upright).getpixel((0, 0)) == (7, 7, 7)


@pytest.mark.parametrize('upright', [False, True])
def test_exif_orientation_of_label_maps(rotated, tmp_path, upright):
    path, _ = rotated
    generate(path.parent, tmp_path / 'out', upright=upright)
    scores = LabelMapFolder(tmp_path / 'out').read('a').scores[0]
    bright = np.zeros((4, 4), bool)
    bright[:, 2:] = True
    np.testing.assert_array_equal(scores > 128, bright if upright else np.rot90(bright))


def test_folders_without_images_or_with_two_of_a_name_are_refused(images):
    with pytest.raises(DataError, match='none: no such folder'):
        find_images(images / 'none')
    with pytest.raises(DataError, match='the same label map'):
        Image.new('RGB', (4, 4)).save(images / 'a' / '1.png')
        find_images(images)
    (images / 'empty').mkdir()
    with pytest.raises(DataError, match='no images found'):
        find_images(images / 'empty')


def test_class_folders_are_numbered():
    keys = ['dog/1', 'cat/1', 'cat/2']
    assert number_classes(keys, 2) == dict(cat=0, dog=1)
    assert number_classes(keys, 3) == '2 class folders, but the annotator has 3 classes'
    assert 'not in class folders' in number_classes([*keys, 'bird'], 3)
    wnids = ['n15075141/1', 'n01440764/1']
    assert number_classes(wnids, 1000) == dict(n01440764=0, n15075141=999)
    assert number_classes(wnids, 2) == dict(n01440764=0, n15075141=1)
    assert isinstance(number_classes([*wnids, 'n00000000/1'], 1000), str)


def test_a_flat_folder_has_no_top_1(images, tmp_path):
    report = generate(images / 'a', tmp_path / 'out')
    assert sorted(LabelMapFolder(tmp_path / 'out').keys()) == ['1', '2']
    assert 'top-1: not known: the images are not in class' in str(report)


def test_devices_and_launchers_that_are_not_there(monkeypatch):
    assert join_processes('none', 'cpu') == torch.device('cpu')
    with pytest.raises(ConfigError, match='--device gpu cannot be used'):
        join_processes('none', 'gpu')
    monkeypatch.delenv('RANK', raising=False)
    with pytest.raises(ConfigError, match='RANK.* not in the environment'):
        join_processes('pytorch', 'cpu')
