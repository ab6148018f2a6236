import numpy as np
import pytest
from PIL import Image

from volo.datasets import ImageFolder, ImageNetFolder
from volo.errors import DataError

PIPELINE = [dict(type='mmcv.LoadImageFromFile', imdecode_backend='pillow')]


@pytest.fixture
def root(tmp_path):
    for split in ('train', 'val'):
        for wnid in ('n01440764', 'n02099712'):
            (tmp_path / split / wnid).mkdir(parents=True)
            image = Image.fromarray(np.zeros((8, 8, 3), np.uint8))
            image.save(tmp_path / split / wnid / f'{wnid}_1.JPEG')
    return tmp_path


def test_labels_of_an_imagenet_subset_follow_its_folders(root):
    samples = ImageNetFolder(data_root=str(root), split='train', pipeline=PIPELINE)
    assert samples.metainfo['classes'] == ('n01440764', 'n02099712')
    assert [samples[i]['gt_label'] for i in range(2)] == [0, 1]


def test_given_classes_are_kept_and_must_fit_the_folders(root):
    def part(*classes):
        return ImageNetFolder(
            data_root=str(root),
            split='train',
            pipeline=PIPELINE,
            metainfo=dict(classes=classes),
        )

    assert part('tench', 'retriever').metainfo['classes'] == ('tench', 'retriever')
    with pytest.raises(DataError, match='train: .*2.* match .*3'):
        part('tench', 'retriever', 'agaric')


def test_a_flat_split_keeps_imagenets_labels(root):
    (root / 'meta').mkdir()
    (root / 'meta/val.txt').write_text('n02099712/n02099712_1.JPEG 207\n')
    samples = ImageNetFolder(data_root=str(root), split='val', pipeline=PIPELINE)
    assert samples[0]['gt_label'] == 207 and len(samples.metainfo['classes']) == 1000


@pytest.mark.parametrize('kind', [ImageFolder, ImageNetFolder])
def test_missing_and_broken_files_are_named(root, kind):
    with pytest.raises(DataError, match='test: no such folder'):
        kind(data_root=str(root), data_prefix='test', pipeline=PIPELINE)
    samples = kind(data_root=str(root), data_prefix='val', pipeline=PIPELINE)
    (root / 'val/n01440764/n01440764_1.JPEG').write_bytes(b'not an image')
    with pytest.raises(DataError, match='n01440764_1.JPEG: broken .*not an image'):
        samples[0]
