"""mmengine, mmsegmentation and mmpretrain through the safe loader."""

from collections import OrderedDict

import mmengine
import pytest
import torch
from mmengine.registry import DefaultScope
from mmengine.runner import CheckpointLoader
from mmpretrain.apis import get_model
from mmseg.apis import init_model
from safetensors.torch import save_file

from tests.bad_checkpoints import BROKEN, MALICIOUS, make_broken, make_malicious
from tests.classifier import build
from tests.synth_weights import manifest, synth_state_dict
from volo.checkpoints import register_safe_loader, to_official_layout
from volo.errors import CheckpointError
from volo.safe_loading import TRUST_VARIABLE


def assert_same(weights, expected):
    assert weights.keys() == expected.keys()
    assert all(torch.equal(weights[name], expected[name]) for name in expected)


@pytest.fixture
def safe_loader(monkeypatch):
    schemes = OrderedDict(CheckpointLoader._schemes)
    monkeypatch.setattr(CheckpointLoader, '_schemes', schemes)
    register_safe_loader()
    # Building a model leaves its library's scope behind, for the whole process.
    with DefaultScope.overwrite_default_scope('mmengine'):
        yield


@pytest.fixture(scope='module')
def tiny_weights():
    """Weights of ``build()`` in our layout."""
    shapes = {name: value.shape for name, value in build().state_dict().items()}
    return synth_state_dict(shapes)


@pytest.mark.parametrize('name', ['x.pth', 'x.pth.tar', 'x.safetensors'])
@pytest.mark.parametrize('official', [True, False])
def test_mmengine_takes_all_layouts(
    tmp_path, tiny_weights, safe_loader, name, official
):
    weights = to_official_layout(tiny_weights) if official else tiny_weights
    path = tmp_path / name
    (save_file if 'safetensors' in name else torch.save)(weights, path)
    model = build()

    checkpoint = mmengine.runner.load_checkpoint(model, str(path), strict=True)

    assert_same(model.state_dict(), tiny_weights)
    assert checkpoint['meta'] == {}


def test_mmengine_expands_home(tmp_path, tiny_weights, safe_loader, monkeypatch):
    monkeypatch.setenv('HOME', str(tmp_path))
    torch.save(to_official_layout(tiny_weights), tmp_path / 'x.pth')
    model = build()

    mmengine.runner.load_checkpoint(model, '~/x.pth', strict=True)

    assert_same(model.state_dict(), tiny_weights)


def test_mmengine_keeps_what_else_is_in_our_checkpoints(
    tmp_path, tiny_weights, safe_loader
):
    content = dict(meta=dict(epoch=7), state_dict=tiny_weights, optimizer=dict(lr=1))
    torch.save(content, tmp_path / 'x.pth')

    checkpoint = mmengine.runner.load_checkpoint(build(), str(tmp_path / 'x.pth'))

    assert checkpoint.keys() == content.keys()
    assert checkpoint['meta'] == dict(epoch=7)


def test_mmseg_finds_a_meta_in_all_of_our_checkpoints(
    tmp_path, tiny_weights, safe_loader
):
    torch.save(dict(state_dict=tiny_weights), tmp_path / 'x.pth')

    checkpoint = CheckpointLoader.load_checkpoint(str(tmp_path / 'x.pth'))

    assert checkpoint['meta'] == {}


@pytest.mark.parametrize('wrapped', [True, False])
def test_mmengine_gets_other_models_as_they_are(tmp_path, safe_loader, wrapped):
    weights = torch.nn.Linear(2, 2).state_dict()
    torch.save(dict(state_dict=weights) if wrapped else weights, tmp_path / 'x.pth')

    loaded = CheckpointLoader.load_checkpoint(str(tmp_path / 'x.pth'))

    if wrapped:
        assert loaded.keys() == {'state_dict'}
    assert_same(loaded['state_dict'] if wrapped else loaded, weights)


def test_mmengine_is_told_of_unknown_names(tmp_path, safe_loader):
    weights = {**synth_state_dict(manifest('d1')), 'extra': torch.zeros(1)}
    torch.save(weights, tmp_path / 'x.pth')

    with pytest.raises(CheckpointError, match=r'x\.pth: 1 of 261 names.*extra'):
        CheckpointLoader.load_checkpoint(str(tmp_path / 'x.pth'))


@pytest.mark.parametrize('kind', BROKEN)
def test_mmengine_is_told_of_broken_files(tmp_path, safe_loader, kind):
    path = make_broken(kind, tmp_path)

    with pytest.raises(CheckpointError, match=BROKEN[kind]):
        mmengine.runner.load_checkpoint(build(), str(path))


@pytest.mark.parametrize('kind', MALICIOUS)
def test_mmengine_runs_nothing(tmp_path, safe_loader, kind):
    path, canary = make_malicious(kind, tmp_path)

    with pytest.raises(CheckpointError, match='refused'):
        mmengine.runner.load_checkpoint(torch.nn.Linear(2, 2), str(path))

    assert not canary.exists()


def test_mmengine_opens_trusted_files(tmp_path, safe_loader, monkeypatch):
    path, canary = make_malicious('torch.save', tmp_path)
    monkeypatch.setenv(TRUST_VARIABLE, '1')

    checkpoint = CheckpointLoader.load_checkpoint(str(path))

    assert canary.exists() and 'state_dict' in checkpoint


def test_mmseg_takes_an_official_file(tmp_path, tiny_weights, safe_loader):
    torch.save(to_official_layout(tiny_weights), tmp_path / 'x.pth')
    config = mmengine.Config(
        dict(
            default_scope='mmseg',
            model=dict(
                type='EncoderDecoder',
                backbone=dict(type='VOLO', arch='tiny', img_size=64),
                decode_head=dict(
                    type='FCNHead',
                    in_channels=160,
                    in_index=0,
                    channels=8,
                    num_convs=1,
                    num_classes=19,
                    norm_cfg=dict(type='BN'),
                ),
                test_cfg=dict(mode='whole'),
            ),
        )
    )

    model = init_model(config, str(tmp_path / 'x.pth'), device='cpu')

    for name, value in model.backbone.state_dict().items():
        assert torch.equal(value, tiny_weights[f'backbone.{name}'])


def test_mmpretrain_takes_an_official_file(tmp_path, tiny_weights, safe_loader):
    torch.save(to_official_layout(tiny_weights), tmp_path / 'x.pth')
    model = dict(
        type='ImageClassifier',
        backbone=dict(type='VOLO', arch='tiny', img_size=64),
        head=dict(type='VOLOHead', arch='tiny', num_classes=10),
    )
    config = mmengine.Config(dict(default_scope='mmpretrain', model=model))

    model = get_model(config, pretrained=str(tmp_path / 'x.pth'), device='cpu')

    assert_same(model.state_dict(), tiny_weights)


@pytest.mark.parametrize('location', [None, 'cpu', lambda storage, _: storage])
@pytest.mark.parametrize('name', ['x.pth', 'x.safetensors'])
def test_map_locations(tmp_path, tiny_weights, safe_loader, location, name):
    (save_file if 'safetensors' in name else torch.save)(tiny_weights, tmp_path / name)

    loaded = CheckpointLoader.load_checkpoint(str(tmp_path / name), location)

    assert_same(loaded['state_dict'], tiny_weights)
