import pytest
import torch
from torch import nn

from benchmarks import models
from benchmarks.models import BUILDERS, count_gmac, make_step, measure_models
from benchmarks.steps import StepOptions
from tools.update_model_zoo import read_models
from volo.errors import ConfigError


class Toy(nn.Module):
    """A classifier that records its calls."""

    def __init__(self, arch, img_size):
        super().__init__()
        self.fc = nn.Linear(3, models.NUM_CLASSES)
        self.calls = []

    def forward(self, x):
        self.calls.append((self.training, torch.is_grad_enabled(), tuple(x.shape)))
        return self.fc(x.mean(dim=(2, 3)))


@pytest.fixture
def toys(monkeypatch):
    """Replace all models by toys; the toys in the order they were built."""
    built = []

    def build(arch, img_size):
        built.append(Toy(arch, img_size))
        return built[-1]

    monkeypatch.setattr(models, 'BUILDERS', dict.fromkeys(BUILDERS, build))
    return built


def test_gmac_is_as_published():
    listed = {m['Name']: m['Metadata'] for m in read_models('metafile_imagenet.yml')}
    ours = count_gmac('ours', 'd1', 224)
    assert ours * 1e9 == pytest.approx(listed['volo-d1_imagenet']['FLOPs'])
    assert count_gmac('timm', 'd1', 224) == pytest.approx(ours)
    # DeiT III and Swin, as their authors and timm list them.
    assert count_gmac('deit3', 'd1', 224) == pytest.approx(4.6, abs=0.02)
    assert count_gmac('swin', 'd1', 224) == pytest.approx(4.5, abs=0.02)


def test_ours_and_timm_have_the_same_size():
    ours, timms = (BUILDERS[name]('d1', 64) for name in ('ours', 'timm'))
    sizes = [sum(p.numel() for p in model.parameters()) for model in (ours, timms)]
    assert sizes[0] == sizes[1]
    x = torch.zeros(1, 3, 64, 64)
    with torch.inference_mode():
        assert ours.eval()(x).shape == timms.eval()(x).shape == (1, 1000)


@pytest.mark.parametrize('mode', ['inference', 'training'])
def test_the_step_runs_the_model_in_its_mode(toys, mode):
    step = make_step('ours', 'eager', 'd1', 32, StepOptions(mode=mode, batch_size=2))
    before = toys[0].fc.weight.detach().clone()
    step()
    training = mode == 'training'
    assert toys[0].calls == [(training, training, (2, 3, 32, 32))]
    assert torch.equal(toys[0].fc.weight, before) is not training


@pytest.mark.parametrize(('mode', 'passes'), [('inference', 1), ('training', 3)])
def test_a_row_for_each_model_and_way_to_compile(toys, mode, passes):
    options = StepOptions(mode=mode, batch_size=2, compile=['eager'], repeats=2)
    report = measure_models(['ours', 'timm', 'swin'], 'd1', 32, options)
    assert [row['name'] for row in report.rows] == [
        *('ours eager', 'timm eager', 'swin eager')
    ]
    for row in report.rows:
        assert row['reference'] == 'timm eager' and len(row['seconds']) == 2
        # The linear layer: 3 inputs for each class.
        assert row['gmac'] == pytest.approx(3 * models.NUM_CLASSES / 1e9)
        assert row['gmac_per_second'] == pytest.approx(
            passes * row['gmac'] * row['images_per_second']
        )
    assert report.options['img_size'] == 32 and report.options['mode'] == mode
    assert len(report.cells()) == 3


def test_matrix_product():
    assert count_gmac('product', 'd1', 32) == pytest.approx(2048**3 / 1e9)
    product = models.Product(1000)
    logits = product(torch.zeros(2, 3, 4, 4))
    expected = product.left[0] @ product.right
    torch.testing.assert_close(
        logits, torch.stack([expected] * 2), atol=1e-3, rtol=1e-3
    )


def test_dtypes_are_compared_in_one_run(toys):
    options = StepOptions(compile=['eager'], repeats=1)
    report = measure_models(['ours', 'timm'], 'd1', 32, options, ['float32', 'bf16'])
    assert [row['name'] for row in report.rows] == [
        *('ours eager float32', 'ours eager bf16'),
        *('timm eager float32', 'timm eager bf16'),
    ]
    assert {row['reference'] for row in report.rows} == {'timm eager float32'}


def test_without_timm_the_first_row_is_the_reference(toys):
    options = StepOptions(compile=['eager'], repeats=1)
    report = measure_models(['deit3', 'ours'], 'tiny', 32, options)
    assert {row['reference'] for row in report.rows} == {'deit3 eager'}
    assert 'the reference is deit3 eager' in report.title


def test_the_tiny_arch_alone():
    options = StepOptions(compile=['eager'], repeats=1)
    (row,) = measure_models(['ours'], 'tiny', 32, options).rows
    assert row['name'] == 'ours eager' and row['ratio'] == 1.0


def test_unknown_models_and_sizes_are_refused():
    options = StepOptions(compile=['eager'])
    with pytest.raises(ConfigError, match="timm has no VOLO 'tiny'"):
        measure_models(['ours', 'timm'], 'tiny', 32, options)
    with pytest.raises(ConfigError, match='multiple of 32'):
        measure_models(['ours'], 'd1', 200, options)
    with pytest.raises(ConfigError, match="unknown arch 'd9'"):
        measure_models(['ours'], 'd9', 32, options)
