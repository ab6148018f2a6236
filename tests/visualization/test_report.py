import os

import pytest
import torch
from mmengine.config import Config

from volo.errors import CheckpointError, ConfigError
from volo.visualization.report import (
    describe_training,
    find_checkpoint,
    find_config,
    prepare_config,
    write_report,
)


def test_the_saved_config_is_found(tmp_path):
    with pytest.raises(
        ConfigError, match=r'no config \(\*.py\). Name it with --config'
    ):
        find_config(tmp_path)
    (tmp_path / 'a.py').touch()
    assert find_config(tmp_path).name == 'a.py'
    (tmp_path / 'b.py').touch()
    with pytest.raises(ConfigError, match=r'several configs: a.py, b.py. Name one'):
        find_config(tmp_path)


def test_the_best_checkpoint_comes_before_the_newest(tmp_path):
    with pytest.raises(CheckpointError, match='no checkpoints .*Name one with --check'):
        find_checkpoint(tmp_path)
    for number in (2, 10):
        torch.save({}, tmp_path / f'iter_{number}.pth')
    assert find_checkpoint(tmp_path).name == 'iter_10.pth'
    for time, name in enumerate(('best_mIoU_iter_4.pth', 'best_mIoU_iter_2.pth')):
        torch.save({}, tmp_path / name)
        os.utime(tmp_path / name, (time, time))
    assert find_checkpoint(tmp_path).name == 'best_mIoU_iter_2.pth'


def test_the_evaluation_touches_neither_trackers_nor_the_training():
    cfg = Config(
        dict(
            work_dir='training',
            resume=True,
            val_dataloader=dict(batch_size=3),
            val_evaluator=dict(type='Val'),
            val_cfg=dict(type='ValLoop', fp16=True),
            test_dataloader=dict(batch_size=4),
            default_hooks=dict(visualization=dict(type='A'), timer=dict(type='B')),
            custom_hooks=[dict(type='CompileHook'), dict(type='EMAHook')],
            visualizer=dict(type='V', vis_backends=[dict(type='WandbVisBackend')]),
        )
    )
    prepare_config(cfg, 'val', 'weights.pth', 'scratch')
    assert cfg.test_dataloader.batch_size == 3 and cfg.test_evaluator.type == 'Val'
    assert cfg.test_cfg == dict(fp16=True)
    assert (cfg.load_from, cfg.resume, cfg.work_dir) == (
        'weights.pth',
        False,
        'scratch',
    )
    assert list(cfg.default_hooks) == ['timer']
    assert cfg.custom_hooks == [dict(type='EMAHook')]
    assert cfg.visualizer.vis_backends == []
    with pytest.raises(ConfigError, match='no test_evaluator: there is nothing to ev'):
        cfg.pop('test_evaluator')
        prepare_config(cfg, 'test', 'weights.pth', 'scratch')


def test_wrong_paths_are_refused_before_anything_runs(tmp_path):
    with pytest.raises(ConfigError, match='absent: no such folder. Name the work dir'):
        write_report(tmp_path / 'absent')
    with pytest.raises(ConfigError, match='--out .*report.json: must end in .html'):
        write_report(tmp_path, out=tmp_path / 'report.json')
    (tmp_path / 'a.py').touch()
    with pytest.raises(CheckpointError, match='weights.pth: no such checkpoint'):
        write_report(tmp_path, checkpoint=tmp_path / 'weights.pth')


def test_a_checkpoint_tells_when_it_was_saved():
    meta = dict(epoch=0, iter=1200, time='20260131_120500')
    assert describe_training(meta) == 'iter 1,200, saved 2026-01-31 12:05'
    assert describe_training(dict(epoch=2, time='today')) == 'epoch 2'
    assert describe_training({}) == ''
