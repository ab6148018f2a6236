"""A clean dataset of 16x16 images, ways to corrupt it, and the expected findings.

Every case is a function that corrupts the dataset in a folder and may return overrides
for the configs of its splits, together with the expected kind, file, value and remedy.
"""

import os
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

SIDE = 16


def write_segmentation(root: Path) -> Path:
    """Write two images with masks of labels 0, 1, 2 and 255 for each split."""
    rng = np.random.default_rng(0)
    for split in ('train', 'val'):
        for name in 'ab':
            image = rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
            save(image, root / f'images/{split}/{name}.jpg')
            save(clean_mask(), root / f'masks/{split}/{name}.png')
    return root


def clean_mask() -> np.ndarray:
    return np.array([[0] * 8 + [1] * 4 + [2] * 2 + [255] * 2] * SIDE, np.uint8)


def write_classification(root: Path) -> Path:
    """Write two images of each of two classes for each split."""
    rng = np.random.default_rng(0)
    for split in ('train', 'val'):
        for name in ('cat', 'dog'):
            for number in range(2):
                image = rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
                save(image, root / f'{split}/{name}/{number}.png')
    return root


def save(image: np.ndarray | Image.Image, path: Path, **options) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(image, np.ndarray):
        image = Image.fromarray(image)
    image.save(path, **options)


def cut(path: Path, share: float, end: bytes = b'') -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)] + end)


IMAGE, MASK = 'images/train/a.jpg', 'masks/train/a.png'


# --- Files ---


def empty_image(root):
    (root / IMAGE).write_bytes(b'')


def empty_mask(root):
    (root / MASK).write_bytes(b'')


def html_page(root):
    (root / IMAGE).write_text('<html>404</html>')


def truncated_jpeg(root):
    cut(root / IMAGE, 0.9)


def closed_after_truncation(root):
    cut(root / IMAGE, 0.9, b'\xff\xd9')


def zeros_at_the_end(root):
    cut(root / IMAGE, 0.9, bytes(100))


def truncated_png(root):
    cut(root / MASK, 0.7)


def flipped_bit(root):
    content = bytearray((root / MASK).read_bytes())
    content[45] ^= 1
    (root / MASK).write_bytes(content)


def missing_mask(root):
    (root / MASK).unlink()


def missing_image(root):
    (root / IMAGE).unlink()


def missing_from_ann_file(root):
    (root / 'list.txt').write_text('a\nc\n')
    return dict(train=dict(ann_file='list.txt'))


def capital_suffix(root):
    (root / IMAGE).rename(root / 'images/train/a.JPG')


def fifo_image(root):
    (root / IMAGE).unlink()
    os.mkfifo(root / IMAGE)
    return list_images(root)


def fifo_mask(root):
    (root / MASK).unlink()
    os.mkfifo(root / MASK)


def endless_image(root):
    (root / IMAGE).unlink()
    (root / IMAGE).symlink_to('/dev/zero')
    return list_images(root)


def endless_mask(root):
    (root / MASK).unlink()
    (root / MASK).symlink_to('/dev/zero')


def list_images(root):
    """Name the images in an ann_file: special files are not listed from folders."""
    (root / 'list.txt').write_text('a\nb\n')
    return dict(train=dict(ann_file='list.txt'))


def bomb_image(root):
    write_bomb(root / IMAGE)


def bomb_mask(root):
    write_bomb(root / MASK)


def write_bomb(path, side=20_000):
    """Write a few bytes that claim to be a PNG of side x side pixels."""
    save(np.zeros((1, 1), np.uint8), path, format='PNG')
    content = bytearray(path.read_bytes())
    content[16:24] = struct.pack('>II', side, side)
    content[29:33] = struct.pack('>I', zlib.crc32(content[12:29]))
    path.write_bytes(content)


# --- Images ---


def deep_gray(root):
    deep = np.full((SIDE, SIDE), 3000, np.uint16)
    save(deep, root / IMAGE, format='PNG')


def deep_color(root):
    deep = np.full((SIDE, SIDE, 3), 3000, np.uint16)
    cv2.imwrite(str(root / 'a.png'), deep)
    (root / 'a.png').rename(root / IMAGE)


def float_tiff(root):
    save(np.full((SIDE, SIDE), 0.5, np.float32), root / IMAGE, format='TIFF')


def cmyk(root):
    save(Image.new('CMYK', (SIDE, SIDE), (9, 99, 200, 30)), root / IMAGE)


def rgba(root):
    image = np.full((SIDE, SIDE, 4), 255, np.uint8)
    image[:4, :, 3] = 0
    save(image, root / IMAGE, format='PNG')


def palette_with_transparency(root):
    image = Image.fromarray(np.eye(SIDE, dtype=np.uint8), 'P')
    image.putpalette([9, 9, 9, 99, 99, 99])
    save(image, root / IMAGE, format='PNG', transparency=1)


def animation(root):
    frames = [Image.new('L', (SIDE, SIDE), value) for value in (9, 99)]
    save(frames[0], root / IMAGE, format='GIF', save_all=True, append_images=frames[1:])


