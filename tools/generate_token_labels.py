"""Make label maps: an annotator's best classes in every cell of every image.

The annotator is a model of timm, with its pretrained weights or yours, or a config:

volo label data/imagenet/train maps --timm dm_nfnet_f6
volo label IMAGES OUT --timm NAME --checkpoint FILE
volo label IMAGES OUT --config CONFIG --checkpoint FILE

On several GPUs, one process each (without GPUs, on the CPU):

torchrun --nproc-per-node 8 -m volo label ... --launcher pytorch

IMAGES holds CLASS/NAME.jpg or NAME.jpg. OUT gets CLASS/NAME.pt or, with --packed, a
packed store. After an interruption the same command continues.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from volo_cli import natural, positive, run_tool, tool_parser


def make_parser() -> argparse.ArgumentParser:
    parser = tool_parser(__doc__)
    parser.add_argument('images', type=Path, help='folder of images')
    parser.add_argument('out', type=Path, help='folder for the label maps')
    model = parser.add_mutually_exclusive_group(required=True)
    model.add_argument('--timm', metavar='NAME', help='annotator: a model of timm')
    model.add_argument('--config', help='annotator: a config of a classifier')
    parser.add_argument(
        '--checkpoint',
        help="weights of the annotator; default: timm's pretrained weights",
    )
    parser.add_argument(
        '--random-weights', action='store_true', help='load no weights, for trials'
    )
    parser.add_argument(
        '--num-classes',
        type=positive,
        help="classes of the --timm checkpoint; default: timm's number",
    )
    parser.add_argument(
        '--input-size',
        type=positive,
        help='side in pixels of the square that images are resized to; default: that '
        'of the annotator',
    )
    parser.add_argument(
        '--top-k',
        type=positive,
        default=5,
        help='classes per cell; default: %(default)s',
    )
    parser.add_argument(
        '--batch-size',
        type=positive,
        default=64,
        help='images per process; default: %(default)s',
    )
    parser.add_argument(
        '--workers',
        type=natural,
        default=2,
        help='loading processes per process; default: %(default)s',
    )
    parser.add_argument(
        '--upright',
        action='store_true',
        help='rotate images as EXIF says. Give it if the training pipeline does so, as '
        "with mmcv's default color_type. The ImageNet recipes do not",
    )
    parser.add_argument('--packed', action='store_true', help='write a packed store')
    parser.add_argument('--device', help='default: a GPU if there is one')
    parser.add_argument('--launcher', choices=['none', 'pytorch'], default='none')
    return parser


def main(args: argparse.Namespace) -> None:
    import torch
    from mmengine.dist import is_main_process

    from volo.annotators.annotator_mmpretrain import build_mmpretrain_annotator
    from volo.annotators.annotator_timm import build_timm_annotator
    from volo.annotators.generate import generate_label_maps
    from volo.engine.launch import join_processes
    from volo.errors import ConfigError
    from volo.token_label.folder_writer import FolderWriter
    from volo.token_label.maps import Writer
    from volo.token_label.packed_writer import PackedWriter

    if args.checkpoint and args.random_weights:
        raise ConfigError('give --checkpoint or --random-weights, not both')
    if args.config and not (args.checkpoint or args.random_weights):
        raise ConfigError('--config needs the weights too: give --checkpoint')
    if args.config and args.num_classes:
        raise ConfigError(
            '--num-classes is for --timm: with --config, set num_classes in its head'
        )
    device = join_processes(args.launcher, args.device)
    # Random weights must agree between processes, and after an interruption.
    torch.manual_seed(0)
    options = dict(input_size=args.input_size, device=device)
    if args.timm:
        annotator = build_timm_annotator(
            args.timm,
            args.checkpoint,
            pretrained=not (args.checkpoint or args.random_weights),
            num_classes=args.num_classes,
            **options,
        )
    else:
        annotator = build_mmpretrain_annotator(args.config, args.checkpoint, **options)

    def open_writer(keys: Sequence[str], shape: tuple[int, int, int]) -> Writer:
        if args.packed:
            return PackedWriter.create(args.out, keys, shape, annotator.num_classes)
        return FolderWriter(args.out, keys, shape)

    report = generate_label_maps(
        annotator,
        args.images,
        open_writer,
        k=args.top_k,
        batch_size=args.batch_size,
        workers=args.workers,
        upright=args.upright,
    )
    if is_main_process():
        print(report)


if __name__ == '__main__':
    run_tool(make_parser(), main)
