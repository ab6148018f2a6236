"""Check every file of a config's datasets before training.

python tools/check_dataset.py CONFIG [--splits train val] [--out report.json]
python tools/check_dataset.py CONFIG --cfg-options data_root=DIR

Reports broken images, masks that do not fit their images, labels out of range, missing
files and more, each with a remedy, then the class frequencies. Only --out is written.
Exit status: 0 no findings, 1 findings, 2 the config cannot be used.
docs/check_dataset.md lists all findings.
"""

import argparse
import json
import sys
from pathlib import Path

from mmengine.config import DictAction

from volo.datasets.findings import KINDS
from volo.doctor.check import SPLITS, check_config
from volo.doctor.report import report_dict, report_text
from volo.engine.cli import run_cli
from volo.engine.launch import load_config
from volo.errors import ConfigError, DataError
from volo.files import describe_write_error
from volo.machine import usable_cpus


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='config file')
    parser.add_argument(
        '--splits',
        nargs='+',
        choices=SPLITS,
        default=list(SPLITS),
        help='splits to check (default: all that the config has)',
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        metavar='KEY=VALUE',
        help='override settings of the config, such as data_root=DIR',
    )
    parser.add_argument(
        '--workers',
        type=int,
        default=min(usable_cpus(), 16),
        help='worker processes; 0 checks in the main process (default: %(default)s)',
    )
    parser.add_argument(
        '--ignore',
        nargs='+',
        choices=KINDS,
        default=[],
        metavar='KIND',
        help='kinds of findings to leave out: the names in brackets',
    )
    parser.add_argument(
        '--out', type=Path, help='file for the JSON report of all findings'
    )
    args = parser.parse_args()

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
    run_cli(main)
