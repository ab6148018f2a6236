"""Measure what reliable training costs: our hooks and sampler against mmengine's own.

Compares the time of a training iteration and of saving a checkpoint, on synthetic
shapes, and on the GPU if there is one:

    python -m benchmarks reliability [CONFIG] [--batch-size 8 --num-workers 0]
"""

import argparse
import copy
import dataclasses
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.hooks import CheckpointHook, Hook
from mmengine.registry import DATA_SAMPLERS, HOOKS, LOOPS
from mmengine.runner import EpochBasedTrainLoop, Runner

from demo.shapes_dataset import generate_shapes_dataset
from volo.engine.launch import build_runner, load_config
from volo.errors import ConfigError
from volo.paths import config_path
from volo_cli import natural

from .arguments import add_cfg_options, add_number, add_out, add_repeats
from .measure import Spread, turn_seconds
from .report import Report

PLAIN, OURS = 'plain', 'ours'

COLUMNS = {
    '': '{name}',
    'plain, ms': '{plain_ms:.1f}',
    'ours, ms': '{ours_ms:.1f}',
    'ours more': '{more_median:+.1%}',
    'range': '{more_low:+.1%} to {more_high:+.1%}',
}


@LOOPS.register_module()
class SteppedTrainLoop(EpochBasedTrainLoop):
    """mmengine's loop of epochs, with iterations that run on call."""

    #: Called instead of running the epochs.
    inside: Callable[[], None]

    def run(self) -> None:
        """Start the training, call ``inside`` and end the training."""
        self._iterations = self._iterate()
        self.runner.call_hook('before_train')
        self.inside()
        self.runner.call_hook('after_train')

    def step(self) -> None:
        """Run the next iteration, and the hooks between epochs where they are due."""
        next(self._iterations)

    def end_epoch(self) -> None:
        """Run the hooks after an epoch."""
        self.runner.call_hook('after_train_epoch')
        self._epoch += 1

    def _iterate(self) -> Iterator[None]:
        while True:
            self.runner.call_hook('before_train_epoch')
            self.runner.model.train()
            for number, batch in enumerate(self.dataloader):
                self.run_iter(number, batch)
                yield
            self.end_epoch()


def measure_reliability(
    cfg: Config, batch_size: int, num_workers: int, repeats: int, calls: int
) -> Report:
    """Train with our hooks and sampler and with mmengine's own, in turns.

    Args:
        cfg: Config of a classifier. Synthetic shapes replace its images.
        batch_size: Images per iteration.
        num_workers: Processes that load images. With 0, nothing hides the time of a
            sample.
        repeats: Number of timed turns.
        calls: Iterations in a row. Each Runner runs them twice per turn.

    Returns:
        A row for a training iteration and one for saving a checkpoint. ``more_*`` is
        the additional time of ours, as a share of mmengine's time.

    Raises:
        ConfigError: The config is not of a classifier that trains by epochs.
    """
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        runners = make_runners(cfg, Path(folder), batch_size, num_workers)
        loops = {name: runner.train_loop for name, runner in runners.items()}

        def measure() -> None:
            steps = {name: loop.step for name, loop in loops.items()}
            rows.append(_compare('training iteration', steps, repeats, calls))
            for runner in runners.values():
                hook = next(h for h in runner.hooks if isinstance(h, CheckpointHook))
                hook.interval = 1
            ends = {name: loop.end_epoch for name, loop in loops.items()}
            rows.append(_compare('saving a checkpoint', ends, repeats, calls=1))
            size = Path(hook.last_ckpt).stat().st_size
            rows[-1]['name'] += f', {size / 1e6:.0f} MB'

        train_together([*runners.values()], measure)
    device = next(runners[OURS].model.parameters()).device.type
    options: dict[str, object] = dict(
        config=str(cfg.filename),
        batch_size=batch_size,
        num_workers=num_workers,
        device=device,
        repeats=repeats,
        calls=calls,
    )
    features = ', '.join(sorted(parts(runners[OURS]) - parts(runners[PLAIN])))
    title = f'{cfg.filename}, {batch_size} images per iteration; ours: {features}'
    return Report('reliability', title, options, COLUMNS, rows)


