"""Check every file of a config's datasets before training.

volo check CONFIG [--splits train val] [--out report.json]
volo check CONFIG --cfg-options data_root=DIR

Reports broken images, masks that do not fit their images, labels out of range, missing
files and more, each with a remedy, then the class frequencies. Only --out is written.
Exit status: 0 no findings, 1 findings, 2 the config cannot be used.
docs/check_dataset.md lists all findings.
"""

import argparse
import json
import sys
from pathlib import Path

from volo_cli import add_cfg_options, run_tool, tool_parser

SPLITS = ('train', 'val', 'test')


def make_parser() -> argparse.ArgumentParser:
    parser = tool_parser(__doc__)
    parser.add_argument('config', help='config file, or name of a config of volo')
    parser.add_argument(
        '--splits',
        nargs='+',
        choices=SPLITS,
        default=list(SPLITS),
        help='splits to check (default: all that the config has)',
    )
    add_cfg_options(parser)
    parser.add_argument(
        '--workers',
        type=int,
        help='worker processes; 0 checks in the main process (default: one per usable '
        'CPU, at most 16)',
    )
    parser.add_argument(
        '--ignore',
        nargs='+',
        default=[],
        metavar='KIND',
        help='kinds of findings to leave out: the names in brackets',
    )
    parser.add_argument(
        '--out', type=Path, help='file for the JSON report of all findings'
    )
    return parser


def main(args: argparse.Namespace) -> None:
    from volo.datasets.findings import KINDS
    from volo.doctor.check import check_config
    from volo.doctor.report import report_dict, report_text
    from volo.engine.launch import load_config
    from volo.errors import ConfigError, DataError, did_you_mean
    from volo.files import describe_write_error
    from volo.machine import usable_cpus

    for kind in args.ignore:
        if kind not in KINDS:
            raise ConfigError(
                f'--ignore: no kind of findings {kind!r}.{did_you_mean(kind, KINDS)} '
                f'There are {", ".join(KINDS)}'
            )
    if args.workers is None:
        args.workers = min(usable_cpus(), 16)
    if args.workers < 0:
        raise ConfigError(f'--workers {args.workers}: must be at least 0')
    if args.out and not args.out.parent.is_dir():
        raise ConfigError(f'--out {args.out}: no folder {args.out.parent}. Create it')
    reports = check_config(
        load_config(args.config, args.cfg_options), args.splits, args.workers
    )
    for report in reports:
        report.findings = [f for f in report.findings if f.kind not in args.ignore]
    print(report_text(reports))
    if args.out:
        try:
            args.out.write_text(json.dumps(report_dict(args.config, reports), indent=2))
        except OSError as error:
            raise DataError(describe_write_error(args.out, error)) from error
    if any(report.findings for report in reports):
        sys.exit(1)


if __name__ == '__main__':
    run_tool(make_parser(), main)
