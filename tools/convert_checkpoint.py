"""Convert a checkpoint between the authors' (and timm's) layout and ours.

volo convert d1_224_84.2.pth.tar volo_d1.pth
volo convert epoch_300.pth volo_d1.safetensors --to official --ema

Files of the authors and of timm work here without conversion: everything that opens
checkpoints accepts them.
"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from volo_cli import run_tool, tool_parser

if TYPE_CHECKING:
    import torch

SUFFIXES = ('.pth', '.safetensors')


def write(weights: 'dict[str, torch.Tensor]', path: Path, flat: bool) -> None:
    """Write weights atomically."""
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    from volo.errors import CheckpointError
    from volo.files import atomic_path

    try:
        with atomic_path(path) as partial:
            if path.suffix == '.safetensors':
                save_file({k: v.contiguous() for k, v in weights.items()}, partial)
            else:
                # The authors release flat dicts; mmsegmentation needs a meta.
                checkpoint = weights if flat else dict(meta={}, state_dict=weights)
                torch.save(checkpoint, partial)
    # Neither library raises OSError where the system refuses a write.
    except (OSError, RuntimeError, SafetensorError) as error:
        raise CheckpointError(f'{path} cannot be written: {error}') from error


def make_parser() -> argparse.ArgumentParser:
    parser = tool_parser(__doc__)
    parser.add_argument(
        'src', help='.pth, .pt, .pth.tar or .safetensors; or URL#sha256=HASH of one'
    )
    parser.add_argument('dst', type=Path, help='.pth or .safetensors')
    parser.add_argument(
        '--to',
        choices=['volo', 'official', 'timm'],
        default='volo',
        help='layout of DST; timm kept the official one',
    )
    parser.add_argument(
        '--ema', action='store_true', help='convert the averaged weights (EMA) of SRC'
    )
    parser.add_argument('--force', action='store_true', help='overwrite DST')
    return parser


def main(args: argparse.Namespace) -> None:
    from volo.checkpoints.layouts import convert_state_dict, to_official_layout
    from volo.checkpoints.reading import read_weights
    from volo.errors import CheckpointError
    from volo.models.weights import infer_arch

    dst = args.dst.expanduser()
    if dst.suffix not in SUFFIXES:
        raise CheckpointError(f'{dst} must end in {" or ".join(SUFFIXES)}')
    if not dst.parent.is_dir():
        raise CheckpointError(f'{dst.parent} does not exist: create that folder first')
    if dst.exists() and not args.force:
        raise CheckpointError(f'{dst} exists: give --force to overwrite it')

    weights = read_weights(args.src, args.ema)
    official = args.to != 'volo'
    try:
        weights = (to_official_layout if official else convert_state_dict)(weights)
    except CheckpointError as error:
        raise CheckpointError(f'{args.src}: {error}') from error
    write(weights, dst, flat=official)
    parameters = sum(
        value.numel()
        for name, value in weights.items()
        if not name.endswith(('running_mean', 'running_var', 'num_batches_tracked'))
    )
    print(
        f'{dst}: volo {infer_arch(weights)}, {args.to} layout, {len(weights)} tensors, '
        f'{parameters:,} parameters'
    )


if __name__ == '__main__':
    run_tool(make_parser(), main)
