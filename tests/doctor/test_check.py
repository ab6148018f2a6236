import json

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DATASETS
from mmpretrain.datasets import BaseDataset

from tests.datasets import bad_data
from volo.datasets.masks import label_table
from volo.doctor.check import check_config
from volo.doctor.report import report_dict, report_text
from volo.errors import ConfigError

SEGMENTATION_PIPELINE = [
    dict(type='LoadImageFromFile', imdecode_backend='pillow'),
    dict(type='LoadAnnotations'),
]


def segmentation(root, both=(), train=(), val=()):
    def loader(split, changes):
        prefix = dict(img_path=f'images/{split}', seg_map_path=f'masks/{split}')
        dataset = dict(
            type='SegmentationDataset',
            data_root=str(root),
            data_prefix=prefix,
            metainfo=dict(classes=('x', 'y', 'z')),
            pipeline=SEGMENTATION_PIPELINE,
            serialize_data=False,  # which collects garbage, for 0.2 s
        )
        return dict(dataset=dataset | dict(both) | dict(changes))

    return Config(
        dict(
            default_scope='mmseg',
            train_dataloader=loader('train', train),
            val_dataloader=loader('val', val),
        )
    )


def classification(root, both=(), train=(), val=()):
    def loader(split, changes):
        dataset = dict(
            type='ImageFolder',
            data_root=str(root),
            data_prefix=split,
            metainfo=dict(classes=('cat', 'dog')),
            pipeline=[dict(type='LoadImageFromFile', imdecode_backend='pillow')],
            serialize_data=False,
        )
        return dict(dataset=dataset | dict(both) | dict(changes))

    return Config(
        dict(
            default_scope='mmpretrain',
            train_dataloader=loader('train', train),
            val_dataloader=loader('val', val),
        )
    )


def findings(cfg, **options):
    return [f for report in check_config(cfg, **options) for f in report.findings]


def assert_found(cfg, kind, file, value, remedy):
    reports = check_config(cfg)
    found = [f for r in reports for f in r.findings if f.kind == kind]
    matching = [f for f in found if file in f.file and value in f.value]
    assert matching and remedy in matching[0].remedy, [
        str(f) for r in reports for f in r.findings
    ]
    text = report_text(reports)
    assert f'[{kind}]' in text and matching[0].remedy in text
    assert matching[0].file in text and matching[0].value in text


@pytest.mark.parametrize(
    'corrupt, kind, file, value, remedy',
    bad_data.SEGMENTATION,
    ids=[case[0].__name__ for case in bad_data.SEGMENTATION],
)
def test_bad_segmentation_data(tmp_path, corrupt, kind, file, value, remedy):
    bad_data.write_segmentation(tmp_path)
    changes = corrupt(tmp_path) or {}
    assert_found(segmentation(tmp_path, **changes), kind, file, value, remedy)


@pytest.mark.parametrize(
    'corrupt, kind, file, value, remedy',
    bad_data.CLASSIFICATION,
    ids=[case[0].__name__ for case in bad_data.CLASSIFICATION],
)
def test_bad_classification_data(tmp_path, corrupt, kind, file, value, remedy):
    bad_data.write_classification(tmp_path)
    changes = corrupt(tmp_path) or {}
    assert_found(classification(tmp_path, **changes), kind, file, value, remedy)


@pytest.mark.parametrize('color_type', ['color', 'color_ignore_orientation'])
@pytest.mark.parametrize('upright_mask', [True, False])
def test_masks_fit_images_as_the_pipeline_loads_them(
    tmp_path, color_type, upright_mask
):
    bad_data.write_segmentation(tmp_path)
    bad_data.rotated_by_90(tmp_path)  # 20x16 upright, 16x20 as stored
    mask = np.zeros((20, 16) if upright_mask else (16, 20), np.uint8)
    bad_data.save(mask, tmp_path / bad_data.MASK)
    load = dict(type='LoadImageFromFile', color_type=color_type)
    cfg = segmentation(tmp_path, train=dict(pipeline=[load, SEGMENTATION_PIPELINE[1]]))
    found = findings(cfg, splits=['train'])
    if upright_mask == (color_type == 'color'):
        assert not found
    else:
        assert [f.kind for f in found] == ['mask-size']
        does = 'ignores' if upright_mask else 'applies'
        assert f'loading {does} its EXIF orientation 6' in found[0].value


