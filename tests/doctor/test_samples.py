import os
import signal

import numpy as np
import pytest
from mmengine.registry import init_default_scope

from tests.datasets import bad_data
from volo.datasets import ImageFolder, SegmentationDataset
from volo.datasets.checks import Loading
from volo.doctor.samples import Part, check_sample, check_samples
from volo.errors import DataError
from volo.token_label import LabelMap, LabelMapFolder, PackedWriter, write_label_map

LOADING = Loading('color')


@pytest.fixture
def masks(tmp_path):
    return bad_data.write_segmentation(tmp_path)


def check(root, **options):
    info = dict(
        img_path=f'{root}/{bad_data.IMAGE}',
        seg_map_path=f'{root}/{bad_data.MASK}',
        num_classes=3,
        ignore_index=255,
    )
    return check_sample(info | options, LOADING)


def kinds(report):
    return [finding.kind for finding in report.findings]


def test_a_clean_mask(masks):
    report = check(masks)
    assert report.findings == [] and report.path.endswith(bad_data.IMAGE)
    assert np.flatnonzero(report.values).tolist() == [0, 1, 2, 255]
    assert report.counts[[0, 1, 2, 255]].tolist() == [128, 64, 32, 32]
    assert report.counts.sum() == 16 * 16


def test_values_are_the_files_and_counts_those_after_loading(masks):
    report = check(masks, label_map={2: 0})
    assert np.flatnonzero(report.values).tolist() == [0, 1, 2, 255]
    assert report.counts[[0, 1, 2]].tolist() == [160, 64, 0]


def test_equal_files_have_equal_digests(masks):
    bad_data.same_bytes(masks)
    one, same, other = (
        check(masks, img_path=f'{masks}/images/{name}.jpg').digest
        for name in ('train/a', 'val/b', 'val/a')
    )
    assert one == same != other and one


def test_a_broken_image_does_not_hide_what_is_wrong_with_its_mask(masks):
    bad_data.truncated_jpeg(masks)
    bad_data.label_out_of_range(masks)
    report = check(masks)
    assert kinds(report) == ['file-broken', 'mask-labels']
    assert report.digest and report.counts[7] == 32


def test_a_missing_image_has_no_digest(masks):
    bad_data.missing_image(masks)
    report = check(masks)
    assert kinds(report) == ['file-missing'] and report.digest == b''


@pytest.mark.parametrize(
    'corrupt', [bad_data.missing_mask, bad_data.deep_mask, bad_data.color_mask]
)
def test_unusable_masks_are_not_counted(masks, corrupt):
    corrupt(masks)
    report = check(masks)
    assert len(report.findings) == 1
    assert report.values is None and report.counts is None


def test_without_classes_no_label_is_out_of_range(masks):
    bad_data.label_out_of_range(masks)
    assert kinds(check(masks)) == ['mask-labels']
    assert kinds(check(masks, num_classes=0)) == []


@pytest.mark.parametrize('label', [3, -1, [0, 3, 2, -1]])
def test_labels_out_of_range(label):
    info = dict(gt_label=label, num_classes=3)
    report = check_sample(info, LOADING)
    expected = [n for n in np.atleast_1d(label) if n not in (0, 1, 2)]
    assert report.labels == tuple(np.atleast_1d(label))
    assert [f.value for f in report.findings] == [
        f'label {n}, but there are 3 classes (0 to 2)' for n in expected
    ]
    assert {f.file for f in report.findings} == {'image in memory'}
    assert not check_sample(info | dict(num_classes=0), LOADING).findings


def part_of_masks(root):
    init_default_scope('mmseg')
    dataset = SegmentationDataset(
        data_root=str(root),
        data_prefix=dict(img_path='images/train', seg_map_path='masks/train'),
        metainfo=dict(classes=('x', 'y')),
        serialize_data=False,
    )
    return Part('train', dataset, len(dataset))


def test_a_part_knows_classes_and_samples(masks):
    part = part_of_masks(masks)
    assert part.classes == ('x', 'y') and len(part) == 2
    assert part.info(1)['img_path'].endswith('b.jpg')
    assert part.info(1)['num_classes'] == 2 and part.info(1)['ignore_index'] == 255


