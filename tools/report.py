"""Evaluate a training and describe it on one HTML page, and as JSON.

volo report WORK_DIR [--checkpoint FILE] [--out report.html]

The page has the curves, the scores of each class, the confusion matrix, the best and
the worst images, calibration, speed and versions. It needs no other file.
"""

import argparse
import shlex
import sys
from pathlib import Path

from volo_cli import add_cfg_options, positive, run_tool, tool_parser


def make_parser() -> argparse.ArgumentParser:
    parser = tool_parser(__doc__)
    parser.add_argument(
        'work_dir', type=Path, metavar='WORK_DIR', help='work dir of a training'
    )
    parser.add_argument(
        '--config', help='config file (default: the one that the training saved)'
    )
    parser.add_argument(
        '--checkpoint',
        help='checkpoint file, or URL#sha256=<hash> (default: the best one in '
        'WORK_DIR, else the newest)',
    )
    parser.add_argument(
        '--out',
        type=Path,
        metavar='FILE',
        help='HTML file to write; the JSON file is beside it '
        '(default: WORK_DIR/report.html)',
    )
    parser.add_argument(
        '--images',
        type=positive,
        default=6,
        metavar='N',
        help='best images to show, and as many of the worst (default: %(default)s)',
    )
    parser.add_argument(
        '--split',
        choices=('val', 'test'),
        default='val',
        help='dataset of the config to evaluate (default: %(default)s)',
    )
    add_cfg_options(parser)
    return parser


def main(args: argparse.Namespace) -> None:
    from volo.visualization.report import write_report

    report = write_report(
        args.work_dir,
        args.config,
        args.checkpoint,
        args.out,
        args.images,
        args.split,
        args.cfg_options,
        command=f'{sys.argv[0]} {shlex.join(sys.argv[1:])}',
    )
    for name, value in report['metrics'].items():
        if isinstance(value, int | float):
            print(f'{name}: {value:.2f}')
    print(args.out or args.work_dir / 'report.html')


if __name__ == '__main__':
    run_tool(make_parser(), main)
