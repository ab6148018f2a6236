"""Check files of ``torch.save`` before ``torch.load`` reads them."""

import io
import zipfile
from collections.abc import Callable
from typing import IO, Any, BinaryIO

import torch

from .pickle_checks import check, storage_bytes
from .pickles import Pickle, parse
from .protocols import to_protocol_2
from .stand_ins import CALLABLES, TYPES, UnsafePickleError

#: Bytes of the pickle in an archive: everything in a checkpoint but its tensors.
MAX_PICKLE_BYTES = 1 << 29

#: Size of an archive in memory / in the file. torch.save does not compress.
MAX_INFLATION = 16

#: Name -> stand-in, as ``torch.serialization.safe_globals`` takes them.
SafeGlobals = list[Callable[..., Any] | tuple[Callable[..., Any], str]]


class OtherFileError(Exception):
    """``torch.save`` did not write a file; the text says what it is."""


def prepare(file: BinaryIO) -> tuple[IO[bytes], SafeGlobals]:
    """Check a file of ``torch.save``.

    Args:
        file: The open file.

    Returns:
        A file that ``torch.load`` reads, and the stand-ins that it needs.

    Raises:
        UnsafePickleError: The file contains something that is not data, or takes too
            much memory or time.
        OtherFileError: ``torch.save`` did not write the file.
        Exception: Of any type, if the file is damaged.
    """
    is_archive = file.read(4) == b'PK\x03\x04'  # torch.load decides by the same bytes
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    source, enums = (_check_archive if is_archive else _check_old_format)(file, size)
    source.seek(0)
    stand_ins = CALLABLES | TYPES | enums
    return source, [(value, name) for name, value in stand_ins.items()]


def _check_archive(
    file: BinaryIO, size: int
) -> tuple[IO[bytes], dict[str, Callable[..., Any]]]:
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
    sizes = {member.filename.partition('/')[2]: member.file_size for member in members}
    if 'data.pkl' not in sizes or 'constants.pkl' in sizes:
        raise OtherFileError(
            'an archive, but not one of weights (TorchScript, perhaps)'
        )
    total = sum(member.file_size for member in members)
    if total > MAX_INFLATION * size or sizes['data.pkl'] > MAX_PICKLE_BYTES:
        raise UnsafePickleError(
            f'its {size / 1e6:.1f} MB take {total / 1e6:.1f} MB when they are unpacked'
        )
    # torch's reader, so that what is checked is what torch.load reads.
    file.seek(0)
    data = torch._C.PyTorchFileReader(file).get_record('data.pkl')
    pickle = parse(io.BytesIO(data))
    enums = check(pickle)
    # torch before 2.10 reads past the end of a record that is too short.
    for key, expected in _storages(pickle):
        if sizes.get(f'data/{key}') != expected:
            raise ValueError(f'storage {key} does not have {expected} bytes')
    if pickle.protocol > 2:
        return _replace_pickle(file, to_protocol_2(pickle.root)), enums
    return file, enums


def _replace_pickle(file: BinaryIO, data: bytes) -> io.BytesIO:
    """Return a copy of an archive with another pickle."""
    copy = io.BytesIO()
    with zipfile.ZipFile(file) as old, zipfile.ZipFile(copy, 'w') as new:
        for member in old.infolist():
            is_pickle = member.filename.partition('/')[2] == 'data.pkl'
            new.writestr(member.filename, data if is_pickle else old.read(member))
    return copy


def _check_old_format(
    file: BinaryIO, size: int
) -> tuple[IO[bytes], dict[str, Callable[..., Any]]]:
    """Check the format before torch 1.6: five pickles, then the storages."""
    enums: dict[str, Callable[..., Any]] = {}
    protocols = set()
    for index in range(5):
        pickle = parse(file)
        enums |= check(pickle)
        if index == 0 and pickle.root != torch.serialization.MAGIC_NUMBER:
            raise OtherFileError('a pickle, but not one of torch.save')
        protocols.add(pickle.protocol)
        if sum(expected for _, expected in _storages(pickle)) > size:
            raise ValueError('its tensors are larger than the file')
    if protocols != {2}:
        raise UnsafePickleError(
            'it has the format before torch 1.6, in another protocol than torch.save'
        )
    return file, enums


def _storages(pickle: Pickle) -> set[tuple[str, int]]:
    """Return the keys and sizes in bytes of the storages that a pickle refers to."""
    return {storage_bytes(node) for node in pickle.nodes if node.kind == 'storage'}
