"""Evaluate a checkpoint.

volo test volo_d1_upernet_cityscapes CHECKPOINT [--tta]
bash tools/dist_test.sh configs/volo_d1_upernet_cityscapes.py CHECKPOINT 8
"""

import argparse
import json
from pathlib import Path

from volo_cli import export_local_rank, run_tool, runner_parser


def make_parser() -> argparse.ArgumentParser:
    parser = runner_parser(__doc__)
    parser.add_argument('checkpoint', help='checkpoint file, or URL#sha256=<hash>')
    parser.add_argument(
        '--out', type=Path, help='write the metrics to this JSON file, class by class'
    )
    parser.add_argument(
        '--show-dir', type=Path, help='draw the predictions into this folder'
    )
    parser.add_argument(
        '--tta',
        action='store_true',
        help='segmentation: multi-scale and flip test-time augmentation',
    )
    return parser


def main(args: argparse.Namespace) -> None:
    from mmengine.dist import is_main_process
    from mmengine.hooks import Hook

    from volo.checkpoints.fetching import locate
    from volo.deploy.drawing import DrawHook
    from volo.engine.launch import add_hook, load_config, test
    from volo.engine.results import ClassScoresHook, describe_results
    from volo.errors import CheckpointError, ConfigError

    export_local_rank(args.local_rank)

    if args.out and not args.out.parent.is_dir():
        raise ConfigError(f'--out {args.out}: no folder {args.out.parent}. Create it')
    cfg = load_config(args.config, args.cfg_options, args.work_dir)
    # Opened by its URL, a cached file is verified again by the descriptor that is read.
    if not locate(args.checkpoint).is_file():
        raise CheckpointError(f'{args.checkpoint}: no such checkpoint')
    cfg.load_from = args.checkpoint
    if args.tta:
        if 'tta_model' not in cfg:
            raise ConfigError(f'--tta: {args.config} has no tta_model')
        cfg.test_dataloader.dataset.pipeline = cfg.tta_pipeline
        cfg.tta_model.module = cfg.model
        cfg.model = cfg.tta_model
    if args.amp:
        cfg.test_cfg.fp16 = True  # bfloat16 on a CPU
    if args.compile:
        add_hook(cfg, type='CompileHook', freeze=True)
    scores = ClassScoresHook()
    hooks: list[Hook] = [scores]
    if args.show_dir:
        hooks.append(DrawHook(args.show_dir))
    metrics = test(cfg, args.launcher, hooks)
    if args.out and is_main_process():
        results = describe_results(metrics, scores.classes, scores.scores)
        args.out.write_text(json.dumps(results, indent=2) + '\n')


if __name__ == '__main__':
    run_tool(make_parser(), main)
