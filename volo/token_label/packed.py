"""A packed store: the label maps of a whole dataset in three memory-mapped files.

Reading a map costs two page look-ups instead of opening and parsing a file, and
worker processes share one copy in the page cache. In the store's folder lie:

``scores.npy``
    Raw scores, float16 or float32, shape (N, k, h, w).
``classes.npy``
    Class indices, uint16 or, where a class needs it, uint32, shape (N, k, h, w).
``index.npy``
    The N names (UTF-8), sorted, and for each the CRC-32 of its scores and classes;
    0 stands for a map that is not written yet.
``meta.json``
    Format version, number of classes, and whether the store is complete.
"""

import bisect
import functools
import json
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np

from volo.errors import DataError, MissingLabelMapError
from volo.files import describe_write_error, write_atomically

from .maps import LabelMap, LabelMapFolder

VERSION = 1


class PackedLabelMaps:
    """Read a complete packed store, from any number of processes.

    Args:
        root: The store's folder.

    Attributes:
        num_classes: All class indices are below it.

    Raises:
        DataError: It is no packed store, is not complete or is broken.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        meta = read_meta(self.root)
        if not meta['complete']:
            written = np.count_nonzero(self._files.checksums)
            raise DataError(
                f'{root}: {written} of {len(self)} maps are written; run the same '
                'command again to finish'
            )
        self.num_classes: int = meta['num_classes']
        len(self)  # Opens the files: what is wrong with them shows here.

    @functools.cached_property
    def _files(self) -> 'StoreFiles':
        return StoreFiles(self.root, 'r')

    def __getstate__(self) -> dict[str, Any]:
        # Pickled, a memory map would become a copy of the whole file.
        return {k: v for k, v in self.__dict__.items() if k != '_files'}

    def __len__(self) -> int:
        return len(self._files.index)

    def keys(self) -> Iterator[str]:
        """Yield the name of every map, sorted."""
        return map(decode_key, self._files.keys)

    def read(self, key: str) -> LabelMap:
        """Read one map; its arrays are copies, with int32 classes.

        Args:
            key: From :func:`volo.token_label.label_key`.

        Raises:
            MissingLabelMapError: The store has no such map.
        """
        files = self._files
        row = files.find(key)
        if row is None:
            raise MissingLabelMapError(
                f'{self.root}: no label map of {key}. Pack all maps of the dataset '
                'into another folder with tools/pack_token_labels.py'
            )
        return LabelMap(files.scores[row].copy(), files.classes[row].astype(np.int32))

    def verify(self) -> None:
        """Read everything and compare the checksums.

        Raises:
            DataError: A map is not what was written.
        """
        for row in self._files.broken_rows():
            raise DataError(
                f'{self.root}: the map of {decode_key(self._files.keys[row])} has '
                'changed since it was written. Restore the store or pack it again'
            )


def is_packed(root: str | Path) -> bool:
    """Return whether a folder is a packed store, complete or not."""
    names = ('index.npy', 'meta.json')
    return any(os.path.exists(os.path.join(root, name)) for name in names)


def open_label_maps(root: str | Path) -> LabelMapFolder | PackedLabelMaps:
    """Open label maps, packed or one file an image.

    Raises:
        DataError: There is no such folder, or the packed store is not complete or is
            broken.
    """
    return PackedLabelMaps(root) if is_packed(root) else LabelMapFolder(root)


class StoreFiles:
    """The arrays of a store, memory-mapped in mode ``r`` or ``r+``."""

    def __init__(self, root: Path, mode: Literal['r', 'r+']) -> None:
        self.scores = _open_array(root / 'scores.npy', mode)
        self.classes = _open_array(root / 'classes.npy', mode)
        self.index = _open_array(root / 'index.npy', mode)
        if self.index.dtype.names != ('key', 'checksum') or self.index.ndim != 1:
            raise DataError(f'{root}/index.npy: not the index of a packed store')
        for name, array, kind in (
            ('scores', self.scores, 'f'),
            ('classes', self.classes, 'u'),
        ):
            # The shape of classes.npy is compared with that of scores.npy.
            shape = (len(self.index), *self.scores.shape[1:])
            if array.ndim != 4 or array.dtype.kind != kind or array.shape != shape:
                raise DataError(
                    f'{root}/{name}.npy: {array.dtype} of shape {array.shape} does not '
                    f'belong to an index of {len(self.index)} maps. Restore the store '
                    'or pack it again'
                )
        # Views: nothing is read, and elements come without np.memmap's overhead.
        plain = self.index.view(np.ndarray)
        self.keys, self.checksums = plain['key'], plain['checksum']

    def find(self, key: str) -> int | None:
        """Return the row of a key, None if the store does not have it."""
        # np.searchsorted would copy all keys, which lie apart, at every call.
        name = encode_key(key)
        row = bisect.bisect_left(self.keys, name)
        return row if row < len(self.keys) and self.keys[row] == name else None

    def broken_rows(self) -> Iterator[int]:
        """Yield the rows whose content is not what their checksums say."""
        for row, checksum in enumerate(self.checksums):
            if record_checksum(self.scores[row], self.classes[row]) != checksum:
                yield row


def _open_array(path: Path, mode: Literal['r', 'r+']) -> np.memmap:
    try:
        return np.lib.format.open_memmap(path, mode)
    # Given a broken header, numpy raises whatever its parsers raise.
    except Exception as error:
        raise DataError(
            f'{path}: missing or broken file of a packed store ({error}). Restore it '
            'or pack the store again'
        ) from error


def read_meta(root: Path) -> dict[str, Any]:
    """Read ``meta.json``.

    Raises:
        DataError: It is missing, broken or of another version.
    """
    path = root / 'meta.json'
    try:
        meta = json.loads(path.read_bytes())
        version, complete = meta['version'], meta['complete']
        known = isinstance(meta['num_classes'], int) or not complete
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f'{path}: missing or broken file of a packed store ({error!r}). Restore it '
            'or pack the store again'
        ) from error
    if version != VERSION or not known:
        raise DataError(
            f'{path}: not a packed store of version {VERSION}. Pack it again'
        )
    return meta


def write_meta(root: Path, num_classes: int | None, complete: bool) -> None:
    """Write ``meta.json``, whole or not at all.

    Raises:
        DataError: It cannot be written.
    """
    path = root / 'meta.json'
    meta = {'version': VERSION, 'num_classes': num_classes, 'complete': complete}
    try:
        write_atomically(path, json.dumps(meta).encode() + b'\n')
    except OSError as error:
        raise DataError(describe_write_error(path, error)) from error


def record_checksum(scores: np.ndarray, classes: np.ndarray) -> int:
    """Return the checksum of a map as it is stored, never 0."""
    # 0 is taken: it says that there is no map yet.
    return zlib.crc32(classes, zlib.crc32(scores)) or 1


def encode_key(key: str) -> bytes:
    """Return a key as it is stored."""
    # Surrogates stand for what is not UTF-8 in the name of a file.
    return key.encode('utf-8', 'surrogateescape')


def decode_key(name: bytes) -> str:
    """Return a key from how it is stored."""
    return name.decode('utf-8', 'surrogateescape')
