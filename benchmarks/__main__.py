"""Measure speed, memory and size: always one way against another, in one run.

python -m benchmarks models [--mode training] [--device cuda --dtype bf16]
python -m benchmarks segmentor [CONFIG] [--mode training --batch-size 2]
python -m benchmarks outlook-attention [--batch-size 64]
python -m benchmarks token-loss [--batch-size 128] [--device cuda]
python -m benchmarks label-maps [--count 10000]
python -m benchmarks pipeline configs/volo_d1_imagenet.py --data-root FOLDER
python -m benchmarks memory configs/volo_d5_448_imagenet.py [--fits 24 40 80]
python -m benchmarks reliability [CONFIG] [--batch-size 8 --num-workers 0]

models: our classifier, timm's VOLO, DeiT III, Swin and a bare matrix product.
segmentor: UPerNet of a config with our backbone and with timm's VOLO.
outlook-attention: the operator alone, against a copy of its tensors.
token-loss: token targets, loss and gradient, with an entry for every class and without.
label-maps: reading label maps, a file an image and packed.
pipeline: a config's training images on one core, with and without label maps.
memory: what a training step of a config needs on a GPU, counted without one.
reliability: a training with the hooks and the sampler that make it reliable, and with
mmengine's own; on drawn images, on the GPU if there is one.

The first three and the last two take --out, which writes JSON and Markdown. The first
two take --compile: eager, compiled (torch.compile) or frozen (the same with inductor's
freezing, which packs the weights for inference). All that is compared takes turns in
one process after a warm-up turn. A ratio above 1 is faster than the reference; it is
made within each turn, shown are the median and the extremes. Peak memory is what a call
takes beyond weights and optimizer; memory counts these as well.
"""

import argparse

import torch
from mmengine.config import DictAction

from volo.engine.cli import natural, positive, run_cli
from volo.engine.launch import load_config
from volo.errors import ConfigError
from volo.ops.backends import BACKENDS
from volo.paths import config_path

from .attention import measure_attention
from .label_maps import measure_label_maps
from .measure import describe_machine
from .memory import measure_memory
from .models import BUILDERS, measure_models
from .pipeline import measure_pipeline
from .reliability import measure_reliability
from .report import Report, print_table
from .segmentor import measure_segmentor
from .steps import COMPILE, DTYPES, MODES, StepOptions
from .token_loss import measure_token_loss


def finish(report: Report, out: str | None) -> None:
    report.show()
    if out is not None:
        print('written:', *report.write(out))


def step_options(args: argparse.Namespace) -> StepOptions:
    return StepOptions(
        mode=args.mode,
        batch_size=args.batch_size,
        dtype=args.dtype,
        device=args.device,
        compile=args.compile,
        repeats=args.repeats,
        calls=args.calls,
    )


def models(args: argparse.Namespace) -> None:
    report = measure_models(
        args.models, args.arch, args.img_size, step_options(args), args.dtypes
    )
    finish(report, args.out)


def segmentor(args: argparse.Namespace) -> None:
    if args.batch_size is None:
        args.batch_size = 2 if args.mode == 'training' else 1
    image = (args.height, args.width)
    cfg = load_config(args.config)
    finish(measure_segmentor(cfg, args.crop, image, step_options(args)), args.out)


def attention(args: argparse.Namespace) -> None:
    report = measure_attention(
        args.backends,
        args.arch,
        args.img_size,
        args.batch_size,
        args.dtype,
        args.device,
        args.repeats,
        args.calls,
    )
    finish(report, args.out)


def token_loss(args: argparse.Namespace) -> None:
    found = measure_token_loss(
        args.batch_size, args.num_classes, args.repeats, args.device
    )
    seconds, peak = found['dense']
    print_table(
        f'targets, loss and gradient of {args.batch_size} images, '
        f'{args.num_classes} classes',
        ['', 'ms', 'of dense', 'peak MB', 'of dense'],
        [
            [
                kind,
                f'{1e3 * s:.0f}',
                f'{s / seconds:.2f}',
                f'{p / 1e6:.0f}',
                f'{p / peak:.2f}',
            ]
            for kind, (s, p) in found.items()
        ],
    )


def label_maps(args: argparse.Namespace) -> None:
    found = measure_label_maps(args.count, args.repeats)
    seconds, size = found['folder']
    print_table(
        f'{args.count} label maps of 18 x 18 cells, 5 classes each',
        ['', 'µs a map', 'of folder', 'bytes a map', 'of folder'],
        [
            [kind, f'{1e6 * s:.1f}', f'{s / seconds:.3f}', f'{b}', f'{b / size:.2f}']
            for kind, (s, b) in found.items()
        ],
    )


def pipeline(args: argparse.Namespace) -> None:
    # One image after another, as in a worker of a loader.
    torch.set_num_threads(1)
    options = {} if args.data_root is None else dict(data_root=args.data_root)
    found = measure_pipeline(
        load_config(args.config, options), args.count, args.repeats
    )
    rate = found['images alone']
    print_table(
        f'{args.config}: training images on one core',
        ['', 'images/s', 'of images alone'],
        [[name, f'{r:.1f}', f'{r / rate:.3f}'] for name, r in found.items()],
    )


