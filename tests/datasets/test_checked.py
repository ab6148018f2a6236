import numpy as np
import pytest
from PIL import Image

from volo.datasets import SegmentationDataset
from volo.errors import DataError

PIPELINE = [
    dict(type='mmcv.LoadImageFromFile', imdecode_backend='pillow'),
    dict(type='mmseg.LoadAnnotations'),
    dict(type='CheckSegmentationSample'),
]


@pytest.fixture
def root(tmp_path):
    rng = np.random.default_rng(0)
    for folder in ('images', 'masks'):
        (tmp_path / folder).mkdir()
    for name in 'ab':
        image = rng.integers(0, 256, (48, 64, 3), dtype=np.uint8)
        Image.fromarray(image).save(tmp_path / f'images/{name}.jpg')
        mask = rng.integers(0, 3, (48, 64), dtype=np.uint8)
        Image.fromarray(mask).save(tmp_path / f'masks/{name}.png')
    return tmp_path


def dataset(root, **arguments):
    return SegmentationDataset(
        data_root=str(root),
        data_prefix=dict(img_path='images', seg_map_path='masks'),
        metainfo=dict(classes=('x', 'y', 'z')),
        pipeline=PIPELINE,
        **arguments,
    )


def test_good_files_pass(root):
    samples = [dataset(root)[i] for i in range(2)]
    assert samples[0]['img'].shape == (48, 64, 3)


def test_missing_data_root(root):
    with pytest.raises(DataError, match='nowhere: no such folder .* data_root=FOLDER'):
        dataset(root / 'nowhere')


def test_missing_mask_folder(root):
    (root / 'masks').rename(root / 'labels')
    with pytest.raises(DataError, match='masks: no such folder'):
        dataset(root)


def test_no_images(root):
    with pytest.raises(DataError, match='images: no images found'):
        dataset(root, img_suffix='.jpeg')


@pytest.mark.parametrize('name', ['images/a.jpg', 'masks/a.png'])
def test_a_missing_file_is_named(root, name):
    samples = dataset(root)
    (root / name).unlink()
    with pytest.raises(DataError, match=f'{name}: no such file'):
        samples[0]


@pytest.mark.parametrize('name', ['images/a.jpg', 'masks/a.png'])
@pytest.mark.parametrize('size, reason', [(0, 'not an image'), (400, 'broken image')])
def test_a_truncated_file_is_named(root, name, size, reason):
    samples = dataset(root)
    (root / name).write_bytes((root / name).read_bytes()[:size])
    with pytest.raises(DataError, match=f'{name}: .*{reason}'):
        samples[0]


def test_errors_of_a_transform_are_left_alone(root):
    def broken(results):
        raise OSError('disk on fire')

    samples = dataset(root)
    samples.pipeline.transforms.append(broken)
    with pytest.raises(OSError, match='disk on fire'):
        samples[0]
