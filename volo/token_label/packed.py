"""A packed store: the label maps of a whole dataset in three memory-mapped files.

Reading a map costs two page look-ups instead of opening and parsing a file, and worker
processes share one copy in the page cache. The store's folder holds:

``scores.npy``
    Raw scores, float16 or float32, shape (N, k, h, w).
``classes.npy``
    Class indices, uint16, or uint32 where a class needs it, shape (N, k, h, w).
``index.npy``
    The N keys (UTF-8), sorted, each with the CRC-32 of its scores and classes; 0 means
    that the map is not written yet.
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
        num_classes: All class indices are below this number.

    Raises:
        DataError: The folder is no packed store, or the store is incomplete or broken.
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
        len(self)  # Open the files now, so that faults show here.

    @functools.cached_property
    def _files(self) -> 'StoreFiles':
        return StoreFiles(self.root, 'r')

    def __getstate__(self) -> dict[str, Any]:
        # A pickled memory map would be a copy of the whole file.
        return {k: v for k, v in self.__dict__.items() if k != '_files'}

    def __len__(self) -> int:
        return len(self._files.index)

    def keys(self) -> Iterator[str]:
        """Yield the key of every map, sorted."""
        return map(decode_key, self._files.keys)

    def read(self, key: str) -> LabelMap:
        """Read one map, as copies of its arrays with int32 classes.

        Args:
            key: From :func:`volo.token_label.label_key`.

        Raises:
            MissingLabelMapError: The store has no such map.
            DataError: The map has changed since it was written.
        """
        files = self._files
        row = files.find(key)
        if row is None:
            raise MissingLabelMapError(
                f'{self.root}: no label map of {key}. Pack all maps of the dataset '
                'into a new folder with tools/pack_token_labels.py'
            )
        scores, classes = files.scores[row].copy(), files.classes[row]
        # The checks take 6 us per map; loading the image takes milliseconds.
        if record_checksum(scores, classes) != files.checksums[row]:
            raise self._changed(row)
        if not np.isfinite(scores).all():
            raise DataError(
                f'{self.root}: the map of {key} has a score that is not finite. Make '
                'the label map again'
            )
        return LabelMap(scores, classes.astype(np.int32))

    def verify(self) -> None:
        """Read every map and compare it with its checksum.

        Raises:
            DataError: A map has changed since it was written.
        """
        for row in self._files.broken_rows():
            raise self._changed(row)

    def _changed(self, row: int) -> DataError:
        return DataError(
            f'{self.root}: the map of {decode_key(self._files.keys[row])} has changed '
            'since it was written. Restore the store or pack it again'
        )


def is_packed(root: str | Path) -> bool:
    """Return whether a folder is a packed store, complete or not."""
    names = ('index.npy', 'meta.json')
    return any(os.path.exists(os.path.join(root, name)) for name in names)


def open_label_maps(root: str | Path) -> LabelMapFolder | PackedLabelMaps:
    """Open label maps, packed or one file per image.

    Raises:
        DataError: The folder does not exist, or the packed store is incomplete or
            broken.
    """
    return PackedLabelMaps(root) if is_packed(root) else LabelMapFolder(root)


class StoreFiles:
    """The arrays of a packed store, memory-mapped in mode ``r`` or ``r+``."""

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
        # Views: nothing is read, and indexing skips np.memmap's overhead.
        plain = self.index.view(np.ndarray)
        self.keys, self.checksums = plain['key'], plain['checksum']

    def find(self, key: str) -> int | None:
        """Return the row of a key, or None if the store does not have it."""
        # np.searchsorted would copy the strided keys at every call.
        name = encode_key(key)
        row = bisect.bisect_left(self.keys, name)
        return row if row < len(self.keys) and self.keys[row] == name else None

    def broken_rows(self) -> Iterator[int]:
        """Yield the rows whose content does not match their checksums."""
        for row, checksum in enumerate(self.checksums):
            if record_checksum(self.scores[row], self.classes[row]) != checksum:
                yield row


def _open_array(path: Path, mode: Literal['r', 'r+']) -> np.memmap:
    try:
        return np.lib.format.open_memmap(path, mode)
    # numpy raises anything its parsers raise for a broken header.
    except Exception as error:
        raise DataError(
            f'{path}: missing or broken file of a packed store ({error}). Restore it '
            'or pack the store again'
        ) from error


def read_meta(root: Path) -> dict[str, Any]:
    """Read ``meta.json``.

    Raises:
        DataError: The file is missing, broken or of another version.
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
    """Write ``meta.json`` atomically.

    Raises:
        DataError: The file cannot be written.
    """
    path = root / 'meta.json'
    meta = {'version': VERSION, 'num_classes': num_classes, 'complete': complete}
    try:
        write_atomically(path, json.dumps(meta).encode() + b'\n')
    except OSError as error:
        raise DataError(describe_write_error(path, error)) from error


def record_checksum(scores: np.ndarray, classes: np.ndarray) -> int:
    """Return the checksum of a map as it is stored, never 0."""
    # 0 marks a map that is not written yet.
    return zlib.crc32(classes.data, zlib.crc32(scores.data)) or 1


def encode_key(key: str) -> bytes:
    """Return the stored form of a key."""
    # Surrogates stand for bytes in a file name that are not UTF-8.
    return key.encode('utf-8', 'surrogateescape')


def decode_key(name: bytes) -> str:
    """Return the key of a stored form."""
    return name.decode('utf-8', 'surrogateescape')
