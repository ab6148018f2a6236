import base64
import io

import numpy as np
import pytest
from mmcv.transforms import Compose, LoadImageFromFile
from PIL import Image

from volo.visualization.report_data import EXAMPLE_SIZE, Example
from volo.visualization.report_images import (
    WRONG,
    class_colors,
    draw_example,
    image_reader,
    to_rgb,
)


def decode(uri):
    kind, _, data = uri.partition(';base64,')
    assert kind == 'data:image/webp'
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert('RGB'))


class Dataset:
    pipeline = Compose([LoadImageFromFile()])


def test_the_reader_takes_the_first_transform_and_returns_rgb(tmp_path):
    path = tmp_path / 'a.png'
    Image.new('RGB', (3, 2), (255, 128, 0)).save(path)
    image = image_reader(Dataset)(str(path))
    assert image.shape == (2, 3, 3) and image[0, 0].tolist() == [255, 128, 0]
    assert image_reader(Dataset)(str(tmp_path / 'absent.png')) is None


@pytest.mark.parametrize('shape', [(4, 5), (4, 5, 1), (4, 5, 2), (4, 5, 3), (4, 5, 8)])
def test_any_number_of_channels_becomes_rgb(shape):
    image = np.random.default_rng(0).integers(0, 65536, shape).astype(np.uint16)
    rgb = to_rgb(image)
    assert rgb.shape == (4, 5, 3) and rgb.dtype == np.uint8
    assert rgb.max() == 255 or len(shape) == 3


def test_a_segmentation_example_marks_wrong_pixels(tmp_path):
    path = tmp_path / 'a.png'
    Image.new('RGB', (40, 30), (10, 20, 30)).save(path)
    truth = np.zeros((30, 40), np.int32)
    prediction = truth.copy()
    prediction[:, :20] = 1
    truth[20:] = 255
    example = Example(str(path), 0.5, truth, prediction)
    uris = draw_example(example, image_reader(Dataset), ['#ff0000', '#0000ff'], 255)
    assert list(uris) == ['image', 'truth', 'prediction', 'difference']
    drawn = {name: decode(uri) for name, uri in uris.items()}
    assert drawn['truth'][5, 5].tolist() == [255, 0, 0]
    assert drawn['prediction'][5, 5].tolist() == [0, 0, 255]
    wrong, right, void = (
        drawn['difference'][y, x] for y, x in ((9, 5), (9, 35), (27, 5))
    )
    assert abs(wrong.astype(int) - WRONG).max() < 30
    assert np.ptp(right) < 10 and void.min() > 200


def test_a_classification_example_is_the_image_alone(tmp_path):
    path = tmp_path / 'a.png'
    Image.new('RGB', (2 * EXAMPLE_SIZE, 50)).save(path)
    example = Example(str(path), 0.5, np.array(0), np.array(1), 0.5)
    uris = draw_example(example, image_reader(Dataset), [], 255)
    assert list(uris) == ['image']
    assert decode(uris['image']).shape == (25, EXAMPLE_SIZE, 3)


def test_an_image_that_cannot_be_read_is_gray():
    labels = np.zeros((4, 4), np.int32)
    example = Example('absent.png', 0.5, labels, labels)
    uris = draw_example(example, lambda path: None, ['#ff0000'], 255)
    assert np.ptp(decode(uris['image'])) == 0


def test_colors():
    assert class_colors([[1, 2, 3], [255, 0, 16]], 2) == ['#010203', '#ff0010']
    chosen = class_colors([[1, 2, 3]], 30)
    assert len(set(chosen)) == 30 and '#010203' not in chosen