def rotated_by_180(root):
    exif = Image.Exif()
    exif[0x0112] = 3
    save(Image.open(root / IMAGE), root / IMAGE, exif=exif)


def rotated_by_90(root):
    exif = Image.Exif()
    exif[0x0112] = 6
    save(Image.new('RGB', (20, SIDE)), root / IMAGE, exif=exif)
    save(np.zeros((SIDE, 20), np.uint8), root / MASK)


# --- Masks ---


def other_size(root):
    save(clean_mask()[:, :8], root / MASK)


def one_row_mask(root):
    save(clean_mask()[:1], root / MASK)


def one_row_image_and_mask(root):
    save(np.zeros((1, SIDE, 3), np.uint8), root / IMAGE)
    save(clean_mask()[:1], root / MASK)


def one_pixel_mask(root):
    save(clean_mask()[:1, :1], root / MASK)


def label_out_of_range(root):
    save(np.where(clean_mask() == 2, 7, clean_mask()).astype(np.uint8), root / MASK)


def label_out_of_range_after_reducing(root):
    # 3 classes are 1, 2 and 3 in the files: 4 is loaded as 3.
    for split in ('train', 'val'):
        for name in 'ab':
            save(
                np.array([[0, 1, 2, 3] * 4] * SIDE, np.uint8),
                root / f'masks/{split}/{name}.png',
            )
    save(np.array([[4, 1, 2, 3] * 4] * SIDE, np.uint8), root / MASK)
    return dict(both=dict(reduce_zero_label=True))


def void_value_is_not_ignored(root):
    return dict(train=dict(ignore_index=254))


def binary_masks(root):
    for mask in root.glob('masks/*/*.png'):
        save(np.where(clean_mask() == 1, 255, 0).astype(np.uint8), mask)
    return dict(both=dict(metainfo=dict(classes=('background', 'cell'))))


def color_mask(root):
    colors = np.zeros((SIDE, SIDE, 3), np.uint8)
    colors[:8, :, 0] = 128
    save(colors, root / MASK)


def gray_mask_in_three_channels(root):
    save(Image.fromarray(clean_mask()).convert('RGB'), root / MASK)


def deep_mask(root):
    mask = clean_mask().astype(np.uint16)
    mask[0, 0] = 256
    save(mask, root / MASK)


def jpeg_mask(root):
    save(np.zeros((SIDE, SIDE), np.uint8), root / MASK, format='JPEG')


# --- Splits and classes ---


def empty_split(root):
    for image in root.glob('images/val/*'):
        image.unlink()


def missing_folder(root):
    return dict(val=dict(data_prefix=dict(img_path='images/dev')))


def same_file(root):
    return dict(
        val=dict(data_prefix=dict(img_path='images/train', seg_map_path='masks/train'))
    )


def same_bytes(root):
    (root / 'images/val/b.jpg').write_bytes((root / IMAGE).read_bytes())


def absent_class(root):
    for name in 'ab':
        save(np.zeros((SIDE, SIDE), np.uint8), root / f'masks/val/{name}.png')


def skipped_in_evaluation(root):
    return dict(val=dict(skip_broken=True))


