"""Evaluate a checkpoint or an exported model.

volo test volo_d1_upernet_cityscapes CHECKPOINT [--tta]
volo test volo_d1_upernet_cityscapes model.onnx --compare CHECKPOINT
bash tools/dist_test.sh configs/volo_d1_upernet_cityscapes.py CHECKPOINT 8
"""

import argparse
import json
from pathlib import Path

from volo_cli import export_local_rank, run_tool, runner_parser


def make_parser() -> argparse.ArgumentParser:
    parser = runner_parser(__doc__)
    parser.add_argument(
        'checkpoint',
        help='checkpoint file, URL#sha256=<hash>, or file of volo export (.onnx, .xml '
        'or .pt2)',
    )
    parser.add_argument(
        '--compare',
        metavar='CHECKPOINT',
        help='of an exported model: evaluate this checkpoint too, and print both with '
        'their images per second',
    )
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

    from volo.deploy.drawing import DrawHook
    from volo.deploy.evaluation import ThroughputHook, compare_metrics, is_exported
    from volo.engine.results import ClassScoresHook, describe_results
    from volo.errors import ConfigError

    export_local_rank(args.local_rank)

    if args.out and not args.out.parent.is_dir():
        raise ConfigError(f'--out {args.out}: no folder {args.out.parent}. Create it')
    exported = is_exported(args.checkpoint)
    if args.compare and not exported:
        raise ConfigError(f'--compare: {args.checkpoint} is not an exported model')
    scores = ClassScoresHook()
    hooks: list[Hook] = [scores]
    if exported:
        hooks.append(ThroughputHook())
    if args.show_dir:
        hooks.append(DrawHook(args.show_dir))
    metrics = evaluate(args, args.checkpoint, hooks)
    results = describe_results(metrics, scores.classes, scores.scores)
    if args.compare:
        pytorch = evaluate(args, args.compare, [ThroughputHook()])
        results['pytorch'] = describe_results(pytorch)
        if is_main_process():
            print(compare_metrics(metrics, pytorch, Path(args.checkpoint).name))
    if args.out and is_main_process():
        args.out.write_text(json.dumps(results, indent=2) + '\n')


def evaluate(args: argparse.Namespace, path: str, hooks: list) -> dict:
    """Evaluate a checkpoint or an exported model as the options say."""
    from volo.checkpoints.fetching import locate
    from volo.deploy.evaluation import is_exported, use_exported
    from volo.engine.launch import add_hook, load_config, test
    from volo.errors import CheckpointError, ConfigError

    cfg = load_config(args.config, args.cfg_options, args.work_dir)
    if is_exported(path):
        if args.amp or args.compile:
            raise ConfigError(
                f'--amp, --compile: {path} is an exported model, which neither changes'
            )
        use_exported(cfg, path)
    # Opened by its URL, a cached file is verified again by the descriptor that is read.
    elif not locate(path).is_file():
        raise CheckpointError(f'{path}: no such checkpoint')
    else:
        cfg.load_from = path
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
    return test(cfg, args.launcher, hooks)


if __name__ == '__main__':
    run_tool(make_parser(), main)
