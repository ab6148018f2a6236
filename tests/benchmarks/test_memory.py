import dataclasses
import functools
from collections import Counter

import pytest
import torch
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import MODELS, init_default_scope
from torch.distributed._tools.mem_tracker import MemTracker
from torch.utils._pytree import tree_leaves

from benchmarks import memory
from benchmarks.fake_gpu import FakeGPU, GPUFunctions, LiveBytes, rounded
from benchmarks.fake_training import FakeTraining, training_dtype
from benchmarks.measure import peak_bytes
from benchmarks.memory import largest_batch, measure_memory
from tests.toy import ROOT
from volo.errors import ConfigError
from volo.models.archs import ARCHS

CONFIGS = ['volo_tiny_token_label_shapes', 'volo_tiny_upernet_camvid']


def read(name):
    """Read a config; a tiny one gets one block per stage, as fake tensors are slow."""
    cfg = Config.fromfile(ROOT / f'configs/{name}.py')
    if 'tiny' in name:
        cfg.model.backbone.arch = dataclasses.asdict(
            dataclasses.replace(ARCHS['tiny'], depths=(1, 1, 1, 1))
        )
        cfg.model.get('head', {}).pop('arch', None)  # the backbone's
    return cfg


@functools.cache
def make(name):
    return FakeTraining(read(name), 'bf16')


@functools.cache
def count(name, batch_size, with_cp=False):
    return make(name).step(batch_size, with_cp)


@pytest.mark.parametrize('name', CONFIGS)
def test_parameters_match_a_closed_form(name):
    training = make(name)
    found = count(name, 2)
    parameters = [rounded(4 * p.numel()) for p in training.model.parameters()]
    buffers = [rounded(b.nbytes) for b in training.model.buffers()]
    assert found.weights == sum(parameters) + sum(buffers)
    assert found.gradients == found.copies == sum(parameters)
    assert found.optimizer == 2 * sum(parameters)
    parts = dataclasses.asdict(found)
    assert parts.pop('total') == sum(parts.values()) - parts['gradients']


def test_frozen_parameters_have_no_gradients():
    cfg = read(CONFIGS[1])
    cfg.model.backbone.frozen_stages = 4
    cfg.custom_hooks = [dict(type='EMAHook')]
    training = FakeTraining(cfg, 'bf16', gpus=1)
    found = training.step(2)
    everything = sum(rounded(p.nbytes) for p in training.model.parameters())
    assert found.copies == everything
    assert 0 < found.gradients < everything / 2
    assert found.optimizer == 2 * found.gradients


@pytest.fixture
def operators(monkeypatch):
    """Record the operators that run under a tracker, and what they return."""
    found, dispatch = [], LiveBytes.__torch_dispatch__

    def listen(self, func, *args):
        result = dispatch(self, func, *args)
        tensors = [x for x in tree_leaves(result) if isinstance(x, torch.Tensor)]
        found.append(
            (str(func), *((tuple(x.shape), x.dtype, x.device.type) for x in tensors))
        )
        return result

    monkeypatch.setattr(LiveBytes, '__torch_dispatch__', listen)
    return found


def test_kernels_of_a_gpu_run(operators):
    make(CONFIGS[0]).step(2)
    names = {name for name, *_ in operators}
    for name in ('flash_attention', 'flash_attention_backward'):
        assert f'aten._scaled_dot_product_{name}.default' in names
    for name in ('fused_outlook_attention', 'fused_outlook_attention_backward'):
        assert f'volo.{name}.default' in names
    assert not any('_safe_softmax' in name or 'bmm' in name for name in names)
    FakeTraining(read(CONFIGS[0]), 'float32').step(2)
    name = 'aten._scaled_dot_product_efficient_attention.default'
    assert name in {name for name, *_ in operators}


def forward(training, functions, operators):
    operators.clear()
    tracker = LiveBytes('cuda')
    with tracker, FakeGPU(), functions:
        losses = training.model(*training._make_batch(2), mode='loss')
    assert losses
    # Neither takes memory.
    free = 'prim.device.default', 'aten.detach.default'
    return [found for found in operators if found[0] not in free], tracker.peak


@pytest.mark.parametrize('name', CONFIGS)
def test_operators_match_torch_autocast(name, operators, monkeypatch):
    """torch's own autocast works in the forward pass of fake tensors."""
    training = FakeTraining(read(name), 'bf16')
    with training.fake:
        ours = forward(training, training.functions, operators)
        training.functions.weights.clear()
        dispatch = FakeGPU.__torch_dispatch__

        def with_device(self, func, types, args=(), kwargs=None):
            if func is torch.ops.prim.device.default:
                return func(*args)
            return dispatch(self, func, types, args, kwargs)

        monkeypatch.setattr(FakeGPU, '__torch_dispatch__', with_device)
        # torch.autocast needs a GPU; these switches do not.
        torch.set_autocast_enabled('cuda', True)
        torch.set_autocast_dtype('cuda', torch.bfloat16)
        torch.autocast_increment_nesting()
        try:
            torchs = forward(training, GPUFunctions(torch.float32), operators)
        finally:
            torch.clear_autocast_cache()
            torch.autocast_decrement_nesting()
            torch.set_autocast_enabled('cuda', False)
    # The order differs: torch casts the last argument of a function first.
    ours_alone = Counter(ours[0]) - Counter(torchs[0])
    assert Counter(torchs[0]) - Counter(ours[0]) == Counter()
    # `labels.to(device)` copies, since FakeGPU tells C++ of another device.
    of_labels = ('aten._to_copy.default', ((2,), torch.int64, 'cuda'))
    assert ours_alone.keys() <= {of_labels}
    assert ours[1] == pytest.approx(torchs[1], rel=1e-3)


