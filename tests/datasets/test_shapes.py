import numpy as np
import pytest
from PIL import Image

from volo.datasets.shapes import (
    SEGMENTATION_CLASSES,
    SEGMENTATION_PALETTE,
    SHAPE_CLASSES,
    draw_shape,
    generate_shapes_dataset,
)
from volo.errors import DataError

SMALL = dict(train_per_class=2, val_per_class=1, size=48)


def contents(root):
    files = (path for path in root.rglob('*') if path.is_file())
    return {str(path.relative_to(root)): path.read_bytes() for path in files}


@pytest.fixture(scope='module')
def drawn(tmp_path_factory):
    root = tmp_path_factory.mktemp('shapes') / 'data'
    generate_shapes_dataset(root, **SMALL)
    return root


def test_every_picture_has_its_mask(drawn):
    pictures = sorted((drawn / 'images').rglob('*.jpg'))
    assert len(pictures) == len(SHAPE_CLASSES) * 3
    for path in pictures:
        split, name = path.relative_to(drawn / 'images').parts[:2]
        mask = np.asarray(Image.open(drawn / 'masks' / split / name / f'{path.stem}.png'))
        assert Image.open(path).size == (48, 48) and mask.shape == (48, 48)
        assert set(np.unique(mask)) == {0, SEGMENTATION_CLASSES.index(name)}
        assert 0.05 < (mask > 0).mean() < 0.7


def test_the_same_seed_gives_the_same_bytes(drawn, tmp_path):
    generate_shapes_dataset(tmp_path / 'again', **SMALL)
    assert contents(tmp_path / 'again') == contents(drawn)
    generate_shapes_dataset(tmp_path / 'other', **SMALL, seed=1)
    pairs = zip(
        sorted((tmp_path / 'other/images').rglob('*.jpg')),
        sorted((drawn / 'images').rglob('*.jpg')),
        strict=True,
    )
    assert all(a.read_bytes() != b.read_bytes() for a, b in pairs)


def test_what_is_missing_is_drawn_again_and_nothing_else_touched(drawn, tmp_path):
    root = tmp_path / 'data'
    generate_shapes_dataset(root, **SMALL)
    expected = contents(root)
    kept = root / 'images/train/ring/ring_0000.jpg'
    kept.write_bytes(b'mine now')
    (root / 'masks/val/star/star_0000.png').unlink()
    generate_shapes_dataset(root, **SMALL)
    assert kept.read_bytes() == b'mine now'
    kept.write_bytes(expected['images/train/ring/ring_0000.jpg'])
    assert contents(root) == expected


def test_a_folder_of_something_else_is_refused(drawn, tmp_path):
    (tmp_path / 'thesis.txt').write_text('years of work')
    with pytest.raises(DataError, match='holds no shapes data set'):
        generate_shapes_dataset(tmp_path, **SMALL)
    with pytest.raises(DataError, match='drawn with other settings'):
        generate_shapes_dataset(drawn, **{**SMALL, 'size': 64})
    with pytest.raises(DataError, match='at least one picture'):
        generate_shapes_dataset(tmp_path / 'new', train_per_class=0)


def test_colour_does_not_tell_the_class():
    """A mean colour of the shape as a feature is worth nothing."""
    rng = np.random.default_rng(0)
    means = []
    for name in SHAPE_CLASSES:
        samples = (draw_shape(name, rng, size=48) for _ in range(60))
        means.append([picture[mask > 0].mean(axis=0) for picture, mask in samples])
    means = np.array(means)
    between = means.mean(axis=1).std(axis=0)
    assert (between < 2.5 * means.std(axis=(0, 1)) / 60**0.5).all()


def test_the_palette_has_a_colour_for_every_class():
    assert len(set(SEGMENTATION_PALETTE)) == len(SEGMENTATION_CLASSES)
