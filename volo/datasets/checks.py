"""Checks of one image, for training and for ``tools/check_dataset.py``."""

import contextlib
import dataclasses
import io
import os
import stat
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import cv2
import mmcv
import numpy as np
from mmcv.transforms import LoadAnnotations, LoadImageFromFile
from mmengine.dataset import BaseDataset
from PIL import Image, ImageFile, TiffImagePlugin

from .findings import Finding

#: Suffixes of image files, in lower case.
IMAGE_SUFFIXES = (
    '.jpg',
    '.jpeg',
    '.png',
    '.bmp',
    '.webp',
    '.tif',
    '.tiff',
    '.ppm',
    '.pgm',
    '.gif',
)

_ORIENTATION = 0x0112  # EXIF tag
_DEEP_MODES = ('I', 'F')  # 32 bits; the modes of 16 bits are I;16, I;16B and so on


@dataclasses.dataclass(frozen=True)
class Loading:
    """How the pipeline of a dataset reads its files.

    Attributes:
        color_type: What mmcv's ``LoadImageFromFile`` converts images to; '' if the
            pipeline loads images in another way.
        image_backend: mmcv's decoder of images.
        mask_backend: mmcv's decoder of masks.
    """

    color_type: str = ''
    image_backend: str = 'pillow'
    mask_backend: str = 'pillow'

    @classmethod
    def of(cls, dataset: BaseDataset) -> 'Loading':
        """Read the pipeline of a dataset."""
        options: dict[str, str] = {}
        for transform in dataset.pipeline.transforms:
            if isinstance(transform, LoadImageFromFile):
                options['color_type'] = transform.color_type
                options['image_backend'] = transform.imdecode_backend
            elif isinstance(transform, LoadAnnotations) and transform.with_seg:
                options['mask_backend'] = transform.imdecode_backend
        return cls(**options)

    @property
    def eight_bits(self) -> bool:
        """Whether images are converted to 8 bits per channel."""
        raw = self.image_backend == 'tifffile' or self.color_type in ('', 'unchanged')
        return not raw

    def rotates(self, image_format: str | None) -> bool:
        """Return whether images of a format are rotated by their EXIF orientation."""
        if self.image_backend in ('tifffile', 'turbojpeg'):
            return False
        # Pillow and OpenCV rotate TIFF images whatever the color type.
        return image_format == 'TIFF' or self.color_type in ('', 'color', 'grayscale')


class LoadedSize(NamedTuple):
    """Size of an image as the pipeline loads it.

    Attributes:
        height: In pixels.
        width: In pixels.
        orientation: EXIF orientation of the file, from 1 (upright) to 8.
        rotated: Whether loading applies the orientation.
    """

    height: int
    width: int
    orientation: int = 1
    rotated: bool = False


# --- Files ---


def special_file(path: str | Path) -> str:
    """Return 'a FIFO' or the like if reading a path could block or never end, or ''."""
    try:
        mode = os.stat(path).st_mode
    except OSError:  # whoever reads the file says so
        return ''
    if stat.S_ISREG(mode) or stat.S_ISDIR(mode):
        return ''
    return 'a FIFO' if stat.S_ISFIFO(mode) else 'a device or socket'


def read_file(path: str) -> bytes | Finding:
    """Return the content of a file, or why it cannot be read."""
    if special := special_file(path):
        return Finding('file-broken', path, f'not a file ({special})')
    try:
        content = Path(path).read_bytes()
    except FileNotFoundError:
        return Finding('file-missing', path, 'no such file')
    except OSError as error:
        return Finding('file-broken', path, f'unreadable ({error.strerror or error})')
    if not content:
        return Finding('file-broken', path, 'empty file (not an image)')
    return content


@contextlib.contextmanager
def _opened(content: bytes) -> Iterator[ImageFile.ImageFile]:
    """Open an image without Pillow's warnings about its metadata."""
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        with Image.open(io.BytesIO(content)) as image:
            yield image


def decode(
    path: str, content: bytes, backend: str, flag: str = 'unchanged'
) -> np.ndarray | Finding:
    """Decode an image as the pipeline does, or return why that fails.

    Args:
        path: Path for the finding.
        content: Content of the file.
        backend: mmcv's decoder.
        flag: What mmcv converts the image to.
    """
    try:
        array = mmcv.imfrombytes(content, flag=flag, backend=backend)
    # Given broken bytes, decoders raise whatever their parsers run into.
    except Exception as error:
        return Finding('file-broken', path, f'broken image ({error})')
    if array is None:
        reason = f'{backend} cannot decode it'
        return Finding('file-broken', path, f'broken image ({reason})')
    return array