@pytest.mark.parametrize('workers', [0, 2])
def test_clean_masks_are_clean(tmp_path, workers):
    cfg = segmentation(bad_data.write_segmentation(tmp_path))
    reports = check_config(cfg, workers=workers)
    assert report_text(reports).endswith('No findings.')
    assert [r.size for r in reports] == [2, 2]
    counts = reports[0].counts
    assert counts.counts.tolist() == [256, 128, 64]
    # Shares 4/7, 2/7 and 1/7 of what is labelled; the median is 2/7.
    assert counts.weights() == [0.5, 1.0, 2.0]
    assert 'class_weight = [0.500, 1.000, 2.000]' in report_text(reports)


def test_clean_folders_are_clean(tmp_path):
    reports = check_config(classification(bad_data.write_classification(tmp_path)))
    assert not reports[0].findings + reports[1].findings
    assert reports[0].counts.weights() == [1.0, 1.0]


def test_harmless_images_are_clean(tmp_path):
    """Opaque alpha, gray, a palette, a bilevel and a 16-bit mask with small values."""
    bad_data.write_segmentation(tmp_path)
    image = tmp_path / 'images/train/a.jpg'
    opaque = np.random.default_rng(1).integers(0, 9, (16, 16, 4), np.uint8)
    opaque[..., 3] = 255
    bad_data.save(opaque, image, format='PNG')
    bad_data.save(opaque[..., 0], tmp_path / 'images/train/b.jpg')
    mask = bad_data.clean_mask()
    bad_data.save(mask.astype(np.uint16), tmp_path / 'masks/train/a.png')
    assert not findings(segmentation(tmp_path))


def test_label_map_of_binary_masks(tmp_path):
    bad_data.write_segmentation(tmp_path)
    changes = bad_data.binary_masks(tmp_path)
    changes['both']['label_map'] = {255: 1}
    cfg = segmentation(tmp_path, **changes)
    # Through a file, as in a training's work dir.
    (tmp_path / 'dumped.py').write_text(cfg.pretty_text)
    cfg = Config.fromfile(tmp_path / 'dumped.py')
    assert not findings(cfg)
    sample = DATASETS.build(cfg.train_dataloader.dataset)[0]
    expected = bad_data.clean_mask() == 1
    assert (sample['gt_seg_map'] == expected).all()


def test_wrappers_and_ann_files_are_respected(tmp_path):
    """An ann_file chooses: what it leaves out is no finding."""
    bad_data.write_segmentation(tmp_path)
    (tmp_path / 'one.txt').write_text('a\n')
    cfg = segmentation(tmp_path, train=dict(ann_file='one.txt'))
    inner = cfg.train_dataloader.dataset
    cfg.train_dataloader.dataset = dict(type='RepeatDataset', times=9, dataset=inner)
    cfg.test_dataloader = cfg.val_dataloader
    reports = check_config(cfg)
    assert [r.size for r in reports] == [1, 2, 0]
    assert 'test: 0 samples (the same dataset as val)' in report_text(reports)
    assert 'No findings' in report_text(reports)


def test_images_in_memory_are_counted():
    @DATASETS.register_module(force=True)
    class InMemory(BaseDataset):
        def load_data_list(self):
            return [dict(img=np.zeros((4, 4, 3), np.uint8), gt_label=0)] * 3

    dataset = dict(type='InMemory', ann_file='', metainfo=dict(classes=('x', 'y')))
    cfg = Config(dict(train_dataloader=dict(dataset=dataset)))
    (report,) = check_config(cfg)
    assert 'in memory' in report.note and report.counts.counts.tolist() == [3, 0]
    assert [f.kind for f in report.findings] == ['class-absent']


