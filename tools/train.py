"""Train a classifier or a segmentor.

volo train volo_d1_imagenet [--work-dir DIR] [--resume] [--amp]
bash tools/dist_train.sh configs/volo_d1_imagenet.py 8
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

from volo_cli import ROOT, export_local_rank, run_tool, runner_parser

SOURCES = ('checkpoint', 'config')
TRACKERS = ('tensorboard', 'wandb', 'mlflow')


def make_parser() -> argparse.ArgumentParser:
    parser = runner_parser(__doc__)
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        metavar='CHECKPOINT',
        help='continue from a checkpoint (the newest whole one in the work dir)',
    )
    parser.add_argument(
        '--hyperparams-from',
        choices=SOURCES,
        default='checkpoint',
        help='with --resume: where learning rate, weight decay and the other settings '
        'of optimizer and schedules come from (checkpoint)',
    )
    parser.add_argument(
        '--start-over',
        action='store_true',
        help='train from the beginning; a work dir with checkpoints is renamed',
    )
    parser.add_argument(
        '--auto-scale-lr',
        action='store_true',
        help='scale the learning rate by the images per update, relative to '
        'auto_scale_lr.base_batch_size of the config',
    )
    parser.add_argument(
        '--track',
        nargs='+',
        choices=TRACKERS,
        default=[],
        help='also send the logs to these trackers',
    )
    parser.add_argument(
        '--report',
        action='store_true',
        help='evaluate the best checkpoint at the end and write WORK_DIR/report.html, '
        'as `volo report` does; the first process does it alone',
    )
    return parser


def main(args: argparse.Namespace) -> None:
    from mmengine.device import get_device
    from mmengine.dist import is_main_process

    from volo.engine.launch import add_hook, load_config, train
    from volo.engine.tracking import add_trackers
    from volo.errors import ConfigError

    export_local_rank(args.local_rank)

    cfg = load_config(args.config, args.cfg_options, args.work_dir)
    if args.resume and args.start_over:
        raise ConfigError('--resume and --start-over: give one of them')
    if args.resume:
        cfg.resume = True
        cfg.load_from = None if args.resume == 'auto' else args.resume
    if args.amp:
        if cfg.optim_wrapper.type not in ('OptimWrapper', 'AmpOptimWrapper'):
            raise ConfigError(
                f'--amp: optim_wrapper.type is {cfg.optim_wrapper.type}, it must be '
                'OptimWrapper'
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
        # mmengine compares it with the images per iteration, not per update.
        cfg.auto_scale_lr.base_batch_size /= cfg.optim_wrapper.get(
            'accumulative_counts', 1
        )
    if args.track:
        add_trackers(cfg, args.track)
    train(cfg, args.launcher, args.start_over, args.hyperparams_from)
    if args.report and is_main_process():
        write_report(Path(cfg.work_dir), Path(cfg.filename).name)


def write_report(work_dir: Path, config: str) -> None:
    """Run ``report.py`` in a process of its own, outside the group of this one.

    It prints its errors. They do not make the training fail.

    Args:
        work_dir: Folder of the training.
        config: Name of the config file that the training saved there.
    """
    tool = str(Path(__file__).with_name('report.py'))
    command = [sys.executable, tool, str(work_dir), '--config', str(work_dir / config)]
    paths = [str(ROOT), *filter(None, [os.environ.get('PYTHONPATH')])]
    environment = os.environ | {'PYTHONPATH': os.pathsep.join(paths)}
    subprocess.run(command, env=environment, check=False)


if __name__ == '__main__':
    run_tool(make_parser(), main)
