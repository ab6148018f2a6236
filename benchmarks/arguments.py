"""Command-line options that several measurements share."""

import argparse

from mmengine.config import DictAction

from volo_cli import positive

from .steps import COMPILE, DTYPES, MODES


def add_number(
    parser: argparse.ArgumentParser, name: str, default: object, text: str
) -> None:
    """Add an option with a whole number from 1 on.

    Args:
        parser: Changed in place.
        name: With the dashes.
        default: Value without the option.
        text: Help text. It ends with the default unless that is None or suppressed.
    """
    if default not in (None, argparse.SUPPRESS):
        text += ' (default: %(default)s)'
    parser.add_argument(name, type=positive, default=default, metavar='N', help=text)


def add_repeats(parser: argparse.ArgumentParser) -> None:
    """Add ``--repeats``, which may also stand before the command."""
    # SUPPRESS keeps the value from before the command.
    add_number(parser, '--repeats', argparse.SUPPRESS, 'timed turns (default: 5)')


def add_network(parser: argparse.ArgumentParser) -> None:
    """Add arch, batch size and image size."""
    parser.add_argument(
        '--arch', default='d1', help='arch of VOLO (default: %(default)s)'
    )
    add_number(parser, '--batch-size', 16, 'images per call')
    add_number(parser, '--img-size', 224, 'side of the images in pixels')


def add_device(parser: argparse.ArgumentParser) -> None:
    """Add the device."""
    parser.add_argument(
        '--device',
        choices=['cpu', 'cuda'],
        default='cpu',
        help='where to run (default: %(default)s)',
    )


def add_dtype(parser: argparse.ArgumentParser) -> None:
    """Add the dtype of autocast."""
    parser.add_argument(
        '--dtype',
        choices=DTYPES,
        default='float32',
        help='dtype of autocast (default: %(default)s)',
    )


def add_steps(parser: argparse.ArgumentParser) -> None:
    """Add all options of :class:`.steps.StepOptions` but the batch size."""
    parser.add_argument(
        '--mode',
        choices=MODES,
        default='inference',
        help='the step to time (default: %(default)s)',
    )
    parser.add_argument(
        '--compile',
        nargs='+',
        choices=COMPILE,
        default=['eager', 'compiled'],
        help='what to compare: eager, compiled by torch.compile, and frozen: compiled '
        'with constant weights, for inference (default: eager compiled)',
    )
    add_device(parser)
    add_dtype(parser)
    add_repeats(parser)
    add_number(parser, '--calls', 1, 'steps per turn')


def add_cfg_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--cfg-options``."""
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        metavar='KEY=VALUE',
        help='override the config: dotted keys, lists as "[a,b]"',
    )


def add_out(parser: argparse.ArgumentParser) -> None:
    """Add the path of the results."""
    parser.add_argument(
        '--out',
        metavar='PATH',
        help='also write JSON and Markdown: into the folder PATH/, or as PATH.json and '
        'PATH.md',
    )