@pytest.mark.parametrize('missing', ['error', 'label'])
def test_label_maps(tmp_path, missing):
    bad_data.write_classification(tmp_path)
    maps = tmp_path / 'maps'
    for name, classes in {'cat/0': 1, 'cat/1': 9, 'dog/0': 0}.items():
        (maps / name).parent.mkdir(parents=True, exist_ok=True)
        tensor = torch.stack([torch.ones(1, 2, 2), torch.full((1, 2, 2), classes)])
        torch.save(tensor.half(), maps / f'{name}.pt')
    (maps / 'dog/0.pt').write_bytes(b'broken')
    cfg = classification(tmp_path)
    inner = cfg.train_dataloader.dataset
    inner.pipeline = [*inner.pipeline, dict(type='PackInputs')]
    cfg.train_dataloader.dataset = dict(
        type='TokenLabelDataset', label_root='maps', missing=missing, dataset=inner
    )
    found = {f.kind: f for f in findings(cfg)}
    assert 'class 9 in the label map' in found['label-map-classes'].value
    broken = found['label-map-broken']
    assert broken.file.endswith('dog/0.pt') and 'broken label map' in broken.value
    assert ('label-map-missing' in found) == (missing == 'error')
    if missing == 'error':
        assert found['label-map-missing'].file.endswith('dog/1.pt')
        assert 'generate_token_labels.py' in found['label-map-missing'].remedy


def test_no_label_maps_at_all(tmp_path):
    cfg = classification(bad_data.write_classification(tmp_path))
    inner = cfg.train_dataloader.dataset
    inner.pipeline = [*inner.pipeline, dict(type='PackInputs')]
    cfg.train_dataloader.dataset = dict(
        type='TokenLabelDataset', label_root='maps', dataset=inner
    )
    (finding,) = findings(cfg)
    assert finding.kind == 'label-map-broken' and 'no such folder' in finding.value


def test_nothing_to_check():
    with pytest.raises(ConfigError, match='no train_dataloader: there is nothing'):
        check_config(Config(dict(val_dataloader=dict())), ['train'])


@pytest.mark.parametrize('reduce_zero_label', [False, True])
@pytest.mark.parametrize('label_map', [None, {0: 1, 1: 0, 7: 255}])
def test_labels_are_those_that_the_dataset_loads(
    tmp_path, reduce_zero_label, label_map
):
    bad_data.write_segmentation(tmp_path)
    values = np.arange(256, dtype=np.uint8).reshape(16, 16)
    bad_data.save(values, tmp_path / bad_data.MASK)
    options = dict(reduce_zero_label=reduce_zero_label, label_map=label_map)
    check_config(cfg := segmentation(tmp_path, both=options), ['train'])
    dataset = DATASETS.build(cfg.train_dataloader.dataset)
    expected = dataset[0]['gt_seg_map'].ravel()
    assert (label_table(dataset.get_data_info(0)) == expected).all()


def test_the_json_report_of_a_config(tmp_path):
    bad_data.write_segmentation(tmp_path)
    bad_data.label_out_of_range(tmp_path)
    content = report_dict('c.py', check_config(segmentation(tmp_path)))
    content = json.loads(json.dumps(content))
    assert content['config'] == 'c.py' and content['clean'] is False
    (finding,) = content['findings']
    assert finding['split'] == 'train' and finding['kind'] == 'mask-labels'
    assert finding['file'].endswith('masks/train/a.png')
    assert finding['value'].startswith('label 7') and finding['remedy']
    (x, *_), val = (content['splits'][s]['classes'] for s in ('train', 'val'))
    assert x['name'] == 'x' and x['pixels'] == 256 and x['shown_in'] == 2
    assert len(val) == 3
