"""Lock a work dir, so that two trainings do not mix their checkpoints."""

import errno
import functools
import logging
import os
import socket
from pathlib import Path
from types import TracebackType

from mmengine.logging import print_log

from volo.errors import ConfigError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

#: The locked file. It tells who holds the lock.
LOCK_NAME = '.training.lock'

#: What a file system without locks answers.
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)

#: Descriptors of this process. A worker would hold the lock for longer than training.
_held: set[int] = set()


class FolderLock:
    """A lock on a folder: ``flock`` on a file in it.

    The kernel releases it when the process ends, whatever ends it. Where the file
    system has no locks, a warning says so, and nothing is locked.
    """

    def __init__(self) -> None:
        self._descriptor: int | None = None
        self._path = Path()

    def acquire(self, folder: Path) -> None:
        """Lock a folder, which is created if missing, and release the one before.

        Args:
            folder: The folder. It may have the path of the one before, if that was
                renamed.

        Raises:
            ConfigError: Another process holds the lock, or the folder is read-only.
        """
        path = folder / LOCK_NAME
        try:
            folder.mkdir(parents=True, exist_ok=True)
            descriptor = _lock(path)
        except BlockingIOError:
            raise ConfigError(
                f'{folder} is in use by another training ({_read_owner(path)}): wait '
                'until it ends, or train elsewhere with --work-dir'
            ) from None
        except OSError as error:
            raise ConfigError(
                f'{folder} cannot be written: {error.strerror}. Choose another folder '
                'with --work-dir'
            ) from error
        self.release()
        self._descriptor, self._path = descriptor, path

    def release(self) -> None:
        """Release the lock, and remove its file."""
        if self._descriptor is None:
            return
        if _is_at(self._descriptor, self._path):
            self._path.unlink()
        _close(self._descriptor)
        self._descriptor = None

    def __enter__(self) -> 'FolderLock':
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()


def _lock(path: Path) -> int:
    """Open and lock a file.

    Raises:
        BlockingIOError: Another process holds the lock.
        OSError: The file cannot be created.
    """
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        _close_in_workers()
        _held.add(descriptor)
        try:
            if fcntl is None:
                raise OSError(errno.ENOSYS, 'no locks on this system')
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _close(descriptor)
            raise
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                _close(descriptor)
                raise
            print_log(
                f'{path.parent} cannot be locked ({error.strerror}): do not start a '
                'second training there.',
                logger='current',
                level=logging.WARNING,
            )
        # Its last owner may have removed or renamed it in the meantime.
        if _is_at(descriptor, path):
            os.ftruncate(descriptor, 0)
            owner = f'host {socket.gethostname()}, pid {os.getpid()}'
            os.write(descriptor, owner.encode())
            return descriptor
        _close(descriptor)


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _read_owner(path: Path) -> str:
    try:
        return path.read_text() or 'just started'
    except OSError:
        return 'unknown'


def _close(descriptor: int) -> None:
    _held.discard(descriptor)
    os.close(descriptor)


@functools.cache
def _close_in_workers() -> None:
    if hasattr(os, 'register_at_fork'):
        os.register_at_fork(after_in_child=_close_all)


def _close_all() -> None:
    while _held:
        os.close(_held.pop())