def make_runners(
    cfg: Config, folder: Path, batch_size: int, num_workers: int
) -> dict[str, Runner]:
    """Build two Runners of one config: with mmengine's hooks and sampler, and ours.

    Both have a :class:`SteppedTrainLoop`.

    Args:
        cfg: See :func:`measure_reliability`.
        folder: Folder of images, logs and checkpoints.
        batch_size: Images per iteration.
        num_workers: Processes that load images.

    Raises:
        ConfigError: The config is not of a classifier that trains by epochs.
    """
    if cfg.get('default_scope') != 'mmpretrain' or not cfg.train_cfg.get('by_epoch'):
        raise ConfigError(
            f'{cfg.filename}: no classifier that trains by epochs: name another config'
        )
    ours = copy.deepcopy(cfg)
    _set_images(ours, folder / 'images', batch_size, num_workers)
    for key in ('cfg', 'dataloader', 'evaluator'):
        ours[f'val_{key}'] = ours[f'test_{key}'] = None
    # mmengine would save at the end of the last epoch, which is never reached.
    ours.train_cfg = dict(type='SteppedTrainLoop', max_epochs=10**6)
    ours.default_hooks.checkpoint.update(interval=-1, save_best=None)
    ours.log_level = 'ERROR'
    configs = {PLAIN: _mmengines_own(ours), OURS: ours}
    for name, part in configs.items():
        # Without a name, two Runners of the same second share one.
        part.update(experiment_name=name, work_dir=str(folder / name))
    return {name: build_runner(part) for name, part in configs.items()}


def parts(runner: Runner) -> set[str]:
    """Return the class names of a Runner's hooks and sampler."""
    sampler = runner.train_loop.dataloader.sampler
    return {type(part).__name__ for part in (*runner.hooks, sampler)}


def train_together(runners: Sequence[Runner], inside: Callable[[], None]) -> None:
    """Start the training of all Runners, call a function, and end the training.

    The trainings are nested calls, since hooks look for their training on the stack.
    """
    for runner in reversed(runners):
        runner.train_loop.inside = inside
        inside = runner.train
    inside()


def _set_images(cfg: Config, folder: Path, batch_size: int, workers: int) -> None:
    # About the size of photographs.
    generate_shapes_dataset(folder, train_per_class=32, val_per_class=1, size=256)
    dataset = cfg.train_dataloader.dataset
    while 'dataset' in dataset:  # a dataset of label maps around that of images
        dataset = dataset.dataset
    images = dict(type='ImageFolder', data_prefix='images/train')
    loader = cfg.train_dataloader
    loader.dataset = dict(data_root=str(folder), pipeline=dataset.pipeline, **images)
    loader.update(batch_size=batch_size, num_workers=workers, drop_last=True)
    loader.persistent_workers = workers > 0


def _mmengines_own(cfg: Config) -> Config:
    """Replace our classes by those they extend, and drop hooks that extend none."""
    cfg = copy.deepcopy(cfg)
    hooks = cfg.default_hooks
    for name in list(hooks):
        cls = _first_foreign(HOOKS.get(hooks[name].type))
        if cls is Hook:
            del hooks[name]
        elif cls is not None:
            hooks[name].type = cls.__name__
    # `import volo` has registered our file backend for all paths.
    hooks.checkpoint.backend_args = dict(backend='local')
    sampler = cfg.train_dataloader.sampler
    cls = _first_foreign(DATA_SAMPLERS.get(sampler.type))
    if cls is not None:
        sampler.type = cls.__name__
    return cfg


def _first_foreign(cls: type | None) -> type | None:
    bases = cls.__mro__ if cls is not None else ()  # None: of another scope
    return next((c for c in bases if not c.__module__.startswith('volo.')), None)


def _compare(
    name: str, functions: Mapping[str, Callable[[], None]], repeats: int, calls: int
) -> dict[str, Any]:
    # A machine that gets slower during a turn then slows both alike.
    order = (PLAIN, OURS, f'{OURS} again', f'{PLAIN} again')
    turn = {key: functions[key.removesuffix(' again')] for key in order}
    times = turn_seconds(turn, repeats, calls)
    row: dict[str, Any] = dict(name=name)
    for key in functions:
        seconds = np.mean([times[key], times[f'{key} again']], axis=0).tolist()
        row |= {f'{key}_seconds': seconds, f'{key}_ms': 1e3 * np.median(seconds)}
    more = np.divide(row['ours_seconds'], row['plain_seconds']) - 1
    spread = dataclasses.asdict(Spread.of(more.tolist()))
    return row | {f'more_{key}': value for key, value in spread.items()}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument(
        'config',
        nargs='?',
        default=config_path('volo_d1_plain_imagenet'),
        help='config of a classifier (default: configs/volo_d1_plain_imagenet.py)',
    )
    add_number(parser, '--batch-size', 8, 'images per iteration')
    parser.add_argument(
        '--num-workers',
        type=natural,
        default=0,
        metavar='N',
        help='processes that load images; 0 hides no time (default: %(default)s)',
    )
    add_repeats(parser)
    add_number(parser, '--calls', 1, 'iterations in a row')
    add_cfg_options(parser)
    add_out(parser)
    parser.set_defaults(device='cuda' if torch.cuda.is_available() else 'cpu')


def run(args: argparse.Namespace) -> None:
    """Run the command."""
    report = measure_reliability(
        load_config(args.config, args.cfg_options),
        args.batch_size,
        args.num_workers,
        args.repeats,
        args.calls,
    )
    report.show(args.out)
