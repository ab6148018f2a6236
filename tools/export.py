"""Export a trained model to ONNX, OpenVINO or torch.export's format.

python tools/export.py CONFIG CHECKPOINT --out exported --format onnx openvino

Each file takes uint8 RGB images (batch, height, width, 3) and returns classes. It is
compared with PyTorch on images of the validation set. If it computes something else, it
is removed, and the exit status is 2.
"""

import argparse

from mmengine.config import DictAction

from volo.deploy.export import TOLERANCES, Options, export
from volo.deploy.formats import FORMATS
from volo.engine.cli import positive, run_cli
from volo.engine.launch import load_config


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint file, or URL#sha256=<hash>')
    parser.add_argument('--out', required=True, help='folder of the exported files')
    parser.add_argument(
        '--format',
        nargs='+',
        default=['onnx'],
        metavar='FORMAT',
        help=f'file formats: {", ".join(FORMATS)}; default: onnx',
    )
    parser.add_argument(
        '--dtype',
        nargs='+',
        default=['float32'],
        metavar='DTYPE',
        help=f'of the weights: {", ".join(TOLERANCES)}; default: float32',
    )
    size = parser.add_mutually_exclusive_group()
    size.add_argument(
        '--size',
        nargs=2,
        type=positive,
        metavar=('HEIGHT', 'WIDTH'),
        help='take images of this size alone, in pixels; default for classifiers: the '
        'size of the test pipeline',
    )
    size.add_argument(
        '--dynamic',
        action='store_true',
        help='take images of any size; default for segmentors',
    )
    parser.add_argument(
        '--logits',
        action='store_true',
        help='return the logits too, which the evaluation of slide inference and of '
        'resized images needs',
    )
    parser.add_argument(
        '--images',
        nargs='+',
        default=[],
        metavar='PATH',
        help='image files or folders to compare on; default: the validation set',
    )
    parser.add_argument(
        '--tolerance',
        type=float,
        help='largest difference of logits from those of PyTorch; default: '
        + ', '.join(f'{d:g} in {name}' for name, (d, _) in TOLERANCES.items()),
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        metavar='KEY=VALUE',
        help='override the config: dotted keys, lists as "[a,b]"',
    )
    args = parser.parse_args()
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
    run_cli(main)