def memory(args: argparse.Namespace) -> None:
    cfg = load_config(args.config, args.cfg_options)
    report = measure_memory(cfg, args.batch_sizes, args.dtype, args.fits, args.gpus)
    finish(report, args.out)


def reliability(args: argparse.Namespace) -> None:
    cfg = load_config(args.config, args.cfg_options)
    report = measure_reliability(
        cfg, args.batch_size, args.num_workers, args.repeats, args.calls
    )
    finish(report, args.out)


def add_common(command: argparse.ArgumentParser, calls: int = 1) -> None:
    command.add_argument('--dtype', choices=DTYPES, default='float32', help='autocast')
    command.add_argument('--device', choices=['cpu', 'cuda'], default='cpu')
    # The same as before the command; SUPPRESS keeps what was given there.
    command.add_argument('--repeats', type=positive, default=argparse.SUPPRESS)
    command.add_argument(
        '--calls', type=positive, default=calls, help='calls a turn (%(default)s)'
    )
    command.add_argument(
        '--out', help='a folder, or files without suffix: JSON and Markdown'
    )


def add_steps(command: argparse.ArgumentParser) -> None:
    command.add_argument('--mode', choices=MODES, default='inference')
    command.add_argument(
        '--compile', nargs='+', choices=COMPILE, default=['eager', 'compiled']
    )


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        '--repeats', type=positive, default=5, help='the median is shown'
    )
    commands = parser.add_subparsers(required=True)

    command = commands.add_parser('models')
    command.add_argument('--models', nargs='+', choices=BUILDERS, default=[*BUILDERS])
    command.add_argument('--arch', default='d1')
    command.add_argument('--batch-size', type=positive, default=16)
    command.add_argument('--img-size', type=positive, default=224)
    add_steps(command)
    add_common(command)
    command.add_argument(
        '--dtypes',
        nargs='+',
        choices=DTYPES,
        default=[],
        help='one against another, in place of --dtype',
    )
    command.set_defaults(run=models)

    command = commands.add_parser('segmentor')
    command.add_argument(
        'config', nargs='?', default='configs/volo_d1_upernet_cityscapes.py'
    )
    command.add_argument('--batch-size', type=positive, help='1, in training 2')
    command.add_argument(
        '--crop', type=positive, help="training images and windows; the config's"
    )
    command.add_argument('--height', type=positive, default=512, help='in inference')
    command.add_argument('--width', type=positive, default=1024, help='in inference')
    add_steps(command)
    add_common(command)
    command.set_defaults(run=segmentor)

    command = commands.add_parser('outlook-attention')
    command.add_argument('--backends', nargs='+', choices=BACKENDS, default=[])
    command.add_argument('--arch', default='d1')
    command.add_argument('--batch-size', type=positive, default=16)
    command.add_argument('--img-size', type=positive, default=224)
    add_common(command, calls=10)
    command.set_defaults(run=attention)

    command = commands.add_parser('token-loss')
    command.add_argument('--batch-size', type=positive, default=128)
    command.add_argument('--num-classes', type=positive, default=1000)
    command.add_argument('--device', choices=['cpu', 'cuda'], default='cpu')
    command.set_defaults(run=token_loss)

    command = commands.add_parser('label-maps')
    command.add_argument('--count', type=positive, default=10000)
    command.set_defaults(run=label_maps, device='cpu')

    command = commands.add_parser('pipeline')
    command.add_argument('config')
    command.add_argument('--data-root', help="default: the config's")
    command.add_argument('--count', type=positive, default=200, help='images a turn')
    command.set_defaults(run=pipeline, device='cpu')

    command = commands.add_parser('memory')
    command.add_argument('config')
    command.add_argument(
        '--batch-sizes',
        nargs='+',
        type=positive,
        help="on a GPU; default: the config's",
    )
    command.add_argument('--dtype', choices=DTYPES, help="autocast; the config's")
    command.add_argument(
        '--fits', nargs='*', type=positive, default=[24, 40, 80], help='GiB of GPUs'
    )
    command.add_argument(
        '--gpus', type=positive, default=8, help='more than 1: with the buckets of DDP'
    )
    command.add_argument(
        '--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE'
    )
    command.add_argument(
        '--out', help='a folder, or files without suffix: JSON and Markdown'
    )
    command.set_defaults(run=memory, device='cpu')

    command = commands.add_parser('reliability')
    command.add_argument(
        'config', nargs='?', default=config_path('volo_d1_plain_imagenet')
    )
    command.add_argument('--batch-size', type=positive, default=8)
    command.add_argument(
        '--num-workers',
        type=natural,
        default=0,
        help='by default none, so that nothing is hidden',
    )
    command.add_argument('--repeats', type=positive, default=argparse.SUPPRESS)
    command.add_argument(
        '--calls', type=positive, default=1, help='iterations at once (%(default)s)'
    )
    command.add_argument(
        '--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE'
    )
    command.add_argument(
        '--out', help='a folder, or files without suffix: JSON and Markdown'
    )
    command.set_defaults(
        run=reliability, device='cuda' if torch.cuda.is_available() else 'cpu'
    )
    return parser


def main() -> None:
    args = make_parser().parse_args()
    if args.device == 'cuda' and not torch.cuda.is_available():
        raise ConfigError('--device cuda: there is no GPU')
    args.run(args)
    print(describe_machine(args.device))


if __name__ == '__main__':
    run_cli(main)
