"""Errors of the libraries, turned into one clear error where the cause is known."""

import contextlib
import errno
import inspect
import re
import traceback
from collections.abc import Iterator
from pathlib import Path

from mmengine.config import Config
from torch.utils.data import DataLoader

from volo.errors import (
    ConfigError,
    DataError,
    TrainingError,
    VoloError,
    did_you_mean,
)
from volo.files import describe_write_error

from .configs import walk


@contextlib.contextmanager
def readable_errors(cfg: Config) -> Iterator[None]:
    """Raise a clear error in place of those that the user can fix.

    The Runner builds its parts when it needs them, so this surrounds all of its work.
    Errors of unknown cause pass unchanged.

    Args:
        cfg: The config at work.

    Raises:
        ConfigError: An unknown type or option.
        DataError: A file or folder of a dataset is missing.
        TrainingError: The work dir cannot be written, or a loader's worker was killed.
    """
    try:
        yield
    except (KeyError, OSError, RuntimeError, TypeError) as error:
        if isinstance(error, VoloError):
            raise
        explained = (
            _explain_option(cfg, error)
            or _explain_type(cfg, error)
            or _explain_file(cfg, error)
            or _explain_worker(error)
        )
        if explained is None:
            raise
        raise explained from error


def _explain_option(cfg: Config, error: Exception) -> VoloError | None:
    match = re.search(r"(\w+)\.__init__\(\) got an unexpected .*'(\w+)'", str(error))
    if not match or not isinstance(error, TypeError):
        return None
    name, key = match.groups()
    built = _built_class(name, error)
    inits = [vars(base).get('__init__') for base in (built.__mro__ if built else ())]
    options = {
        option
        for init in inits
        if inspect.isfunction(init)
        for option in inspect.signature(init).parameters
    }
    name = built.__name__ if built else name
    places = [p for p, node in walk(cfg) if node.get('type') == name and key in node]
    place = places[0] if places else name
    return ConfigError(
        f'{cfg.filename}: {place}: {name} has no option {key!r}.'
        f'{did_you_mean(key, options - {"self", "args", "kwargs"})}'
    )


def _built_class(name: str, error: BaseException | None) -> type | None:
    """Return the class that was built when ``__init__`` of a class refused an option.

    Args:
        name: The class, or a base of it.
        error: What was raised.
    """
    if name == DataLoader.__name__:
        return DataLoader
    while error is not None:
        for frame, _ in traceback.walk_tb(error.__traceback__):
            built = frame.f_locals.get('obj_cls')  # in mmengine's build_from_cfg
            if isinstance(built, type) and name in [b.__name__ for b in built.__mro__]:
                return built
        error = error.__cause__ or error.__context__
    return None


def _explain_type(cfg: Config, error: Exception) -> VoloError | None:
    match = re.match(r'(\S+) is not in the (\S+) registry', str(*error.args[:1]))
    if not match or not isinstance(error, KeyError):
        return None
    return ConfigError(
        f'{cfg.filename}: unknown type {match[1]!r}, not in {match[2]}: check the '
        'name, and that custom_imports lists its module'
    )


def _explain_file(cfg: Config, error: Exception) -> VoloError | None:
    if not isinstance(error, OSError):
        return None
    work_dir = cfg.get('work_dir')
    path = Path(error.filename or work_dir or '')
    of_work_dir = work_dir and path.absolute().is_relative_to(Path(work_dir).absolute())
    if of_work_dir and isinstance(error, FileNotFoundError):
        return TrainingError(
            f'{work_dir} was deleted or moved while training: {path} is missing. Start '
            'again, with --resume if its checkpoints are left'
        )
    if isinstance(error, FileNotFoundError):
        return DataError(f'{error.filename or error}: no such file or folder')
    full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    if of_work_dir and (full or error.errno in (errno.EACCES, errno.EROFS)):
        return TrainingError(describe_write_error(path, error))
    return None


def _explain_worker(error: Exception) -> VoloError | None:
    # torch's two errors: from a signal handler, and around that from the loader.
    match = re.search(r'DataLoader worker \(pid(?:\(s\))? ([\d, ]+)\)', str(error))
    if not match:
        return None
    killed = re.search(r'killed by signal: (\w+)', f'{error} {error.__cause__}')
    how = f'was killed ({killed[1]})' if killed else 'exited unexpectedly'
    return TrainingError(
        f'a worker of the data loader (pid {match[1]}) {how}. If the machine ran out '
        'of memory, lower num_workers or batch_size of the loader; if a container ran '
        'out of shared memory, raise its --shm-size. --resume continues a training'
    )