def test_samples_are_checked_in_order(masks):
    reports = list(check_samples(part_of_masks(masks), 0))
    assert [r.path[-5:] for r in reports] == ['a.jpg', 'b.jpg']
    assert [kinds(r) for r in reports] == [['mask-labels'], ['mask-labels']]


def test_a_killed_worker_is_one_clear_error(masks, monkeypatch):
    def killed(part, index):
        os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(Part, '__getitem__', killed)
    with pytest.raises(DataError, match='train split: a worker process died'):
        list(check_samples(part_of_masks(masks), 1))


@pytest.fixture(params=['folder', 'packed'])
def maps(request, tmp_path):
    """Label maps of two of four images, one with a class too many."""
    found = {
        f'{name}/0': LabelMap(np.ones((1, 2, 2)), np.full((1, 2, 2), number))
        for number, name in enumerate(('cat', 'dog'), start=1)
    }
    if request.param == 'folder':
        for key, label_map in found.items():
            write_label_map(tmp_path / f'maps/{key}.pt', label_map)
        return LabelMapFolder(tmp_path / 'maps')
    writer = PackedWriter.create(tmp_path / 'maps', found, (1, 2, 2))
    for key, label_map in found.items():
        writer.write(key, label_map)
    return writer.finish()


@pytest.mark.parametrize('needed', [False, True])
def test_label_maps(tmp_path, maps, needed):
    root = bad_data.write_classification(tmp_path / 'data')
    dataset = ImageFolder(
        data_root=str(root), data_prefix='train', serialize_data=False
    )
    part = Part('train', dataset, len(dataset), maps, needed)
    missing = ['label-map-missing'] if needed else []
    reports = list(check_samples(part, 0))
    assert [r.labels for r in reports] == [(0,), (0,), (1,), (1,)]
    assert [kinds(r) for r in reports] == [[], missing, ['label-map-classes'], missing]
    (finding,) = reports[2].findings
    file = 'maps/dog/0.pt' if isinstance(maps, LabelMapFolder) else 'maps'
    assert finding.file == str(tmp_path / file)
    assert finding.value.startswith('class 2 in the label map of')
    assert finding.value.endswith('0.png, but there are 2 classes')


def test_label_maps_of_a_dataset_without_classes(tmp_path, maps):
    root = bad_data.write_classification(tmp_path / 'data')
    (root / 'list.txt').write_text('cat/0.png 0\ndog/0.png 1\n')
    dataset = ImageFolder(
        data_root=str(root),
        data_prefix='train',
        ann_file='list.txt',
        serialize_data=False,
    )
    reports = list(check_samples(Part('train', dataset, 2, maps, True), 0))
    assert [kinds(report) for report in reports] == [[], []]


def test_a_flipped_byte_in_a_packed_store(tmp_path):
    root = bad_data.write_classification(tmp_path / 'data')
    keys = [f'{name}/{number}' for name in ('cat', 'dog') for number in range(2)]
    writer = PackedWriter.create(tmp_path / 'maps', keys, (1, 2, 2))
    for key in keys:
        writer.write(key, LabelMap(np.ones((1, 2, 2)), np.zeros((1, 2, 2), int)))
    maps = writer.finish()
    np.load(tmp_path / 'maps/scores.npy', mmap_mode='r+')[2, 0, 1, 1] = 2
    dataset = ImageFolder(
        data_root=str(root), data_prefix='train', serialize_data=False
    )
    reports = list(check_samples(Part('train', dataset, 4, maps), 0))
    assert [kinds(r) for r in reports] == [[], [], ['label-map-broken'], []]
    (finding,) = reports[2].findings
    assert finding.value == 'the map of dog/0 has changed since it was written'


def test_a_broken_label_map(tmp_path):
    root = bad_data.write_classification(tmp_path)
    (root / 'maps/cat').mkdir(parents=True)
    (root / 'maps/cat/0.pt').write_bytes(b'broken')
    dataset = ImageFolder(
        data_root=str(root), data_prefix='train', serialize_data=False
    )
    part = Part('train', dataset, 4, LabelMapFolder(root / 'maps'))
    (finding,) = part[0].findings
    assert finding.kind == 'label-map-broken'
    assert finding.file == f'{root}/maps/cat/0.pt'
    assert finding.value.startswith('broken label map (')
