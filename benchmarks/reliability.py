"""What the hooks and samplers that make training reliable cost it."""

import copy
import dataclasses
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from mmengine.config import Config
from mmengine.hooks import CheckpointHook, Hook
from mmengine.registry import DATA_SAMPLERS, HOOKS, LOOPS
from mmengine.runner import EpochBasedTrainLoop, Runner

from demo.shapes_dataset import generate_shapes_dataset
from volo.engine.launch import build_runner
from volo.errors import ConfigError

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
    """mmengine's loop of epochs, which runs an iteration when it is told to."""

    #: Called in the place of all epochs.
    inside: Callable[[], None]

    def run(self) -> None:
        """Begin the training, call ``inside`` and end it."""
        self._iterations = self._iterate()
        self.runner.call_hook('before_train')
        self.inside()
        self.runner.call_hook('after_train')

    def step(self) -> None:
        """Run the next iteration, and what is due between epochs."""
        next(self._iterations)

    def end_epoch(self) -> None:
        """Do what is due after an epoch."""
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
        cfg: A classifier's; its images are replaced by drawn ones.
        batch_size: Images an iteration.
        num_workers: That load them. With 0 nothing hides what a sample costs.
        repeats: Turns.
        calls: Iterations at once, of each twice a turn.

    Returns:
        A row for a training iteration, and one for saving a checkpoint. ``more_*`` is
        what ours takes beyond mmengine's, as a share of that.

    Raises:
        ConfigError: The config is of another kind.
    """
    rows = []
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
    options = dict(batch_size=batch_size, num_workers=num_workers, device=device)
    options |= dict(repeats=repeats, calls=calls, config=str(cfg.filename))
    features = ', '.join(sorted(parts(runners[OURS]) - parts(runners[PLAIN])))
    title = f'{cfg.filename}, {batch_size} images an iteration; ours: {features}'
    return Report('reliability', title, options, COLUMNS, rows)


def make_runners(
    cfg: Config, folder: Path, batch_size: int, num_workers: int
) -> dict[str, Runner]:
    """Make Runners of one config, with mmengine's own parts and with ours.

    Each has a :class:`SteppedTrainLoop`. The folder is for images, logs and
    checkpoints; the other arguments are those of :func:`measure_reliability`.
    """
    if cfg.get('default_scope') != 'mmpretrain' or not cfg.train_cfg.get('by_epoch'):
        raise ConfigError(f'{cfg.filename}: no classifier that is trained by epochs')
    ours = copy.deepcopy(cfg)
    _set_images(ours, folder / 'images', batch_size, num_workers)
    for key in ('cfg', 'dataloader', 'evaluator'):
        ours[f'val_{key}'] = ours[f'test_{key}'] = None
    # mmengine saves at the end of the last epoch: that is never reached.
    ours.train_cfg = dict(type='SteppedTrainLoop', max_epochs=10**6)
    ours.default_hooks.checkpoint.update(interval=-1, save_best=None)
    ours.log_level = 'ERROR'
    configs = {PLAIN: _mmengines_own(ours), OURS: ours}
    for name, part in configs.items():
        # Without, a Runner is named after the second it is made in.
        part.update(experiment_name=name, work_dir=str(folder / name))
    return {name: build_runner(part) for name, part in configs.items()}


def parts(runner: Runner) -> set[str]:
    """Name the classes of a Runner's hooks and sampler."""
    sampler = runner.train_loop.dataloader.sampler
    return {type(part).__name__ for part in (*runner.hooks, sampler)}


def train_together(runners: Sequence[Runner], inside: Callable[[], None]) -> None:
    """Begin the training of all, call a function, and end them again."""
    # Nested, in this thread: hooks look for their training on the stack.
    for runner in reversed(runners):
        runner.train_loop.inside = inside
        inside = runner.train
    inside()


def _set_images(cfg: Config, folder: Path, batch_size: int, workers: int) -> None:
    # About as large as photographs are.
    generate_shapes_dataset(folder, train_per_class=32, val_per_class=1, size=256)
    dataset = cfg.train_dataloader.dataset
    while 'dataset' in dataset:  # of images with label maps
        dataset = dataset.dataset
    images = dict(type='ImageFolder', data_prefix='images/train')
    loader = cfg.train_dataloader
    loader.dataset = dict(data_root=str(folder), pipeline=dataset.pipeline, **images)
    loader.update(batch_size=batch_size, num_workers=workers, drop_last=True)
    loader.persistent_workers = workers > 0


def _mmengines_own(cfg: Config) -> Config:
    """Take the classes that ours extend, and leave out the hooks that are all ours."""
    cfg = copy.deepcopy(cfg)
    hooks = cfg.default_hooks
    for name in list(hooks):
        cls = _first_foreign(HOOKS.get(hooks[name].type))
        if cls is Hook:
            del hooks[name]
        elif cls is not None:
            hooks[name].type = cls.__name__
    # `import volo` has registered ours for all paths.
    hooks.checkpoint.backend_args = dict(backend='local')
    sampler = cfg.train_dataloader.sampler
    sampler.type = _first_foreign(DATA_SAMPLERS.get(sampler.type)).__name__
    return cfg


def _first_foreign(cls: type | None) -> type | None:
    bases = cls.__mro__ if cls is not None else ()  # None: another scope's
    return next((c for c in bases if not c.__module__.startswith('volo.')), None)


def _compare(
    name: str, functions: Mapping[str, Callable[[], None]], repeats: int, calls: int
) -> dict[str, object]:
    # Of a turn: a machine that gets slower during it does so for both.
    order = (PLAIN, OURS, f'{OURS} again', f'{PLAIN} again')
    turn = {key: functions[key.removesuffix(' again')] for key in order}
    times = turn_seconds(turn, repeats, calls)
    row = dict(name=name)
    for key in functions:
        seconds = np.mean([times[key], times[f'{key} again']], axis=0).tolist()
        row |= {f'{key}_seconds': seconds, f'{key}_ms': 1e3 * np.median(seconds)}
    more = np.divide(row['ours_seconds'], row['plain_seconds']) - 1
    spread = dataclasses.asdict(Spread.of(more.tolist()))
    return row | {f'more_{key}': value for key, value in spread.items()}
