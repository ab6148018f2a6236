import errno
import re

import pytest
from mmengine.config import Config
from mmengine.registry import HOOKS, MODELS, init_default_scope
from torch.utils.data import DataLoader

from volo.engine.launch import readable_errors
from volo.errors import ConfigError, DataError, TrainingError


def test_an_unknown_option_of_a_class_names_its_place():
    cfg = Config(dict(model=dict(type='M', backbone=dict(type='VOLO', dropp=1))))
    with (
        pytest.raises(ConfigError, match=r"model.backbone: VOLO has no option 'dropp'"),
        readable_errors(cfg),
    ):
        from volo.models import VOLO

        VOLO(dropp=1)


@pytest.mark.parametrize(
    ('registry', 'option', 'near'),
    [
        (MODELS, dict(type='VOLO', drop_path_rat=0.1), 'drop_path_rate'),
        (MODELS, dict(type='UPerHead', num_clases=2), 'num_classes'),  # of a base
        (HOOKS, dict(type='LoggerHook', intervals=1), 'interval'),
    ],
)
def test_an_unknown_option_suggests_one_of_the_class(registry, option, near):
    init_default_scope('mmseg')
    expected = re.escape(f'Did you mean {near}?')
    with pytest.raises(ConfigError, match=expected), readable_errors(Config()):
        registry.build(option)
    with (
        pytest.raises(ConfigError, match=r'DataLoader has no .* mean num_workers\?'),
        readable_errors(Config()),
    ):
        DataLoader([], num_worker=1)


def test_an_unknown_type_is_named():
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


def failing(error, work_dir='work_dirs/mine'):
    with readable_errors(Config(dict(work_dir=work_dir))):
        raise error


def test_a_work_dir_that_is_gone_or_read_only_is_told_from_missing_data():
    inside = 'work_dirs/mine/20260101/vis_data/scalars.json'
    with pytest.raises(TrainingError, match='mine was deleted or moved .* with --res'):
        failing(FileNotFoundError(errno.ENOENT, 'No such file', inside))
    with pytest.raises(TrainingError, match='scalars.json cannot be written: Read-on'):
        failing(OSError(errno.EROFS, 'Read-only file system', inside))
    with pytest.raises(DataError, match='a.png: no such file'):
        failing(FileNotFoundError(errno.ENOENT, 'No such file', 'data/a.png'))
    for other in (OSError(errno.EROFS, 'x', 'data/a.png'), OSError(errno.EIO, inside)):
        with pytest.raises(OSError):
            failing(other)


@pytest.mark.parametrize(
    ('text', 'cause', 'expected'),
    [
        ('(pid 7) is killed by signal: Killed. ', None, r'\(pid 7\) was killed \(K'),
        ('(pid(s) 7, 8) exited unexpectedly', None, r'\(pid 7, 8\) exited unexp'),
        (
            '(pid(s) 7) exited unexpectedly',
            'DataLoader worker (pid 7) is killed by signal: Bus error. ',
            r'\(pid 7\) was killed \(Bus\).*shm-size',
        ),
    ],
)
def test_a_killed_worker_is_named(text, cause, expected):
    error = RuntimeError(f'DataLoader worker {text}')
    error.__cause__ = cause and RuntimeError(cause)
    with pytest.raises(TrainingError, match=expected):
        failing(error)
