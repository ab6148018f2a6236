import math
import re
import signal
import threading

import pytest
from mmengine.config import Config
from mmengine.fileio import LocalBackend
from mmengine.hooks import CheckpointHook

from benchmarks import reliability
from benchmarks.reliability import (
    OURS,
    PLAIN,
    make_runners,
    measure_reliability,
    parts,
    train_together,
)
from tests.toy import ROOT
from volo.engine.file_backend import AtomicBackend
from volo.engine.launch import load_config
from volo.errors import ConfigError


@pytest.fixture
def cfg(monkeypatch):
    """A tiny config with few small images."""
    draw = reliability.generate_shapes_dataset
    small = dict(train_per_class=2, val_per_class=1, size=64)
    monkeypatch.setattr(
        reliability, 'generate_shapes_dataset', lambda path, **_: draw(path, **small)
    )
    return load_config(ROOT / 'configs/volo_tiny_shapes.py')


def loss(runner):
    return runner.message_hub.get_scalar('train/loss').current()


def hook_backend(runner):
    hooks = [hook for hook in runner.hooks if isinstance(hook, CheckpointHook)]
    return hooks[0].file_backend


def test_both_train_and_differ_in_hooks_and_sampler_alone(cfg, tmp_path):
    runners = make_runners(cfg, tmp_path, batch_size=5, num_workers=0)
    mine = {hook.type for hook in cfg.default_hooks.values()}
    plain, ours = (parts(runners[name]) for name in (PLAIN, OURS))
    assert mine <= ours
    assert plain - ours == {'CheckpointHook', 'DefaultSampler'}
    assert {'SafeCheckpointHook', 'InterruptionHook', 'RandomStreamsHook'} <= ours
    assert 'StreamSampler' in ours and 'SkipNonFiniteHook' in ours
    handler, threads = signal.getsignal(signal.SIGTERM), threading.active_count()

    def inside():
        assert signal.getsignal(signal.SIGTERM) != handler
        for _ in range(3):  # an epoch has two
            for runner in runners.values():
                runner.train_loop.step()

    train_together(list(runners.values()), inside)
    for runner in runners.values():
        assert (runner.iter, runner.epoch) == (3, 1)
        assert math.isfinite(loss(runner))
    backends = {name: type(hook_backend(runner)) for name, runner in runners.items()}
    assert backends == {PLAIN: LocalBackend, OURS: AtomicBackend}
    assert signal.getsignal(signal.SIGTERM) == handler
    assert threading.active_count() == threads
    assert not list(tmp_path.rglob('*.pth'))


def test_iterations_and_checkpoints_are_measured(cfg):
    report = measure_reliability(cfg, 5, num_workers=0, repeats=1, calls=1)
    iteration, saving = report.rows
    assert iteration['name'] == 'training iteration'
    assert re.fullmatch(r'saving a checkpoint, [1-9]\d* MB', saving['name'])
    for row in report.rows:
        assert len(row['plain_seconds']) == len(row['ours_seconds']) == 1
    assert 'RandomStreamsHook' in report.title and len(report.cells()) == 2


def test_the_augmentation_of_a_recipe_with_label_maps_is_kept(cfg, tmp_path):
    arch = {f'model.{part}.arch': 'tiny' for part in ('backbone', 'head')}
    cfg = load_config(ROOT / 'configs/volo_d1_imagenet.py', arch)
    runners = make_runners(cfg, tmp_path, batch_size=2, num_workers=1)
    for runner in runners.values():
        loader = runner.train_loop.dataloader
        transforms = [type(t).__name__ for t in loader.dataset.pipeline.transforms]
        assert 'NormalizedErasing' in transforms
        assert (loader.batch_size, loader.num_workers) == (2, 1)


def test_additional_time_is_a_share_of_mmengines(monkeypatch):
    times = {
        PLAIN: [1.0, 4.0, 2.0],
        f'{PLAIN} again': [1.0, 4.0, 2.0],
        OURS: [1.0, 4.0, 2.0],
        f'{OURS} again': [2.0, 4.0, 3.0],
    }
    asked = []

    def pretend(functions, *options):
        asked.append((list(functions.values()), options))
        return times

    monkeypatch.setattr(reliability, 'turn_seconds', pretend)
    row = reliability._compare('x', {PLAIN: 'p', OURS: 'o'}, 3, 2)
    assert asked == [(['p', 'o', 'o', 'p'], (3, 2))]
    assert row['plain_seconds'] == [1.0, 4.0, 2.0]
    assert row['ours_seconds'] == [1.5, 4.0, 2.5]
    assert (row['plain_ms'], row['ours_ms']) == (2000, 2500)
    assert [row[f'more_{key}'] for key in ('median', 'low', 'high')] == [0.25, 0.0, 0.5]


def test_another_kind_of_config_is_refused(tmp_path):
    cfg = Config.fromfile(ROOT / 'configs/volo_tiny_upernet_shapes.py')
    with pytest.raises(ConfigError, match='no classifier'):
        make_runners(cfg, tmp_path, batch_size=2, num_workers=0)
