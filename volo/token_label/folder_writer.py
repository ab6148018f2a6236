"""Writing a folder of label maps, one ``.pt`` file per image."""

from collections.abc import Sequence
from pathlib import Path

from volo.errors import DataError

from .maps import LabelMap, LabelMapFolder, read_label_map, write_label_map
from .packed import is_packed


class FolderWriter:
    """Write one ``.pt`` file per image; files that exist are kept.

    Args:
        root: The folder, created if missing.
        keys: Keys of all maps.
        shape: (k, h, w) of every map.

    Raises:
        DataError: The folder cannot be created or holds something else.
    """

    def __init__(
        self, root: str | Path, keys: Sequence[str], shape: tuple[int, int, int]
    ) -> None:
        self.root = Path(root)
        try:
            self.root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DataError(f'{root} cannot be created: {error}') from error
        if is_packed(root):
            raise DataError(
                f'{root} is a packed store: give --packed to continue it, or name '
                'another folder'
            )
        self._folder = LabelMapFolder(root)
        written = set(self._folder.keys())
        self._missing = [key for key in sorted(keys) if key not in written]
        kept = next((key for key in keys if key in written), None)
        if kept:
            path = self._folder.path(kept)
            found = read_label_map(path).scores.shape
            if found != shape:
                raise DataError(
                    f'{path} has shape {found} (k, h, w), not {shape}. Repeat the '
                    'options it was made with, or name another folder'
                )

    def missing(self) -> list[str]:
        """Return the keys of all maps that did not exist at the start, sorted."""
        return self._missing

    def write(self, key: str, label_map: LabelMap) -> None:
        """Write one map.

        Raises:
            DataError: The file cannot be written.
        """
        write_label_map(self._folder.path(key), label_map)

    def flush(self) -> None:
        """Do nothing: every file is written atomically."""

    def finish(self) -> None:
        """Do nothing: a folder is complete when its last file is written."""
