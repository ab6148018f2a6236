"""Writing a folder of label maps, one ``.pt`` file per image."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from volo.errors import DataError

from .maps import LabelMap, LabelMapFolder, read_label_map, write_label_map
from .packed import is_packed


class Writer(Protocol):
    """What label maps are written with."""

    def missing(self) -> list[str]:
        """Return the keys of all maps that are not written yet, sorted."""

    def write(self, key: str, label_map: LabelMap) -> None:
        """Write one map."""

    def flush(self) -> None:
        """Bring to the disk what was written so far."""


class FolderWriter:
    """Write one ``.pt`` file an image, and keep those that are there.

    Args:
        root: The folder, made if missing.
        keys: The names of all maps.
        shape: (k, h, w) of every map.

    Raises:
        DataError: The folder cannot be made, or holds something else.
    """

    def __init__(
        self, root: str | Path, keys: Sequence[str], shape: tuple[int, int, int]
    ) -> None:
        try:
            Path(root).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DataError(f'{root} cannot be made: {error}') from error
        if is_packed(root):
            raise DataError(
                f'{root} is a packed store: give --packed to go on with it, or name '
                'another folder'
            )
        self._folder = LabelMapFolder(root)
        there = set(self._folder.keys())
        self._missing = [key for key in sorted(keys) if key not in there]
        kept = next((key for key in keys if key in there), None)
        if kept:
            path = self._folder.path(kept)
            found = read_label_map(path).scores.shape
            if found != shape:
                raise DataError(
                    f'{path} has shape {found} (k, h, w), not {shape}. Give the same '
                    'options as then, or name another folder'
                )

    def missing(self) -> list[str]:
        """Return the keys of all maps that were not there at the start, sorted."""
        return self._missing

    def write(self, key: str, label_map: LabelMap) -> None:
        """Write one map.

        Raises:
            DataError: It cannot be written.
        """
        write_label_map(self._folder.path(key), label_map)

    def flush(self) -> None:
        """Do nothing: every file is written whole."""
