import argparse
import os
import re
import traceback
import uuid
import zipfile
from collections import OrderedDict

import numpy as np
import pytest
import torch
from mmengine.hooks import Hook
from mmengine.logging import HistoryBuffer
from mmengine.model import BaseModel
from mmengine.registry import DefaultScope
from mmengine.runner import CheckpointLoader, Runner
from safetensors.torch import save_file

from tests.bad_checkpoints import (
    BROKEN,
    MALICIOUS,
    WEIGHTS,
    NumpyBinaryObject,
    make_broken,
    make_malicious,
)
from volo.checkpoints import reading as safe_loading
from volo.checkpoints.mmengine_loader import register_safe_loader
from volo.checkpoints.reading import read_checkpoint, read_weights
from volo.checkpoints.trust import TRUST_VARIABLE
from volo.errors import CheckpointError


def save(path, content, **kwargs):
    torch.save(content, path, **kwargs)
    return path


def assert_same(weights, expected):
    assert weights.keys() == expected.keys()
    assert all(torch.equal(weights[name], expected[name]) for name in expected)


@pytest.mark.parametrize('name', ['x.pth', 'x.pt', 'x.pth.tar', 'old.pth'])
@pytest.mark.parametrize('key', [None, 'state_dict', 'model'])
def test_read_weights_finds_them(tmp_path, name, key):
    content = {'epoch': 3, key: WEIGHTS} if key else WEIGHTS
    path = save(
        tmp_path / name, content, _use_new_zipfile_serialization=name != 'old.pth'
    )

    assert_same(read_weights(path), WEIGHTS)
    assert_same(read_weights(str(path)), WEIGHTS)


def test_read_weights_from_safetensors(tmp_path):
    save_file(WEIGHTS, tmp_path / 'x.safetensors', metadata=dict(note='hello'))

    assert_same(read_weights(tmp_path / 'x.safetensors'), WEIGHTS)
    assert read_checkpoint(tmp_path / 'x.safetensors')['meta'] == dict(note='hello')


def test_home_is_expanded(tmp_path, monkeypatch):
    monkeypatch.setenv('HOME', str(tmp_path))
    save(tmp_path / 'x.pth', WEIGHTS)

    assert_same(read_weights('~/x.pth'), WEIGHTS)


def test_module_prefix_is_stripped(tmp_path):
    wrapped = {f'module.{name}': value for name, value in WEIGHTS.items()}

    assert_same(read_weights(save(tmp_path / 'x.pth', wrapped)), WEIGHTS)


def test_both_with_and_without_module_is_an_error(tmp_path):
    path = save(tmp_path / 'x.pth', {**WEIGHTS, 'module.weight': torch.zeros(1)})

    with pytest.raises(CheckpointError, match='twice'):
        read_weights(path)


@pytest.mark.parametrize('key', ['state_dict_ema', 'model_ema', 'ema_state_dict'])
def test_averaged_weights(tmp_path, key):
    averaged = {'module.weight': torch.zeros(2, 3)}
    path = save(tmp_path / 'x.pth', {'state_dict': WEIGHTS, key: averaged})

    assert_same(read_weights(path), WEIGHTS)
    assert_same(read_weights(path, use_ema=True), dict(weight=torch.zeros(2, 3)))


def test_no_averaged_weights(tmp_path):
    path = save(tmp_path / 'x.pth', dict(state_dict=WEIGHTS, epoch=3))

    with pytest.raises(CheckpointError, match=r'x\.pth.*EMA.*state_dict, epoch'):
        read_weights(path, use_ema=True)


def test_something_else_among_the_weights(tmp_path):
    path = save(tmp_path / 'x.pth', {**WEIGHTS, 'epoch': 3})

    with pytest.raises(CheckpointError, match='the keys weight, epoch'):
        read_weights(path)


@pytest.mark.parametrize('kind', BROKEN)
def test_broken_file(tmp_path, kind):
    path = make_broken(kind, tmp_path)

    with pytest.raises(CheckpointError, match=BROKEN[kind]) as caught:
        read_weights(path)

    assert str(path) in str(caught.value)
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize('path', ['/dev/zero', '/dev/null', 'pipe'])
def test_special_files_are_not_opened(tmp_path, path):
    os.mkfifo(tmp_path / 'pipe')

    with pytest.raises(CheckpointError, match='is empty'):
        read_weights(tmp_path / path)


