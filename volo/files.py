"""Atomic writing: a file holds its old content or all of its new content."""

import contextlib
import errno
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

#: The suffix of incomplete files. Their names begin with a dot.
PARTIAL_SUFFIX = '.partial'


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike) -> Iterator[Path]:
    """Yield a temporary path that is renamed to ``path`` if the block succeeds.

    Args:
        path: A file, or a folder that does not exist or is empty. Its parent is
            created if missing.

    Raises:
        OSError: The parent cannot be created, or the result cannot be renamed.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f'.{path.name}.{uuid.uuid4().hex}{PARTIAL_SUFFIX}')
    try:
        yield partial
        partial.replace(path)
    finally:
        if partial.is_dir():
            shutil.rmtree(partial, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):
                partial.unlink()


def write_atomically(
    path: str | os.PathLike, content: bytes, *, durable: bool = True
) -> None:
    """Write a file so that a kill, a full disk or a reader never sees half of it.

    Args:
        path: The file. Its folder is created if missing.
        content: The whole content.
        durable: Wait until the content is on disk, so that it survives a power
            failure. This takes milliseconds.

    Raises:
        OSError: The content does not fit on the disk or cannot be written. The old
            file is unchanged.
    """
    path = Path(path)
    with atomic_path(path) as partial:
        if shutil.disk_usage(path.parent).free < len(content):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        with partial.open('wb') as file:
            file.write(content)
            if durable:
                file.flush()
                os.fsync(file.fileno())
    if durable:
        _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Flush the names in a folder to disk, where the system supports it."""
    if not hasattr(os, 'O_DIRECTORY'):
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def describe_write_error(
    path: str | os.PathLike, error: OSError, size: int | None = None
) -> str:
    """Return why a file could not be written, as a sentence for the user.

    Args:
        path: The file.
        error: The error of the system.
        size: The size of the file in bytes, if known.
    """
    if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return f'{path} cannot be written: {error.strerror or error}'
    takes = '' if size is None else f'it takes {size / 1e6:.1f} MB, '
    free = shutil.disk_usage(Path(path).parent).free
    reason = f'{free / 1e6:.1f} MB are free'
    if error.errno == errno.EDQUOT:
        reason = 'your disk quota is reached'
    elif error.errno == errno.EFBIG:
        reason = 'the limit for the size of a file is lower (ulimit -f)'
    elif free >= max(size or 0, 1_000_000):
        # The free space of the disk is not what limits this user.
        reason = 'your quota, or the number of files on the disk, is reached'
    return f'{path} does not fit on the disk: {takes}{reason}'
