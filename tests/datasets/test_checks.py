import io
import os
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
from mmcv.transforms import Compose, LoadAnnotations, LoadImageFromFile
from PIL import Image

from tests.datasets.bad_data import save
from volo.datasets.checks import (
    LoadedSize,
    Loading,
    decoding_finding,
    depth_finding,
    header_finding,
    image_findings,
    loaded_size,
    read_file,
)

USUAL = Loading('color')


def loading_of(*transforms):
    return Loading.of(SimpleNamespace(pipeline=Compose(transforms)))


def noise(height=16, width=16):
    rng = np.random.default_rng(0)
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8))


def encoded(path, image, **options):
    save(image, path, **options)
    return path.read_bytes()


def kinds(content, loading=USUAL):
    return [finding.kind for finding in image_findings('x', content, loading)]


def free_descriptors():
    """The lowest numbers of files that are not open."""
    numbers = [os.dup(2) for _ in range(4)]
    for number in numbers:
        os.close(number)
    return numbers


# --- Loading ---


@pytest.mark.parametrize(
    'color_type, backend, eight_bits',
    [
        ('color', 'pillow', True),
        ('grayscale', 'cv2', True),
        ('color_ignore_orientation', 'cv2', True),
        ('unchanged', 'cv2', False),
        ('color', 'tifffile', False),
    ],
)
def test_bit_depth_is_read_from_the_pipeline(color_type, backend, eight_bits):
    load = LoadImageFromFile(color_type=color_type, imdecode_backend=backend)
    assert loading_of(load).eight_bits == eight_bits


def test_mask_decoder_is_read_from_the_pipeline():
    masks = LoadAnnotations(with_seg=True, imdecode_backend='cv2')
    boxes = LoadAnnotations(with_seg=False, imdecode_backend='cv2')
    assert loading_of(LoadImageFromFile(), masks).mask_backend == 'cv2'
    assert loading_of(boxes) == Loading() and not Loading().eight_bits


@pytest.mark.parametrize('orientation', range(1, 9))
@pytest.mark.parametrize('backend', ['cv2', 'pillow'])
@pytest.mark.parametrize(
    'color_type', ['color', 'unchanged', 'color_ignore_orientation']
)
@pytest.mark.parametrize('suffix', ['jpg', 'tif'])
def test_sizes_are_those_that_mmcv_loads(
    tmp_path, suffix, color_type, backend, orientation
):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f'a.{suffix}'
    content = encoded(path, noise(16, 20), exif=exif)
    load = LoadImageFromFile(color_type=color_type, imdecode_backend=backend)
    loaded = load(dict(img_path=str(path)))['img']
    size = loaded_size(content, loading_of(load))
    assert size[:2] == loaded.shape[:2]
    if suffix == 'jpg':
        assert size.orientation == orientation
        assert size.rotated == (color_type == 'color' and orientation != 1)


@pytest.mark.parametrize('backend', ['tifffile', 'turbojpeg'])
def test_decoders_that_ignore_exif(tmp_path, backend):
    exif = Image.Exif()
    exif[0x0112] = 6
    loading = Loading('color', backend)
    for suffix in ('jpg', 'tif'):
        content = encoded(tmp_path / f'a.{suffix}', noise(16, 20), exif=exif)
        size = loaded_size(content, loading)
        assert size[:2] == (16, 20) and not size.rotated


