"""Geometry, preprocessing and the choice of classes; no library's models."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from volo.annotators.annotator import Annotator, Preprocess, top_k
from volo.errors import ConfigError


class Brightness(Annotator):
    """Class 0 is bright, class 1 is dark; a cell is 16 x 16 pixels."""

    def __init__(self, preprocess):
        super().__init__(nn.Linear(1, 1), 'brightness', preprocess)

    def features(self, images):
        return nn.functional.avg_pool2d(images.mean(1, keepdim=True), 16)

    def classify(self, features):
        bright = features.mean((2, 3))
        return torch.cat([bright, -bright], 1)


class OfPlaces(Brightness):
    def classify(self, features):
        places = torch.arange(features[0].numel()).view(features.shape[1:])
        return (features * places).sum((2, 3)).expand(-1, 2)


class OfTokens(Brightness):
    num_prefix_tokens = 2

    def features(self, images):
        tokens = super().features(images).flatten(2).transpose(1, 2)
        return torch.cat([tokens.new_full((len(tokens), 2, 1), 9.0), tokens], 1)

    def classify(self, features):
        return torch.cat([features[:, 0], features[:, 1]], 1)


class ChannelsLast(Brightness):
    def features(self, images):
        return super().features(images).permute(0, 2, 3, 1)

    def classify(self, features):
        return super().classify(features.permute(0, 3, 1, 2))


def image_with_white(box, size):
    image = Image.new('RGB', size)
    image.paste((255, 255, 255), box)
    return image


@pytest.mark.parametrize('make', [Brightness, OfTokens, ChannelsLast])
def test_a_bright_corner_is_in_its_cell_rows_first(make):
    annotator = make(Preprocess(64))
    assert annotator.grid == (4, 4) and annotator.num_classes == 2
    # Twice as wide as high: cells are stretched with the image, nothing is cropped.
    image = image_with_white((150, 0, 200, 25), (200, 100))
    scores, logits = annotator(annotator.preprocess(image)[None])
    assert scores.shape == (1, 2, 4, 4) and logits.shape == (1, 2)
    bright = scores[0, 0]
    assert bright[0, 3] == bright.max() > 200
    others = bright.clone()
    others[0, 3] = 0
    assert others.max() < 40  # What the interpolation spills over.


def test_more_locations_than_go_through_at_once(monkeypatch):
    annotator = Brightness(Preprocess(64))
    images = torch.rand(3, 3, 64, 64)
    whole, _ = annotator(images)
    monkeypatch.setattr('volo.annotators.annotator.MAX_LOCATIONS', 5)
    assert torch.equal(annotator(images)[0], whole)


def test_what_cannot_classify_locations_is_refused():
    with pytest.raises(ConfigError, match='depends on the positions of features'):
        OfPlaces(Preprocess(64))
    with pytest.raises(ConfigError, match='has no grid|have no grid'):
        Brightness(Preprocess(16))
    with pytest.raises(ConfigError, match='cannot annotate images of 8 x 8'):
        Brightness(Preprocess(8))


def test_preprocessing_normalizes_and_orders_the_channels():
    image = Image.new('RGB', (30, 20), (10, 20, 30))
    rgb = Preprocess(4, mean=(10, 0, 0), std=(1, 2, 1))(image)
    assert rgb.shape == (3, 4, 4) and rgb.dtype == torch.float32
    assert rgb[:, 0, 0].tolist() == [0, 10, 30]
    bgr = Preprocess(4, mean=(10, 0, 0), std=(1, 2, 1), bgr=True)(image)
    assert bgr[:, 0, 0].tolist() == [20, 10, 10]


def test_top_k_sorts_the_best_first():
    scores = torch.randn(2, 6, 3, 4)
    maps = top_k(scores, 2)
    assert len(maps) == 2
    assert maps[1].scores.shape == maps[1].classes.shape == (2, 3, 4)
    order = np.argsort(-scores[1].numpy(), axis=0)[:2]
    np.testing.assert_array_equal(maps[1].classes, order)
    np.testing.assert_array_equal(
        maps[1].scores, np.take_along_axis(scores[1].numpy(), order, 0)
    )
    with pytest.raises(ConfigError, match='7 of 6 classes'):
        top_k(scores, 7)
