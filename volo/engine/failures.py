"""Errors of the libraries, turned into one clear error where the cause is known."""

import contextlib
import errno
import re
from collections.abc import Iterator
from pathlib import Path

from mmengine.config import Config

from volo.errors import ConfigError, DataError, TrainingError, VoloError
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
    places = [p for p, node in walk(cfg) if node.get('type') == name and key in node]
    place = places[0] if places else name
    return ConfigError(f'{cfg.filename}: {place}: {name} has no option {key!r}')


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
