import dataclasses
import json

import pytest
import torch
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import MODELS, DefaultScope

import tools.export
from tests.deploy.small_models import ARCH
from volo.deploy import parity
from volo.deploy.export import TOLERANCES, Options, ParityError, export
from volo.deploy.formats import FORMATS
from volo.deploy.loading import load_model
from volo.deploy.metadata import hash_weights
from volo.deploy.runtimes import RUNTIMES, open_exported
from volo.engine.launch import load_config
from volo.errors import CheckpointError, ConfigError


@pytest.fixture(scope='module', params=['classify', 'segment'])
def task(request):
    return request.param


SMALL = """
_base_ = ['{task}']
model = dict(backbone=dict(arch=dict(_delete_=True, **{arch})))
if '{task}'.endswith('segment.py'):
    model['decode_head'] = dict(in_channels=[16, 32, 32, 32], channels=16)
    model['auxiliary_head'] = dict(in_channels=32, channels=16)
"""


@pytest.fixture(scope='module')
def trained(toy, task, tmp_path_factory):
    """A config with a small arch, and a checkpoint that fits it."""
    folder = tmp_path_factory.mktemp(task)
    (folder / 'small.py').write_text(SMALL.format(task=toy / f'{task}.py', arch=ARCH))
    cfg = load_config(folder / 'small.py')
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        model = revert_sync_batchnorm(MODELS.build(cfg.model))
    meta = dict(dataset_meta=dict(classes=[f'{task} {i}' for i in range(8)]))
    checkpoint = folder / 'weights.pth'
    torch.save(dict(state_dict=model.state_dict(), meta=meta), checkpoint)
    return cfg, checkpoint


FAST = Options(formats=['openvino'], size=(32, 48))


@pytest.fixture(autouse=True)
def few_sizes(monkeypatch):
    monkeypatch.setattr(parity, 'SIZES', ((40, 70),))


def test_writes_files_and_what_is_in_them(trained, task, tmp_path):
    cfg, checkpoint = trained
    result = export(cfg, checkpoint, tmp_path, Options(formats=['pt2', 'openvino']))
    names = ['model.pt2', 'model.xml']
    assert list(result) == [tmp_path / name for name in names]
    assert all(p.difference < 1e-3 and p.equal > 0.999 for p in result.values())
    written = {path.name for path in tmp_path.iterdir()}
    assert written == {*names, 'model.bin', 'labels.json', 'predict.py'}
    labels = json.loads((tmp_path / 'labels.json').read_text())
    assert set(labels['files']) == set(names)
    model, _ = load_model(cfg, checkpoint)
    for path, measured in result.items():
        metadata = open_exported(path).metadata
        assert metadata['parity'] == dataclasses.asdict(measured)
        own = labels['files'][path.name]
        assert metadata == {k: v for k, v in labels.items() if k != 'files'} | own
        assert metadata['weights_sha256'] == hash_weights(model.state_dict())
        assert metadata['versions']['torch'] == torch.__version__.partition('+')[0]
        assert metadata['mean'] == pytest.approx([123.675, 116.28, 103.53])
    if task == 'classify':
        # Seven classes: those in the checkpoint are eight.
        assert metadata['task'] == 'classification' and len(metadata['classes']) == 7
        assert metadata['input']['size'] == [64, 64]
        assert metadata['resize']['steps'][0]['size'] == [64, 64]
        assert metadata['outputs'] == ['probabilities']
    else:
        assert metadata['task'] == 'segmentation'
        assert metadata['classes'][3] == 'segment 3'
        assert metadata['input']['size'] is None
        # The config slides windows.
        assert metadata['outputs'] == ['classes', 'confidence', 'logits']
        assert metadata['inference']['mode'] == 'slide'


@pytest.mark.parametrize('task', ['segment'], indirect=True)
def test_a_file_that_differs_is_removed(trained, tmp_path):
    cfg, checkpoint = trained
    export(cfg, checkpoint, tmp_path, FAST)
    options = dataclasses.replace(FAST, tolerance=0)
    with pytest.raises(ParityError, match='model.xml computes something else than the'):
        export(cfg, checkpoint, tmp_path, options)
    # Neither the file nor that of the earlier export.
    assert {path.name for path in tmp_path.iterdir()} == {'labels.json', 'predict.py'}


@pytest.mark.parametrize('task', ['classify'], indirect=True)
def test_labels_forget_files_that_are_gone(trained, tmp_path):
    cfg, checkpoint = trained
    export(cfg, checkpoint, tmp_path, FAST)
    half = dataclasses.replace(FAST, dtype='float16')
    export(cfg, checkpoint, tmp_path, half)
    labels = json.loads((tmp_path / 'labels.json').read_text())
    assert set(labels['files']) == {'model.xml', 'model_float16.xml'}
    (tmp_path / 'model.xml').unlink()
    export(cfg, checkpoint, tmp_path, half)
    labels = json.loads((tmp_path / 'labels.json').read_text())
    assert set(labels['files']) == {'model_float16.xml'}
    assert labels['files']['model_float16.xml']['dtype'] == 'float16'


@pytest.mark.parametrize('task', ['classify'], indirect=True)
def test_wrong_requests_are_one_clear_error(trained, tmp_path):
    cfg, checkpoint = trained
    for options, message in (
        (Options(formats=['onyx']), '--format onyx: unknown.* Did you mean onnx?'),
        (Options(formats=['onnx'], dtype='float8'), '--dtype float8: unknown, only fl'),
    ):
        with pytest.raises(ConfigError, match=message):
            export(cfg, checkpoint, tmp_path, options)
    (tmp_path / 'file').touch()
    with pytest.raises(ConfigError, match='file/model.xml cannot be written: '):
        export(cfg, checkpoint, tmp_path / 'file', FAST)


def test_the_checkpoint_must_fit_the_classes_too(trained, task, tmp_path):
    cfg, checkpoint = trained
    cfg = cfg.copy()
    head = 'head' if task == 'classify' else 'decode_head'
    cfg.merge_from_dict({f'model.{head}.num_classes': 6})
    with pytest.raises(
        CheckpointError, match='does not belong to the model of .*small.py'
    ):
        export(cfg, checkpoint, tmp_path, FAST)


def test_the_tool_names_what_there_is():
    assert tools.export.FORMATS == tuple(FORMATS)
    assert tools.export.DTYPES == tuple(TOLERANCES)
    assert {found.suffix for found in FORMATS.values()} == set(RUNTIMES)
