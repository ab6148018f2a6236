"""The published order of augmentation, and pixels as they are stored."""

import numpy as np
import pytest
from mmengine.config import Config
from mmengine.registry import TRANSFORMS, init_default_scope
from PIL import Image

from volo.annotators.images import read_image
from volo.paths import package_data_root

CONFIGS = sorted((package_data_root() / 'configs').glob('*_imagenet.py'))
WITH_LABEL_MAPS = [
    *('LoadImageFromFile', 'RandomFlip', 'TimmRandAugment', 'RandomChoice'),
    *('NormalizedErasing', 'PackInputs'),
]
WITHOUT = [
    *('LoadImageFromFile', 'RandomChoice', 'RandomFlip', 'TimmRandAugment'),
    *('NormalizedErasing', 'PackInputs'),
]


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_order_of_augmentation(path):
    dataset = Config.fromfile(path).train_dataloader.dataset
    order = [step.type for step in dataset.get('dataset', dataset).pipeline]
    if dataset.type == 'TokenLabelDataset':
        assert order == WITH_LABEL_MAPS
    else:
        assert order == WITHOUT


def test_images_are_not_rotated_by_exif(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    pixels = np.random.default_rng(0).integers(0, 256, (24, 40, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / 'a.jpg', exif=exif)
    with Image.open(tmp_path / 'a.jpg') as image:
        stored = np.asarray(image)
    cfg = Config.fromfile(package_data_root() / 'configs/volo_d1_imagenet.py')
    init_default_scope('mmpretrain')
    for dataset in (
        cfg.train_dataloader.dataset.dataset,
        cfg.val_dataloader.dataset,
        cfg.test_dataloader.dataset,
    ):
        load = TRANSFORMS.build(dataset.pipeline[0])
        loaded = load(dict(img_path=str(tmp_path / 'a.jpg')))['img']
        np.testing.assert_array_equal(loaded[..., ::-1], stored)
    # An annotator reads the image as the training does.
    np.testing.assert_array_equal(np.asarray(read_image(tmp_path / 'a.jpg')), stored)
