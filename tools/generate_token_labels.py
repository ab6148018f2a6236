"""Make label maps: an annotator's best classes in every cell of every image.

With weights that timm fetches, or with one's own, of timm or of a config:

python tools/generate_token_labels.py data/imagenet/train maps --timm dm_nfnet_f6
python tools/generate_token_labels.py IMAGES OUT --timm NAME --checkpoint FILE
python tools/generate_token_labels.py IMAGES OUT --config CONFIG --checkpoint FILE

On several GPUs, one process each (without GPUs, on the CPU):

torchrun --nproc-per-node 8 tools/generate_token_labels.py ... --launcher pytorch

IMAGES holds CLASS/NAME.jpg or NAME.jpg; OUT gets CLASS/NAME.pt or, with --packed, a
packed store. Interrupted, the same command goes on where it stopped.
"""

import argparse
from pathlib import Path

import torch
from mmengine.dist import is_main_process

from volo.annotators.annotator_mmpretrain import build_mmpretrain_annotator
from volo.annotators.annotator_timm import build_timm_annotator
from volo.annotators.generate import generate_label_maps
from volo.engine.cli import positive, run_cli
from volo.engine.launch import join_processes
from volo.errors import ConfigError


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('images', type=Path, help='folder of images')
    parser.add_argument('out', type=Path, help='folder of the label maps')
    model = parser.add_mutually_exclusive_group(required=True)
    model.add_argument('--timm', metavar='NAME', help='annotator: a model of timm')
    model.add_argument('--config', help='annotator: a config of a classifier')
    parser.add_argument(
        '--checkpoint', help="its weights; default: timm's pretrained ones"
    )
    parser.add_argument(
        '--random-weights', action='store_true', help='load none, to try things out'
    )
    parser.add_argument(
        '--num-classes', type=positive, help="of timm's model, if not its own number"
    )
    parser.add_argument(
        '--input-size',
        type=positive,
        help='side of the square that images are resized to, in pixels',
    )
    parser.add_argument('--top-k', type=positive, default=5, help='classes a cell')
    parser.add_argument('--batch-size', type=positive, default=64, help='a process')
    parser.add_argument('--workers', type=int, default=2, help='loaders a process')
    parser.add_argument('--packed', action='store_true', help='write a packed store')
    parser.add_argument('--device', help='default: a GPU if there is one')
    parser.add_argument('--launcher', choices=['none', 'pytorch'], default='none')
    args = parser.parse_args()

    if args.checkpoint and args.random_weights:
        raise ConfigError('give --checkpoint or --random-weights, not both')
    if args.config and not (args.checkpoint or args.random_weights):
        raise ConfigError('--config needs the weights too: give --checkpoint')
    if args.config and args.num_classes:
        raise ConfigError(
            "--num-classes is for --timm: a config says it in its model's head"
        )
    device = join_processes(args.launcher, args.device)
    # Random weights: the same in all processes, and when a run is taken up again.
    torch.manual_seed(0)
    options = dict(input_size=args.input_size, device=device)
    if args.timm:
        annotator = build_timm_annotator(
            args.timm,
            args.checkpoint,
            num_classes=args.num_classes,
            random_weights=args.random_weights,
            **options,
        )
    else:
        annotator = build_mmpretrain_annotator(args.config, args.checkpoint, **options)
    report = generate_label_maps(
        annotator,
        args.images,
        args.out,
        k=args.top_k,
        batch_size=args.batch_size,
        workers=args.workers,
        packed=args.packed,
    )
    if is_main_process():
        print(report)


if __name__ == '__main__':
    run_cli(main)
