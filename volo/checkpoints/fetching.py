"""Locate checkpoints: local files, and files behind a URL that names their SHA-256.

A download appears in the cache only after its SHA-256 was verified. The SHA-256 is
verified again each time the file is opened, through the descriptor that is then read.
"""

import contextlib
import hashlib
import http.client
import logging
import os
import re
import shutil
import stat
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urlsplit

import torch.hub
from mmengine.logging import print_log
from mmengine.runner import (
    get_deprecated_model_names,
    get_external_models,
    get_mmcls_models,
    get_torchvision_models,
)

from volo.errors import CheckpointError, did_you_mean
from volo.files import atomic_path

from .trust import TRUST_VARIABLE, is_trusted

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

#: Seconds without a byte after which a download is given up.
TIMEOUT = 60

_BLOCK_BYTES = 1 << 20

#: Scheme -> the library's own table of names and URLs.
_TABLES: dict[str, Callable[[], dict[str, str | None]]] = {
    'modelzoo': get_torchvision_models,
    'torchvision': get_torchvision_models,
    'open-mmlab': get_external_models,
    'openmmlab': get_external_models,
    'mmcls': get_mmcls_models,
}


def locate(source: str | os.PathLike) -> Path:
    """Return the local file of a checkpoint, after downloading it if necessary.

    Args:
        source: A local path, a URL as in :func:`fetch`, or a name in a table of
            OpenMMLab or torchvision, such as ``torchvision://resnet50``.

    Returns:
        The path. A local file may not exist.

    Raises:
        CheckpointError: As in :func:`fetch`, or there is no such scheme or name.
    """
    url = _url_of(os.fspath(source))
    return fetch(url) if url else Path(source).expanduser()


def open_checkpoint(source: str | os.PathLike) -> tuple[Path, BinaryIO]:
    """Open a checkpoint for reading, after downloading it if necessary.

    Args:
        source: As in :func:`locate`.

    Returns:
        The path, for messages, and the open file. If the URL has a SHA-256, it is that
        of the open file, whatever happens to the path afterwards.

    Raises:
        CheckpointError: As in :func:`locate`, or there is no such file.
    """
    url = _url_of(os.fspath(source))
    if url:
        path, cached = _open_cached(url)
        if cached:
            return path, cached
        raise CheckpointError(
            f'{path} changed while it was opened: check who can write to its folder'
        )
    path = Path(source).expanduser()
    try:
        if path.is_dir():
            raise CheckpointError(f'{path} is a folder: name a checkpoint file in it')
        if not path.exists():
            raise CheckpointError(f'{path} does not exist: check the path')
        # Also the size of a pipe, which would block when opened.
        if path.stat().st_size == 0:
            raise CheckpointError(f'{path} is empty (0 bytes): fetch it again')
        return path, path.open('rb')
    except OSError as error:
        raise CheckpointError(
            f'{path} cannot be read: {error.strerror or error}'
        ) from error


def _url_of(source: str) -> str:
    """Return the URL of a checkpoint, or '' for a local path."""
    scheme, separator, name = source.partition('://')
    if not separator:
        return ''
    scheme = scheme.lower()
    if scheme in _TABLES:
        return _look_up(scheme, name)
    if scheme not in ('http', 'https'):
        raise CheckpointError(
            f'{source}: checkpoints are not fetched from {scheme}://: download the '
            'file and give its local path'
        )
    return source


def _look_up(scheme: str, name: str) -> str:
    """Return the URL of a name in a library's table."""
    table = _TABLES[scheme]()
    if scheme in ('open-mmlab', 'openmmlab'):
        name = get_deprecated_model_names().get(name, name)
    url = table.get(name)
    if not url:
        raise CheckpointError(
            f'{scheme}://{name}: there is no such model.{did_you_mean(name, table)}'
        )
    if not url.startswith(('http://', 'https://')):
        raise CheckpointError(
            f"{scheme}://{name} is the local file {url} in mmengine's home: give its "
            'path'
        )
    return url


def fetch(url: str) -> Path:
    """Download a checkpoint into torch.hub's cache, unless it is already there.

    Of several processes on a machine, one downloads and the others wait.

    Args:
        url: The URL, with the SHA-256 of the file: either as
            ``URL#sha256=<64 hex digits>`` or, as in torch.hub, with its first 8 or
            more digits in the file name: ``resnet18-5c106cde.pth``.

    Returns:
        The file in the cache. Its content has that SHA-256.

    Raises:
        CheckpointError: The URL has no SHA-256 and :data:`TRUST_VARIABLE` is not set;
            the file has another SHA-256; it cannot be downloaded or written.
    """
    path, file = _open_cached(url)
    if file:
        file.close()
    return path


