"""Say which settings a resumed training takes from its checkpoint; refuse others."""

import logging
import warnings
from collections.abc import Iterator
from typing import Any, NamedTuple

from mmengine.hooks import EMAHook, Hook
from mmengine.logging import print_log
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from volo.errors import CheckpointError, ConfigError, some

#: Where a resumed training takes the settings of optimizer and schedules from.
SOURCES = ('checkpoint', 'config')

#: Settings that not every version of torch has, or that change only the speed.
_OPTIONAL = {'foreach', 'fused', 'capturable', 'differentiable', 'maximize'}
_OPTIONAL |= {'decoupled_weight_decay'}

#: What schedules hold beside settings.
_STATE = {'last_step', '_global_step', '_last_value', 'base_values', 'verbose'}
_STATE |= {'best', 'num_bad_epochs', 'cooldown_counter'}


class Difference(NamedTuple):
    """A setting, and its values in the parameter groups of checkpoint and config."""

    name: str
    saved: list
    own: list


@HOOKS.register_module()
class ResumedSettingsHook(Hook):
    """Compare the config's optimizer and schedules with those of a resumed checkpoint.

    mmengine takes the settings of both, such as learning rate, weight decay and length
    of the schedule, from the checkpoint, whatever the config says. This hook logs each
    difference, or uses the config's values: the schedules then continue as if the whole
    training had used them. It refuses another type of optimizer or schedule, other
    parameter groups, and averaged weights without an ``EMAHook``.

    Args:
        resume: Whether the checkpoint is resumed, not only loaded.
        hyperparams_from: ``checkpoint`` or ``config``.

    Raises:
        ConfigError: ``hyperparams_from`` is neither.
    """

    #: Before EMAHook.
    priority = 'VERY_HIGH'

    #: The key in a checkpoint's ``meta`` of the types of optimizer and schedules.
    META_KEY = 'trained_with'

    def __init__(
        self, resume: bool = True, hyperparams_from: str = 'checkpoint'
    ) -> None:
        if hyperparams_from not in SOURCES:
            raise ConfigError(
                f'hyperparams_from is {hyperparams_from!r}, it must be '
                f'{" or ".join(SOURCES)}'
            )
        self.resume = resume
        self.from_config = hyperparams_from == 'config'

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Save the types of optimizer and schedules."""
        optimizer = getattr(runner.optim_wrapper, 'optimizer', None)
        checkpoint['meta'][self.META_KEY] = dict(
            optimizer=type(optimizer).__name__, schedules=_schedule_types(runner)
        )

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Compare the settings before mmengine loads them.

        Raises:
            CheckpointError: The checkpoint cannot be resumed with this config.
        """
        if not self.resume:
            return
        averages = any(isinstance(hook, EMAHook) for hook in runner.hooks)
        if 'ema_state_dict' in checkpoint and not averages:
            raise _refusal('averaged weights', 'no EMAHook')
        if not (checkpoint.get('optimizer') or {}).get('param_groups'):
            return  # no optimizer, or several
        types = checkpoint['meta'].get(self.META_KEY) or {}
        differences = [
            *_compare_optimizers(runner, checkpoint, types.get('optimizer')),
            *self._compare_schedules(runner, checkpoint, types.get('schedules')),
        ]
        for name, saved, own in differences:
            one, other = ('config', 'checkpoint')
            used, unused = own, saved
            if not self.from_config:
                one, other, used, unused = other, one, unused, used
            print_log(
                f'{name} is {_few(used)} as in the {one}, not {_few(unused)} as in the '
                f'{other}. --hyperparams-from selects the one to use.',
                logger='current',
                level=logging.WARNING,
            )
        if self.from_config:
            _use_config(runner, checkpoint)

    def _compare_schedules(
        self, runner: Runner, checkpoint: dict, saved_types: list[str] | None
    ) -> Iterator[Difference]:
        own = [schedule.state_dict() for schedule in runner.param_schedulers or []]
        saved = checkpoint.get('param_schedulers') or []
        types = _schedule_types(runner)
        if saved_types is None:  # an older checkpoint: compare the names of settings
            alike = [state.keys() for state in own] == [state.keys() for state in saved]
            saved_types = types if alike else [f'{len(saved)} unknown']
        if types != saved_types:
            if not self.from_config:
                raise _refusal(
                    f'the schedules {some(saved_types)}',
                    some(types),
                    ' or, for its schedules, --hyperparams-from config',
                )
            yield Difference('param_scheduler', saved_types, types)
            return
        for number, (mine, theirs) in enumerate(zip(own, saved, strict=True)):
            for key in sorted(mine.keys() & theirs.keys() - _STATE):
                if not _same(mine[key], theirs[key]):
                    name = f'param_scheduler[{number}].{key}'
                    yield Difference(name, [theirs[key]], [mine[key]])


