import pytest
import torch
from mmseg.models import EncoderDecoder
from torch.nn import functional as F

from volo.deploy.predict_windows import (
    Band,
    resized_bands,
    slide_bands,
    source_columns,
    window_starts,
)


class Slide:
    """mmseg's slide inference with scores that depend on the window as a whole."""

    out_channels = 3

    def __init__(self, window, stride):
        self.test_cfg = type('Config', (), dict(crop_size=window, stride=stride))

    def encode_decode(self, x, metas):
        return (x.mean() + x).repeat(1, 3, 1, 1) * torch.arange(1, 4).view(1, 3, 1, 1)

    whole = EncoderDecoder.slide_inference


@pytest.mark.parametrize(
    ('size', 'window', 'stride'),
    [
        ((50, 70), (16, 16), (11, 11)),
        ((50, 70), (16, 24), (16, 5)),
        ((10, 70), (16, 16), (11, 11)),
        ((16, 16), (16, 16), (11, 11)),
        ((5, 7), (16, 16), (11, 11)),
    ],
)
@pytest.mark.parametrize('columns', [None, (3, 5)])
def test_bands_are_exactly_mmsegs_slide_inference(size, window, stride, columns):
    model = Slide(window, stride)
    image = torch.randn(1, 1, *size, generator=torch.Generator().manual_seed(0))
    expected = model.whole(image, [{}])[0]
    height, width = min(window[0], size[0]), min(window[1], size[1])

    def run(top, left):
        piece = image[..., top : top + height, left : left + width]
        assert piece.shape[2:] == (height, width)
        return model.encode_decode(piece, None)[0]

    columns = columns or (0, size[1])
    bands = list(slide_bands(run, size, window, stride, columns))
    assert [b.start for b in bands] == window_starts(size[0], height, stride[0])
    scores = torch.cat([b.scores for b in bands], dim=1)
    assert torch.equal(scores, expected[..., slice(*columns)])


@pytest.mark.parametrize('align_corners', [False, True])
@pytest.mark.parametrize(
    ('size', 'to_size'),
    [
        ((37, 50), (111, 97)),
        ((100, 80), (31, 29)),
        ((1, 1), (5, 7)),
        ((40, 3), (1, 1)),
        ((23, 30), (23, 30)),
    ],
)
def test_resized_bands_are_those_of_interpolate(size, to_size, align_corners):
    scores = torch.randn(3, *size, generator=torch.Generator().manual_seed(0))
    expected = F.interpolate(
        scores[None], to_size, mode='bilinear', align_corners=align_corners
    )[0]
    middle = (to_size[1] // 3, to_size[1] // 3 + 1)
    for strip in ((0, to_size[1]), middle):
        columns = source_columns(size[1], to_size[1], strip, align_corners)
        bands = resized_bands(
            (Band(i, scores[:, i : i + 7, slice(*columns)]) for i in range(0, 100, 7)),
            size,
            to_size,
            columns,
            strip,
            align_corners,
            rows=5,
        )
        bands = list(bands)
        assert all(band.scores.shape[1] <= 5 for band in bands)
        found = torch.cat([band.scores for band in bands], dim=1)
        wanted = expected[..., slice(*strip)]
        torch.testing.assert_close(found, wanted, rtol=0, atol=2e-5)
        if size == to_size:
            assert torch.equal(found, wanted)
