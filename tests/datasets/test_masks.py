import numpy as np
import pytest
from mmseg.datasets.transforms import LoadAnnotations

from tests.datasets.bad_data import save
from volo.datasets.checks import LoadedSize, Loading
from volo.datasets.findings import KINDS
from volo.datasets.masks import (
    decode_mask,
    label_finding,
    label_table,
    mask_depth_finding,
    orientation_finding,
    read_mask,
    shape_finding,
)


def loading(backend='pillow'):
    return Loading(mask_backend=backend)


def counts(**labels):
    found = np.zeros(256, np.int64)
    for label, number in labels.items():
        found[int(label[1:])] = number
    return found


def info(num_classes=3, ignore_index=255, **options):
    return dict(num_classes=num_classes, ignore_index=ignore_index, **options)


def test_a_missing_mask_names_its_image(tmp_path):
    path = tmp_path / 'a.png'
    finding = read_mask(str(path), 'images/a.jpg')
    assert finding.kind == 'mask-missing' and 'images/a.jpg' in finding.value
    path.touch()
    assert read_mask(str(path), 'a.jpg').kind == 'file-broken'
    path.write_bytes(b'content')
    assert read_mask(str(path), 'a.jpg') == b'content'


@pytest.mark.parametrize('backend', ['pillow', 'cv2'])
@pytest.mark.parametrize('dtype', [np.uint8, np.uint16])
def test_masks_are_decoded_without_conversion(tmp_path, backend, dtype):
    mask = np.arange(12, dtype=dtype).reshape(3, 4) + 200
    save(mask, tmp_path / 'a.png')
    content = (tmp_path / 'a.png').read_bytes()
    found = decode_mask('a.png', content, loading(backend))
    assert found.shape == (3, 4) and (found == mask).all()


@pytest.mark.parametrize('backend', ['pillow', 'cv2'])
def test_undecodable_masks_are_found(backend):
    finding = decode_mask('a.png', b'broken', loading(backend))
    assert finding.kind == 'file-broken' and finding.file == 'a.png'


@pytest.mark.parametrize(
    'mask, value',
    [
        (np.array([[0, 255]], np.uint8), None),
        (np.array([[0, 255]], np.uint16), None),
        (np.array([[0.0, 255.0]]), None),
        (np.array([[True, False]]), None),
        (np.array([[0, 256, 1000]], np.uint16), 'from 256 to 1000 on 2 pixels'),
        (np.array([[0, -1]], np.int32), 'from -1 to -1 on 1 pixels'),
        (np.array([[1, 0.5]], np.float32), 'from 0.5 to 0.5 on 1 pixels'),
        (np.array([[1, np.nan]], np.float32), 'from nan to nan on 1 pixels'),
    ],
)
def test_values_that_8_bits_would_change(mask, value):
    finding = mask_depth_finding('a.png', mask)
    assert finding is None if value is None else value in finding.value


def test_a_mask_with_the_size_of_its_image():
    assert shape_finding('m', np.zeros((4, 6)), 'p', LoadedSize(4, 6)) is None
    # The size of the image after rotation counts.
    size = LoadedSize(6, 4, orientation=6, rotated=True)
    assert shape_finding('m', np.zeros((6, 4)), 'p', size) is None


def test_a_mask_of_another_size():
    finding = shape_finding('m', np.zeros((6, 4)), 'p', LoadedSize(4, 7))
    assert finding.kind == 'mask-size'
    assert '(6, 4) (height, width), its image p is 4x7' in finding.value
    assert finding.remedy == KINDS['mask-size'].remedy


@pytest.mark.parametrize('rotated, does', [(True, 'applies'), (False, 'ignores')])
def test_swapped_sides(rotated, does):
    mask = np.zeros((6, 4))
    finding = shape_finding('m', mask, 'p', LoadedSize(4, 6, 6, rotated))
    assert finding.value.endswith(f'4x6 since loading {does} its EXIF orientation 6')
    assert 'or rotate the mask' in finding.remedy
    without = shape_finding('m', mask, 'p', LoadedSize(4, 6))
    assert without.value.endswith('4x6') and without.remedy == finding.remedy
    other = shape_finding('m', mask, 'p', LoadedSize(5, 6, 6, rotated))
    assert other.remedy == KINDS['mask-size'].remedy


