"""Train and predict in miniature, on a CPU, in a few minutes.

python -m demo [--work-dir DIR] [--epochs N --iterations N --no-check]
"""

import argparse
from pathlib import Path

from volo_cli import run_tool

from .options import ANNOTATOR_EPOCHS, CLASSIFIER_EPOCHS, DemoOptions


def make_parser() -> argparse.ArgumentParser:
    default = DemoOptions()
    parser = argparse.ArgumentParser(
        prog='python -m demo',
        description='Draw synthetic shapes, train a small VOLO and a UPerNet on them '
        'and draw what they predict. On a CPU this takes a few minutes.',
    )
    parser.add_argument(
        '--work-dir',
        type=Path,
        default=default.work_dir,
        help='folder of the results; earlier results there are renamed, not '
        'overwritten (default: %(default)s)',
    )
    parser.add_argument(
        '--data-root',
        type=Path,
        default=default.data_root,
        help='folder of the dataset; a later run uses it again (default: %(default)s)',
    )
    parser.add_argument(
        '--images-per-class',
        type=int,
        default=default.images_per_class,
        help='training images per class; a fifth as many are drawn for validation '
        '(default: %(default)s)',
    )
    # The name of --images-per-class before version 0.2.
    parser.add_argument(
        '--pictures-per-class',
        dest='images_per_class',
        type=int,
        default=argparse.SUPPRESS,
        help=argparse.SUPPRESS,
    )
    parser.add_argument(
        '--epochs',
        type=int,
        help='epochs of each of the two classification trainings '
        f'(default: {ANNOTATOR_EPOCHS}, then {CLASSIFIER_EPOCHS})',
    )
    parser.add_argument(
        '--iterations',
        type=int,
        help="iterations of each segmentation training (default: the config's)",
    )
    parser.add_argument(
        '--no-check',
        dest='check',
        action='store_false',
        help='succeed even if the results are worse than required: for short runs',
    )
    return parser


def main(args: argparse.Namespace) -> None:
    from .pipeline import run_demo

    run_demo(DemoOptions(**vars(args)))


if __name__ == '__main__':
    run_tool(make_parser(), main)
