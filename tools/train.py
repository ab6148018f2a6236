"""Train a classifier or a segmentor.

python tools/train.py configs/volo_d1_imagenet.py [--work-dir DIR] [--resume] [--amp]
bash tools/dist_train.sh configs/volo_d1_imagenet.py 8
"""

from mmengine.device import get_device

from volo.engine.cli import export_local_rank, run_cli, runner_parser
from volo.engine.launch import add_hook, load_config, train
from volo.engine.tracking import TRACKERS, add_trackers
from volo.errors import ConfigError


def main() -> None:
    parser = runner_parser(__doc__.splitlines()[0])
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        metavar='CHECKPOINT',
        help='go on from a checkpoint, by default the newest whole one in the work dir',
    )
    parser.add_argument(
        '--start-over',
        action='store_true',
        help='train from the beginning where there are checkpoints already; they are '
        'kept under another name',
    )
    parser.add_argument(
        '--auto-scale-lr',
        action='store_true',
        help='scale the learning rate by the batch size: base in the config',
    )
    parser.add_argument(
        '--track',
        nargs='+',
        choices=TRACKERS,
        default=[],
        help='send the logs to these trackers too',
    )
    args = parser.parse_args()
    export_local_rank(args.local_rank)

    cfg = load_config(args.config, args.cfg_options, args.work_dir)
    if args.resume and args.start_over:
        raise ConfigError('--resume and --start-over exclude each other')
    if args.resume:
        cfg.resume = True
        cfg.load_from = None if args.resume == 'auto' else args.resume
    if args.amp:
        if cfg.optim_wrapper.type not in ('OptimWrapper', 'AmpOptimWrapper'):
            raise ConfigError(
                f'--amp: no mixed precision for optim_wrapper {cfg.optim_wrapper.type}'
            )
        cfg.optim_wrapper.type = 'AmpOptimWrapper'
        cfg.optim_wrapper.setdefault('loss_scale', 'dynamic')
        if get_device() == 'cpu':
            cfg.optim_wrapper.dtype = 'bfloat16'
    if args.compile:
        add_hook(cfg, type='CompileHook')
    if args.auto_scale_lr:
        if 'base_batch_size' not in (cfg.get('auto_scale_lr') or {}):
            raise ConfigError(
                f'--auto-scale-lr: {args.config} has no '
                'auto_scale_lr = dict(base_batch_size=...)'
            )
        cfg.auto_scale_lr.enable = True
        # mmengine compares it with the images of an iteration, not of an update.
        cfg.auto_scale_lr.base_batch_size /= cfg.optim_wrapper.get(
            'accumulative_counts', 1
        )
    if args.track:
        add_trackers(cfg, args.track)
    train(cfg, args.launcher, args.start_over)


if __name__ == '__main__':
    run_cli(main)