RESTORE = 'Restore the file or remove the sample'
UNLISTED = 'Correct data_root, data_prefix, the suffixes or ann_file'
#: Function that corrupts the data; kind, file, value and remedy of the finding.
SEGMENTATION = [
    (empty_image, 'file-broken', IMAGE, 'empty file', RESTORE),
    (empty_mask, 'file-broken', MASK, 'empty file', RESTORE),
    (html_page, 'file-broken', IMAGE, 'not an image', RESTORE),
    (truncated_jpeg, 'file-broken', IMAGE, 'truncated', RESTORE),
    (closed_after_truncation, 'file-broken', IMAGE, 'premature end', RESTORE),
    (zeros_at_the_end, 'file-broken', IMAGE, 'no end marker', RESTORE),
    (truncated_png, 'file-broken', MASK, 'broken image', RESTORE),
    (flipped_bit, 'file-broken', MASK, 'checksum', RESTORE),
    (missing_mask, 'mask-missing', MASK, 'no such file', 'Add the mask'),
    (missing_image, 'image-missing', MASK, IMAGE, 'Add the image'),
    (missing_from_ann_file, 'file-missing', 'train/c.jpg', 'no such file', RESTORE),
    (capital_suffix, 'image-left-out', 'a.JPG', 'takes .jpg', 'case-sensitive'),
    (fifo_image, 'file-broken', IMAGE, 'not a file (a FIFO)', RESTORE),
    (fifo_mask, 'file-broken', MASK, 'not a file (a FIFO)', RESTORE),
    (endless_image, 'file-broken', IMAGE, 'not a file (a device', RESTORE),
    (endless_mask, 'file-broken', MASK, 'not a file (a device', RESTORE),
    (bomb_image, 'file-broken', IMAGE, '400000000 pixels', 'into tiles'),
    (bomb_mask, 'file-broken', MASK, '400000000 pixels', 'into tiles'),
    (deep_gray, 'image-depth', IMAGE, '16 bits', '0..255'),
    (deep_color, 'image-depth', IMAGE, '16 bits', '0..255'),
    (float_tiff, 'image-depth', IMAGE, 'floating point', '0..255'),
    (cmyk, 'image-color', IMAGE, 'CMYK', 'ImageCms'),
    (rgba, 'image-alpha', IMAGE, '25.0% of the pixels', 'save it as RGB'),
    (palette_with_transparency, 'image-alpha', IMAGE, '6.2%', 'as RGB'),
    (animation, 'image-frames', IMAGE, '2 images', 'file of its own'),
    (rotated_by_180, 'image-orientation', IMAGE, 'orientation 3', 'exif_transpose'),
    (
        rotated_by_90,
        'mask-size',
        MASK,
        '20x16 since loading applies',
        'or rotate the mask',
    ),
    (other_size, 'mask-size', MASK, r'(16, 8)', 'the size of its image'),
    (one_row_mask, 'mask-size', MASK, 'one row or column (16 pixels)', '2x2 pixels'),
    (one_row_image_and_mask, 'mask-size', MASK, 'its image', '2x2 pixels'),
    (one_pixel_mask, 'mask-size', MASK, 'one row or column (1 pixels)', '2x2 pixels'),
    (label_out_of_range, 'mask-labels', MASK, 'label 7 on 32 pixels', 'void_labels'),
    (label_out_of_range_after_reducing, 'mask-labels', MASK, 'in the file: 4', 'void'),
    (void_value_is_not_ignored, 'mask-labels', MASK, 'label 255', 'label_map={255: 1}'),
    (binary_masks, 'mask-binary', 'masks/train', '{0, 255}', 'label_map={255: 1}'),
    (color_mask, 'mask-channels', MASK, '(16, 16, 3)', 'index of each color'),
    (gray_mask_in_three_channels, 'mask-channels', MASK, '(16, 16, 3)', 'mask[..., 0]'),
    (deep_mask, 'mask-depth', MASK, '256 to 256 on 1 pixels', 'with 8 bits'),
    (jpeg_mask, 'mask-lossy', MASK, 'JPEG', 'as PNG'),
    (empty_split, 'split-empty', 'val split', 'no images found', UNLISTED),
    (missing_folder, 'split-empty', 'val split', 'images/dev: no such', UNLISTED),
    (same_file, 'duplicate', IMAGE, 'same file is in train', 'one of the splits'),
    (same_bytes, 'duplicate', 'val/b.jpg', 'train/a.jpg', 'one of the splits'),
    (absent_class, 'class-absent', "class 'z'", 'no pixel in the val', 'Add samples'),
    (skipped_in_evaluation, 'skip-in-evaluation', 'val', 'skip_broken', 'only'),
]


# --- Classification ---


def truncated_class_image(root):
    cut(root / 'train/cat/0.png', 0.5)


def folder_without_name(root):
    save(np.zeros((4, 4, 3), np.uint8), root / 'train/eel/0.png')


def name_without_folder(root):
    return dict(train=dict(metainfo=dict(classes=('cat', 'dog', 'eel'))))


def misspelled_folder(root):
    (root / 'train/dog').rename(root / 'train/dogs')


def unsorted_classes(root):
    return dict(both=dict(metainfo=dict(classes=('dog', 'cat'))))


def folder_without_images(root):
    for image in root.glob('val/dog/*'):
        image.unlink()


def unknown_suffix(root):
    save(np.zeros((4, 4, 3), np.uint8), root / 'train/cat/2.webp')


def image_outside_class_folders(root):
    save(np.zeros((4, 4, 3), np.uint8), root / 'train/2.png')


def image_label_out_of_range(root):
    (root / 'list.txt').write_text('cat/0.png 0\ndog/0.png 2\ndog/1.png 1\n')
    return dict(train=dict(ann_file='list.txt'))


CLASSIFICATION = [
    (truncated_class_image, 'file-broken', 'train/cat/0.png', 'broken image', RESTORE),
    (
        folder_without_name,
        'class-folder-unnamed',
        'train/eel',
        'not in',
        'Add the name',
    ),
    (
        name_without_folder,
        'class-without-folder',
        'train/eel',
        'no such',
        'Create the folder',
    ),
    (misspelled_folder, 'class-folder-unnamed', 'train/dogs', 'not in', 'Add'),
    (misspelled_folder, 'class-without-folder', 'train/dog', 'no such', 'Create'),
    (unsorted_classes, 'class-order', 'train', 'label 0 is the folder cat', 'Sort'),
    (folder_without_images, 'class-absent', "'dog'", 'no image in the val', 'Add'),
    (unknown_suffix, 'image-left-out', 'cat/2.webp', 'not listed', 'suffix'),
    (
        image_outside_class_folders,
        'image-left-out',
        'train/2.png',
        'not in a class',
        'move',
    ),
    (image_label_out_of_range, 'label-range', 'dog/0.png', 'label 2', 'ann_file'),
]
