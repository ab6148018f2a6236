import sys
from types import ModuleType

import pytest
from mmengine.config import Config

from tests.toy import ROOT, run_tool
from volo.engine.tracking import TRACKERS, add_trackers
from volo.errors import ConfigError

LOCAL = dict(type='LocalVisBackend')


@pytest.fixture(autouse=True)
def packages(monkeypatch):
    """Stand-ins for the trackers' packages."""
    for _, module in TRACKERS.values():
        monkeypatch.setitem(sys.modules, module, ModuleType(module))
    monkeypatch.delenv('MLFLOW_TRACKING_URI', raising=False)


def backends(*names, **cfg):
    cfg = Config(cfg, filename=ROOT / 'configs/volo_d1_imagenet.py')
    add_trackers(cfg, names)
    return cfg.visualizer.vis_backends


def test_trackers_stand_beside_the_local_backend():
    added = backends(*TRACKERS, visualizer=dict(type='V', vis_backends=[LOCAL]))
    assert added == [
        LOCAL,
        dict(type='TensorboardVisBackend'),
        dict(
            type='WandbVisBackend',
            init_kwargs=dict(project='volo', name='volo_d1_imagenet'),
        ),
        dict(
            type='MLflowVisBackend',
            exp_name='volo',
            run_name='volo_d1_imagenet',
            tracking_uri='sqlite:///mlflow.db',
        ),
    ]


def test_the_server_of_the_environment_is_used(monkeypatch):
    monkeypatch.setenv('MLFLOW_TRACKING_URI', 'http://localhost:5000')
    assert backends('mlflow')[-1]['tracking_uri'] == 'http://localhost:5000'


@pytest.mark.parametrize('visualizer', [None, dict(type='V')])
def test_a_config_without_backends_gets_them(visualizer):
    assert backends('tensorboard', visualizer=visualizer)[-1] == dict(
        type='TensorboardVisBackend'
    )


def test_what_the_config_has_stays_as_it_is():
    for theirs in (
        dict(type='WandbVisBackend', init_kwargs=dict(project='mine')),
        dict(type='mmengine.WandbVisBackend'),
    ):
        cfg = dict(visualizer=dict(vis_backends=theirs))
        assert backends('wandb', 'wandb', **cfg) == [theirs]


def test_what_is_not_there_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, 'mlflow', None)
    with pytest.raises(ConfigError, match=r'--track mlflow: .*volo\[mlflow\]'):
        backends('mlflow')
    with pytest.raises(ConfigError, match="no tracker 'x': there are tensorboard"):
        backends('x')


@pytest.mark.slow
def test_a_training_is_tracked(toy, tmp_path):
    pytest.importorskip('tensorboard')
    done = run_tool(
        'train.py',
        toy / 'segment.py',
        '--work-dir',
        tmp_path,
        '--track',
        'tensorboard',
        '--cfg-options',
        'train_cfg.max_iters=2',
    )
    assert done.returncode == 0, done.stderr
    (logs,) = tmp_path.glob('*/vis_data')
    (events,) = logs.glob('events.out.tfevents.*')
    assert b'mIoU' in events.read_bytes()
    assert 'mIoU' in (logs / 'scalars.json').read_text()


@pytest.mark.slow
def test_a_missing_package_is_one_clear_error(toy, tmp_path):
    (tmp_path / 'wandb.py').write_text('raise ImportError("no wandb here")')
    done = run_tool(
        'train.py',
        toy / 'segment.py',
        '--work-dir',
        tmp_path / 'run',
        '--track',
        'wandb',
        PYTHONPATH=f'{tmp_path}:{ROOT}',
    )
    assert done.returncode == 2
    message = 'error: --track wandb: no wandb here: install the extra volo[wandb]'
    assert message in done.stderr and 'Traceback' not in done.stderr
    assert not (tmp_path / 'run').exists()
