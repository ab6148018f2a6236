from types import SimpleNamespace

import pytest
import torch
from mmengine.logging import MMLogger
from mmengine.registry import MODELS, init_default_scope
from torch import nn
from torch._inductor import config as inductor_config

import volo  # noqa: F401
from volo.engine import CompileHook


def classifier():
    init_default_scope('mmpretrain')
    model = dict(
        type='ImageClassifier',
        backbone=dict(type='VOLO', arch='tiny', img_size=32),
        head=dict(type='VOLOHead', arch='tiny', num_classes=3),
    )
    return MODELS.build(model).eval()


@pytest.fixture
def graphs(monkeypatch):
    """Compile without inductor; list whether it would have frozen each graph."""
    seen = []

    def backend(graph, inputs):
        seen.append(inductor_config.freezing)
        return graph.forward

    original = torch.compile
    monkeypatch.setattr(torch, 'compile', lambda f: original(f, backend=backend))
    return seen


def run_hook(model, **options):
    runner = SimpleNamespace(model=model, logger=MMLogger('compiling'))
    CompileHook(**options).before_run(runner)


def test_the_networks_are_compiled_and_compute_the_same(graphs):
    model = classifier()
    names = list(model.state_dict())
    x = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        expected = model(x)
        run_hook(model)
        torch.testing.assert_close(model(x), expected)
    assert len(graphs) == 3  # embed, forward_tokens and the head
    assert list(model.state_dict()) == names


def test_the_model_within_a_wrapper_is_found(graphs, monkeypatch):
    class Wrapper(nn.Module):
        def __init__(self, module):
            super().__init__()
            self.module = module

    monkeypatch.setattr(
        'volo.models.wrappers.is_model_wrapper', lambda m: isinstance(m, Wrapper)
    )
    model = classifier()
    run_hook(Wrapper(model))
    with torch.no_grad():
        model(torch.rand(1, 3, 32, 32))
    assert graphs


@pytest.mark.parametrize('freeze', [True, False])
def test_weights_are_frozen_for_evaluation_alone(graphs, monkeypatch, freeze):
    monkeypatch.setattr('volo.engine.hooks.compiling.get_device', lambda: 'cpu')
    model = classifier()
    run_hook(model, freeze=freeze)
    with torch.no_grad():
        model(torch.rand(2, 3, 32, 32))
    assert graphs == [freeze] * 3


def test_the_options_of_inductor_stay_as_they_were(graphs, monkeypatch):
    monkeypatch.setattr('volo.engine.hooks.compiling.get_device', lambda: 'cpu')
    before = inductor_config.get_config_copy()
    model = classifier()
    run_hook(model, freeze=True)
    assert inductor_config.get_config_copy() == before
    with torch.no_grad():
        model(torch.rand(2, 3, 32, 32))
    assert graphs and inductor_config.get_config_copy() == before
