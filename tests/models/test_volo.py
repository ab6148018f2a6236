import pytest
import timm
import torch
from mmengine.registry import MODELS
from mmpretrain.registry import MODELS as MMPRETRAIN_MODELS
from mmseg.registry import MODELS as MMSEG_MODELS

from volo.checkpoints.layouts import convert_state_dict
from volo.errors import CheckpointError, ConfigError
from volo.models import VOLO, resize_pos_embed

ALL = (0, 1, 2, 3)


@pytest.mark.parametrize('registry', [MODELS, MMSEG_MODELS, MMPRETRAIN_MODELS])
def test_one_class_in_every_registry(registry):
    assert isinstance(registry.build(dict(type='VOLO', arch='tiny')), VOLO)


@pytest.mark.parametrize('height, width', [(250, 333), (97, 180), (1024, 512), (1, 17)])
def test_maps_of_any_image_size(height, width):
    backbone = VOLO(arch='tiny', out_indices=ALL).eval()
    with torch.no_grad():
        maps = backbone(torch.rand(1, 3, height, width))
    strides, channels = (8, 16, 16, 16), (64, 160, 160, 160)
    assert [tuple(m.shape) for m in maps] == [
        (1, c, -(-height // s), -(-width // s))
        for c, s in zip(channels, strides, strict=True)
    ]


def test_padding_repeats_the_last_row_and_column():
    torch.manual_seed(0)
    backbone = VOLO(arch='tiny', out_indices=ALL).eval()
    image = torch.rand(1, 3, 50, 70)
    rows, columns = torch.arange(64).clamp(max=49), torch.arange(80).clamp(max=69)
    padded = image[:, :, rows[:, None], columns]
    with torch.no_grad():
        for ours, whole in zip(backbone(image), backbone(padded), strict=True):
            rows, columns = ours.shape[-2:]
            torch.testing.assert_close(ours, whole[..., :rows, :columns])


def test_out_indices_choose_and_order():
    torch.manual_seed(0)
    backbone = VOLO(arch='tiny', out_indices=ALL).eval()
    image = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        everything = backbone(image)
        backbone.out_indices = (2, 0)
        some = backbone(image)
    assert torch.equal(some[0], everything[2]) and torch.equal(some[1], everything[0])
    assert VOLO(arch='tiny', out_indices=-1).out_indices == (3,)


@pytest.mark.parametrize(
    'arguments',
    [dict(out_indices=(4,)), dict(out_indices=()), dict(frozen_stages=5)],
)
def test_wrong_arguments_are_refused(arguments):
    with pytest.raises(ConfigError, match='|'.join(arguments)):
        VOLO(arch='tiny', **arguments)


def test_checkpointing_changes_neither_output_nor_gradient():
    results = []
    for with_cp in (False, True):
        torch.manual_seed(0)
        backbone = VOLO(arch='tiny', out_indices=ALL, drop_path_rate=0.5)
        backbone.with_cp = with_cp
        maps = backbone(torch.rand(2, 3, 40, 48))
        sum(m.square().mean() for m in maps).backward()
        results.append([*maps, *(p.grad for p in backbone.parameters())])
    for plain, recomputed in zip(*results, strict=True):
        torch.testing.assert_close(recomputed, plain)


def test_checkpointing_recomputes(monkeypatch):
    calls = []
    monkeypatch.setattr(
        'volo.models.volo.checkpoint',
        lambda block, x, **kwargs: calls.append(block) or block(x),
    )
    VOLO(arch='tiny', with_cp=True)(torch.rand(1, 3, 32, 32))
    assert len(calls) == 10


def test_every_parameter_receives_a_gradient():
    backbone = VOLO(arch='tiny')
    backbone(torch.rand(2, 3, 40, 48))[0].square().mean().backward()
    without = [n for n, p in backbone.named_parameters() if p.grad is None]
    assert without == []


def test_stochastic_depth_is_the_published_quirk():
    backbone = VOLO(arch='d1', drop_path_rate=0.17)
    rates = [
        getattr(block.drop_path, 'drop_prob', 0.0)
        for blocks in backbone.stages
        for block in blocks
    ]
    expected = [0.0] * 4 + [0.17 * i / 17 for i in range(4, 18)]
    assert rates == pytest.approx(expected)


@pytest.mark.parametrize('frozen_stages', [-1, 0, 1, 2, 4])
def test_frozen_stages(frozen_stages):
    backbone = VOLO(arch='tiny', frozen_stages=frozen_stages, drop_path_rate=0.1)
    backbone.train()
    trainable = {n for n, p in backbone.named_parameters() if p.requires_grad}
    parts = {
        'stem': frozen_stages >= 0,
        'stages.0': frozen_stages >= 1,
        'downsample': frozen_stages >= 2,
        'pos_embed': frozen_stages >= 2,
        'stages.1': frozen_stages >= 2,
        'stages.2': frozen_stages >= 3,
        'stages.3': frozen_stages >= 4,
    }
    for part, frozen in parts.items():
        assert frozen is not any(name.startswith(part) for name in trainable), part
    assert backbone.stem.training is (frozen_stages < 0)


def test_norm_eval_keeps_the_statistics():
    backbone = VOLO(arch='tiny', norm_eval=True).train()
    before = backbone.stem.conv[1].running_mean.clone()
    backbone(torch.rand(2, 3, 32, 32))
    assert torch.equal(backbone.stem.conv[1].running_mean, before)
    assert backbone.stages[1].training
    backbone = VOLO(arch='tiny').train()
    backbone(torch.rand(2, 3, 32, 32))
    assert not torch.equal(backbone.stem.conv[1].running_mean, before)


def test_pos_embed_is_resized_on_the_fly_and_on_load():
    torch.manual_seed(0)
    small = VOLO(arch='tiny', img_size=64).eval()
    large = VOLO(arch='tiny', img_size=(96, 128)).eval()
    large.load_state_dict(small.state_dict())
    assert torch.equal(large.pos_embed, resize_pos_embed(small.pos_embed, (6, 8)))
    image = torch.rand(1, 3, 96, 128)
    with torch.no_grad():
        torch.testing.assert_close(small(image), large(image))


def test_other_input_channels():
    assert VOLO(arch='tiny', in_channels=6)(torch.rand(1, 6, 32, 32))[0].shape[1] == 160


def test_weights_of_another_arch_are_refused_by_mmengine_too():
    from mmengine.runner.checkpoint import load_state_dict

    deeper = dict(depths=(2, 2, 5, 2), embed_dims=(64, 160), num_heads=(2, 5))
    deeper = VOLO(arch=dict(deeper, stem_channels=32))
    for wrong in (deeper.state_dict(), {'conv1.weight': torch.rand(1)}):
        with pytest.raises(CheckpointError, match='do not belong to this VOLO'):
            load_state_dict(VOLO(arch='tiny'), wrong, strict=False)


@pytest.mark.parametrize(
    'arch, size',
    [
        ('d1', 224),
        ('d1', 384),
        *(
            pytest.param(name.split('_')[1], 224, marks=pytest.mark.slow)
            for name in timm.list_models('volo_d*_224')
            if name != 'volo_d1_224'
        ),
    ],
)
def test_logits_equal_those_of_timm(arch, size):
    from volo.models import VOLOHead

    torch.manual_seed(0)
    theirs = timm.create_model(f'volo_{arch}_224', img_size=size).eval()
    # Untrained normalizations are the identity: shake them.
    for parameter in (*theirs.parameters(), *theirs.buffers()):
        if parameter.ndim == 1:
            parameter.data.add_(torch.rand_like(parameter) * 0.1)
    ours = torch.nn.ModuleDict(
        dict(backbone=VOLO(arch=arch, img_size=size), head=VOLOHead(arch=arch))
    ).eval()
    ours.load_state_dict(convert_state_dict(theirs.state_dict()))
    image = torch.randn(1, 3, size, size)
    with torch.no_grad():
        logits = ours['head'](ours['backbone'](image))
        torch.testing.assert_close(logits, theirs(image), atol=1e-4, rtol=0)


def test_backbone_compiles_into_one_graph():
    backbone = VOLO(arch='tiny').eval()
    image = torch.rand(1, 3, 64, 80)
    graph = torch.compile(backbone, backend='eager', fullgraph=True)
    with torch.no_grad():
        torch.testing.assert_close(graph(image), backbone(image))
