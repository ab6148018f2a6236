import numpy as np
import pytest
from PIL import Image

from volo.datasets import ADE20K, Cityscapes, SegmentationDataset
from volo.errors import ConfigError, DataError

PIPELINE = [
    dict(type='mmcv.LoadImageFromFile', imdecode_backend='pillow'),
    dict(type='mmseg.LoadAnnotations'),
    dict(type='CheckSegmentationSample'),
]


def write(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


def test_void_labels_are_ignored(tmp_path):
    write(tmp_path / 'images/a.jpg', np.zeros((8, 8, 3), np.uint8))
    write(tmp_path / 'masks/a.png', np.array([[0, 1, 9, 10] * 2] * 8, np.uint8))
    arguments = dict(
        data_root=str(tmp_path),
        data_prefix=dict(img_path='images', seg_map_path='masks'),
        metainfo=dict(classes=('x', 'y')),
        pipeline=PIPELINE,
    )
    mask = SegmentationDataset(void_labels=(9, 10), **arguments)[0]['gt_seg_map']
    assert mask[0].tolist() == [0, 1, 255, 255] * 2
    with pytest.raises(DataError, match='label 10 on 16 pixels'):
        SegmentationDataset(void_labels=(9,), **arguments)[0]


def test_a_dataset_without_classes_is_one_clear_error(tmp_path):
    write(tmp_path / 'images/a.jpg', np.zeros((8, 8, 3), np.uint8))
    write(tmp_path / 'masks/a.png', np.zeros((8, 8), np.uint8))
    prefix = dict(img_path='images', seg_map_path='masks')
    with pytest.raises(ConfigError, match=r'has no classes. Name them: metainfo=dict'):
        SegmentationDataset(
            data_root=str(tmp_path), data_prefix=prefix, pipeline=PIPELINE
        )


def test_cityscapes_checks_train_ids(tmp_path):
    write(tmp_path / 'left/x/a_leftImg8bit.png', np.zeros((8, 8, 3), np.uint8))
    mask = tmp_path / 'gt/x/a_gtFine_labelTrainIds.png'
    write(mask, np.array([[18, 255] * 4] * 8, np.uint8))
    samples = Cityscapes(
        data_root=str(tmp_path),
        data_prefix=dict(img_path='left', seg_map_path='gt'),
        pipeline=PIPELINE,
    )
    assert len(samples.metainfo['classes']) == 19
    assert samples[0]['gt_seg_map'].max() == 255
    # Label ids in place of train ids: the classic mistake.
    write(mask, np.full((8, 8), 33, np.uint8))
    with pytest.raises(DataError, match='label 33 on 64 pixels'):
        samples[0]


def test_ade20k_ignores_zero(tmp_path):
    write(tmp_path / 'images/a.jpg', np.zeros((8, 8, 3), np.uint8))
    write(tmp_path / 'annotations/a.png', np.array([[0, 1, 150, 2] * 2] * 8, np.uint8))
    pipeline = [
        PIPELINE[0],
        dict(type='mmseg.LoadAnnotations', reduce_zero_label=True),
        PIPELINE[2],
    ]
    samples = ADE20K(
        data_root=str(tmp_path),
        data_prefix=dict(img_path='images', seg_map_path='annotations'),
        pipeline=pipeline,
    )
    assert samples[0]['gt_seg_map'][0, :4].tolist() == [255, 0, 149, 1]
