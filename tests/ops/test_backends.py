import pytest
import torch

from volo.errors import ConfigError
from volo.ops import backends, choose_backend, outlook_attention
from volo.ops.backends import VARIABLE, find_obstacle


class OnGPU:
    """What the chooser looks at, of a tensor that this machine cannot have."""

    device = torch.device('cuda')
    dtype = torch.bfloat16


def test_a_cpu_takes_windows_and_a_gpu_the_fused_one():
    assert choose_backend(torch.ones(1), 0.0) == ('windows', 'it is made for cpu')
    assert choose_backend(OnGPU, 0.0) == ('fused', 'it is made for cuda')


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


def test_exports_are_of_the_reference(monkeypatch):
    monkeypatch.setattr(torch.compiler, 'is_exporting', lambda: True)
    name, reason = choose_backend(torch.ones(1), 0.0)
    assert name == 'reference' and 'exported' in reason


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
