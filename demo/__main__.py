"""Train and predict in miniature, on a CPU, in a few minutes.

python -m demo [--work-dir DIR] [--epochs N --iterations N --no-check]
"""

import argparse
from pathlib import Path

from volo.engine.cli import run_cli

from .pipeline import DemoOptions, run_demo


def main() -> None:
    default = DemoOptions()
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument(
        '--work-dir',
        type=Path,
        default=default.work_dir,
        help='where results go; an earlier run there is renamed, not overwritten',
    )
    parser.add_argument(
        '--data-root',
        type=Path,
        default=default.data_root,
        help='where the images are drawn; kept for the next time',
    )
    parser.add_argument(
        '--images-per-class',
        '--pictures-per-class',  # its name before version 0.2
        type=int,
        default=default.images_per_class,
        help='training images of each class, and a fifth as many for validation',
    )
    parser.add_argument(
        '--epochs', type=int, help='length of each of the two classification trainings'
    )
    parser.add_argument(
        '--iterations',
        type=int,
        help="length of each segmentation training, if not the config's",
    )
    parser.add_argument(
        '--no-check',
        dest='check',
        action='store_false',
        help='do not fail when results stay below the bars, for shorter runs',
    )
    run_demo(DemoOptions(**vars(parser.parse_args())))


if __name__ == '__main__':
    run_cli(main)