@pytest.mark.parametrize('rotated', [True, False])
@pytest.mark.parametrize(
    'height, width, orientation, unclear',
    [(4, 6, 1, False), (4, 6, 3, True), (4, 6, 6, False), (4, 4, 6, True)],
)
def test_orientations_that_sizes_do_not_show(
    height, width, orientation, rotated, unclear
):
    size = LoadedSize(height, width, orientation, rotated)
    finding = orientation_finding('m', 'p', size)
    assert (finding is not None) == unclear
    if unclear:
        assert (finding.kind, finding.file) == ('image-orientation', 'p')
        does = 'applies' if rotated else 'ignores'
        assert f'{orientation}, which loading {does}; its mask: m' in finding.value


@pytest.mark.parametrize(
    'pixel, equal',
    [((7, 7, 7), True), ((7, 7, 8), False), ((7, 7, 7, 255), True), ((7, 9), False)],
)
def test_channels_of_a_mask(pixel, equal):
    mask = np.zeros((4, 6, len(pixel)), np.uint8)
    mask[1, 2] = pixel
    mask[..., 3:] = 255  # opaque
    finding = shape_finding('m', mask, 'p', LoadedSize(4, 6))
    assert finding.kind == 'mask-channels'
    assert f'(4, 6, {len(pixel)}) (height, width, channels)' in finding.value
    assert ('mask[..., 0]' in finding.remedy) == equal


@pytest.mark.parametrize('reduce_zero_label', [False, True])
@pytest.mark.parametrize(
    'label_map', [None, {0: 1, 1: 0, 7: 255}, {255: 1}, {0: 9, 254: 3, 255: 0}]
)
def test_labels_are_those_that_mmseg_loads(tmp_path, reduce_zero_label, label_map):
    values = np.arange(256, dtype=np.uint8).reshape(16, 16)
    save(values, tmp_path / 'a.png')
    sample = dict(
        seg_map_path=str(tmp_path / 'a.png'),
        reduce_zero_label=reduce_zero_label,
        label_map=label_map,
        seg_fields=[],
    )
    loaded = LoadAnnotations()(dict(sample))['gt_seg_map'].ravel()
    table = label_table(sample)
    assert table.dtype == np.uint8 and (table == loaded).all()


def test_classes_and_ignored_labels_are_no_finding():
    assert label_finding('m', counts(_0=1, _2=1, _255=9), info()) is None
    assert label_finding('m', counts(_2=1, _9=9), info(ignore_index=9)) is None
    assert label_finding('m', counts(), info()) is None


def test_labels_out_of_range():
    finding = label_finding('m', counts(_0=5, _3=2, _7=4), info())
    assert finding.kind == 'mask-labels'
    assert finding.value.startswith('labels 3, 7 on 6 pixels, but there are 3 classes')
    assert '(0 to 2) and 255 means ignored' in finding.value
    (_, many) = label_finding('m', np.ones(256, int), info()).value.split('labels ')
    assert many.startswith('3, 4, 5, 6, 7, 8, 9, 10 and 244 more on 252 pixels')


def test_labels_are_named_as_they_are_in_the_file():
    sample = info(reduce_zero_label=True)
    finding = label_finding('m', counts(_3=2), sample)
    assert finding.value.startswith('label 3 on 2 pixels (in the file: 4), but')
    mapped = info(label_map={8: 5, 9: 5})
    finding = label_finding('m', counts(_5=2), mapped)
    assert '(in the file: 5, 8, 9)' in finding.value


def test_only_0_and_255_suggest_a_label_map():
    sample = info(num_classes=2, ignore_index=254)
    finding = label_finding('m', counts(_0=2, _255=2), sample)
    assert finding.remedy == KINDS['mask-binary'].remedy
    finding = label_finding('m', counts(_0=2, _7=1, _255=2), sample)
    assert finding.remedy == KINDS['mask-labels'].remedy
