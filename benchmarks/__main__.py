"""Measure speed and memory of several candidates in one run.

python -m benchmarks COMMAND [OPTION ...]

The candidates take turns in one process, after an untimed turn. A ratio compares times
of the same turn; above 1 is faster than the reference. Tables show the median over the
turns and the range. Peak memory is what a call needs beyond weights and optimizer; the
command memory counts these too.
"""

import argparse

import torch

from volo.engine.cli import run_cli
from volo.errors import ConfigError
from volo_cli import positive

from . import (
    attention,
    label_maps,
    memory,
    models,
    pipeline,
    reliability,
    segmentor,
    token_loss,
)
from .measure import describe_machine

#: Each has ``add_arguments(parser)``, ``run(args)`` and a docstring, which is its help.
COMMANDS = {
    'models': models,
    'segmentor': segmentor,
    'outlook-attention': attention,
    'token-loss': token_loss,
    'label-maps': label_maps,
    'pipeline': pipeline,
    'memory': memory,
    'reliability': reliability,
}


def make_parser() -> argparse.ArgumentParser:
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        prog='python -m benchmarks', description=__doc__, formatter_class=formatter
    )
    parser.add_argument(
        '--repeats',
        type=positive,
        default=5,
        metavar='N',
        help='timed turns (default: %(default)s)',
    )
    # For commands without --device.
    parser.set_defaults(device='cpu')
    commands = parser.add_subparsers(required=True, metavar='COMMAND')
    for name, module in COMMANDS.items():
        text = module.__doc__ or ''
        command = commands.add_parser(
            name,
            help=text.splitlines()[0],
            description=text,
            formatter_class=formatter,
        )
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    return parser


def main() -> None:
    args = make_parser().parse_args()
    if args.device == 'cuda' and not torch.cuda.is_available():
        raise ConfigError('--device cuda: there is no GPU')
    args.run(args)
    print(describe_machine(args.device))


if __name__ == '__main__':
    run_cli(main)