def decoding_finding(
    path: str, content: bytes, backend: str = 'pillow'
) -> Finding | None:
    """Decode an image to its last row, and verify the checksums of its format.

    Args:
        path: Path for the finding.
        content: Content of the file.
        backend: mmcv's decoder, which must decode the image too.
    """
    try:
        with _opened(content) as image:
            image_format = image.format
            if image_format == 'PNG':
                image.verify()  # the checksums, which loading ignores
        with _opened(content) as image:
            image.load()
    except Image.DecompressionBombError as error:
        return _bomb_finding(path, error)
    except Exception as error:
        # Pillow's message names a buffer, not the file.
        reason = 'not an image' if 'cannot identify' in str(error) else str(error)
        return Finding('file-broken', path, f'broken image ({reason})')
    problem = _jpeg_problem(content) if image_format in ('JPEG', 'MPO') else ''
    if problem:
        return Finding('file-broken', path, f'broken image ({problem})')
    if backend != 'pillow':
        array = decode(path, content, backend, 'color')
        return array if isinstance(array, Finding) else None
    return None


def _bomb_finding(path: str, error: Image.DecompressionBombError) -> Finding:
    text = str(error).partition(',')[0]
    remedy = 'Cut the image into tiles, or remove the sample'
    return Finding('file-broken', path, f'{text}, like a decompression bomb', remedy)


def _jpeg_problem(content: bytes) -> str:
    """Return what is wrong with a JPEG that decodes with gray for its lost part."""
    # These markers cannot occur within a scan.
    if content.rfind(b'\xff\xd9') < content.rfind(b'\xff\xda'):
        return 'truncated: no end marker'
    # libjpeg prints warnings to stderr; OpenCV lets it, Pillow does not.
    with tempfile.TemporaryFile() as file:
        stderr = os.dup(2)
        os.dup2(file.fileno(), 2)
        try:
            # Everything is entropy-decoded; an eighth of the size saves the rest.
            cv2.imdecode(
                np.frombuffer(content, np.uint8), cv2.IMREAD_REDUCED_GRAYSCALE_8
            )
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
        file.seek(0)
        lines = file.read().decode(errors='replace').splitlines()
    # Bytes between two segments are harmless and common in images of phones.
    lines = [line for line in lines if 'JPEG data' in line and 'extraneous' not in line]
    return lines[0] if lines else ''


# --- Images ---


def depth_finding(path: str, image: ImageFile.ImageFile) -> Finding | None:
    """Find more than 8 bits per channel, without loading the pixels."""
    # Pillow reads RGB of 16 bits as RGB of 8; only the decoder's arguments tell.
    raw = str(image.tile[0].args) if image.tile else ''
    if image.mode.startswith('I;16') or ';16' in raw:
        found = '16 bits per channel'
    elif image.mode in _DEEP_MODES:
        kind = 'floating point' if image.mode == 'F' else 'integers'
        found = f'32 bits per channel ({kind})'
    else:
        return None
    return Finding('image-depth', path, f'{found}, would load too dark or too bright')


def header_finding(path: str) -> Finding | None:
    """Find what must not be loaded, without decoding; cheap for good files.

    That is: no regular file, a decompression bomb, or more than 8 bits per channel.
    None if the file is missing or broken: the transform that loads it says so.
    """
    if special := special_file(path):
        return Finding('file-broken', path, f'not a file ({special})')
    try:
        # Not in warnings.catch_warnings: after it, every warning would come again, in
        # each sample.
        with Image.open(path) as image:
            return depth_finding(path, image)
    except Image.DecompressionBombError as error:
        return _bomb_finding(path, error)
    except Exception:
        return None


def image_findings(path: str, content: bytes, loading: Loading) -> list[Finding]:
    """Find what loading would drop or change in an image that decodes."""
    findings = []
    with _opened(content) as image:
        deep = depth_finding(path, image) if loading.eight_bits else None
        if deep:
            findings.append(deep)
        if image.mode in ('CMYK', 'LAB', 'HSV'):
            text = f'{image.mode}, converted to RGB without its color profile'
            findings.append(Finding('image-color', path, text))
        if image.mode in ('RGBA', 'LA', 'PA') or 'transparency' in image.info:
            alpha = np.asarray(image.convert('RGBA'))[..., 3]
            share = (alpha < 255).mean()
            if share:
                text = f'{share:.1%} of the pixels are transparent ({image.mode})'
                findings.append(Finding('image-alpha', path, text))
        # Phones add a second view to a JPEG (MPO); it is not another sample.
        frames = getattr(image, 'n_frames', 1)
        if frames > 1 and image.format != 'MPO':
            findings.append(Finding('image-frames', path, f'{frames} images'))
    return findings


def loaded_size(content: bytes, loading: Loading) -> LoadedSize:
    """Return the size of an image as the pipeline loads it."""
    with _opened(content) as image:
        rotated = loading.rotates(image.format)
        if isinstance(image, TiffImagePlugin.TiffImageFile):
            # Pillow rotates it itself, and viewers agree: the file counts as upright.
            image.load()
            size = image.size if rotated else (image.tag_v2[256], image.tag_v2[257])
            return LoadedSize(size[1], size[0])
        width, height = image.size
        orientation = image.getexif().get(_ORIENTATION, 1)
    if orientation not in range(2, 9):
        return LoadedSize(height, width)
    if rotated and orientation >= 5:
        height, width = width, height
    return LoadedSize(height, width, orientation, rotated)
