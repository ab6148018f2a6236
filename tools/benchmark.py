"""Measure speed, memory and size: always one way against another, in one run.

python tools/benchmark.py token-loss [--batch-size 128] [--device cuda]
python tools/benchmark.py label-maps [--count 10000]
python tools/benchmark.py pipeline configs/volo_d1_imagenet.py --data-root FOLDER

token-loss: token targets, loss and gradient, with an entry for every class and without.
label-maps: reading label maps, a file a picture and packed.
pipeline: a config's training pictures on one core, with and without label maps.
"""

import argparse

import torch
from rich.console import Console
from rich.table import Table

from volo.benchmark.label_maps import measure_label_maps
from volo.benchmark.measure import describe_machine
from volo.benchmark.pipeline import measure_pipeline
from volo.benchmark.token_loss import measure_token_loss
from volo.engine.cli import positive, run_cli
from volo.engine.launch import load_config
from volo.errors import ConfigError


def show(title: str, columns: list[str], rows: list[list[str]]) -> None:
    table = Table(*columns, title=title, title_justify='left')
    for row in rows:
        table.add_row(*row)
    Console().print(table)


def token_loss(args: argparse.Namespace) -> None:
    found = measure_token_loss(
        args.batch_size, args.num_classes, args.repeats, args.device
    )
    seconds, peak = found['dense']
    show(
        f'targets, loss and gradient of {args.batch_size} pictures, '
        f'{args.num_classes} classes',
        ['', 'ms', 'of dense', 'peak MB', 'of dense'],
        [
            [
                kind,
                f'{1e3 * s:.0f}',
                f'{s / seconds:.2f}',
                f'{p / 1e6:.0f}',
                f'{p / peak:.2f}',
            ]
            for kind, (s, p) in found.items()
        ],
    )


def label_maps(args: argparse.Namespace) -> None:
    found = measure_label_maps(args.count, args.repeats)
    seconds, size = found['folder']
    show(
        f'{args.count} label maps of 18 x 18 cells, 5 classes each',
        ['', 'µs a map', 'of folder', 'bytes a map', 'of folder'],
        [
            [kind, f'{1e6 * s:.1f}', f'{s / seconds:.3f}', f'{b}', f'{b / size:.2f}']
            for kind, (s, b) in found.items()
        ],
    )


def pipeline(args: argparse.Namespace) -> None:
    # One picture after another, as in a worker of a loader.
    torch.set_num_threads(1)
    options = {} if args.data_root is None else dict(data_root=args.data_root)
    found = measure_pipeline(
        load_config(args.config, options), args.count, args.repeats
    )
    rate = found['pictures alone']
    show(
        f'{args.config}: training pictures on one core',
        ['', 'pictures/s', 'of pictures alone'],
        [[name, f'{r:.1f}', f'{r / rate:.3f}'] for name, r in found.items()],
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        '--repeats', type=positive, default=5, help='the median is shown'
    )
    commands = parser.add_subparsers(required=True)

    command = commands.add_parser('token-loss')
    command.add_argument('--batch-size', type=positive, default=128)
    command.add_argument('--num-classes', type=positive, default=1000)
    command.add_argument('--device', choices=['cpu', 'cuda'], default='cpu')
    command.set_defaults(run=token_loss)

    command = commands.add_parser('label-maps')
    command.add_argument('--count', type=positive, default=10000)
    command.set_defaults(run=label_maps, device='cpu')

    command = commands.add_parser('pipeline')
    command.add_argument('config')
    command.add_argument('--data-root', help="default: the config's")
    command.add_argument('--count', type=positive, default=200, help='pictures a turn')
    command.set_defaults(run=pipeline, device='cpu')

    args = parser.parse_args()
    if args.device == 'cuda' and not torch.cuda.is_available():
        raise ConfigError('--device cuda: there is no GPU')
    args.run(args)
    print(describe_machine(args.device))


if __name__ == '__main__':
    run_cli(main)
