import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from tests.classifier import build
from tests.synth_weights import DATA, manifest, synth_images, synth_state_dict
from volo.checkpoints.layouts import (
    convert_state_dict,
    detect_layout,
    to_official_layout,
)
from volo.errors import CheckpointError
from volo.models import VOLO
from volo.models import weights as checkpoints
from volo.models.weights import infer_arch, load_state_dict, load_weights

ARCHS = ('d1', 'd2', 'd3', 'd4', 'd5')


def weights_of(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


def random_weights(module):
    return synth_state_dict({k: v.shape for k, v in module.state_dict().items()})


def on_meta(arch):
    """Weights of a published arch without their memory."""
    shapes = manifest(arch)
    return {name: torch.empty(shape, device='meta') for name, shape in shapes.items()}


def assert_same(weights, expected):
    assert weights.keys() == expected.keys()
    assert all(torch.equal(weights[name], expected[name]) for name in expected)


@pytest.fixture
def log(monkeypatch):
    lines = []
    monkeypatch.setattr(checkpoints, 'print_log', lambda text, **_: lines.append(text))
    return lines


@pytest.fixture(scope='module')
def tiny_weights():
    """Weights of ``build()`` in our layout."""
    return random_weights(build())


# Layouts


@pytest.mark.parametrize('arch', ARCHS)
def test_every_name_is_converted_and_comes_back(arch):
    official = on_meta(arch)

    ours = convert_state_dict(official)
    back = to_official_layout(ours)

    assert len(ours) == len(official)
    assert all(name.startswith(('backbone.', 'head.')) for name in ours)
    assert back.keys() == official.keys()
    # The very same tensors: nothing was copied, let alone changed.
    assert all(back[name] is official[name] for name in official)


@pytest.mark.parametrize('arch', ['d1', 'd5'])
def test_converted_names_and_shapes_are_the_models(arch):
    with torch.device('meta'):
        model = build(arch, 1000, img_size=224)

    converted = {k: v.shape for k, v in convert_state_dict(on_meta(arch)).items()}

    assert converted == {k: v.shape for k, v in model.state_dict().items()}


def test_each_weight_goes_where_it_belongs():
    names = {
        'pos_embed': 'backbone.pos_embed',
        'patch_embed.conv.0.weight': 'backbone.stem.conv.0.weight',
        'network.0.1.attn.v.weight': 'backbone.stages.0.1.attn.value.weight',
        'network.0.1.attn.attn.bias': 'backbone.stages.0.1.attn.logits.bias',
        'network.0.1.attn.proj.bias': 'backbone.stages.0.1.attn.proj.bias',
        'network.1.proj.weight': 'backbone.downsample.proj.weight',
        'network.2.3.attn.qkv.weight': 'backbone.stages.1.3.attn.qkv.weight',
        'network.4.0.mlp.fc2.bias': 'backbone.stages.3.0.mlp.fc2.bias',
        'cls_token': 'head.cls_token',
        'post_network.1.attn.kv.weight': 'head.blocks.1.attn.kv.weight',
        'norm.bias': 'head.norm.bias',
        'head.weight': 'head.fc.weight',
        'aux_head.weight': 'head.aux_fc.weight',
    }
    official = {name: torch.tensor(i) for i, name in enumerate(names)}

    ours = convert_state_dict(official)

    assert {k: ours[v].item() for k, v in names.items()} == {
        k: v.item() for k, v in official.items()
    }


def test_our_layout_is_left_alone(tiny_weights):
    backbone = {
        name.removeprefix('backbone.'): value
        for name, value in tiny_weights.items()
        if name.startswith('backbone.')
    }

    assert_same(convert_state_dict(tiny_weights), tiny_weights)
    assert_same(convert_state_dict(backbone), backbone)
    official = to_official_layout(tiny_weights)
    assert_same(to_official_layout(official), official)
    assert_same(
        to_official_layout(backbone),
        {
            k: official[k]
            for k in official
            if k.startswith(('patch_embed', 'network', 'pos_embed'))
        },
    )


@pytest.mark.parametrize(
    'name', ['network.0.0.attn.qkv.weight', 'network.5.0.norm1.weight', 'extra', 'norm']
)
def test_unknown_names_are_reported(name):
    weights = {**on_meta('d1'), name: torch.zeros(1)}

    with pytest.raises(CheckpointError, match=rf'1 of 261.*: {name}\.'):
        convert_state_dict(weights)


def test_decode_heads_have_no_official_name(tiny_weights):
    weights = {**tiny_weights, 'decode_head.conv_seg.weight': torch.zeros(1)}

    with pytest.raises(CheckpointError, match=r'decode_head\.conv_seg\.weight'):
        to_official_layout(weights)


def test_layout_is_told_by_names(tiny_weights):
    assert detect_layout(tiny_weights) == 'volo'
    assert detect_layout(VOLO('tiny').state_dict()) == 'volo'
    assert detect_layout(on_meta('d1')) == 'official'
    # PoolFormer's names begin like the authors'.
    foreign = ['patch_embed.proj.weight', 'network.0.0.token_mixer.weight']
    with pytest.raises(CheckpointError, match=r'no weights of a VOLO.*token_mixer'):
        detect_layout(dict.fromkeys(foreign))
    with pytest.raises(CheckpointError, match='two layouts'):
        detect_layout({**tiny_weights, **on_meta('d1')})


@pytest.mark.parametrize('arch', ARCHS)
def test_arch_is_told_by_shapes(arch):
    official = on_meta(arch)

    assert infer_arch(official) == arch
    assert infer_arch(convert_state_dict(official)) == arch


def test_arch_of_ours_and_of_others(tiny_weights):
    assert infer_arch(tiny_weights) == 'tiny'
    assert infer_arch(VOLO('tiny').state_dict()) == 'tiny'
    assert infer_arch(VOLO(dict(depths=(1, 1, 1, 1))).state_dict()) == 'unknown'
    assert infer_arch(dict(weight=torch.zeros(1))) == 'unknown'


# Loading into models


def test_classifier_takes_all(tiny_weights, log):
    model = build()

    load_state_dict(model, tiny_weights, 'x.pth')

    assert_same(model.state_dict(), tiny_weights)
    assert log == []


@pytest.mark.parametrize('suffix', ['.pth', '.safetensors'])
def test_official_file_into_a_classifier(tmp_path, tiny_weights, suffix):
    path = tmp_path / f'x{suffix}'
    save = torch.save if suffix == '.pth' else save_file
    save(to_official_layout(tiny_weights), path)
    model = build()

    load_weights(model, path)

    assert_same(model.state_dict(), tiny_weights)


def test_averaged_weights_of_timms_trainer(tmp_path, tiny_weights):
    official = to_official_layout(tiny_weights)
    averaged = {name: value + 1 for name, value in official.items()}
    path = tmp_path / 'x.pth'
    torch.save(dict(state_dict=official, state_dict_ema=averaged), path)
    model = build()

    load_weights(model, path, use_ema=True)

    assert_same(to_official_layout(model.state_dict()), averaged)


@pytest.mark.parametrize('kind', ['classifier', 'bare', 'segmentor'])
def test_backbone_takes_the_backbone_of(kind, tiny_weights, log):
    weights = {k: v for k, v in tiny_weights.items() if k.startswith('backbone.')}
    expected = {k.removeprefix('backbone.'): v for k, v in weights.items()}
    if kind == 'classifier':
        weights = tiny_weights
    elif kind == 'segmentor':
        heads = ('decode_head.conv_seg.weight', 'auxiliary_head.conv_seg.weight')
        weights = {**weights, **{name: torch.zeros(1) for name in heads}}
    else:
        weights = expected
    backbone = VOLO('tiny', img_size=64)

    load_state_dict(backbone, weights, 'x.pth')

    assert_same(backbone.state_dict(), expected)
    unused = len(weights) - len(expected)
    assert (f'x.pth: the model is a backbone, so {unused} other' in str(log)) == (
        kind != 'bare'
    )


def test_position_embedding_of_another_grid(tiny_weights, log):
    model = VOLO('tiny', img_size=(96, 160))

    load_state_dict(model, tiny_weights, 'x.pth')

    theirs = tiny_weights['backbone.pos_embed']
    expected = F.interpolate(
        theirs.permute(0, 3, 1, 2), (6, 10), mode='bicubic', align_corners=False
    ).permute(0, 2, 3, 1)
    assert torch.equal(model.pos_embed, expected)
    assert any('from (4, 4) tokens to (6, 10)' in line for line in log)


@pytest.mark.parametrize('token_head', ['10 classes', '7 classes', 'absent'])
def test_another_number_of_classes(tiny_weights, log, token_head):
    model = build(num_classes=7)
    before = weights_of(model)
    weights = dict(tiny_weights)
    for name in ('head.aux_fc.weight', 'head.aux_fc.bias'):
        if token_head == 'absent':
            del weights[name]
        elif token_head == '7 classes':
            weights[name] = weights[name][:7]

    load_state_dict(model, weights, 'x.pth')

    after = model.state_dict()
    heads = {name for name in after if name.startswith(('head.fc', 'head.aux_fc'))}
    assert len(heads) == 4
    for name, value in after.items():
        assert torch.equal(value, (before if name in heads else tiny_weights)[name])
    assert len(log) == 1 and 'for 10 classes' in log[0] and 'has 7' in log[0]


def remove_a_block_weight(weights):
    del weights['backbone.stages.1.0.attn.qkv.weight']
    return '1 missing (backbone.stages.1.0.attn.qkv.weight)'


def remove_the_token_head(weights):
    del weights['head.aux_fc.weight'], weights['head.aux_fc.bias']
    return '2 missing (head.aux_fc.bias, head.aux_fc.weight)'


def add_a_neck(weights):
    weights['neck.weight'] = torch.zeros(1)
    return '1 left over (neck.weight)'


def cut_a_norm(weights):
    weights['head.norm.bias'] = torch.zeros(3)
    return '1 of another shape (head.norm.bias (3,) for (160,))'


def flatten_pos_embed(weights):
    weights['backbone.pos_embed'] = torch.zeros(1, 16, 160)
    return 'backbone.pos_embed (1, 16, 160) for (1, 4, 4, 160)'


def change_both_head_sides(weights):
    weights['head.fc.weight'] = torch.zeros(3, 8)
    return 'head.fc.weight (3, 8) for (10, 160)'


@pytest.mark.parametrize(
    'edit',
    [
        remove_a_block_weight,
        remove_the_token_head,
        add_a_neck,
        cut_a_norm,
        flatten_pos_embed,
        change_both_head_sides,
    ],
)
def test_what_does_not_fit_is_refused_and_changes_nothing(tiny_weights, edit):
    model = build()
    before = weights_of(model)
    weights = dict(tiny_weights)
    message = edit(weights)

    with pytest.raises(CheckpointError) as caught:
        load_state_dict(model, weights, 'x.pth')

    assert message in str(caught.value)
    assert 'x.pth' in str(caught.value)
    assert_same(model.state_dict(), before)


@pytest.mark.parametrize('kind', ['official file', 'our classifier', 'our backbone'])
def test_another_arch_is_named(kind, tmp_path):
    with torch.device('meta'):
        model = VOLO('d2')
    path = tmp_path / 'x.pth'
    weights = synth_state_dict(manifest('d1'))
    if kind != 'official file':
        weights = convert_state_dict(weights)
    if kind == 'our backbone':
        weights = {
            name.removeprefix('backbone.'): value
            for name, value in weights.items()
            if name.startswith('backbone.')
        }
    torch.save(weights, path)

    with pytest.raises(CheckpointError, match='holds volo d1, the model is d2') as e:
        load_weights(model, path)

    # A few examples, not hundreds of names.
    assert '70 missing' in str(e.value) and len(str(e.value)) < 1200


def test_a_backbone_is_not_enough_for_a_classifier(tiny_weights):
    backbone = VOLO('tiny', img_size=64).state_dict()

    with pytest.raises(CheckpointError, match='a bare backbone'):
        load_state_dict(build(), backbone, 'x.pth')


def test_foreign_file_is_named(tmp_path):
    torch.save(torch.nn.Linear(2, 2).state_dict(), tmp_path / 'x.pth')

    with pytest.raises(CheckpointError, match=r'x\.pth: .*no weights of a VOLO'):
        load_weights(VOLO('tiny'), tmp_path / 'x.pth')


@pytest.mark.slow
def test_official_weights_give_timms_and_the_authors_logits(tmp_path):
    import timm

    reference = timm.create_model('volo_d1_224').eval()
    reference.load_state_dict(synth_state_dict(manifest('d1')))
    torch.save(reference.state_dict(), tmp_path / 'x.pth')
    model = build('d1', 1000, img_size=224).eval()
    images = synth_images(2, 224, 224, seed=1)

    load_weights(model, tmp_path / 'x.pth')

    with torch.inference_mode():
        logits = model.head(model.extract_feat(images))
        torch.testing.assert_close(logits, reference(images), atol=1e-4, rtol=0)
    golden = np.load(DATA / 'volo_d1_224_eval.npz')['logits']
    np.testing.assert_allclose(logits, golden, atol=1e-4, rtol=0)


@pytest.mark.slow
def test_larger_images_give_the_authors_logits(tmp_path):
    torch.save(synth_state_dict(manifest('d1')), tmp_path / 'x.pth')
    model = build('d1', 1000, img_size=384).eval()

    load_weights(model, tmp_path / 'x.pth')

    with torch.inference_mode():
        images = synth_images(1, 384, 384, seed=21)
        logits = model.head(model.extract_feat(images))
    golden = np.load(DATA / 'volo_d1_384_eval.npz')['logits']
    np.testing.assert_allclose(logits, golden, atol=1e-4, rtol=0)


def test_a_stem_for_rgb_sees_a_gray_image_as_equal_channels():
    rgb = VOLO(arch='tiny', img_size=32).eval()
    gray = VOLO(arch='tiny', img_size=32, in_channels=1).eval()
    load_state_dict(gray, rgb.state_dict(), 'rgb')
    image = torch.rand(1, 1, 32, 32)
    torch.testing.assert_close(gray(image), rgb(image.repeat(1, 3, 1, 1)))


@pytest.mark.parametrize('channels', [1, 2, 4, 7])
def test_a_stem_is_adapted_as_in_timm(channels):
    manipulate = pytest.importorskip('timm.models._manipulate')
    rgb = VOLO(arch='tiny', img_size=32).state_dict()
    for load in (
        lambda model: load_state_dict(model, rgb, 'rgb'),
        lambda model: model.load_state_dict(rgb),
    ):
        model = VOLO(arch='tiny', img_size=32, in_channels=channels)
        load(model)
        expected = manipulate.adapt_input_conv(channels, rgb[checkpoints.STEM_WEIGHT])
        own = model.state_dict()[checkpoints.STEM_WEIGHT]
        torch.testing.assert_close(own, expected)


def test_a_stem_for_other_channels_than_three_is_not_adapted():
    gray = VOLO(arch='tiny', img_size=32, in_channels=1)
    with pytest.raises(CheckpointError, match='1 of another shape .stem.conv.0.weight'):
        load_state_dict(VOLO(arch='tiny', img_size=32), gray.state_dict(), 'gray')
