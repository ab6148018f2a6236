"""Checks of one image, for the guards of training and for the doctor."""

import contextlib
import dataclasses
import io
import os
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from mmcv.transforms import LoadAnnotations, LoadImageFromFile
from mmengine.dataset import BaseDataset
from PIL import Image

from .findings import Finding

#: Files that are taken for images, in lower case.
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

_ORIENTATION = 0x0112  # tag of EXIF
_DEEP_MODES = ('I', 'F')  # 32 bits; those of 16 bits are I;16, I;16B and so on


@dataclasses.dataclass(frozen=True)
class Loading:
    """How a dataset's pipeline reads its files.

    Attributes:
        eight_bits: Images become 8 bits a channel.
        upright: Images are turned as EXIF says.
        mask_backend: mmcv's decoder of the masks.
    """

    eight_bits: bool
    upright: bool
    mask_backend: str

    @classmethod
    def of(cls, dataset: BaseDataset) -> 'Loading':
        """Look at the transforms of a dataset."""
        eight_bits, upright, backend = False, True, 'pillow'
        for transform in dataset.pipeline.transforms:
            if isinstance(transform, LoadImageFromFile):
                color_type = transform.color_type
                upright = color_type in ('color', 'grayscale')
                eight_bits = (
                    transform.imdecode_backend != 'tifffile'
                    and color_type != 'unchanged'
                )
            elif isinstance(transform, LoadAnnotations) and transform.with_seg:
                backend = transform.imdecode_backend
        return cls(eight_bits, upright, backend)


# --- Files ---


def read_file(path: str) -> bytes | Finding:
    """Return the bytes of a file, or why there are none."""
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
def _opened(content: bytes) -> Iterator[Image.Image]:
    """Open an image; Pillow's warnings about its metadata are nobody's concern."""
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        with Image.open(io.BytesIO(content)) as image:
            yield image


def decoding_finding(path: str, content: bytes) -> Finding | None:
    """Decode an image to its last row, and verify what its format can tell.

    Args:
        path: Named in the finding.
        content: The bytes of the file.
    """
    try:
        with _opened(content) as image:
            kind = image.format
            if kind == 'PNG':
                image.verify()  # the checksums, which loading passes over
        with _opened(content) as image:
            image.load()
    # Given broken bytes, decoders raise whatever their parsers run into.
    except Exception as error:
        # Pillow names the buffer it was given, which says nothing to the user.
        reason = 'not an image' if 'cannot identify' in str(error) else str(error)
        return Finding('file-broken', path, f'broken image ({reason})')
    problem = _jpeg_problem(content) if kind in ('JPEG', 'MPO') else ''
    if problem:
        return Finding('file-broken', path, f'broken image ({problem})')
    return None


def _jpeg_problem(content: bytes) -> str:
    """Return what is wrong with a JPEG that decodes, with gray for what is lost."""
    # Within a scan these bytes cannot be.
    if content.rfind(b'\xff\xd9') < content.rfind(b'\xff\xda'):
        return 'truncated: no end marker'
    # libjpeg prints its warnings, and OpenCV is the one that lets it.
    with tempfile.TemporaryFile() as file:
        stderr = os.dup(2)
        os.dup2(file.fileno(), 2)
        try:
            # All is entropy-decoded; an eighth of the size spares the rest.
            cv2.imdecode(
                np.frombuffer(content, np.uint8), cv2.IMREAD_REDUCED_GRAYSCALE_8
            )
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
        file.seek(0)
        lines = file.read().decode(errors='replace').splitlines()
    # Bytes between two segments are harmless, and common in images of phones.
    lines = [line for line in lines if 'JPEG data' in line and 'extraneous' not in line]
    return lines[0] if lines else ''


# --- Images ---


def depth_finding(path: str, image: Image.Image) -> Finding | None:
    """Find more than 8 bits a channel, by the header: the image is not loaded."""
    # Pillow reads RGB of 16 bits as RGB of 8, and says so only here.
    raw = str(image.tile[0].args) if image.tile else ''
    if image.mode.startswith('I;16') or ';16' in raw:
        found = '16 bits a channel'
    elif image.mode in _DEEP_MODES:
        kind = 'floating point' if image.mode == 'F' else 'integers'
        found = f'32 bits a channel ({kind})'
    else:
        return None
    return Finding('image-depth', path, f'{found}, would load too dark or too bright')


def deep_file(path: str) -> Finding | None:
    """Find more than 8 bits a channel in a file; nothing in one that is broken."""
    try:
        with warnings.catch_warnings(), Image.open(path) as image:
            warnings.simplefilter('ignore')
            return depth_finding(path, image)
    except Exception:  # the transform that loads it meets the same, and stops there
        return None


def image_findings(path: str, content: bytes, loading: Loading) -> list[Finding]:
    """Find what a whole image would lose at loading."""
    findings = []
    with _opened(content) as image:
        deep = depth_finding(path, image) if loading.eight_bits else None
        if deep:
            findings.append(deep)
        if image.mode in ('CMYK', 'LAB', 'HSV'):
            findings.append(
                Finding(
                    'image-color',
                    path,
                    f'{image.mode}, converted to RGB without its color profile',
                )
            )
        if image.mode in ('RGBA', 'LA', 'PA') or 'transparency' in image.info:
            alpha = np.asarray(image.convert('RGBA'))[..., 3]
            share = (alpha < 255).mean()
            if share:
                text = f'{share:.1%} of the pixels are transparent ({image.mode})'
                findings.append(Finding('image-alpha', path, text))
        # Phones put a second view into a JPEG (MPO), which is none of ours.
        frames = getattr(image, 'n_frames', 1)
        if frames > 1 and image.format != 'MPO':
            findings.append(Finding('image-frames', path, f'{frames} images'))
    return findings


def image_size(content: bytes, loading: Loading) -> tuple[int, int, int]:
    """Return height, width and EXIF orientation (1: none) of an image as loaded."""
    with _opened(content) as image:
        if image.format == 'TIFF':  # every decoder turns it, whatever is asked for
            image.load()
            return image.height, image.width, 1
        width, height = image.size
        orientation = image.getexif().get(_ORIENTATION, 1) if loading.upright else 1
    if orientation in (5, 6, 7, 8):
        height, width = width, height
    return height, width, orientation if orientation in range(2, 9) else 1
