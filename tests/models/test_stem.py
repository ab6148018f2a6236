import torch

from volo.models.stem import Stem


def test_tokens_of_stride_8_for_any_number_of_channels():
    stem = Stem(5, stem_channels=8, embed_dims=12, norm_cfg=dict(type='BN'))
    assert stem(torch.rand(2, 5, 32, 48)).shape == (2, 4, 6, 12)


def test_norm_is_the_configured_one():
    stem = Stem(3, 8, 12, norm_cfg=dict(type='SyncBN'))
    norms = [layer for layer in stem.modules() if 'BatchNorm' in type(layer).__name__]
    assert len(norms) == 3
    assert all(isinstance(norm, torch.nn.SyncBatchNorm) for norm in norms)
