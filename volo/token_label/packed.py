"""A packed store: the label maps of a whole data set in three memory-mapped files.

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
import shutil
import uuid
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np

from volo.errors import ConfigError, DataError, MissingLabelMapError

from .maps import LabelMap, LabelMapFolder

VERSION = 1
#: So many maps an interruption can cost; each flush waits for the disk.
WRITES_PER_FLUSH = 512


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
        meta = _read_meta(self.root)
        if not meta['complete']:
            written = np.count_nonzero(self._files.checksums)
            raise DataError(
                f'{root}: {written} of {len(self)} maps are written; run the same '
                'command again to finish'
            )
        self.num_classes: int = meta['num_classes']
        len(self)  # Opens the files: what is wrong with them shows here.

    @functools.cached_property
    def _files(self) -> '_Files':
        return _Files(self.root, 'r')

    def __getstate__(self) -> dict[str, Any]:
        # Pickled, a memory map would become a copy of the whole file.
        return {k: v for k, v in self.__dict__.items() if k != '_files'}

    def __len__(self) -> int:
        return len(self._files.index)

    def keys(self) -> Iterator[str]:
        """Yield the name of every map, sorted."""
        return map(_decode, self._files.keys)

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
                f'{self.root}: no label map of {key}. Pack all maps of the data set '
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
                f'{self.root}: the map of {_decode(self._files.keys[row])} has changed '
                'since it was written. Restore the store or pack it again'
            )


class PackedWriter:
    """Write a packed store; made by :meth:`create` or :meth:`open`.

    Several processes of one machine may write at once, each its own keys. One of
    them calls :meth:`finish` after the others have called :meth:`flush`.

    Attributes:
        num_classes: All class indices are below it; None: finished, it is found out.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        meta = _read_meta(self.root)
        self.num_classes: int | None = meta['num_classes']
        self._complete: bool = meta['complete']
        self._files = _Files(self.root, 'r' if self._complete else 'r+')
        self._pending: dict[int, int] = {}

    @classmethod
    def open(cls, root: str | Path) -> 'PackedWriter':
        """Open a store that exists, to write more of its maps.

        Raises:
            DataError: It is no packed store, or is broken.
        """
        return cls(root)

    @classmethod
    def create(
        cls,
        root: str | Path,
        keys: Iterable[str],
        shape: tuple[int, int, int],
        num_classes: int | None = None,
        dtype: Literal['float16', 'float32'] = 'float16',
    ) -> 'PackedWriter':
        """Make an empty store, or open the one that is there to go on with it.

        Args:
            root: The store's folder.
            keys: The names of all maps.
            shape: (k, h, w) of every map.
            num_classes: All class indices are below it. None: find out; they must
                then be below 65536.
            dtype: What scores are rounded to.

        Raises:
            ConfigError: The shape, number of classes or dtype cannot be.
            DataError: There are no keys or one comes twice; or ``root`` holds other
                maps or other files; or it cannot be written.
        """
        root = Path(root)
        if len(shape) != 3 or min(shape) < 1:
            raise ConfigError(f'shape must be (k, h, w), at least 1 each, not {shape}')
        # 2**31: classes are read as int32.
        if num_classes is not None and not 1 <= num_classes <= 2**31:
            raise ConfigError(f'num_classes must be from 1 to 2**31, not {num_classes}')
        if dtype not in ('float16', 'float32'):
            raise ConfigError(f'dtype must be float16 or float32, not {dtype}')
        names = np.array([_encode(key) for key in keys])
        if not names.size:
            raise DataError(f'{root}: there are no label maps to pack')
        names.sort()
        twice = names[1:][names[1:] == names[:-1]]
        if twice.size:
            raise DataError(f'{root}: the key {_decode(twice[0])} comes twice')

        if not is_packed(root):
            _make_store(root, names, shape, num_classes, dtype)
        writer = cls(root)
        writer._check_same(names, tuple(shape), num_classes, dtype)
        return writer

    def _check_same(
        self,
        names: np.ndarray,
        shape: tuple[int, ...],
        num_classes: int | None,
        dtype: str,
    ) -> None:
        found = self._files
        there: object = None
        if found.scores.shape[1:] != shape:
            there, asked = f'shape {found.scores.shape[1:]}', str(shape)
        elif found.scores.dtype != dtype:
            there, asked = f'scores in {found.scores.dtype}', dtype
        # A complete store has found out what it was not told.
        elif self.num_classes != num_classes and (num_classes or not self._complete):
            there, asked = f'num_classes {self.num_classes}', str(num_classes)
        elif not np.array_equal(found.keys, names):
            one = _decode(np.setxor1d(found.keys, names)[0])
            there = f'{len(found.keys)} maps under other keys'
            asked = f'{len(names)} ({one} is only in one of the two)'
        if there:
            raise DataError(
                f'{self.root} is a packed store of {there}, not {asked}. Name another '
                'folder, or delete that one first'
            )

    def missing(self) -> list[str]:
        """Return the keys of all maps that are not written yet, sorted."""
        self.flush()
        rows = np.flatnonzero(self._files.checksums == 0)
        return [_decode(self._files.keys[row]) for row in rows]

    def write(self, key: str, label_map: LabelMap) -> None:
        """Write one map.

        Args:
            key: One of the store's keys.
            label_map: Of the store's shape. Its scores are rounded to the store's
                dtype.

        Raises:
            DataError: The map does not fit the store, the store has no such key, is
                complete or cannot be written.
        """
        files = self._files
        if self._complete:
            raise DataError(f'{self.root} is complete: {key} cannot be written to it')
        row = files.find(key)
        if row is None:
            raise DataError(f'{key}: {self.root} was made without this key')
        shape = files.scores.shape[1:]
        for array in (label_map.scores, label_map.classes):
            if array.shape != shape:
                raise DataError(
                    f'{key}: the map has shape {array.shape}, but {self.root} is of '
                    f'maps of {shape}'
                )
        with np.errstate(over='ignore'):
            scores = label_map.scores.astype(files.scores.dtype, order='C')
        if not np.isfinite(scores).all():
            raise DataError(f'{key}: a score is not finite in {scores.dtype}')
        low, high = int(label_map.classes.min()), int(label_map.classes.max())
        limit = self.num_classes or np.iinfo(files.classes.dtype).max + 1
        if low < 0 or high >= limit:
            raise DataError(
                f'{key}: class {low if low < 0 else high} is none of the {limit} '
                f'for which {self.root} was made. Give another number of '
                'classes and another folder'
            )
        classes = label_map.classes.astype(files.classes.dtype, order='C')
        files.scores[row], files.classes[row] = scores, classes
        self._pending[row] = _checksum(scores, classes)
        if len(self._pending) >= WRITES_PER_FLUSH:
            self.flush()

    def flush(self) -> None:
        """Bring to the disk what was written so far.

        Raises:
            DataError: It cannot be written.
        """
        if not self._pending:
            return
        files = self._files
        try:
            # Data first: a checksum on the disk says that its map is there too.
            files.scores.flush()
            files.classes.flush()
            files.checksums[list(self._pending)] = list(self._pending.values())
            files.index.flush()
        except OSError as error:
            raise DataError(f'{self.root} cannot be written: {error}') from error
        self._pending.clear()

    def finish(self) -> PackedLabelMaps:
        """Compare all that is in the files with its checksums, then open the store.

        Raises:
            DataError: Maps are missing or have not reached the disk as written. The
                latter are missing from then on, so that they can be written again.
        """
        missing = self.missing()
        if missing:
            raise DataError(
                f'{self.root}: {len(missing)} of {len(self._files.index)} maps are not '
                f'written yet, such as {missing[0]}'
            )
        if self._complete:
            maps = PackedLabelMaps(self.root)
            maps.verify()
            return maps
        files = _Files(self.root, 'r')
        broken = list(files.broken_rows())
        if broken:
            self._files.checksums[broken] = 0
            self._files.index.flush()
            raise DataError(
                f'{self.root}: {len(broken)} maps are not what was written, such as '
                f'{_decode(files.keys[broken[0]])}. Run the same command again to '
                'write them again'
            )
        if self.num_classes is None:
            self.num_classes = int(files.classes.max()) + 1
        _write_meta(self.root, self.num_classes, complete=True)
        self._complete = True
        return PackedLabelMaps(self.root)