@pytest.mark.parametrize('size', [1, 3, 30, 100, 250])
@pytest.mark.parametrize('zipped', [True, False])
def test_file_cut_anywhere(tmp_path, size, zipped):
    path = save(tmp_path / 'x.pth', WEIGHTS, _use_new_zipfile_serialization=zipped)
    path.write_bytes(path.read_bytes()[:size])

    with pytest.raises(CheckpointError, match='cut short|not a checkpoint'):
        read_weights(path)


@pytest.mark.parametrize('kind', MALICIOUS)
def test_malicious_file_is_refused_and_runs_nothing(tmp_path, kind):
    path, canary = make_malicious(kind, tmp_path)

    with pytest.raises(CheckpointError, match='refused, and nothing') as caught:
        read_weights(path)

    assert re.search(rf'\b{re.escape(MALICIOUS[kind])}\b', str(caught.value))
    assert str(path) in str(caught.value)
    assert TRUST_VARIABLE in str(caught.value)
    assert not canary.exists()


def with_attribute(tensor):
    tensor.attribute = 'kept'
    return tensor


@pytest.mark.parametrize(
    'tensor',
    [
        torch.arange(24.0).reshape(4, 6)[1:3, ::2],
        torch.ones(1).expand(5),
        torch.empty(0, 3),
        torch.ones(2, dtype=torch.complex64).conj(),
        torch.ones(3, dtype=torch.uint16),
        torch.ones(3, dtype=torch.bfloat16),
        torch.tensor(True),
        torch.nn.Parameter(torch.ones(2), requires_grad=False),
        torch.nn.Buffer(torch.ones(2)),
        with_attribute(torch.ones(2)),
        with_attribute(torch.nn.Parameter(torch.ones(2))),
        torch.eye(3).to_sparse(),
        torch.eye(3).to_sparse_csr(),
        torch.ones(2, device='meta'),
    ],
    ids=str,
)
def test_tensors_are_read_as_torch_load_does(tmp_path, tensor):
    path = save(tmp_path / 'x.pth', dict(weight=tensor))

    loaded, expected = read_weights(path)['weight'], torch.load(path)['weight']

    assert type(loaded) is type(expected) and str(loaded) == str(expected)
    assert vars(loaded) == vars(expected)


def test_names_that_are_not_text(tmp_path):
    path = save(tmp_path / 'x.pth', {**WEIGHTS, 3: torch.ones(1)})

    with pytest.raises(CheckpointError, match='no weights'):
        read_weights(path)


def test_registered_globals_are_read(tmp_path):
    """As ``torch.load`` does after ``torch.serialization.add_safe_globals``."""
    path = save(tmp_path / 'x.pth', dict(state_dict=WEIGHTS, meta=torch.nn.Identity()))

    with torch.serialization.safe_globals([torch.nn.Identity, set]):
        assert isinstance(read_checkpoint(path)['meta'], torch.nn.Identity)


@pytest.mark.parametrize('kind', [*BROKEN, *MALICIOUS])
def test_no_message_advises_unsafe_loading(tmp_path, kind):
    path = make_broken(kind, tmp_path)
    if kind in MALICIOUS:
        path = make_malicious(kind, tmp_path)[0]

    with pytest.raises(CheckpointError) as caught:
        read_weights(path)

    assert 'weights_only' not in ''.join(traceback.format_exception(caught.value))


def test_trusted_file_is_opened_with_a_warning(tmp_path, monkeypatch):
    path, canary = make_malicious('torch.save', tmp_path)
    said = []
    monkeypatch.setattr(safe_loading, 'print_log', lambda text, **_: said.append(text))
    monkeypatch.setenv(TRUST_VARIABLE, '1')

    assert_same(read_weights(path), WEIGHTS)

    assert canary.exists()
    assert len(said) == 1 and 'posix.system' in said[0] and str(path) in said[0]


