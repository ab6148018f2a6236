import numpy as np
import pytest
import torch
from mmengine.registry import MODELS, DefaultScope
from mmpretrain.structures import DataSample

from tests.synth_weights import DATA, manifest, synth_images, synth_state_dict
from volo.checkpoints.layouts import convert_state_dict, to_official_layout
from volo.errors import ConfigError, DataError
from volo.models.mix_token import mix_tokens
from volo.token_label import TokenLabel
from volo.token_label.targets import SoftTargets, ground_truth_targets


def classifier(arch='tiny', num_classes=20, img_size=64, **options):
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        cfg = dict(
            type='TokenLabelClassifier',
            backbone=dict(type='VOLO', arch=arch, img_size=img_size),
            head=dict(type='VOLOHead', num_classes=num_classes),
        )
        return MODELS.build({**cfg, **options})


def sample(label, num_classes=20, token_label=True, shape=(5, 18, 18), seed=0):
    data_sample = DataSample(metainfo=dict(img_path='cat.jpg')).set_gt_label(label)
    rng = np.random.RandomState(seed)
    if token_label:
        data_sample.set_field(
            TokenLabel(
                rng.randn(*shape).astype(np.float16),
                rng.randint(0, num_classes, shape).astype(np.uint16),
                np.eye(3),
                np.empty((0, 3, 3)),
            ),
            'token_label',
        )
    return data_sample


@pytest.fixture(scope='module')
def reference():
    """The authors' targets as sparse ones, and the mask of their box."""
    golden = np.load(DATA / 'volo_d1_224_train.npz')
    rng = np.random.RandomState(8)
    dense = rng.rand(4, 1000, 198).astype(np.float32)
    dense /= dense.sum(1, keepdims=True)
    labels = rng.randint(0, 1000, 4)
    dense = torch.from_numpy(dense).transpose(1, 2)
    every_class = torch.arange(1000).expand(4, 197, 1000)
    targets = SoftTargets(torch.zeros(4, 197), every_class, dense[:, 1:])
    row, column, last_row, last_column = golden['box']
    mask = torch.zeros(14, 14, dtype=torch.bool)
    mask[row:last_row, column:last_column] = True
    return golden, targets, torch.from_numpy(labels), mask


@pytest.mark.parametrize('variant', ['plain', 'ground_truth'])
def test_loss_and_gradients_equal_the_authors(reference, variant):
    golden, targets, labels, mask = reference
    model = classifier('d1', num_classes=1000, img_size=224)
    model.load_state_dict(convert_state_dict(synth_state_dict(manifest('d1'))))
    cls_targets = SoftTargets(*(part[:, 0] for part in targets))
    token_targets = SoftTargets(*(part[:, 1:] for part in targets))
    if variant == 'ground_truth':
        cls_targets = ground_truth_targets(cls_targets, labels, 0.0, 1000)
    losses = model.train().loss_from_targets(
        synth_images(4, 224, 224, seed=11), cls_targets, token_targets, mask
    )
    loss = sum(losses.values())
    loss.backward()
    assert loss.item() == pytest.approx(golden[f'loss_{variant}'].item(), rel=1e-5)
    gradients = to_official_layout(
        {name: p.grad for name, p in model.named_parameters()}
    )
    prefix = f'gradnorm_{variant}/'
    names = [key[len(prefix) :] for key in golden if key.startswith(prefix)]
    assert len(names) == 10
    for name in names:
        norm = gradients[name].norm().item()
        assert norm == pytest.approx(golden[prefix + name].item(), rel=1e-3), name
    np.testing.assert_allclose(
        model.backbone.stem.conv[1].running_mean, golden['bn_running_mean'], atol=1e-5
    )


def test_training_logits_equal_the_authors(reference):
    golden, _, _, mask = reference
    model = classifier('d1', num_classes=1000, img_size=224)
    model.load_state_dict(convert_state_dict(synth_state_dict(manifest('d1'))))
    model.train()
    with torch.no_grad():
        tokens = mix_tokens(
            model.backbone.embed(synth_images(4, 224, 224, seed=11)), mask
        )
        feats = model.backbone.forward_tokens(tokens, (224, 224))
        cls_logits, token_logits = model.head.class_and_token_logits(feats)
    own = torch.where(mask.flatten()[:, None], token_logits.flip(0), token_logits)
    np.testing.assert_allclose(cls_logits, golden['x_cls'], atol=1e-4)
    np.testing.assert_allclose(own[:, ::13], golden['x_aux'], atol=1e-4)


def test_every_parameter_receives_a_gradient():
    model = classifier()
    losses = model(
        torch.rand(3, 3, 64, 80), [sample(i, seed=i) for i in range(3)], mode='loss'
    )
    assert set(losses) == {'loss_cls', 'loss_token'}
    sum(losses.values()).backward()
    assert [n for n, p in model.named_parameters() if p.grad is None] == []


@pytest.mark.slow
def test_compiled_losses_and_gradients_are_the_same():
    # For one of ten seeds, rounding moves an activation past the edge of a ReLU.
    torch.manual_seed(0)
    model = classifier()
    compiled = torch.compile(model.forward, backend='aot_eager')
    images = torch.rand(3, 3, 64, 64)
    for seed in range(2):  # another box, other label maps
        samples = [sample(i, seed=3 * seed + i) for i in range(3)]
        gradients = []
        for forward in (model.forward, compiled):
            np.random.seed(seed)
            model.zero_grad()
            sum(forward(images, samples, mode='loss').values()).backward()
            gradients.append([p.grad.clone() for p in model.parameters()])
        torch.testing.assert_close(*gradients, rtol=1e-3, atol=1e-6)


