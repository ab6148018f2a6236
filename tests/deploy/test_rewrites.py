import pytest
import torch
import torch.nn.functional as F
from mmseg.models.utils import Upsample
from torch import nn

from tests.deploy.small_models import build_segmentor
from volo.deploy.rewrites import (
    AdaptiveAveragePool,
    FloatLayerNorm,
    FloatSoftmax,
    UpsampleByFactor,
    rewrite,
)


@pytest.mark.parametrize('shape', [(2, 3, 6, 7), (1, 2, 1, 2), (1, 2, 23, 30)], ids=str)
@pytest.mark.parametrize('size', [(1, 1), (2, 2), (3, 5), (6, 6)], ids=str)
def test_pooling_is_that_of_torch(shape, size):
    torch.manual_seed(0)
    x = torch.randn(shape)
    torch.testing.assert_close(
        AdaptiveAveragePool(size)(x), nn.AdaptiveAvgPool2d(size)(x)
    )


@pytest.mark.parametrize('align_corners', [False, True])
def test_upsampling_is_that_of_mmseg(align_corners):
    x = torch.randn(1, 2, 3, 5)
    theirs = Upsample(scale_factor=2, mode='bilinear', align_corners=align_corners)
    ours = UpsampleByFactor(2, 'bilinear', align_corners)
    torch.testing.assert_close(ours(x), theirs(x))


def test_softmax_is_computed_in_float32():
    torch.manual_seed(0)
    query, key, value = torch.randn(3, 1, 2, 40, 8)
    expected = F.scaled_dot_product_attention(query, key, value)
    with FloatSoftmax():
        torch.testing.assert_close(
            F.scaled_dot_product_attention(query, key, value), expected
        )
        half = F.scaled_dot_product_attention(query.half(), key.half(), value.half())
    assert half.dtype == torch.float16
    torch.testing.assert_close(half.float(), expected, atol=2e-3, rtol=2e-3)


def test_layer_norm_stays_in_float32():
    model = rewrite(build_segmentor(), half=True)
    norm = model.backbone.stages[0][0].norm1
    assert isinstance(norm, FloatLayerNorm) and norm.weight.dtype == torch.float32
    assert model.backbone.pos_embed.dtype == torch.float16
    x = torch.randn(2, 16) * 1e3
    y = norm(x.half())
    assert y.dtype == torch.float16
    torch.testing.assert_close(y.float(), norm(x), atol=1e-2, rtol=1e-2)


def test_the_model_is_copied_and_its_norms_are_folded():
    model = build_segmentor()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    copy = rewrite(model)
    assert any(isinstance(m, nn.BatchNorm2d) for m in model.modules())
    assert not any(isinstance(m, nn.BatchNorm2d) for m in copy.modules())
    assert not any(isinstance(m, nn.AdaptiveAvgPool2d) for m in copy.modules())
    assert model.state_dict().keys() == before.keys()
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name]), name
