"""Where a checkpoint is: in a file, or behind an address that says what is in it.

What comes from the network gets its name only after its SHA-256 was compared with the
one that the user gave, and is compared again whenever it is taken from the cache.
"""

import contextlib
import hashlib
import http.client
import logging
import os
import re
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
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

from .trust import TRUST_VARIABLE, is_trusted

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

#: Seconds without a byte after which an address is given up.
TIMEOUT = 60

_BLOCK_BYTES = 1 << 20

#: Scheme -> the library's own table of names and addresses.
_TABLES: dict[str, Callable[[], dict[str, str | None]]] = {
    'modelzoo': get_torchvision_models,
    'torchvision': get_torchvision_models,
    'open-mmlab': get_external_models,
    'openmmlab': get_external_models,
    'mmcls': get_mmcls_models,
}


def locate(source: str | os.PathLike) -> Path:
    """Say which local file a checkpoint is, after fetching it if need be.

    Args:
        source: A local path, an address as in :func:`fetch`, or a name in a table of
            OpenMMLab's or torchvision's, such as ``torchvision://resnet50``.

    Returns:
        The file; a local one may be absent.

    Raises:
        CheckpointError: As in :func:`fetch`, or there is no such scheme or name.
    """
    text = os.fspath(source)
    scheme, separator, name = text.partition('://')
    if not separator:
        return Path(text).expanduser()
    scheme = scheme.lower()
    if scheme in _TABLES:
        return fetch(_look_up(scheme, name))
    if scheme not in ('http', 'https'):
        raise CheckpointError(
            f'{text}: checkpoints are not fetched from {scheme}://: fetch the file and '
            'give its local path'
        )
    return fetch(text)


def _look_up(scheme: str, name: str) -> str:
    """Return the address of a name in a library's table."""
    table = _TABLES[scheme]()
    if scheme in ('open-mmlab', 'openmmlab'):
        name = get_deprecated_model_names().get(name, name)
    address = table.get(name)
    if not address:
        raise CheckpointError(
            f'{scheme}://{name}: there is no such model.{did_you_mean(name, table)}'
        )
    if not address.startswith(('http://', 'https://')):
        raise CheckpointError(
            f"{scheme}://{name} is the local file {address} in mmengine's home: give "
            'its path'
        )
    return address


def fetch(url: str) -> Path:
    """Download a checkpoint into torch.hub's cache, unless it is there already.

    Of several processes of a machine, one downloads and the others wait.

    Args:
        url: With the SHA-256 of the file, either as ``URL#sha256=<64 hex digits>`` or,
            as torch.hub has it, with its first 8 or more digits in the file's name:
            ``resnet18-5c106cde.pth``.

    Returns:
        The file in the cache. Its content has the SHA-256.

    Raises:
        CheckpointError: There is no SHA-256, and :data:`TRUST_VARIABLE` does not say
            that none is needed; the file has another; it cannot be fetched or kept.
    """
    address, expected, name = _parse(url)
    folder = Path(torch.hub.get_dir()) / 'checkpoints'
    path = folder / name
    try:
        if _has_hash(path, expected):
            return path
        folder.mkdir(parents=True, exist_ok=True)
        with _one_process_at_a_time(folder):
            # Another process may have fetched it meanwhile.
            if not _has_hash(path, expected):
                _download(address, path, expected)
    except OSError as error:
        raise CheckpointError(
            f'{address} cannot be kept in {folder}: {error.strerror or error}. '
            'TORCH_HOME names another folder'
        ) from error
    return path


def _parse(url: str) -> tuple[str, str, str]:
    """Return an address, what its file's SHA-256 begins with, and a name for the file.

    The name in the cache is torch.hub's where that is told apart by the hash in it.
    """
    address, separator, fragment = url.partition('#')
    try:
        name = urlsplit(address).path.rpartition('/')[2]
    except ValueError as error:
        raise CheckpointError(f'{url} is no address: {error}') from error
    name = re.sub(r'[^\w.+-]', '_', name)
    if separator:
        given = re.fullmatch(r'sha256=([0-9a-f]{64})', fragment.lower())
        if not given:
            raise CheckpointError(
                f'{url}: what is behind # must be sha256= and 64 hex digits, as '
                'sha256sum prints them'
            )
        return address, given[1], f'{given[1][:16]}-{name}'
    in_name = re.search(r'-([0-9a-f]{8,64})\.', name)
    if in_name:
        return address, in_name[1], name
    if not is_trusted():
        raise CheckpointError(
            f'{url} was not fetched, because nothing says what must be in it. Look up '
            'its SHA-256 or, of a file that you trust, print it with sha256sum, and '
            f'append it: {url}#sha256=<64 hex digits>. {TRUST_VARIABLE}=1 fetches it '
            'all the same'
        )
    print_log(
        f'{url} is not checked, because {TRUST_VARIABLE}=1 says so: it has no SHA-256',
        logger='current',
        level=logging.WARNING,
    )
    return address, '', f'{hashlib.sha256(url.encode()).hexdigest()[:16]}-{name}'


def _has_hash(path: Path, expected: str) -> bool:
    """Tell whether a file is there, and is the one meant."""
    if not path.is_file():
        return False
    digest = hashlib.sha256()
    with path.open('rb') as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest().startswith(expected)


@contextlib.contextmanager
def _one_process_at_a_time(folder: Path) -> Iterator[None]:
    # A lock and no barrier: it works for some ranks alone, and goes with its process.
    if fcntl is None:
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        # Where locks do not work, processes download beside each other: slower alone.
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _download(address: str, path: Path, expected: str) -> None:
    """Fetch a file, so that it is there whole and checked or not at all."""
    print_log(f'Fetching {address} to {path}', logger='current')
    part = path.with_name(f'.{uuid.uuid4().hex}.part')
    try:
        found = _receive(address, part)
        if not found.startswith(expected):
            raise CheckpointError(
                f'{address} was refused and not kept: its SHA-256 should be '
                f'{expected}{"..." if len(expected) < 64 else ""} but is {found}. '
                'It was changed, or the hash is of another file: ask its maker'
            )
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def _receive(address: str, path: Path) -> str:
    """Write what an address sends to a file, and return its SHA-256."""
    request = urllib.request.Request(address, headers={'User-Agent': 'volo'})
    digest, received = hashlib.sha256(), 0
    with path.open('wb') as file:
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
                announced = response.headers.get('Content-Length', '')
                while block := response.read(_BLOCK_BYTES):
                    file.write(block)
                    digest.update(block)
                    received += len(block)
        except urllib.error.HTTPError as error:
            raise CheckpointError(
                f'{address} cannot be fetched: HTTP {error.code} {error.reason}. Check '
                'the address'
            ) from error
        # ValueError: an address that is none.
        except (OSError, http.client.HTTPException, ValueError) as error:
            reason = getattr(error, 'reason', None) or error
            raise CheckpointError(
                f'{address} cannot be fetched ({reason or type(error).__name__}): try '
                'again, or fetch the file otherwise and give its local path'
            ) from error
    if announced.isdigit() and received < int(announced):
        raise CheckpointError(
            f'{address} broke off after {received:,} of {int(announced):,} bytes: try '
            'again'
        )
    return digest.hexdigest()