def test_trains_under_bf16_autocast():
    model = classifier()
    images = torch.rand(3, 3, 64, 64)
    samples = [sample(i, seed=i) for i in range(3)]
    losses = []
    for enabled in (False, True):
        np.random.seed(0)
        with torch.autocast('cpu', dtype=torch.bfloat16, enabled=enabled):
            losses.append(model.loss(images, samples))
    sum(losses[1].values()).backward()
    for name, value in losses[0].items():
        assert losses[1][name].dtype == torch.float32
        torch.testing.assert_close(losses[1][name], value, rtol=0.02, atol=0.0)


@pytest.mark.parametrize('smoothing', [0.0, 0.1])
def test_plain_labels_without_mixing_are_the_heads_own_loss(smoothing):
    model = classifier(mix_token_alpha=0, label_smooth_val=smoothing).train()
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model.head.loss_module = MODELS.build(
            dict(type='LabelSmoothLoss', label_smooth_val=smoothing, mode='original')
        )
    images = torch.rand(4, 3, 64, 64)
    samples = [sample(i, token_label=False) for i in range(4)]
    losses = model.loss(images, samples)
    expected = model.head.loss(model.extract_feat(images), samples)
    for name, value in expected.items():
        torch.testing.assert_close(losses[name], value)


def test_a_sample_without_a_map_trains_on_its_label():
    model = classifier()
    with_map = [sample(3, seed=0), sample(4, seed=1)]
    without = sample(5, token_label=False)
    inputs = torch.rand(3, 3, 64, 64)
    mixed = model.make_targets([with_map[0], without, with_map[1]], inputs, (4, 4))
    whole = model.make_targets(with_map, inputs[:2], (4, 4))
    for some, all_maps in zip(mixed, whole, strict=True):
        dense, expected = some.to_dense(20), all_maps.to_dense(20)
        torch.testing.assert_close(dense[[0, 2]], expected)
        label = torch.full((20,), 0.005)
        label[5] = 0.905
        torch.testing.assert_close(dense[1], label.expand(dense[1].shape))


def test_targets_of_padded_images_stay_under_their_tokens():
    # 40 pixels are two and a half tokens of 16, so the third covers cells 32 to 47.
    model = classifier(label_smooth_val=0.0)
    scores = np.full((1, 1, 40), 50.0, np.float16)
    classes = np.arange(40).reshape(1, 1, 40) // 16
    label = TokenLabel(scores, classes, np.eye(3), np.empty((0, 3, 3)))
    data_sample = DataSample().set_gt_label(0)
    data_sample.set_field(label, 'token_label')
    _, targets = model.make_targets([data_sample], torch.zeros(1, 3, 16, 40), (1, 3))
    assert targets.to_dense(20)[0].argmax(dim=-1).tolist() == [0, 1, 2]


def test_mix_token_mixes_targets_as_it_mixes_tokens():
    # A token's own target belongs to it wherever it came from.
    torch.manual_seed(0)
    model = classifier()
    seen = {}
    model.head.soft_loss = lambda feats, cls, tokens: seen.update(
        cls=cls, tokens=tokens
    )
    images = torch.rand(2, 3, 64, 64)
    targets = [t for i in (1, 2) for t in [sample(i, token_label=False)]]
    cls_targets, token_targets = model.make_targets(targets, images, (4, 4))
    mask = torch.zeros(4, 4, dtype=torch.bool)
    mask[1:3, 2:] = True
    model.loss_from_targets(images, cls_targets, token_targets, mask)
    best = seen['tokens'].to_dense(20).argmax(dim=-1).view(2, 4, 4)
    assert (best[0] == torch.where(mask, 2, 1)).all()
    assert (best[1] == torch.where(mask, 1, 2)).all()
    dense = seen['cls'].to_dense(20)
    assert dense[0, 1].item() == pytest.approx(0.75 * 0.905 + 0.25 * 0.005)
    assert dense[0, 2].item() == pytest.approx(0.25 * 0.905 + 0.75 * 0.005)


def test_label_maps_that_do_not_fit_are_named():
    model = classifier(num_classes=10)
    images = torch.rand(2, 3, 64, 64)
    with pytest.raises(DataError, match=r'cat\.jpg has class 1\d, but .*num_classes'):
        model.loss(images, [sample(0), sample(1)])
    odd = sample(1, num_classes=10, shape=(3, 7, 7))
    with pytest.raises(DataError, match=r'cat\.jpg has shape \(3, 7, 7\)'):
        model.loss(images, [sample(0, num_classes=10), odd])


def test_what_cannot_be_combined_is_refused():
    with pytest.raises(ConfigError, match='use MixToken instead'):
        classifier(train_cfg=dict(augments=[dict(type='Mixup', alpha=0.8)]))
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        backbone = MODELS.build(dict(type='mmpretrain.ResNet', depth=18))
        with pytest.raises(ConfigError, match='got ResNet'):
            MODELS.build(
                dict(
                    type='TokenLabelClassifier',
                    backbone=backbone,
                    head=dict(type='VOLOHead', arch='tiny', num_classes=3),
                )
            )


def test_another_arch_in_the_head_is_refused():
    with pytest.raises(ConfigError, match='backbone has arch tiny, the head d2'):
        classifier(head=dict(type='VOLOHead', arch='d2', num_classes=3))


def test_predicts_like_any_classifier():
    model = classifier(num_classes=3).eval()
    predictions = model(torch.rand(2, 3, 40, 56), mode='predict')
    assert [p.pred_score.shape for p in predictions] == [(3,), (3,)]