def _compare_optimizers(
    runner: Runner, checkpoint: dict, saved_type: str | None
) -> Iterator[Difference]:
    optimizer = runner.optim_wrapper.optimizer
    own, saved = optimizer.param_groups, checkpoint['optimizer']['param_groups']
    name = type(optimizer).__name__
    if saved_type is None:  # an older checkpoint: compare the names of settings
        alike = not (optimizer.defaults.keys() - saved[0].keys() - _OPTIONAL)
        saved_type = name if alike else 'unknown'
    if saved_type != name:
        raise _refusal(f'the optimizer {saved_type}', name)
    sizes = [[len(group['params']) for group in groups] for groups in (saved, own)]
    if sizes[0] != sizes[1]:
        raise _refusal(
            *(f'{len(s)} parameter groups with {sum(s)} parameters' for s in sizes)
        )
    for key in sorted(own[0].keys() & saved[0].keys() - {'params'}):
        if not key.startswith('initial_'):
            mine = [_setting(group, key) for group in own]
            theirs = [_setting(group, key) for group in saved]
            if not _same(mine, theirs):
                yield Difference(key, theirs, mine)


def _setting(group: dict, key: str) -> Any:
    """Return a setting of a parameter group as it was before schedules changed it."""
    return group.get(f'initial_{key}', group.get(key))


def _same(one: Any, other: Any) -> bool:
    """Compare settings; tuples may have become lists."""
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(_same, one, other))
    return one == other


def _few(values: list) -> str:
    return some(dict.fromkeys(map(str, values)), most=3)


def _schedule_types(runner: Runner) -> list[str]:
    schedules = runner.param_schedulers  # a dict if there are several optimizers
    return [type(s).__name__ for s in schedules] if isinstance(schedules, list) else []


def _use_config(runner: Runner, checkpoint: dict) -> None:
    """Replace the settings in a checkpoint before mmengine loads it."""
    schedules = runner.param_schedulers or []
    _fast_forward(schedules, checkpoint['meta'], len(runner.train_dataloader))
    own, saved = runner.optim_wrapper.state_dict(), checkpoint['optimizer']
    saved['param_groups'] = [
        group | dict(params=old['params'])
        for group, old in zip(own['param_groups'], saved['param_groups'], strict=True)
    ]
    if 'base_param_settings' in own:  # for the log
        saved['base_param_settings'] = own['base_param_settings']
    checkpoint['param_schedulers'] = [schedule.state_dict() for schedule in schedules]


def _fast_forward(schedules: list, meta: dict, epoch_length: int) -> None:
    """Step new schedules as often as a training has, in the order of a training.

    Many schedules compute a value from the one before.
    """
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # steps without a step of the optimizer
        for iteration in range(1, meta['iter'] + 1):
            epoch, rest = divmod(iteration, epoch_length)
            epoch_ended = rest == 0 and epoch <= meta['epoch']
            for schedule in schedules:
                if not schedule.by_epoch:
                    schedule.step()
            for schedule in schedules if epoch_ended else ():
                if schedule.by_epoch:
                    schedule.step()


def _refusal(saved: str, own: str, advice: str = '') -> CheckpointError:
    return CheckpointError(
        f'the checkpoint has {saved}, the config has {own}: to resume, use the config '
        f'that it was trained with{advice}. To start a new training from its weights, '
        'set load_from and leave out --resume'
    )
