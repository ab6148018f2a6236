import os
import subprocess
import sys

import pytest
from mmengine.config import Config

from volo.engine import build_runner, load_config
from volo.engine.launch import _adapt_to_cpu, _init_gloo, readable_errors, train
from volo.engine.launch import test as evaluate
from volo.errors import ConfigError, DataError
from volo.paths import config_path


@pytest.fixture
def config(tmp_path):
    path = tmp_path / 'mine.py'
    path.write_text(
        "data_root = 'data/a/'\n"
        "model = dict(type='M', neck=[dict(norm_cfg=dict(type='SyncBN'))])\n"
        'train_dataloader = dict(dataset=dict(data_root=data_root))\n'
        "val_dataloader = dict(dataset=[dict(data_root='data/b/')])\n"
        "optim_wrapper = dict(type='AmpOptimWrapper', loss_scale='dynamic')\n"
    )
    return path


def test_work_dir_is_named_after_the_config_unless_given(config):
    assert load_config(config).work_dir == 'work_dirs/mine'
    assert load_config(config, work_dir='there').work_dir == 'there'
    assert load_config(config, dict(work_dir='option')).work_dir == 'option'


def test_data_root_reaches_the_data_sets_that_share_it(config):
    cfg = load_config(config, dict(data_root='/data'))
    assert cfg.train_dataloader.dataset.data_root == '/data'
    assert cfg.val_dataloader.dataset[0].data_root == 'data/b/'


@pytest.mark.parametrize('place', ['train_dataloader', 'train_dataloader.dataset'])
def test_data_root_leaves_alone_what_another_option_replaces(config, place):
    cfg = load_config(config, {place: None, 'data_root': '/data'})
    assert cfg.get(place.split('.')[0]) in (None, dict(dataset=None))


def test_data_root_reaches_every_split_of_a_shipped_config():
    path = config_path('volo_tiny_upernet_camvid')
    cfg = load_config(path, dict(data_root='/data'))
    roots = [cfg[f'{s}_dataloader'].dataset.data_root for s in ('train', 'val', 'test')]
    assert roots == ['/data'] * 3


@pytest.mark.parametrize(
    'options, message',
    [
        (dict(data_rot='x'), 'no key data_rot. Did you mean data_root'),
        ({'train_dataloder.batch_size': 2}, 'Did you mean train_dataloader'),
    ],
)
def test_a_mistyped_option_is_refused(config, options, message):
    with pytest.raises(ConfigError, match=message):
        load_config(config, options)


def test_an_option_of_the_runner_need_not_be_in_the_config(config):
    assert load_config(config, dict(custom_hooks=[])).custom_hooks == []


def test_a_missing_or_broken_config_is_named(tmp_path, config):
    with pytest.raises(
        ConfigError, match=r'no such config file. Did you mean .*mine.py'
    ):
        load_config(tmp_path / 'mime.py')
    config.write_text('model = dict(')
    with pytest.raises(ConfigError, match=r'mine.py: SyntaxError'):
        load_config(config)


def test_what_needs_a_gpu_is_replaced_on_a_cpu(config):
    cfg = load_config(config)
    cfg.launcher = 'pytorch'
    _adapt_to_cpu(cfg)
    assert cfg.model.neck[0].norm_cfg.type == 'BN'
    assert cfg.optim_wrapper == dict(type='OptimWrapper')
    assert cfg.model_wrapper_cfg.device_ids is None


def test_bfloat16_stays_on_a_cpu(config):
    cfg = load_config(config, {'optim_wrapper.dtype': 'bfloat16'})
    cfg.launcher = 'none'
    _adapt_to_cpu(cfg)
    assert cfg.optim_wrapper == dict(type='BFloat16OptimWrapper')


@pytest.mark.parametrize('launcher', ['pytorch', 'slurm', 'mpi'])
def test_a_launcher_without_its_environment_is_refused(monkeypatch, launcher):
    for name in ('RANK', 'WORLD_SIZE', 'SLURM_PROCID', 'SLURM_NTASKS'):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ConfigError, match=f'--launcher {launcher}'):
        _init_gloo(launcher, {})


def test_a_strategy_needs_processes(config):
    cfg = load_config(config, dict(strategy=dict(type='VOLOFSDPStrategy')))
    with pytest.raises(ConfigError, match='needs several processes'):
        build_runner(cfg)


@pytest.mark.parametrize('run', [train, evaluate])
def test_evaluation_skips_nothing(config, run):
    options = {'val_dataloader.dataset.0.skip_broken': True}
    with pytest.raises(ConfigError, match=r'val_dataloader.dataset.0.skip_broken: ev'):
        run(load_config(config, options))


def test_slurm_tasks_find_each_other():
    code = (
        'from volo.engine.launch import _init_gloo; import torch.distributed as d; '
        "_init_gloo('slurm', {}); print(d.get_rank(), d.get_world_size())"
    )
    tasks = [
        subprocess.Popen(
            [sys.executable, '-c', code],
            stdout=subprocess.PIPE,
            text=True,
            env={
                **{
                    k: v
                    for k, v in os.environ.items()
                    if k not in ('RANK', 'WORLD_SIZE')
                },
                'SLURM_PROCID': str(rank),
                'SLURM_NTASKS': '2',
                'MASTER_ADDR': '127.0.0.1',
                'MASTER_PORT': '29631',
            },
        )
        for rank in range(2)
    ]
    lines = [task.communicate()[0].splitlines()[-1] for task in tasks]
    assert lines == ['0 2', '1 2']


def test_an_unknown_option_of_a_class_names_its_place():
    cfg = Config(dict(model=dict(type='M', backbone=dict(type='VOLO', dropp=1))))
    with (
        pytest.raises(ConfigError, match=r"model.backbone: VOLO has no option 'dropp'"),
        readable_errors(cfg),
    ):
        from volo.models import VOLO

        VOLO(dropp=1)


def test_an_unknown_type_is_named():
    from mmengine.registry import MODELS

    with (
        pytest.raises(ConfigError, match="unknown type 'VOLLO'"),
        readable_errors(Config()),
    ):
        MODELS.build(dict(type='VOLLO'))


def test_errors_of_the_code_are_left_alone():
    for error in (TypeError('unsupported operand'), KeyError('loss')):
        with pytest.raises(type(error)), readable_errors(Config()):
            raise error
    with pytest.raises(DataError, match='gone.png'), readable_errors(Config()):
        open('gone.png')