def _open_cached(url: str) -> tuple[Path, BinaryIO | None]:
    """Open a file in the cache, after downloading it if necessary.

    The file is None if it changed between its download and its opening.
    """
    location, expected, path = _parse(url)
    folder = path.parent
    try:
        file = _open_verified(path, expected)
        if file is None:
            folder.mkdir(parents=True, exist_ok=True)
            with _one_process_at_a_time(folder):
                # Another process may have downloaded it meanwhile.
                file = _open_verified(path, expected)
                if file is None:
                    _download(location, path, expected)
                    file = _open_verified(path, expected)
        if folder.stat().st_mode & stat.S_IWOTH:
            print_log(
                f'{folder} is writable for every user of this machine, who can replace '
                f'the checkpoints in it: run chmod o-w {folder}',
                logger='current',
                level=logging.WARNING,
            )
    except OSError as error:
        raise CheckpointError(
            f'{location} cannot be kept in {folder}: {error.strerror or error}. Set '
            'TORCH_HOME to another folder'
        ) from error
    return path, file


def _parse(url: str) -> tuple[str, str, Path]:
    """Return the URL to request, the start of its SHA-256 and its path in the cache.

    The cached file has torch.hub's name if that contains the hash.
    """
    folder = Path(torch.hub.get_dir()) / 'checkpoints'
    location, separator, fragment = url.partition('#')
    try:
        name = urlsplit(location).path.rpartition('/')[2]
    except ValueError as error:
        raise CheckpointError(f'{url} is not a valid URL: {error}') from error
    name = re.sub(r'[^\w.+-]', '_', name)
    if separator:
        given = re.fullmatch(r'sha256=([0-9a-f]{64})', fragment.lower())
        if not given:
            raise CheckpointError(
                f'{url}: the part after # must be sha256= and 64 hex digits, as '
                'sha256sum prints them'
            )
        return location, given[1], folder / f'{given[1][:16]}-{name}'
    in_name = re.search(r'-([0-9a-f]{8,64})\.', name)
    if in_name:
        return location, in_name[1], folder / name
    if not is_trusted():
        raise CheckpointError(
            f'{url} was not fetched, because its SHA-256 is unknown. Look it up or, '
            'for a file that you trust, print it with sha256sum, and append it: '
            f'{url}#sha256=<64 hex digits>. {TRUST_VARIABLE}=1 downloads without it'
        )
    print_log(
        f'{url} is not checked: it has no SHA-256, and {TRUST_VARIABLE}=1 is set',
        logger='current',
        level=logging.WARNING,
    )
    own = hashlib.sha256(url.encode()).hexdigest()[:16]
    return location, '', folder / f'{own}-{name}'


def _hash(file: BinaryIO) -> str:
    """Return the SHA-256 of an open file in hex digits."""
    digest = hashlib.sha256()
    while block := file.read(_BLOCK_BYTES):
        digest.update(block)
    return digest.hexdigest()


def _open_verified(path: Path, expected: str) -> BinaryIO | None:
    """Open a file if it exists and its SHA-256 starts as expected."""
    if not path.is_file():
        return None
    file = path.open('rb')
    if _hash(file).startswith(expected):
        file.seek(0)
        return file
    file.close()
    return None


@contextlib.contextmanager
def _one_process_at_a_time(folder: Path) -> Iterator[None]:
    # A lock rather than a barrier: it also works for some of the ranks, and ends with
    # its process.
    if fcntl is None:
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        # Where locks are not supported, all processes download: only slower.
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _download(url: str, path: Path, expected: str) -> None:
    """Download a file. It appears complete and verified, or not at all."""
    print_log(f'Fetching {url} to {path}', logger='current')
    with atomic_path(path) as partial:
        _receive(url, partial)
        with partial.open('rb') as file:
            found = _hash(file)
        if not found.startswith(expected):
            raise CheckpointError(
                f'{url} was refused and not kept: its SHA-256 should be '
                f'{expected}{"..." if len(expected) < 64 else ""} but is {found}. '
                'The file was changed, or the hash belongs to another file: ask its '
                'publisher'
            )


# torch.hub.download_url_to_file has no timeout, takes a truncated response for a whole
# file and does not return the hash that it found.
def _receive(url: str, path: Path) -> None:
    """Write the response of a URL to a file."""
    request = urllib.request.Request(url, headers={'User-Agent': 'volo'})
    with path.open('wb') as file:
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
                announced = response.headers.get('Content-Length', '')
                shutil.copyfileobj(response, file, _BLOCK_BYTES)
        except urllib.error.HTTPError as error:
            raise CheckpointError(
                f'{url} cannot be fetched: HTTP {error.code} {error.reason}. Check the '
                'URL'
            ) from error
        # ValueError: not a valid URL.
        except (OSError, http.client.HTTPException, ValueError) as error:
            reason = getattr(error, 'reason', None) or error
            raise CheckpointError(
                f'{url} cannot be fetched ({reason or type(error).__name__}): try '
                'again, or download the file by other means and give its local path'
            ) from error
        received = file.tell()
    if announced.isdigit() and received < int(announced):
        raise CheckpointError(
            f'{url}: the connection closed after {received:,} of {int(announced):,} '
            'bytes: try again'
        )
