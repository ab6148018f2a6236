"""Pack a folder of label maps, one .pt file per image, into a packed store.

volo pack label_top5_train_nfnet data/token_labels

The store is faster to read and has four files instead of one per image. Training reads
either. After an interruption the same command continues. At the end every map is
compared with its checksum.
"""

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from volo_cli import run_tool, tool_parser

if TYPE_CHECKING:
    from volo.token_label.maps import LabelMapFolder
    from volo.token_label.packed_writer import PackedWriter


def pack(folder: 'LabelMapFolder', writer: 'PackedWriter') -> None:
    """Write all maps that the store lacks, then verify and complete it."""
    from rich.console import Console
    from rich.progress import Progress

    from volo.errors import DataError

    console = Console(stderr=True)
    with Progress(console=console, disable=not sys.stderr.isatty()) as bar:
        try:
            for key in bar.track(writer.missing(), description='packing'):
                label_map = folder.read(key)
                try:
                    writer.write(key, label_map)
                except DataError as error:
                    raise DataError(
                        f'{folder.path(key)} cannot be packed: {error}'
                    ) from error
        finally:
            writer.flush()
        bar.add_task('verifying', total=None)
        writer.finish()


def bytes_on_disk(*paths: str | Path) -> str:
    from rich.filesize import decimal

    return decimal(sum(os.stat(path).st_blocks * 512 for path in paths))


def make_parser() -> argparse.ArgumentParser:
    parser = tool_parser(__doc__)
    parser.add_argument('src', type=Path, help='folder of .pt files')
    parser.add_argument(
        'dst', type=Path, help='folder of the store, created if missing'
    )
    parser.add_argument(
        '--num-classes',
        type=int,
        help="the annotator's number of classes; default: as many as the maps contain, "
        'at most 65536',
    )
    parser.add_argument(
        '--dtype',
        choices=['float16', 'float32'],
        default='float16',
        help='type that scores are rounded to; default: %(default)s',
    )
    return parser


def main(args: argparse.Namespace) -> None:
    from volo.errors import DataError
    from volo.token_label.maps import LabelMapFolder
    from volo.token_label.packed_writer import PackedWriter

    folder = LabelMapFolder(args.src)
    keys = sorted(folder.keys())
    if not keys:
        raise DataError(f'{args.src}: no .pt file in this folder. Name another folder')
    shape = folder.read(keys[0]).scores.shape
    writer = PackedWriter.create(args.dst, keys, shape, args.num_classes, args.dtype)
    pack(folder, writer)
    packed, files = bytes_on_disk(*args.dst.iterdir()), map(folder.path, keys)
    print(
        f'{args.dst}: {len(keys):,} maps, {packed}, {writer.num_classes} classes; '
        f'{args.src}: {bytes_on_disk(*files)}'
    )


if __name__ == '__main__':
    run_tool(make_parser(), main)
