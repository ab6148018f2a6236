"""Reading label maps: a file an image against a packed store."""

import tempfile
from pathlib import Path

import numpy as np

from volo.token_label import (
    LabelMap,
    LabelMapFolder,
    PackedLabelMaps,
    PackedWriter,
    write_label_map,
)

from .measure import median_seconds


def write_random_maps(
    folder: Path, keys: list[str], num_classes: int = 1000
) -> LabelMapFolder:
    """Write maps of the published shape and type, one file a key."""
    rng = np.random.RandomState(0)
    for key in keys:
        scores = rng.rand(5, 18, 18).astype(np.float16)
        classes = rng.randint(num_classes, size=scores.shape)
        write_label_map(folder / f'{key}.pt', LabelMap(scores, classes))
    return LabelMapFolder(folder)


def pack(maps: LabelMapFolder, store: Path) -> PackedLabelMaps:
    """Pack a folder of maps of the published shape."""
    writer = PackedWriter.create(store, maps.keys(), (5, 18, 18))
    for key in writer.missing():
        writer.write(key, maps.read(key))
    return writer.finish()


def bytes_on_disk(folder: Path) -> int:
    """Return what the files of a folder take, in whole blocks of the disk."""
    return sum(512 * path.stat().st_blocks for path in folder.rglob('*.*'))


def measure_label_maps(count: int, repeats: int) -> dict[str, tuple[float, int]]:
    """Write random maps, read them in random order from both.

    The files come from the page cache: on a disk that has to be asked, a file an
    image is slower still.

    Returns:
        For ``'folder'`` and ``'packed'`` the median seconds that reading a map takes,
        and the bytes that it takes on the disk.
    """
    with tempfile.TemporaryDirectory() as folder:
        roots = {kind: Path(folder, kind) for kind in ('folder', 'packed')}
        keys = [f'n{i % 100:08}/n{i % 100:08}_{i}' for i in range(count)]
        maps = write_random_maps(roots['folder'], keys)
        stores = dict(folder=maps, packed=pack(maps, roots['packed']))
        order = np.random.RandomState(1).permutation(keys)
        seconds = median_seconds(
            {
                kind: lambda store=store: [store.read(key) for key in order]
                for kind, store in stores.items()
            },
            repeats,
        )
        return {
            kind: (seconds[kind] / count, bytes_on_disk(root) // count)
            for kind, root in roots.items()
        }
