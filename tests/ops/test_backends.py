import pytest
import torch

from volo.errors import ConfigError
from volo.models import VOLO
from volo.ops import backends, choose_backend, outlook_attention
from volo.ops.backends import BACKENDS, VARIABLE, find_obstacle, get_backend


class OnGPU:
    """What the chooser looks at, of a tensor that this machine cannot have."""

    device = torch.device('cuda')
    dtype = torch.bfloat16


def test_a_cpu_takes_windows_and_a_gpu_the_fused_one():
    assert choose_backend(torch.ones(1), 0.0) == ('windows', 'it is made for cpu')
    assert choose_backend(OnGPU, 0.0) == ('fused', 'it is made for cuda')


def test_other_devices_take_the_reference():
    value = torch.ones(1, device='meta')
    assert choose_backend(value, 0.0) == ('reference', 'no other is made for meta')


@pytest.mark.parametrize('value', [torch.ones(1), OnGPU])
def test_dropout_takes_the_reference_and_says_so(value):
    name, reason = choose_backend(value, 0.1)
    assert name == 'reference' and 'dropout' in reason


def test_what_fused_needs_is_said(monkeypatch):
    class Double(OnGPU):
        dtype = torch.float64

    assert choose_backend(Double, 0.0)[1] == 'fused has no kernel for torch.float64'
    monkeypatch.setattr(backends, '_has_triton', lambda: False)
    name, reason = choose_backend(OnGPU, 0.0)
    assert name == 'reference' and 'triton' in reason
    assert 'not on meta' in find_obstacle('fused', torch.ones(1, device='meta'), 0.0)


@pytest.mark.parametrize('value', [torch.ones(1), OnGPU])
def test_exports_take_slices(monkeypatch, value):
    chosen = ('sliced', 'it is made for exports')
    monkeypatch.setattr(torch.jit, 'is_tracing', lambda: True)
    assert choose_backend(value, 0.0) == chosen
    monkeypatch.undo()
    monkeypatch.setattr(torch.compiler, 'is_exporting', lambda: True)
    assert choose_backend(value, 0.0) == chosen
    assert 'cannot be exported' in find_obstacle('windows', value, 0.0)


def test_a_traced_backbone_equals_the_eager_one():
    torch.manual_seed(0)
    backbone = VOLO(arch='tiny', out_indices=(0, 3)).eval()
    image = torch.rand(1, 3, 40, 56)
    with torch.no_grad():
        traced = torch.jit.trace(backbone, image)
        other = torch.rand_like(image)
        torch.testing.assert_close(traced(other), backbone(other))


def test_a_backend_is_one_row(monkeypatch):
    row = backends.Backend(
        lambda value: value.device.type if value.device.type == 'meta' else '',
        lambda value, dropout_p: '',
        lambda: get_backend('reference'),
    )
    monkeypatch.setitem(BACKENDS, 'shapes', row)
    assert choose_backend(torch.ones(1), 0.0)[0] == 'windows'
    value = torch.ones(1, device='meta')
    assert choose_backend(value, 0.0) == ('shapes', 'it is made for meta')


def test_a_backend_that_is_named_runs_or_is_refused(monkeypatch):
    value, logits = torch.ones(1, 4, 4, 2), torch.zeros(1, 2, 2, 81)
    monkeypatch.setenv(VARIABLE, 'reference')
    assert choose_backend(value, 0.0) == ('reference', f'{VARIABLE} names it')
    monkeypatch.setenv(VARIABLE, 'fused')
    with pytest.raises(ConfigError, match='fused: fused runs on GPUs, not on cpu'):
        outlook_attention(value, logits, num_heads=1, stride=2)
    monkeypatch.setenv(VARIABLE, 'fast')
    with pytest.raises(ConfigError, match="no backend 'fast', only reference, windows"):
        choose_backend(value, 0.0)
