"""Measure reading label maps: one file per image, and packed.

Compares the time and the disk space per map:

    python -m benchmarks label-maps [--count 10000]
"""

import argparse
import functools
import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from volo.token_label import (
    LabelMap,
    LabelMapFolder,
    PackedLabelMaps,
    PackedWriter,
    write_label_map,
)

from .arguments import add_number, add_repeats
from .measure import median_seconds
from .report import print_table


def write_random_maps(
    folder: Path, keys: list[str], num_classes: int = 1000
) -> LabelMapFolder:
    """Write maps of the published shape and dtype, one file per key."""
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
    """Return the bytes that the files of a folder take, in whole disk blocks."""
    return sum(512 * path.stat().st_blocks for path in folder.rglob('*.*'))


def read_all(
    maps: LabelMapFolder | PackedLabelMaps, keys: Iterable[str]
) -> list[LabelMap]:
    """Read maps one after the other."""
    return [maps.read(key) for key in keys]


def measure_label_maps(count: int, repeats: int) -> dict[str, tuple[float, int]]:
    """Write random maps in both formats and read them in random order.

    The files are in the page cache. From a disk, one file per image is slower still.

    Args:
        count: Number of maps.
        repeats: Number of timed turns, each of which reads all maps.

    Returns:
        For ``'folder'`` and ``'packed'`` the median seconds to read a map, and the
        bytes that it takes on disk.
    """
    with tempfile.TemporaryDirectory() as folder:
        roots = {kind: Path(folder, kind) for kind in ('folder', 'packed')}
        keys = [f'n{i % 100:08}/n{i % 100:08}_{i}' for i in range(count)]
        maps = write_random_maps(roots['folder'], keys)
        stores: dict[str, LabelMapFolder | PackedLabelMaps] = {
            'folder': maps,
            'packed': pack(maps, roots['packed']),
        }
        order = np.random.RandomState(1).permutation(keys)
        seconds = median_seconds(
            {
                kind: functools.partial(read_all, store, order)
                for kind, store in stores.items()
            },
            repeats,
        )
        return {
            kind: (seconds[kind] / count, bytes_on_disk(root) // count)
            for kind, root in roots.items()
        }


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    add_number(parser, '--count', 10000, 'label maps per turn')
    add_repeats(parser)


def run(args: argparse.Namespace) -> None:
    """Run the command."""
    found = measure_label_maps(args.count, args.repeats)
    seconds, size = found['folder']
    print_table(
        f'{args.count} label maps of 18 x 18 cells, 5 classes each',
        ['', 'µs per map', 'of folder', 'bytes per map', 'of folder'],
        [
            [kind, f'{1e6 * s:.1f}', f'{s / seconds:.3f}', f'{b}', f'{b / size:.2f}']
            for kind, (s, b) in found.items()
        ],
    )
