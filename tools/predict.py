"""Predict images, videos and cameras with a trained or exported model.

volo predict CONFIG CHECKPOINT SOURCE... --out DIR
volo predict EXPORTED SOURCE... --out DIR

Several processes share the work:

torchrun --nproc-per-node 8 -m volo predict ... --launcher pytorch

EXPORTED is a folder of tools/export.py, or a .onnx, .xml or .pt2 file in it. A SOURCE
is an image, a video, a folder, a glob pattern in quotes, a .txt file with one path per
line, or the number of a camera. After an interruption the same command continues.

DIR gets masks/*.png (index masks with the colors of the classes), overlays/*.jpg,
frames/*.jsonl (the frames of videos) and predictions.jsonl: a line for each image with
classes, scores and, for segmentation, the share of each class.

Exit status: 0 all predicted, 1 some files could not be read, 2 an error.
"""

import argparse
import logging
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from volo_cli import add_cfg_options, export_local_rank, positive, run_tool, tool_parser

if TYPE_CHECKING:
    from volo.deploy.predictions import Predictor


def share(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 1:
        raise ValueError
    return value


def gigabytes(text: str) -> float:
    value = float(text)
    if not value > 0:
        raise ValueError
    return value


def make_parser() -> argparse.ArgumentParser:
    parser = tool_parser(__doc__)
    parser.usage = '%(prog)s (CONFIG CHECKPOINT | EXPORTED) SOURCE... --out DIR'
    parser.add_argument('inputs', nargs='+', help=argparse.SUPPRESS)
    parser.add_argument(
        '--out', required=True, type=Path, metavar='DIR', help='folder for the outputs'
    )
    parser.add_argument('--device', help='default: a GPU if there is one')
    parser.add_argument(
        '--amp',
        action='store_true',
        help='mixed precision: float16 on a GPU, bfloat16 on a CPU',
    )
    parser.add_argument(
        '--tta',
        action='store_true',
        help='test-time augmentation, as tta_model and tta_pipeline of the config say',
    )
    parser.add_argument(
        '--batch-size',
        type=positive,
        default=8,
        help='images per process, at most; images of one batch have the same size '
        '(default: %(default)s)',
    )
    parser.add_argument(
        '--workers',
        type=positive,
        default=2,
        help='threads per process that read, and that write (default: %(default)s)',
    )
    parser.add_argument(
        '--memory',
        type=gigabytes,
        default=2,
        metavar='GB',
        help='what a batch may take, estimated. Segmentation: an image that takes more '
        'runs in overlapping windows, those of test_cfg if it has mode="slide" '
        '(default: %(default)s)',
    )
    parser.add_argument(
        '--window',
        type=positive,
        metavar='PIXELS',
        help='side of these windows for other configs; they overlap by a third '
        "(default: that of the training's crops)",
    )
    parser.add_argument(
        '--top-k',
        type=positive,
        default=5,
        help='classification: classes per image (default: %(default)s)',
    )
    parser.add_argument(
        '--opacity',
        type=share,
        default=0.5,
        help='of the colors of overlays, 0 to 1 (default: %(default)s)',
    )
    parser.add_argument('--no-masks', action='store_true', help='write no masks')
    parser.add_argument('--no-overlays', action='store_true', help='write no overlays')
    parser.add_argument(
        '--max-frames',
        type=positive,
        metavar='N',
        help='frames of each video or camera (default: all; a camera until Ctrl-C)',
    )
    add_cfg_options(parser)
    parser.add_argument(
        '--launcher',
        choices=['none', 'pytorch', 'slurm'],
        default='none',
        help='what started the processes, which share the work (none: this is the only '
        'one)',
    )
    # From torch.distributed.launch; torchrun sets LOCAL_RANK instead.
    parser.add_argument(
        '--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS
    )
    return parser


def main(args: argparse.Namespace) -> None:
    from mmengine.dist import is_main_process
    from mmengine.logging import MMLogger
    from PIL import Image

    from volo.deploy.predict import predict_sources
    from volo.deploy.predict_outputs import OutputOptions
    from volo.deploy.predict_run import RunOptions
    from volo.engine.cli import leave
    from volo.errors import Interrupted

    export_local_rank(args.local_rank)
    MMLogger.get_current_instance().setLevel(logging.WARNING)
    warnings.filterwarnings('ignore', module=r'mm(cv|engine|pretrain|seg)\.')
    warnings.filterwarnings('ignore', category=Image.DecompressionBombWarning)
    outputs = OutputOptions(
        args.out,
        masks=not args.no_masks,
        overlays=not args.no_overlays,
        opacity=args.opacity,
        top_k=args.top_k,
    )
    memory = args.memory * 1e9
    options = RunOptions(args.batch_size, args.workers, memory, args.max_frames)
    try:
        predictor, sources = build_predictor(args)
        report = predict_sources(predictor, sources, outputs, options)
    except KeyboardInterrupt:
        raise Interrupted(
            f'{args.out}: interrupted. The same command continues'
        ) from None
    if is_main_process():
        print(report)
    if report.failures:
        leave(1)


def build_predictor(args: argparse.Namespace) -> tuple['Predictor', list[str]]:
    from volo.checkpoints.fetching import locate
    from volo.deploy.predict_exported import build_exported_predictor, is_exported
    from volo.deploy.predict_model import build_torch_predictor
    from volo.engine.launch import join_processes, load_config
    from volo.errors import ConfigError

    model, *sources = args.inputs
    exported = is_exported(model)
    if len(sources) < (1 if exported else 2):
        missing = 'at least one SOURCE' if exported else 'CHECKPOINT and SOURCE'
        raise ConfigError(f'{missing} not given after {model}, see --help')
    memory = args.memory * 1e9
    if not exported:
        checkpoint, *sources = sources
        return build_torch_predictor(
            load_config(model, args.cfg_options),
            locate(checkpoint),
            join_processes(args.launcher, args.device),
            amp=args.amp,
            tta=args.tta,
            memory=memory,
            window=args.window,
        ), sources
    options = {
        '--amp': args.amp,
        '--tta': args.tta,
        '--cfg-options': args.cfg_options,
        '--device': args.device not in (None, 'cpu'),
    }
    if given := [name for name, value in options.items() if value]:
        raise ConfigError(
            f'{", ".join(given)}: for CONFIG and CHECKPOINT, not for the exported '
            f'{model}, which runs as it is, on the CPU'
        )
    join_processes(args.launcher, 'cpu')
    return build_exported_predictor(model, memory, args.window), sources


if __name__ == '__main__':
    run_tool(make_parser(), main)
