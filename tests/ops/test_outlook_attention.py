from pathlib import Path

import numpy as np
import pytest
import torch

from tests.synth_weights import synth_array
from volo.models.layers import OutlookAttention
from volo.ops import outlook_attention
from volo.ops.backends import VARIABLE

DATA = Path(__file__).parents[1] / 'data'


def loops(value, logits, num_heads, kernel_size, stride, padding):
    """The definition, window by window and key by key, in plain Python."""
    batch, height, width, channels = value.shape
    head_dim, area = channels // num_heads, kernel_size**2
    output = torch.zeros_like(value)
    for b, row, column, head in np.ndindex(*logits.shape[:3], num_heads):
        window = slice(head * area**2, (head + 1) * area**2)
        weights = logits[b, row, column, window].view(area, area)
        weights = (weights * head_dim**-0.5).softmax(dim=-1)
        places = [
            (row * stride + dy - padding, column * stride + dx - padding)
            for dy in range(kernel_size)
            for dx in range(kernel_size)
        ]
        inside = [0 <= y < height and 0 <= x < width for y, x in places]
        part = slice(head * head_dim, (head + 1) * head_dim)
        for query, (y, x) in enumerate(places):
            if inside[query]:
                output[b, y, x, part] += sum(
                    weights[query, key] * value[b, j, i, part]
                    for key, (j, i) in enumerate(places)
                    if inside[key]
                )
    return output


@pytest.fixture(params=['reference', 'windows'])
def backend(request, monkeypatch):
    monkeypatch.setenv(VARIABLE, request.param)


@pytest.mark.usefixtures('backend')
@pytest.mark.parametrize('kernel_size, stride', [(3, 1), (3, 2), (5, 2)])
@pytest.mark.parametrize('height, width', [(6, 6), (5, 4)])
def test_follows_the_definition(kernel_size, stride, height, width):
    torch.manual_seed(0)
    value = torch.randn(2, height, width, 4, dtype=torch.float64)
    rows, columns = (-(-side // stride) for side in (height, width))
    logits = torch.randn(2, rows, columns, 2 * kernel_size**4, dtype=torch.float64)
    window = dict(
        num_heads=2, kernel_size=kernel_size, stride=stride, padding=kernel_size // 2
    )
    expected = loops(value, logits, **window)
    torch.testing.assert_close(outlook_attention(value, logits, **window), expected)


@pytest.mark.usefixtures('backend')
@pytest.mark.parametrize('name', ['a', 'odd'])
def test_equals_the_authors_numbers(name):
    golden = np.load(DATA / f'outlook_attention_{name}.npz')
    dim, heads, kernel_size, stride, padding = map(int, golden['cfg'])
    module = OutlookAttention(dim, heads, kernel_size, stride)
    assert padding == kernel_size // 2
    theirs = dict(value='v', logits='attn', proj='proj')
    module.load_state_dict(
        {
            f'{ours}.{kind}': torch.from_numpy(synth_array(f'{name}.{kind}', shape))
            for ours, name in theirs.items()
            for kind, shape in (
                (kind, tuple(p.shape))
                for kind, p in getattr(module, ours).named_parameters()
            )
        }
    )
    x = torch.from_numpy(golden['x']).requires_grad_()
    y = module(x)
    torch.testing.assert_close(y.detach().numpy(), golden['y'], atol=1e-4, rtol=1e-4)
    (y * torch.arange(y.numel()).sin().reshape(y.shape)).sum().backward()
    for ours, expected in (
        (x.grad, golden['grad_x']),
        (module.logits.weight.grad, golden['grad_attn_weight']),
        (module.value.weight.grad, golden['grad_v_weight']),
    ):
        torch.testing.assert_close(ours.numpy(), expected, atol=1e-4, rtol=1e-4)


def test_scale_is_that_of_the_head_unless_given():
    torch.manual_seed(0)
    value, logits = torch.randn(1, 4, 4, 32), torch.randn(1, 2, 2, 162)
    arguments = dict(num_heads=2, stride=2)
    default = outlook_attention(value, logits, **arguments)
    given = outlook_attention(value, logits, **arguments, scale=16**-0.5)
    torch.testing.assert_close(default, given)


def test_dropout_drops():
    torch.manual_seed(0)
    value, logits = torch.ones(1, 8, 8, 2), torch.zeros(1, 4, 4, 81)
    arguments = dict(num_heads=1, stride=2)
    kept = outlook_attention(value, logits, **arguments)
    dropped = outlook_attention(value, logits, **arguments, dropout_p=0.9)
    assert not torch.allclose(kept, dropped)
    assert outlook_attention(value, logits, **arguments, dropout_p=1.0).sum() == 0


def test_refuses_logits_of_another_grid():
    with pytest.raises(ValueError, match=r'expected \(1, 4, 4, 81\)'):
        outlook_attention(
            torch.ones(1, 8, 8, 2), torch.ones(1, 5, 4, 81), num_heads=1, stride=2
        )
    with pytest.raises(ValueError, match='2 channels cannot be split into 3 heads'):
        outlook_attention(torch.ones(1, 8, 8, 2), torch.ones(1), num_heads=3)
