import contextlib
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch._subclasses import FakeTensorMode

from benchmarks.fake_gpu import BLOCK, FakeGPU, GPUFunctions, LiveBytes, rounded


@pytest.fixture
def fake():
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        yield mode


def zeros(*shape, dtype=torch.float32, **options):
    return torch.zeros(shape, dtype=dtype, device='cuda', **options)


@contextlib.contextmanager
def autocast():
    """Switch torch's autocast on; torch.autocast itself needs a GPU."""
    torch.set_autocast_enabled('cuda', True)
    torch.set_autocast_dtype('cuda', torch.bfloat16)
    torch.autocast_increment_nesting()
    try:
        yield
    finally:
        torch.clear_autocast_cache()
        torch.autocast_decrement_nesting()
        torch.set_autocast_enabled('cuda', False)


#: Calls with x in bfloat16 and w in float32, (8, 8) each.
CALLS = dict(
    linear=lambda x, w: F.linear(x, w),
    matmul=lambda x, w: x @ w,
    addmm=lambda x, w: torch.addmm(w, w, x),
    conv2d=lambda x, w: F.conv2d(x[None, None], w[None, None]),
    attention=lambda x, w: F.scaled_dot_product_attention(*[w.view(1, 2, 4, 8)] * 3),
    layer_norm=lambda x, w: F.layer_norm(x, (8,)),
    power=lambda x, w: x**2,
    cross_entropy=lambda x, w: F.cross_entropy(x, x.argmax(1)),
    interpolate=lambda x, w: F.interpolate(x[None, None], scale_factor=2),
    softmax=lambda x, w: x.softmax(1),
    log_softmax=lambda x, w: F.log_softmax(x, dim=1),
    sum=lambda x, w: x.sum(),
    sum_of_integers=lambda x, w: x.argmax(1).sum(),
    sum_of_float64=lambda x, w: w.double().sum(),
    softmax_of_float64=lambda x, w: w.double().softmax(1),
    sum_as_told=lambda x, w: x.sum(dtype=torch.bfloat16),
    gelu=lambda x, w: F.gelu(x),
    add=lambda x, w: x + w,
    batch_norm=lambda x, w: F.batch_norm(x, w[0], w[1], training=True),
    float64=lambda x, w: F.linear(w.double(), w.double()),
)


@pytest.mark.parametrize('name', CALLS)
def test_dtypes_match_torch_autocast(fake, name):
    x, w = zeros(8, 8, dtype=torch.bfloat16), zeros(8, 8)
    with FakeGPU(), GPUFunctions(torch.bfloat16):
        ours = CALLS[name](x, w)
    with autocast():
        torchs = CALLS[name](x, w)
    assert (ours.dtype, ours.shape) == (torchs.dtype, torchs.shape)


def test_cast_weights_are_kept(fake):
    weight = torch.nn.Parameter(zeros(4, 4))
    with FakeGPU(), GPUFunctions(torch.float16) as functions:
        hidden = F.linear(zeros(2, 4), weight)
        F.linear(hidden.float(), weight.detach())
    (kept,) = functions.weights
    assert kept.shape == (4, 4) and kept.dtype == torch.float16


def test_float32_is_not_cast(fake):
    with FakeGPU(), GPUFunctions(torch.float32) as functions:
        found = F.linear(zeros(2, 4), torch.nn.Parameter(zeros(4, 4)))
    assert found.dtype == torch.float32 and functions.weights == []


def test_batch_norm_accepts_one_value_per_channel():
    x, mean, var = torch.full((1, 3), 2.0), torch.ones(3), torch.ones(3)
    with GPUFunctions(torch.float32):
        found = F.batch_norm(x, mean, var, training=True)
    torch.testing.assert_close(found, torch.ones(1, 3))
    with pytest.raises(ValueError, match='more than 1 value per channel'):
        F.batch_norm(x, mean, var, training=True)


def test_a_function_is_called_within_the_mode(fake):
    functions = GPUFunctions(torch.bfloat16)
    linear = functions.around(lambda x: F.linear(x, x))
    with FakeGPU():
        assert linear(zeros(4, 4)).dtype == torch.bfloat16
        assert F.linear(zeros(4, 4), zeros(4, 4)).dtype == torch.float32


def test_a_fake_gpu_trains(fake):
    with FakeGPU():
        layer = torch.nn.Linear(4, 3, device='cuda')
        optimizer = torch.optim.AdamW(layer.parameters(), foreach=False)
        for _ in range(2):
            layer(zeros(2, 4)).sum().backward()
            assert layer.weight.grad.shape == (3, 4)
            assert layer.weight.grad.device.type == 'cuda'
            optimizer.step()
            optimizer.zero_grad()
        assert zeros(1).item() == 1.0  # the value of every fake number


def test_a_mask_selects_everything(fake):
    mask = zeros(3, 4, dtype=torch.bool)
    with FakeGPU():
        assert zeros(3, 4)[mask].shape == (12,)
        assert zeros(2, 3, 4, 5)[:, mask].shape == (2, 12, 5)
        assert zeros(5, 2)[zeros(3, dtype=torch.int64)].shape == (3, 2)


@pytest.mark.parametrize(
    'size, expected', [(0, 0), (1, BLOCK), (BLOCK, BLOCK), (BLOCK + 1, 2 * BLOCK)]
)
def test_bytes_are_rounded_up_to_blocks(size, expected):
    assert rounded(size) == expected


@pytest.fixture
def counted():
    """Count bytes of real tensors, on the CPU."""
    with LiveBytes('cpu') as live:
        yield live


def test_storages_count_until_they_are_freed(counted):
    a = torch.zeros(BLOCK)
    b = torch.zeros(1)
    assert counted.live == 5 * BLOCK
    view, detached = a.view(2, -1)[0], a.detach()  # the same storage
    a.add_(1)
    assert counted.live == 5 * BLOCK
    del a, view
    assert counted.live == 5 * BLOCK
    del detached
    assert counted.live == BLOCK
    del b
    assert counted.live == 0 and counted.peak == (5 * BLOCK, 0)


def test_the_peak_records_its_gradients(counted):
    first = torch.zeros(BLOCK)
    counted.gradients = 4
    both = SimpleNamespace(second=torch.zeros(BLOCK))
    del both.second
    counted.gradients = 7
    torch.zeros(1)
    assert counted.peak == (8 * BLOCK, 4) and first is not None


def test_a_storage_is_added_once():
    before, live = torch.zeros(1), LiveBytes('cpu')
    live.add(before)
    live.add(before.view(1, 1))
    assert live.live == BLOCK


def test_other_devices_do_not_count(fake):
    live = LiveBytes('cuda')
    with live, FakeGPU():
        there, here = zeros(1), torch.zeros(999)
    assert live.live == BLOCK
    assert (there.device.type, here.device.type) == ('cuda', 'cpu')
