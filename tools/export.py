"""Export a trained model to ONNX, OpenVINO or PyTorch's pt2.

volo export CONFIG CHECKPOINT --out DIR --format onnx openvino pt2

Each file takes uint8 RGB images (batch, height, width, 3), and returns the class and
the confidence of each pixel, or the probabilities of the classes of each image. It is
run by its runtime and compared with PyTorch on validation images. A file that computes
something else is removed.

DIR gets model.onnx, model.xml with model.bin, model.pt2 (model_float16.* in float16),
and labels.json, which says what is in them.

Exit status: 0 all files are written, 2 an error.
"""

import argparse

from volo_cli import add_cfg_options, positive, run_tool, tool_parser

FORMATS = ('onnx', 'openvino', 'pt2')
DTYPES = ('float32', 'float16')


def make_parser() -> argparse.ArgumentParser:
    parser = tool_parser(__doc__)
    parser.add_argument('config', help='config file, or name of a config of volo')
    parser.add_argument('checkpoint', help='checkpoint file, or URL#sha256=<hash>')
    parser.add_argument(
        '--out', required=True, metavar='DIR', help='folder for the exported files'
    )
    parser.add_argument(
        '--format',
        nargs='+',
        default=['onnx'],
        metavar='FORMAT',
        help=f'any of {", ".join(FORMATS)} (onnx)',
    )
    parser.add_argument(
        '--dtype',
        nargs='+',
        default=['float32'],
        metavar='DTYPE',
        help=f'any of {", ".join(DTYPES)} (float32)',
    )
    size = parser.add_mutually_exclusive_group()
    size.add_argument(
        '--size',
        nargs=2,
        type=positive,
        metavar=('HEIGHT', 'WIDTH'),
        help='take images of this size alone, in pixels (classifiers: the size that '
        'the test pipeline makes)',
    )
    size.add_argument(
        '--dynamic',
        action='store_true',
        help='take images of any size (segmentors: always, without --size)',
    )
    parser.add_argument(
        '--logits',
        action='store_true',
        help='return the logits too; segmentors always do if the config evaluates with '
        'slide inference or resized images, which need them',
    )
    parser.add_argument(
        '--images',
        nargs='+',
        default=[],
        metavar='PATH',
        help='image files and folders to compare on (the validation set)',
    )
    parser.add_argument(
        '--tolerance',
        type=float,
        help='largest difference of logits between file and PyTorch (0.001, in float16 '
        '0.1)',
    )
    add_cfg_options(parser)
    return parser


def main(args: argparse.Namespace) -> None:
    from volo.deploy.export import Options, export
    from volo.engine.launch import load_config

    cfg = load_config(args.config, args.cfg_options)
    for dtype in args.dtype:
        options = Options(
            formats=args.format,
            dtype=dtype,
            size=tuple(args.size) if args.size else None,
            dynamic=args.dynamic,
            logits=args.logits,
            images=args.images,
            tolerance=args.tolerance,
        )
        for path, parity in export(cfg, args.checkpoint, args.out, options).items():
            print(f'{path}: {parity}')


if __name__ == '__main__':
    run_tool(make_parser(), main)
