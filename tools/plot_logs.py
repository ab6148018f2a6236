"""Draw the loss, the metrics and the learning rate of one or more trainings.

volo plot RUN_DIR [RUN_DIR ...] --out curves.png [--smooth 20]
volo plot a b --scalars loss accuracy/top1 --labels plain "with maps"
"""

import argparse
from pathlib import Path

from volo_cli import run_tool, tool_parser


def make_parser() -> argparse.ArgumentParser:
    parser = tool_parser(__doc__)
    parser.add_argument(
        'run_dirs',
        nargs='+',
        type=Path,
        metavar='RUN_DIR',
        help='work dir of a training',
    )
    parser.add_argument('--out', type=Path, required=True, help='image to write')
    parser.add_argument(
        '--scalars',
        nargs='+',
        metavar='NAME',
        help='scalars to draw; default: loss, validation metrics and learning rate',
    )
    parser.add_argument(
        '--labels',
        nargs='+',
        metavar='NAME',
        help='names of the runs; default: their folders',
    )
    parser.add_argument(
        '--smooth',
        type=int,
        default=1,
        metavar='N',
        help='draw the mean of N logged values for scalars of training',
    )
    return parser


def main(args: argparse.Namespace) -> None:
    from volo.errors import ConfigError
    from volo.visualization.curves import read_curves
    from volo.visualization.runs import draw_runs

    if args.smooth < 1:
        raise ConfigError(f'--smooth {args.smooth}: must be 1 or more')
    labels = args.labels or [path.resolve().name for path in args.run_dirs]
    if len(labels) != len(args.run_dirs):
        raise ConfigError(
            f'--labels: {len(labels)} for {len(args.run_dirs)} runs: give one per run'
        )
    if len(set(labels)) < len(labels):
        if args.labels:
            raise ConfigError(
                f'--labels {" ".join(labels)}: two are equal: give different ones'
            )
        labels = [str(path) for path in args.run_dirs]
    runs = {
        label: read_curves(path)
        for label, path in zip(labels, args.run_dirs, strict=True)
    }
    draw_runs(runs, args.out, args.scalars, args.smooth)
    print(args.out)


if __name__ == '__main__':
    run_tool(make_parser(), main)