def is_packed(root: str | Path) -> bool:
    """Return whether a folder is a packed store, complete or not."""
    names = ('index.npy', 'meta.json')
    return any(os.path.exists(os.path.join(root, name)) for name in names)


def open_label_maps(root: str | Path) -> LabelMapFolder | PackedLabelMaps:
    """Open label maps, packed or one file a picture.

    Raises:
        DataError: There is no such folder, or the packed store is not complete or is
            broken.
    """
    return PackedLabelMaps(root) if is_packed(root) else LabelMapFolder(root)


class _Files:
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
        # np.searchsorted would copy all keys, which lie apart, at every call.
        name = _encode(key)
        row = bisect.bisect_left(self.keys, name)
        return row if row < len(self.keys) and self.keys[row] == name else None

    def broken_rows(self) -> Iterator[int]:
        for row, checksum in enumerate(self.checksums):
            if _checksum(self.scores[row], self.classes[row]) != checksum:
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


def _make_store(
    root: Path,
    names: np.ndarray,
    shape: tuple[int, int, int],
    num_classes: int | None,
    dtype: str,
) -> None:
    """Make a store without maps beside ``root``, then put it there whole."""
    classes = '<u2' if num_classes is None or num_classes <= 2**16 else '<u4'
    part = root.with_name(f'.{root.name}.{uuid.uuid4().hex}.part')
    arrays = {
        'scores': ('<f2' if dtype == 'float16' else '<f4', (len(names), *shape)),
        'classes': (classes, (len(names), *shape)),
        'index': ([('key', names.dtype), ('checksum', '<u4')], (len(names),)),
    }
    try:
        part.mkdir(parents=True)
        for name, (kind, size) in arrays.items():
            path = part / f'{name}.npy'
            array = np.lib.format.open_memmap(path, 'w+', np.dtype(kind), size)
            # A disk that is full later would kill the process without a word.
            if hasattr(os, 'posix_fallocate'):
                with path.open('r+b') as file:
                    os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
            if name == 'index':
                array['key'] = names
                array.flush()
        _write_meta(part, num_classes, complete=False)
        os.replace(part, root)
    except OSError as error:
        # Another process may have made the same store in the meantime.
        if not is_packed(root):
            raise DataError(
                f'{root} cannot be made: {error}. Name a folder that does not exist, '
                'where there is space'
            ) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _read_meta(root: Path) -> dict[str, Any]:
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


def _write_meta(root: Path, num_classes: int | None, complete: bool) -> None:
    path = root / 'meta.json'
    part = path.with_name(f'.{path.name}.{os.getpid()}.part')
    meta = {'version': VERSION, 'num_classes': num_classes, 'complete': complete}
    try:
        with part.open('w') as file:
            file.write(json.dumps(meta) + '\n')
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except OSError as error:
        raise DataError(f'{path} cannot be written: {error}') from error
    finally:
        part.unlink(missing_ok=True)


def _checksum(scores: np.ndarray, classes: np.ndarray) -> int:
    # 0 is taken: it says that there is no map yet.
    return zlib.crc32(classes, zlib.crc32(scores)) or 1


def _encode(key: str) -> bytes:
    # Surrogates stand for what is not UTF-8 in the name of a file.
    return key.encode('utf-8', 'surrogateescape')


def _decode(name: bytes) -> str:
    return name.decode('utf-8', 'surrogateescape')
