"""The console of a run: a short header; the log file has everything."""

import logging
from typing import Any

import torch
from mmengine.device import get_device
from mmengine.hooks import Hook
from mmengine.logging import MMLogger
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from volo.models.wrappers import unwrap
from volo.version import __version__

#: Starts of messages that only the log file gets: hundreds of lines about the set-up,
#: and warnings of the libraries about each other.
FILE_ONLY = (
    f'\n{"-" * 60}\nSystem environment:',
    'Config:\n',
    'Hooks will be executed in the following order:',
    'paramwise_options -- ',
    'Name of parameter - Initialization information',
    '\nName of parameter - Initialization information',
    'Distributed training is not used, all SyncBatchNorm (SyncBN) layers',
    'The prefix is not set in metric class',
    '"FileClient" will be deprecated',
    '"HardDiskBackend" is the alias of',
)


def build_runner_with_short_console(cfg: dict) -> Runner:
    """Build the Runner that a config asks for, with a short console."""
    runner_type = RUNNERS.get(cfg.get('runner_type', 'Runner'))
    if runner_type is None:
        return RUNNERS.build(cfg)  # its error names the registry
    short: Any = type(runner_type.__name__, (_ShortConsole, runner_type), {})
    runner = short.from_cfg(cfg)
    runner.register_hook(HeaderHook())
    return runner


class _ShortConsole:
    """Mixed into a Runner, which logs hundreds of lines while it is built."""

    def build_logger(self, *args: Any, **kwargs: Any) -> MMLogger:
        logger = super().build_logger(*args, **kwargs)  # type: ignore[misc]
        for handler in logger.handlers:
            if type(handler) is logging.StreamHandler:
                handler.addFilter(is_for_console)
        return logger


def is_for_console(record: logging.LogRecord) -> bool:
    """Tell whether a record is none of :data:`FILE_ONLY`."""
    return not record.getMessage().startswith(FILE_ONLY)


class HeaderHook(Hook):
    """Log what runs, on what and where, before a training or an evaluation."""

    priority = 'LOWEST'

    def before_train(self, runner: Runner) -> None:
        """Log the header with the datasets of the training."""
        loaders = dict(train=runner.train_dataloader)
        if runner.val_loop is not None:
            loaders['val'] = runner.val_dataloader
        runner.logger.info(header(runner, loaders))

    def before_test(self, runner: Runner) -> None:
        """Log the header with the test set."""
        runner.logger.info(header(runner, dict(test=runner.test_dataloader)))


def header(runner: Runner, loaders: dict[str, Any]) -> str:
    """Return the header of a run, one setting a line."""
    lines = {
        'config': runner.cfg.filename,
        'work dir': runner.work_dir,
        'log': f'{runner.log_dir} (with all settings)',
        'device': _device(runner),
        'model': _model(runner),
    }
    for split, loader in loaders.items():
        size = getattr(loader.batch_sampler, 'batch_size', None) or loader.batch_size
        lines[split] = f'{len(loader.dataset):,} images, {size} per batch and process'
    lines['seed'] = runner.seed
    lines['versions'] = f'volo {__version__}, torch {torch.__version__}'
    return '\n'.join(['', *(f'  {name:<9} {text}' for name, text in lines.items())])


def _device(runner: Runner) -> str:
    if get_device() == 'cpu':
        return f'{runner.world_size} x CPU, {torch.get_num_threads()} threads each'
    name = torch.cuda.get_device_name() if torch.cuda.is_available() else get_device()
    return f'{runner.world_size} x {name}'


def _model(runner: Runner) -> str:
    model = unwrap(runner.model)
    arch = runner.cfg.model.get('backbone', {}).get('arch')
    text = type(model).__name__
    if isinstance(arch, str):
        text += f' with VOLO {arch}'
    if runner.cfg.get('strategy'):  # each process may have a part of the parameters
        return text
    count = sum(parameter.numel() for parameter in model.parameters())
    return f'{text}, {count / 1e6:.1f} M parameters'