@pytest.mark.parametrize('orientation', [0, 9, 99])
def test_invalid_orientations_rotate_nothing(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encoded(tmp_path / 'a.jpg', noise(16, 20), exif=exif)
    assert loaded_size(content, USUAL) == LoadedSize(16, 20)


# --- Files ---


def test_read_file_returns_the_content_or_a_finding(tmp_path):
    (tmp_path / 'whole').write_bytes(b'content')
    (tmp_path / 'empty').touch()
    assert read_file(str(tmp_path / 'whole')) == b'content'
    for name, kind, value in (
        ('empty', 'file-broken', 'empty file'),
        ('none', 'file-missing', 'no such file'),
        ('', 'file-broken', 'unreadable (Is a directory)'),
    ):
        finding = read_file(str(tmp_path / name))
        assert finding.kind == kind and finding.value.startswith(value)
        assert finding.file == str(tmp_path / name)


@pytest.mark.parametrize('kind', ['JPEG', 'PNG', 'BMP', 'WEBP', 'TIFF', 'GIF', 'PPM'])
def test_half_a_file_does_not_decode(tmp_path, kind):
    content = encoded(tmp_path / 'a', noise(32, 32), format=kind)
    assert decoding_finding('a', content) is None
    finding = decoding_finding('a.x', content[: len(content) // 2])
    assert finding.kind == 'file-broken' and finding.file == 'a.x'
    assert finding.value.startswith('broken image (')


def test_text_is_not_an_image():
    assert decoding_finding('a', b'<html>').value == 'broken image (not an image)'


def test_the_checksums_of_a_png_are_verified(tmp_path):
    content = bytearray(encoded(tmp_path / 'a.png', noise()))
    content[content.index(b'IEND') - 5] ^= 1  # of the pixels' checksum
    Image.open(io.BytesIO(content)).load()
    assert 'checksum' in decoding_finding('a', bytes(content)).value


def test_bytes_between_the_segments_of_a_jpeg_are_harmless(tmp_path):
    content = encoded(tmp_path / 'a.jpg', noise())
    start = content.index(b'\xff\xdb')
    assert decoding_finding('a', content[:start] + bytes(9) + content[start:]) is None


def test_the_second_view_of_an_mpo_is_no_finding(tmp_path):
    views = dict(save_all=True, append_images=[noise()])
    content = encoded(tmp_path / 'a', noise(), format='MPO', **views)
    assert decoding_finding('a', content) is None and kinds(content) == []
    finding = decoding_finding('a', content[:-100])
    assert finding is not None and 'truncated' in finding.value


def test_decoding_leaves_the_standard_error_where_it_was(tmp_path):
    content = encoded(tmp_path / 'a.jpg', noise())
    before, free = os.fstat(2), free_descriptors()
    assert decoding_finding('a', content) is None
    assert os.path.samestat(os.fstat(2), before)
    assert free_descriptors() == free


# --- Images ---


@pytest.mark.parametrize(
    'dtype, value',
    [
        (np.uint8, None),
        (np.uint16, '16 bits per channel'),
        (np.int32, '32 bits per channel (integers)'),
        (np.float32, '32 bits per channel (floating point)'),
    ],
)
def test_more_than_8_bits_are_found_by_the_header(tmp_path, dtype, value):
    content = encoded(tmp_path / 'a.tif', np.ones((4, 4), dtype))
    with Image.open(tmp_path / 'a.tif') as image:
        found = depth_finding('a', image), header_finding(str(tmp_path / 'a.tif'))
    for finding in found:
        assert (finding and finding.value.partition(',')[0]) == value
    assert kinds(content) == (['image-depth'] if value else [])
    assert kinds(content, Loading('unchanged')) == []


def test_files_that_do_not_open_have_no_depth_finding(tmp_path):
    (tmp_path / 'a.png').write_bytes(b'broken')
    assert header_finding(str(tmp_path / 'a.png')) is None
    assert header_finding(str(tmp_path / 'none.png')) is None


@pytest.mark.parametrize(
    'mode, kind',
    [
        *((mode, None) for mode in ('1', 'L', 'P', 'RGB', 'YCbCr')),
        *((mode, 'image-color') for mode in ('CMYK', 'LAB')),
        *((mode, 'image-alpha') for mode in ('RGBA', 'LA')),
    ],
)
def test_findings_of_color_modes(tmp_path, mode, kind):
    image = Image.new(mode, (4, 4))  # alpha is 0
    content = encoded(tmp_path / 'a', image, format='TIFF')
    assert kinds(content) == ([kind] if kind else [])


def test_several_images_in_a_file_are_counted(tmp_path):
    views = [Image.new('L', (4, 4), value) for value in (0, 9, 99)]
    options = dict(save_all=True, append_images=views[1:])
    content = encoded(tmp_path / 'a.tif', views[0], **options)
    (finding,) = image_findings('a.tif', content, USUAL)
    assert (finding.kind, finding.value) == ('image-frames', '3 images')


def test_a_warning_of_a_library_comes_once_and_not_with_every_sample(tmp_path):
    save(np.zeros((2, 2), np.uint8), tmp_path / 'a.png')
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter('default')
        for _ in range(3):
            assert header_finding(str(tmp_path / 'a.png')) is None
            warnings.warn('of a library', stacklevel=1)
    assert len(seen) == 1
