import pytest

from volo.engine import build_runner, load_config
from volo.engine.launch import _adapt_to_cpu, train
from volo.engine.launch import test as evaluate
from volo.errors import ConfigError


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


def test_a_strategy_needs_processes(config):
    cfg = load_config(config, dict(strategy=dict(type='VOLOFSDPStrategy')))
    with pytest.raises(ConfigError, match='needs several processes'):
        build_runner(cfg)


@pytest.mark.parametrize('run', [train, evaluate])
def test_evaluation_skips_nothing(config, run):
    options = {'val_dataloader.dataset.0.skip_broken': True}
    with pytest.raises(
        ConfigError, match=r'val_dataloader.dataset.0.skip_broken: an e'
    ):
        run(load_config(config, options))