def test_trust_is_not_needed_for_safe_files(tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr(safe_loading, 'print_log', lambda text, **_: said.append(text))
    monkeypatch.setenv(TRUST_VARIABLE, '1')

    read_weights(save(tmp_path / 'x.pth', WEIGHTS))

    assert said == []


def test_only_1_is_trust(tmp_path, monkeypatch):
    path, canary = make_malicious('torch.save', tmp_path)
    monkeypatch.setenv(TRUST_VARIABLE, '0')

    with pytest.raises(CheckpointError, match='refused'):
        read_weights(path)
    assert not canary.exists()


ARRAYS = [
    np.arange(6.0).reshape(2, 3),
    np.asfortranarray(np.arange(6, dtype=np.uint8).reshape(2, 3)),
    np.array([True, False]),
    np.array(['road', 'sky']),
    np.array([1, 2], dtype='>i4'),
    np.zeros((0, 3), np.float16),
    np.float32(3.5),
    np.int64(-4),
    np.str_('road'),
]


@pytest.mark.parametrize('array', ARRAYS, ids=lambda a: f'{a.dtype}{a.shape}')
def test_numpy_survives_and_is_saved_again_as_numpy(tmp_path, array):
    first = save(tmp_path / 'x.pth', dict(state_dict=WEIGHTS, meta=array))
    loaded = read_checkpoint(first)['meta']
    again = save(tmp_path / 'y.pth', dict(state_dict=WEIGHTS, meta=loaded))

    for value in (loaded, read_checkpoint(again)['meta']):
        assert isinstance(value, type(array))
        assert value.dtype == array.dtype.newbyteorder('=')
        np.testing.assert_array_equal(value, array)
    with zipfile.ZipFile(again) as archive:
        assert b'volo' not in archive.read('y/data.pkl')


def test_an_array_cannot_make_objects_of_the_files_bytes(tmp_path):
    """The real numpy.ndarray would follow the pointer 0x1010101010101010."""
    content = dict(state_dict=WEIGHTS, meta=NumpyBinaryObject())

    loaded = read_checkpoint(save(tmp_path / 'x.pth', content))['meta']

    assert loaded.size == 0 and loaded.dtype != object


def test_timms_training_options_are_read(tmp_path):
    args = argparse.Namespace(lr=0.1, model='volo_d1_224')
    path = save(tmp_path / 'x.pth', dict(state_dict=WEIGHTS, args=args))

    assert read_checkpoint(path)['args'] == args


# What a real Runner writes, and reads again.


class Toy(BaseModel):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(2, 1)

    def forward(self, inputs, mode='tensor'):
        return dict(loss=self.linear(torch.stack(inputs)).square().mean())


class ToyData(torch.utils.data.Dataset):
    metainfo = dict(classes=('road', 'sky'), palette=np.eye(3, dtype=np.uint8))

    def __len__(self):
        return 4

    def __getitem__(self, index):
        return dict(inputs=torch.full((2,), float(index)))


class Snapshot(Hook):
    priority = 'LOWEST'

    def before_train(self, runner):
        self.epoch, self.iter = runner.epoch, runner.iter
        self.weights, self.averaged = clone_weights(runner)


def clone_weights(runner):
    ema = next(hook for hook in runner.hooks if hasattr(hook, 'ema_model'))
    return tuple(
        {name: value.clone() for name, value in model.state_dict().items()}
        for model in (runner.model, ema.ema_model.module)
    )


def make_runner(work_dir, epochs, **kwargs):
    return Runner(
        Toy(),
        str(work_dir),
        train_dataloader=dict(
            dataset=ToyData(),
            batch_size=2,
            sampler=dict(type='DefaultSampler', shuffle=False),
            collate_fn=dict(type='pseudo_collate'),
        ),
        train_cfg=dict(by_epoch=True, max_epochs=epochs),
        optim_wrapper=dict(optimizer=dict(type='AdamW', lr=0.1)),
        param_scheduler=[
            dict(type='LinearLR', start_factor=0.1, by_epoch=False, end=2),
            dict(type='CosineAnnealingLR', T_max=9, convert_to_iter_based=True),
            dict(type='ReduceOnPlateauParamScheduler', param_name='lr', monitor='loss'),
        ],
        custom_hooks=[dict(type='EMAHook')],
        default_hooks=dict(logger=dict(type='LoggerHook', interval=1)),
        log_level='ERROR',
        experiment_name=uuid.uuid4().hex,
        **kwargs,
    )


@pytest.fixture(scope='module', autouse=True)
def own_scope():
    """Take the Runner's scope, which is the whole process's, away again."""
    with DefaultScope.overwrite_default_scope('mmengine'):
        yield


@pytest.fixture(scope='module')
def runner_checkpoint(tmp_path_factory):
    """Two epochs of training, with the final weights and their averages."""
    work_dir = tmp_path_factory.mktemp('run')
    runner = make_runner(work_dir, epochs=2)
    runner.train()
    return work_dir / 'epoch_2.pth', *clone_weights(runner)


@pytest.fixture
def safe_loads(monkeypatch):
    """Fail if anything is loaded with all of pickle's powers."""
    real = torch.load

    def load(*args, **kwargs):
        assert kwargs.get('weights_only') is True
        return real(*args, **kwargs)

    monkeypatch.setattr(torch, 'load', load)


def with_other_numpy_names(path, target):
    """Write a Runner's checkpoint as a machine with the other numpy would."""
    content = torch.load(path, weights_only=False)
    # The old format is plain enough to replace text in.
    torch.save(content, target, _use_new_zipfile_serialization=False)
    data = target.read_bytes()
    here, there = b'numpy._core.multiarray', b'numpy.core.multiarray'
    if np.__version__ < '2':
        here, there = there, here
    assert here in data
    target.write_bytes(data.replace(here, there))


@pytest.mark.parametrize('other_numpy', [False, True])
def test_runner_checkpoint_is_read_whole(
    runner_checkpoint, tmp_path, other_numpy, request
):
    path, final, averaged = runner_checkpoint
    if other_numpy:
        with_other_numpy_names(path, tmp_path / 'x.pth')
        path = tmp_path / 'x.pth'
    request.getfixturevalue('safe_loads')

    checkpoint = read_checkpoint(path)

    assert checkpoint['meta']['epoch'] == 2
    assert checkpoint['meta']['dataset_meta']['classes'] == ('road', 'sky')
    np.testing.assert_array_equal(
        checkpoint['meta']['dataset_meta']['palette'], ToyData.metainfo['palette']
    )
    history = checkpoint['message_hub']['log_scalars']['train/loss']
    assert type(history) is HistoryBuffer
    assert len(history.data[0]) == 4 and history.current() == history.data[0][-1]
    assert history.statistics('mean') == pytest.approx(history.data[0].mean())
    assert {'optimizer', 'param_schedulers'} <= checkpoint.keys()


def test_averages_of_a_runner_checkpoint(runner_checkpoint):
    """EMAHook saves them as state_dict, and what was trained as ema_state_dict."""
    path, final, averaged = runner_checkpoint
    assert not torch.equal(final['linear.weight'], averaged['linear.weight'])

    assert_same(read_weights(path, use_ema=True), averaged)
    assert_same(read_weights(path), averaged)


def test_forged_history_does_not_reach_the_class(runner_checkpoint, tmp_path):
    class Forged:
        def __reduce__(self):
            state = dict(
                max_length=1,
                _log_history=np.ones(1),
                _count_history=np.ones(1),
                statistics_methods=dict(mean=torch.Tensor),
                extra=1,
            )
            return HistoryBuffer, (), state

    path = save(tmp_path / 'x.pth', dict(state_dict=WEIGHTS, history=Forged()))

    history = read_checkpoint(path)['history']

    assert type(history) is HistoryBuffer
    assert history.statistics('mean') == 1.0
    assert not hasattr(history, 'extra')


def test_runner_resumes_under_the_safe_loader(
    runner_checkpoint, tmp_path, safe_loads, monkeypatch
):
    path, final, averaged = runner_checkpoint
    schemes = OrderedDict(CheckpointLoader._schemes)
    monkeypatch.setattr(CheckpointLoader, '_schemes', schemes)
    register_safe_loader()
    runner = make_runner(tmp_path, epochs=3, load_from=str(path), resume=True)

    runner.register_hook(Snapshot())
    runner.train()

    snapshot = runner.hooks[-1]
    assert (snapshot.epoch, snapshot.iter) == (2, 4)
    assert_same(snapshot.weights, final)
    assert_same(snapshot.averaged, averaged)
    scalars = runner.message_hub.log_scalars['train/loss']
    assert runner.epoch == 3 and len(scalars.data[0]) == 6
    # Written by the resumed run, from histories that came out of the old file.
    assert read_checkpoint(tmp_path / 'epoch_3.pth')['meta']['epoch'] == 3
