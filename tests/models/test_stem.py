import pytest
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


def unfolded(stem, x):
    return stem.proj(stem.conv(x)).permute(0, 2, 3, 1)


@pytest.mark.parametrize('kind', ['BN', 'SyncBN'])
def test_norms_are_folded_in_evaluation_with_the_same_result(kind):
    torch.manual_seed(0)
    stem = Stem(3, 8, 12, norm_cfg=dict(type=kind)).eval()
    for name, tensor in stem.state_dict().items():
        if name.endswith(('running_mean', 'running_var')):
            tensor.uniform_(0.5, 2)
    for norm in (layer for layer in stem.modules() if hasattr(layer, 'running_var')):
        torch.nn.init.normal_(norm.weight)
        torch.nn.init.normal_(norm.bias)
    x = torch.rand(2, 3, 32, 32)
    ours, expected = stem(x), unfolded(stem, x)
    torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-5)
    # Also their gradients, for a stem that is trained with norms in evaluation.
    parameters = list(stem.parameters())
    for gradients in zip(
        torch.autograd.grad(ours.square().sum(), parameters),
        torch.autograd.grad(expected.square().sum(), parameters),
        strict=True,
    ):
        torch.testing.assert_close(*gradients, atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize(
    'cfg',
    [
        dict(type='GN', num_groups=2),
        dict(type='BN', affine=False),
        dict(type='BN', track_running_stats=False),
    ],
)
def test_other_norms_are_applied_as_they_are(cfg):
    stem, x = Stem(3, 8, 12, norm_cfg=cfg).eval(), torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(stem(x), unfolded(stem, x), atol=1e-5, rtol=1e-5)


def test_in_training_the_norms_see_the_batch():
    torch.manual_seed(0)
    stem, twin = (Stem(3, 8, 12, norm_cfg=dict(type='BN')) for _ in range(2))
    twin.load_state_dict(stem.state_dict())
    x = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(stem(x), unfolded(twin, x), atol=1e-5, rtol=1e-5)
    for name, tensor in stem.state_dict().items():
        torch.testing.assert_close(tensor, twin.state_dict()[name])


def test_tokens_need_no_copy():
    stem = Stem(3, 8, 12, norm_cfg=dict(type='BN'))
    for mode in (True, False):
        assert stem.train(mode)(torch.rand(2, 3, 32, 32)).is_contiguous()
