"""Write a config for a folder of images.

volo init FOLDER [--out my_config.py]
volo init FOLDER --masks DIR --group '^patient[0-9]+'

Finds class folders, masks (indices, 0 and 255, palettes, colors with a legend), COCO,
LabelMe, YOLO polygons or Pascal VOC. Divides the images into training and validation,
chooses a model for this machine, writes the config, and checks the dataset. Lists and
drawn masks go to FOLDER/volo_init. Exit status: 0 no findings, 1 findings, 2 the folder
cannot be used.
"""

import argparse
import sys
from pathlib import Path

from volo_cli import run_tool, tool_parser


def make_parser() -> argparse.ArgumentParser:
    parser = tool_parser(__doc__)
    parser.add_argument('folder', type=Path, help='folder of the images')
    parser.add_argument(
        '--task',
        choices=['classification', 'segmentation'],
        help='what to learn (default: what the folder has)',
    )
    parser.add_argument(
        '--masks', type=Path, metavar='DIR', help='folder of the masks, if not found'
    )
    parser.add_argument(
        '--out',
        type=Path,
        default=Path('my_config.py'),
        metavar='FILE',
        help='config to write (default: %(default)s)',
    )
    parser.add_argument(
        '--val-fraction',
        type=float,
        default=0.2,
        metavar='SHARE',
        help='share of the images for validation, if the folder has no split '
        '(default: %(default)s)',
    )
    parser.add_argument(
        '--seed', type=int, default=0, help='seed of the split (default: %(default)s)'
    )
    parser.add_argument(
        '--group',
        metavar='REGEX',
        help='pattern in the path of an image; images with the same match, or the same '
        'first group, stay together',
    )
    parser.add_argument(
        '--arch', help='tiny, d1, ... d5 (default: d1 on a GPU, tiny on a CPU)'
    )
    parser.add_argument(
        '--weights',
        default='',
        metavar='FILE',
        help='pretrained weights to start from; they determine the arch',
    )
    parser.add_argument(
        '--force', action='store_true', help='write over the files of an earlier run'
    )
    return parser


def main(args: argparse.Namespace) -> None:
    from volo.doctor.check import check_config
    from volo.doctor.report import report_text
    from volo.engine.launch import load_config
    from volo.machine import usable_cpus
    from volo.own_data.init import Request, describe, init_config
    from volo.own_data.timing import expected_minutes

    request = Request(
        args.folder,
        args.out,
        args.task,
        args.masks,
        args.val_fraction,
        args.seed,
        args.group,
        args.arch,
        args.weights,
        args.force,
    )
    result = init_config(request)
    print(*describe(result), sep='\n', flush=True)
    cfg = load_config(args.out)
    splits = [sample.split for sample in result.found.samples]
    minutes = expected_minutes(cfg, splits.count('train'), splits.count('val'))
    print(f'Time:     about {max(1, round(minutes))} minutes on this machine')
    best = f'work_dirs/{args.out.stem}/best_*.pth'
    print(f'\nWrote {args.out}. Next:\n')
    print(f'  volo train {args.out}')
    print(f'  volo predict {args.out} {best} NEW_IMAGES --out predictions\n')
    print('Check of the dataset:\n', flush=True)
    reports = check_config(cfg, workers=min(usable_cpus(), 16))
    print(report_text(reports))
    if any(report.findings for report in reports):
        sys.exit(1)


if __name__ == '__main__':
    run_tool(make_parser(), main)
