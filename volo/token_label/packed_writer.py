"""Writing a packed store, resumably and from several processes."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import numpy as np

from volo.errors import ConfigError, DataError
from volo.files import atomic_path

from .maps import LabelMap
from .packed import (
    PackedLabelMaps,
    StoreFiles,
    decode_key,
    encode_key,
    is_packed,
    read_meta,
    record_checksum,
    write_meta,
)

#: Maps that an interruption can lose at most; each flush waits for the disk.
WRITES_PER_FLUSH = 512


class PackedWriter:
    """Write a packed store, created by :meth:`create` or opened by :meth:`open`.

    Several processes of one machine may write at the same time, each its own keys. One
    of them calls :meth:`finish` after all others have called :meth:`flush`.

    Attributes:
        root: The store's folder.
        num_classes: All class indices are below this number; None: not known before
            :meth:`finish`.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        meta = read_meta(self.root)
        self.num_classes: int | None = meta['num_classes']
        self._complete: bool = meta['complete']
        self._files = StoreFiles(self.root, 'r' if self._complete else 'r+')
        self._pending: dict[int, int] = {}

    @classmethod
    def open(cls, root: str | Path) -> 'PackedWriter':
        """Open an existing store to write more of its maps.

        Raises:
            DataError: The folder is no packed store, or the store is broken.
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
        """Create an empty store, or open an existing one to continue it.

        Args:
            root: The store's folder.
            keys: Keys of all maps.
            shape: (k, h, w) of every map.
            num_classes: All class indices are below this number. None: determined by
                :meth:`finish`; class indices must then be below 65536.
            dtype: Scores are rounded to this type.

        Raises:
            ConfigError: The shape, number of classes or dtype is invalid.
            DataError: There are no keys, or one occurs twice; ``root`` holds other maps
                or other files; or it cannot be written.
        """
        root = Path(root)
        if len(shape) != 3 or min(shape) < 1:
            raise ConfigError(f'shape must be (k, h, w), at least 1 each, not {shape}')
        # 2**31: classes are read as int32.
        if num_classes is not None and not 1 <= num_classes <= 2**31:
            raise ConfigError(f'num_classes must be from 1 to 2**31, not {num_classes}')
        if dtype not in ('float16', 'float32'):
            raise ConfigError(f'dtype must be float16 or float32, not {dtype}')
        names = np.array([encode_key(key) for key in keys])
        if not names.size:
            raise DataError(f'{root}: there are no label maps to pack')
        names.sort()
        twice = names[1:][names[1:] == names[:-1]]
        if twice.size:
            raise DataError(f'{root}: the key {decode_key(twice[0])} occurs twice')

        if not is_packed(root):
            _create_store(root, names, shape, num_classes, dtype)
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
        # A complete store knows its number of classes, given or not.
        elif self.num_classes != num_classes and (num_classes or not self._complete):
            there, asked = f'num_classes {self.num_classes}', str(num_classes)
        elif not np.array_equal(found.keys, names):
            one = decode_key(np.setxor1d(found.keys, names)[0])
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
        return [decode_key(self._files.keys[row]) for row in rows]

    def write(self, key: str, label_map: LabelMap) -> None:
        """Write one map.

        Args:
            key: One of the store's keys.
            label_map: Of the store's shape. Scores are rounded to the store's dtype.

        Raises:
            DataError: The map does not fit the store, the store has no such key, or the
                store is complete or cannot be written.
        """
        files = self._files
        if self._complete:
            raise DataError(f'{self.root} is complete: {key} cannot be written to it')
        row = files.find(key)
        if row is None:
            raise DataError(f'{key}: {self.root} was created without this key')
        shape = files.scores.shape[1:]
        for array in (label_map.scores, label_map.classes):
            if array.shape != shape:
                raise DataError(
                    f'{key}: the map has shape {array.shape}, but {self.root} holds '
                    f'maps of shape {shape}'
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
                f'that {self.root} was created for. Give another number of classes '
                'and another folder'
            )
        classes = label_map.classes.astype(files.classes.dtype, order='C')
        files.scores[row], files.classes[row] = scores, classes
        self._pending[row] = record_checksum(scores, classes)
        if len(self._pending) >= WRITES_PER_FLUSH:
            self.flush()

    def flush(self) -> None:
        """Bring everything written so far to disk.

        Raises:
            DataError: The store cannot be written.
        """
        if not self._pending:
            return
        files = self._files
        try:
            # Data first: a checksum on disk means that its map is on disk too.
            files.scores.flush()
            files.classes.flush()
            files.checksums[list(self._pending)] = list(self._pending.values())
            files.index.flush()
        except OSError as error:
            raise DataError(f'{self.root} cannot be written: {error}') from error
        self._pending.clear()

    def finish(self) -> PackedLabelMaps:
        """Compare every map with its checksum, then mark the store complete.

        Raises:
            DataError: Maps are missing, or differ on disk from what was written. The
                latter count as missing from then on and can be written again.
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
        files = StoreFiles(self.root, 'r')
        broken = list(files.broken_rows())
        if broken:
            self._files.checksums[broken] = 0
            self._files.index.flush()
            raise DataError(
                f'{self.root}: {len(broken)} maps differ from what was written, such '
                f'as {decode_key(files.keys[broken[0]])}. Run the same command again '
                'to write them again'
            )
        if self.num_classes is None:
            self.num_classes = int(files.classes.max()) + 1
        write_meta(self.root, self.num_classes, complete=True)
        self._complete = True
        return PackedLabelMaps(self.root)


def _create_store(
    root: Path,
    names: np.ndarray,
    shape: tuple[int, int, int],
    num_classes: int | None,
    dtype: str,
) -> None:
    """Create a store without maps, atomically."""
    classes = '<u2' if num_classes is None or num_classes <= 2**16 else '<u4'
    arrays = {
        'scores': ('<f2' if dtype == 'float16' else '<f4', (len(names), *shape)),
        'classes': (classes, (len(names), *shape)),
        'index': ([('key', names.dtype), ('checksum', '<u4')], (len(names),)),
    }
    try:
        with atomic_path(root) as partial:
            partial.mkdir()
            for name, (kind, size) in arrays.items():
                path = partial / f'{name}.npy'
                array = np.lib.format.open_memmap(path, 'w+', np.dtype(kind), size)
                # Otherwise a disk that fills up later would kill the process (SIGBUS).
                if hasattr(os, 'posix_fallocate'):
                    with path.open('r+b') as file:
                        os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
                if name == 'index':
                    array['key'] = names
                    array.flush()
            write_meta(partial, num_classes, complete=False)
    except OSError as error:
        # Another process may have created the same store in the meantime.
        if not is_packed(root):
            raise DataError(
                f'{root} cannot be created: {error}. Name a folder that does not '
                'exist, on a disk with enough space'
            ) from error
