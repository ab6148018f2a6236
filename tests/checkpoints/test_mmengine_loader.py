"""mmengine, mmsegmentation and mmpretrain through the safe loader."""

import contextlib
import io
from collections import OrderedDict

import mmengine
import numpy as np
import pytest
import torch
from mmengine.registry import DefaultScope
from mmengine.runner import CheckpointLoader
from mmpretrain.apis import get_model
from mmseg.apis import init_model
from safetensors.torch import save_file

from tests.bad_checkpoints import (
    BROKEN,
    MALICIOUS,
    WEIGHTS,
    make_broken,
    make_malicious,
    with_malicious_configs,
)
from tests.classifier import build
from tests.synth_weights import manifest, synth_state_dict
from tests.web_server import WebServer, sha256
from volo.checkpoints import fetching
from volo.checkpoints.layouts import to_official_layout
from volo.checkpoints.mmengine_loader import load_from_volo, register_safe_loader
from volo.checkpoints.trust import TRUST_VARIABLE
from volo.errors import CheckpointError


def assert_same(weights, expected):
    assert weights.keys() == expected.keys()
    assert all(torch.equal(weights[name], expected[name]) for name in expected)


@pytest.fixture
def safe_loader(monkeypatch):
    schemes = OrderedDict(CheckpointLoader._schemes)
    monkeypatch.setattr(CheckpointLoader, '_schemes', schemes)
    register_safe_loader()
    # Building a model changes the default scope of the whole process.
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


def test_no_scheme_keeps_mmengines_own_loader(safe_loader):
    assert set(CheckpointLoader._schemes.values()) == {load_from_volo}


@pytest.mark.parametrize(
    'source', ['pavi://x.pth', 's3://b/x.pth', 'mm:s3://b/x.pth', 'petrel://b/x.pth']
)
def test_schemes_without_hashes_are_refused(safe_loader, source):
    with pytest.raises(CheckpointError, match='give its local path'):
        CheckpointLoader.load_checkpoint(source)


@pytest.fixture
def web(tmp_path, monkeypatch):
    monkeypatch.setenv('no_proxy', '*')
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'home'))
    server = WebServer()
    with contextlib.closing(server):
        yield server


def serve_weights(web, weights):
    buffer = io.BytesIO()
    torch.save(weights, buffer)
    content = buffer.getvalue()
    return web.add(f'/x-{sha256(content)[:16]}.pth', content)


def test_mmengine_takes_urls(tmp_path, tiny_weights, safe_loader, web):
    model = build()

    mmengine.runner.load_checkpoint(model, serve_weights(web, tiny_weights))

    assert_same(model.state_dict(), tiny_weights)


def test_mmengine_takes_no_url_without_a_hash(safe_loader, web):
    with pytest.raises(CheckpointError, match='was not fetched'):
        CheckpointLoader.load_checkpoint(web.add('/x.pth', b'weights'))

    assert web.requests == []


def test_mmcls_names_are_of_backbones(safe_loader, web, monkeypatch):
    weights = {'backbone.weight': torch.ones(2), 'head.fc.weight': torch.ones(3)}
    table = dict(net=serve_weights(web, dict(state_dict=weights)))
    monkeypatch.setitem(fetching._TABLES, 'mmcls', lambda: table)

    loaded = CheckpointLoader.load_checkpoint('mmcls://net')

    assert_same(loaded['state_dict'], dict(weight=torch.ones(2)))


@pytest.mark.parametrize('layout', ['volo', 'official', 'another model'])
def test_mmengine_gets_no_config(tmp_path, tiny_weights, safe_loader, layout):
    weights = dict(
        {'volo': tiny_weights, 'official': to_official_layout(tiny_weights)}.get(
            layout, WEIGHTS
        )
    )
    content = dict(meta=dict(epoch=7), state_dict=weights)
    content = with_malicious_configs(content, tmp_path / 'canary')
    torch.save(content, tmp_path / 'x.pth')

    loaded = CheckpointLoader.load_checkpoint(str(tmp_path / 'x.pth'))

    assert loaded['meta'] == dict(epoch=7)
    if layout != 'official':
        empty = dict(log_scalars={}, runtime_info={}, resumed_keys={})
        assert loaded['message_hub'] == empty


def test_a_config_among_safetensors_metadata(tmp_path, tiny_weights, safe_loader):
    metadata = dict(cfg='model = None', config='model = None', note='hello')
    save_file(tiny_weights, tmp_path / 'x.safetensors', metadata=metadata)

    loaded = CheckpointLoader.load_checkpoint(str(tmp_path / 'x.safetensors'))

    assert loaded['meta'] == dict(note='hello')


def test_trusted_configs_are_kept(tmp_path, safe_loader, monkeypatch):
    monkeypatch.setenv(TRUST_VARIABLE, '1')
    content = with_malicious_configs(dict(state_dict=WEIGHTS), tmp_path / 'canary')
    torch.save(content, tmp_path / 'x.pth')

    loaded = CheckpointLoader.load_checkpoint(str(tmp_path / 'x.pth'))

    assert loaded['meta'] == content['meta']
    assert loaded['message_hub'] == content['message_hub']


def test_a_meta_of_another_type_is_replaced(tmp_path, tiny_weights, safe_loader):
    weights = to_official_layout(tiny_weights)
    content = dict(meta=np.zeros(2), state_dict=weights)
    torch.save(content, tmp_path / 'x.pth')

    loaded = CheckpointLoader.load_checkpoint(str(tmp_path / 'x.pth'))

    assert loaded['meta'] == {}


@pytest.mark.parametrize('meta', [None, 'cfg', ['cfg'], 3, {}])
def test_other_things_where_a_config_would_be(tmp_path, safe_loader, meta):
    content = dict(meta=meta, message_hub=meta, state_dict=WEIGHTS)
    torch.save(content, tmp_path / 'x.pth')

    loaded = CheckpointLoader.load_checkpoint(str(tmp_path / 'x.pth'))

    assert loaded['meta'] == loaded['message_hub'] == meta
