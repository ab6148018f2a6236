import pytest
import torch
import torch.nn.functional as F

from volo.models import resize_pos_embed


def cubic_weights(old, new):
    """(new, old) matrix of bicubic interpolation (a = -0.75), edges repeated."""
    weights = torch.zeros(new, old, dtype=torch.float64)
    for i in range(new):
        center = (i + 0.5) * old / new - 0.5
        first = int(center // 1) - 1
        for j in range(first, first + 4):
            d = abs(center - j)
            near = 1.25 * d**3 - 2.25 * d**2 + 1
            far = -0.75 * d**3 + 3.75 * d**2 - 6 * d + 3
            weights[i, min(max(j, 0), old - 1)] += near if d <= 1 else far
    return weights


def test_is_bicubic_with_half_pixel_centers():
    torch.manual_seed(0)
    pos_embed = torch.randn(1, 14, 14, 3)
    expected = torch.einsum(
        'yj,xi,bjic->byxc',
        cubic_weights(14, 24),
        cubic_weights(14, 9),
        pos_embed.double(),
    )
    ours = resize_pos_embed(pos_embed, (24, 9))
    torch.testing.assert_close(ours.double(), expected, atol=1e-5, rtol=1e-5)


def test_same_size_is_the_same_tensor():
    pos_embed = torch.randn(1, 14, 14, 3)
    assert resize_pos_embed(pos_embed, (14, 14)) is pos_embed


def test_keeps_dtype_and_passes_gradients():
    pos_embed = torch.randn(1, 4, 4, 3, dtype=torch.bfloat16, requires_grad=True)
    resized = resize_pos_embed(pos_embed, (6, 5))
    assert resized.dtype == torch.bfloat16 and resized.shape == (1, 6, 5, 3)
    F.mse_loss(resized.float(), torch.zeros(1, 6, 5, 3)).backward()
    assert pos_embed.grad.abs().min() > 0


@pytest.mark.parametrize('size', [(14, 14), (24, 9), (1, 30)], ids=str)
def test_exports_resample_alike(monkeypatch, size):
    torch.manual_seed(0)
    pos_embed = torch.randn(1, 14, 14, 3)
    expected = resize_pos_embed(pos_embed, size)
    monkeypatch.setattr(torch.jit, 'is_tracing', lambda: True)
    torch.testing.assert_close(resize_pos_embed(pos_embed, size), expected)
