import pytest
import torch
from torch import nn

from benchmarks import steps
from benchmarks.steps import (
    COMPILE,
    StepOptions,
    compare,
    compile_forward,
    inference_step,
    training_step,
)
from volo.errors import ConfigError


def test_inference_has_no_gradients_and_uses_the_dtype():
    layer = nn.Linear(2, 2)
    seen = []
    step = inference_step(
        lambda: seen.append(layer(torch.ones(1, 2))), StepOptions(dtype='bf16')
    )
    step()
    assert seen[0].is_inference() and seen[0].dtype == torch.bfloat16


@pytest.mark.parametrize('dtype', ['float32', 'bf16'])
def test_a_training_step_updates_and_clears_the_gradient(dtype):
    layer = nn.Linear(2, 1)
    before = layer.weight.detach().clone()
    options = StepOptions(mode='training', dtype=dtype)
    step = training_step(
        lambda: layer(torch.ones(1, 2)).sum(), layer.parameters(), options
    )
    step()
    assert layer.weight.grad is None
    # The gradient is 1: AdamW lowers the weight by the learning rate.
    assert torch.all(layer.weight < before)


@pytest.mark.parametrize('how', COMPILE)
def test_ways_to_compile(how, monkeypatch):
    asked = []

    def pretend(function, **arguments):
        def compiled(x):
            asked.append((arguments, steps.inductor_config.freezing))
            return function(x)

        return compiled

    monkeypatch.setattr(torch, 'compile', pretend)
    layer = nn.Linear(2, 2)
    x = torch.ones(1, 2)
    expected = layer(x)
    compile_forward(layer, how)
    assert torch.equal(layer(x), expected)
    assert not steps.inductor_config.freezing
    assert (
        asked
        == {
            'eager': [],
            'compiled': [(dict(dynamic=False), False)],
            'frozen': [(dict(dynamic=False), True)],
        }[how]
    )


@pytest.mark.parametrize(('reference', 'used'), [('b', 'b'), ('missing', 'a')])
def test_compare_summarizes_the_turns(monkeypatch, reference, used):
    seconds = dict(a=[1.0, 2.0, 4.0], b=[2.0, 2.0, 2.0])
    monkeypatch.setattr(steps, 'turn_seconds', lambda *args: seconds)
    monkeypatch.setattr(steps, 'peak_bytes', lambda *args: 3_000_000)
    options = StepOptions(batch_size=6)
    found = compare(dict(a=None, b=None), reference, options)
    assert [row['reference'] for row in found.values()] == [used, used]
    assert [row['images_per_second'] for row in found.values()] == [3.0, 3.0]
    assert [row['peak_mb'] for row in found.values()] == [3.0, 3.0]
    other = found['a' if used == 'b' else 'b']
    numbers = [other[key] for key in ('ratio', 'ratio_low', 'ratio_high')]
    assert numbers == ([1.0, 0.5, 2.0])
    assert found[used]['ratio_low'] == found[used]['ratio_high'] == 1.0
    assert found['a']['seconds'] == seconds['a']


def test_contradicting_options_are_refused():
    with pytest.raises(ConfigError, match='fp16 needs --device cuda'):
        StepOptions(dtype='fp16')
    with pytest.raises(ConfigError, match='frozen'):
        StepOptions(mode='training', compile=['frozen'])
