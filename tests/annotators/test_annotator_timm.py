import pytest
import timm
import torch
from safetensors.torch import save_file

from volo.annotators.annotator_timm import TimmAnnotator, build_timm_annotator
from volo.errors import CheckpointError, ConfigError

SWIN = dict(depths=(1, 1), embed_dim=24, num_heads=(2, 4), window_size=4, img_size=64)


def make(name, **options):
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=7, **options)
    for module in model.modules():  # Norms of a new model would do nothing.
        if 'norm' in type(module).__name__.lower():
            for value in module.parameters(recurse=False):
                torch.nn.init.normal_(value)
    for name, value in model.named_parameters():
        if name.startswith(('head', 'aux_head', 'fc', 'classifier')):
            torch.nn.init.normal_(value, std=0.5)
    return model.eval()


@pytest.mark.parametrize(
    ('name', 'options', 'size', 'grid'),
    [
        ('test_resnet', {}, 96, (3, 3)),
        ('test_efficientnet', {}, 96, (3, 3)),
        ('swin_tiny_patch4_window7_224', SWIN, 64, (8, 8)),
    ],
)
def test_cells_average_to_the_logits_where_the_pooling_comes_last(
    name, options, size, grid
):
    model = make(name, **options)
    annotator = TimmAnnotator(model, name, size)
    images = torch.randn(2, 3, size, size)
    scores, logits = annotator(images)
    assert annotator.grid == grid and scores.shape == (2, 7, *grid)
    torch.testing.assert_close(logits, model(images))
    torch.testing.assert_close(scores.mean((2, 3)), logits, rtol=1e-3, atol=1e-4)
    assert scores.std((2, 3)).min() > 0


def cells_by_hand(name, model, images):
    features = model.forward_features(images)
    if name == 'test_convnext':  # Pool, norm, linear.
        normed = model.head.norm(features).permute(0, 2, 3, 1)
        return model.head.fc(normed).permute(0, 3, 1, 2)
    if name.startswith('deit'):
        patches = features[:, 2:]
        logits = (model.head(patches) + model.head_dist(patches)) / 2
    elif name.startswith('volo'):
        logits = model.aux_head(features[:, 1:])
    else:
        logits = model.head(model.fc_norm(features[:, model.num_prefix_tokens :]))
    return logits.transpose(1, 2).unflatten(2, (4, 4))


@pytest.mark.parametrize(
    ('name', 'options'),
    [
        ('test_convnext', {}),
        ('test_vit', {}),  # class token
        ('test_vit2', {}),  # average
        ('test_vit4', {}),  # average, norm
        (
            'deit_tiny_distilled_patch16_224',
            dict(img_size=64, embed_dim=24, depth=1, num_heads=2),
        ),
        ('volo_d1_224', dict(img_size=64)),
    ],
)
def test_cells_go_through_the_layers_behind_the_pooling(name, options):
    model = make(name, **options)
    size = 128 if name == 'test_convnext' else 64
    annotator = TimmAnnotator(model, name, size)
    images = torch.randn(2, 3, size, size)
    scores, logits = annotator(images)
    assert annotator.grid == (4, 4)
    torch.testing.assert_close(logits, model(images))
    with torch.inference_mode():
        expected = cells_by_hand(name, model, images)
    torch.testing.assert_close(scores, expected, rtol=1e-3, atol=1e-4)
    assert scores.std((2, 3)).min() > 0


def test_preprocessing_is_the_models_own():
    annotator = build_timm_annotator('test_vit')
    cfg = annotator.model.pretrained_cfg
    assert annotator.preprocess.size == cfg['input_size'][-1]
    assert annotator.preprocess.mean == tuple(255 * x for x in cfg['mean'])
    assert annotator.preprocess.resample.name.lower() == cfg['interpolation']


def test_a_checkpoint_gives_the_same_scores(tmp_path):
    model = make('test_vit')
    torch.save(dict(state_dict=model.state_dict()), tmp_path / 'vit.pth')
    save_file(model.state_dict(), tmp_path / 'vit.safetensors')
    images = torch.randn(1, 3, 64, 64)
    expected = TimmAnnotator(model, 'test_vit', 64)(images)
    for file in ('vit.pth', 'vit.safetensors'):
        annotator = build_timm_annotator(
            'test_vit', tmp_path / file, num_classes=7, input_size=64
        )
        for ours, theirs in zip(annotator(images), expected, strict=True):
            torch.testing.assert_close(ours, theirs)


def test_checkpoints_of_another_model_are_refused(tmp_path):
    file = tmp_path / 'vit.pth'
    torch.save(make('test_vit').state_dict(), file)
    with pytest.raises(CheckpointError, match='has 7 classes, the model 9.*--num-cl'):
        build_timm_annotator('test_vit', file, num_classes=9)
    with pytest.raises(CheckpointError, match='does not fit the model, .* 92 missing'):
        build_timm_annotator('test_resnet', file, num_classes=7)


@pytest.mark.parametrize(
    ('name', 'options', 'message'),
    [
        ('test_vit3', {}, r'test_vit3 pools by attention \(AttentionPoolLatent\)'),
        ('pit_ti_224', {}, 'have no grid'),
        ('crossvit_tiny_240', {}, 'features are not one map'),
        ('test_vit', dict(input_size=70), r'\(70\) should be divisible'),
        ('mixer_s32_224', dict(input_size=96), 'cannot annotate images of 96 x 96'),
        ('tset_vit', {}, 'no such model. Did you mean test_vit'),
        ('test_vit.nonsense', {}, 'cannot be built'),
    ],
)
def test_what_cannot_annotate_is_refused(name, options, message):
    with pytest.raises(ConfigError, match=message):
        build_timm_annotator(name, **options)


def test_a_model_without_classifier_is_refused():
    model = timm.create_model('test_resnet', num_classes=0)
    with pytest.raises(ConfigError, match='no classifier of 0 classes'):
        TimmAnnotator(model, 'test_resnet')


def test_pretrained_weights_need_their_classes_and_a_network(monkeypatch):
    with pytest.raises(ConfigError, match='--num-classes needs --checkpoint'):
        build_timm_annotator('test_vit', pretrained=True, num_classes=3)

    def fail(*args, **kwargs):
        raise OSError('no network\nand much more')

    monkeypatch.setattr(timm, 'create_model', fail)
    with pytest.raises(ConfigError, match=r'\(OSError: no network\).* --checkpoint$'):
        build_timm_annotator('test_vit', pretrained=True)