def tracked(tracker, moment):
    """Return the bytes on the GPU by kind, from torch's tracker."""
    (found,) = [
        {getattr(kind, 'value', kind): size for kind, size in kinds.items()}
        for device, kinds in tracker.get_tracker_snapshot(moment).items()
        if device.type == 'cuda'
    ]
    return found


@pytest.mark.parametrize('name, with_cp', [(CONFIGS[0], False), (CONFIGS[1], True)])
def test_counts_match_torch_mem_tracker(name, with_cp):
    training = make(name)
    tracker = MemTracker()
    tracker.track_external(training.model, training.optimizer)
    training.model.backbone.with_cp = with_cp
    with training.fake, tracker, FakeGPU():
        with training.functions:
            losses = training.model(*training._make_batch(2), mode='loss')
            loss = training.model.parse_losses(losses)[0]
        del losses
        training.functions.weights.clear()
        loss.backward()
        training.functions.weights.clear()
        after_backward = tracked(tracker, 'current')
        training.optimizer.step()
        training.optimizer.zero_grad()
    peak, found = tracked(tracker, 'peak'), count(name, 2, with_cp)
    assert found.total - found.copies == peak['Total']
    assert found.gradients_at_peak == peak['Gradient']
    assert found.gradients == after_backward['Gradient']
    assert found.weights == peak['Parameter'] + peak['Buffer']
    assert found.optimizer == after_backward['Optstate']


def test_counts_match_a_real_step():
    """A CPU in float32 runs both."""
    fake = FakeTraining(read(CONFIGS[1]), 'float32', device='cpu')
    found = {with_cp: fake.step(2, with_cp) for with_cp in (False, True)}
    cfg = read(CONFIGS[1])
    init_default_scope(cfg.default_scope)
    model = revert_sync_batchnorm(MODELS.build(cfg.model)).train()
    optimizer = torch.optim.AdamW(model.parameters(), foreach=False)
    # Outside the fake mode, its batch is real.
    fake.model = model

    def step():
        losses = model(*fake._make_batch(2), mode='loss')
        loss = model.parse_losses(losses)[0]
        del losses
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    step()
    for with_cp, counted in found.items():
        model.backbone.with_cp = with_cp
        beyond = counted.gradients_at_peak + counted.activations
        assert beyond == pytest.approx(peak_bytes(step, 'cpu'), rel=0.05)


def test_memory_is_linear_in_the_batch():
    totals = [count(CONFIGS[1], n).total for n in (2, 4, 8)]
    assert totals[2] - totals[1] == pytest.approx(2 * (totals[1] - totals[0]), rel=0.01)


@pytest.mark.parametrize('limit', [5, 20, 21, 22, 57, 400, 401, 1000, 9999])
def test_largest_batch(limit):
    counted = []

    def total(batch):
        counted.append(batch)
        return max(20, 10 + 3 * batch, 7 * batch - 50)

    expected = max((n for n in range(2000) if n and total(n) <= limit), default=0)
    counted.clear()
    assert largest_batch(total, limit) == expected
    assert len(set(counted)) < 25


def test_report(monkeypatch):
    fits = lambda total, limit: int(limit / total(2))  # noqa: E731
    monkeypatch.setattr(memory, 'largest_batch', fits)
    report = measure_memory(read(CONFIGS[1]), [2], 'bf16', [1])
    plain, checkpointed = report.rows
    assert [plain['with_cp'], checkpointed['with_cp']] == [False, True]
    assert plain['batch_size'] == checkpointed['batch_size'] == 2
    assert checkpointed['activations'] < plain['activations']
    assert checkpointed['fits_1'] > plain['fits_1'] > 1
    assert plain['weights'] == checkpointed['weights']
    assert 'fits 1 GB' in report.markdown()


def test_dtype_comes_from_the_config():
    assert training_dtype(read('volo_d1_imagenet')) == 'fp16'
    assert training_dtype(read('volo_tiny_shapes')) == 'float32'


def test_unsuitable_configs_are_refused():
    with pytest.raises(ConfigError, match='shards the model'):
        FakeTraining(read('volo_d5_fsdp_imagenet'), 'bf16')
    cfg = read(CONFIGS[0])
    cfg.model.backbone.type = 'ResNet'
    with pytest.raises(ConfigError, match='no model with the backbone VOLO'):
        FakeTraining(cfg, 'bf16')
