"""Reports of a dataset check: text for people, a dict for programs."""

from collections.abc import Sequence

from volo.datasets.findings import KINDS

from .check import SplitReport

#: Files that the text names per kind. The JSON report has all of them.
FILES_SHOWN = 3
#: Classes that the text lists per split, the rarest ones. The JSON report has all.
CLASSES_SHOWN = 40


def report_text(reports: Sequence[SplitReport]) -> str:
    """Return the findings by kind, then the class frequencies of every split."""
    lines = []
    for report in reports:
        note = f' ({report.note})' if report.note else ''
        lines.append(f'{report.name}: {report.size} samples{note}')
    found = [(r.name, finding) for r in reports for finding in r.findings]
    for kind, (title, _) in KINDS.items():
        group = [(split, f) for split, f in found if f.kind == kind]
        if not group:
            continue
        lines += ['', f'{len(group)} x {title} [{kind}]']
        for split, finding in group[:FILES_SHOWN]:
            lines.append(f'  {split}: {finding.file}: {finding.value}')
        if len(group) > FILES_SHOWN:
            lines.append(f'  ... and {len(group) - FILES_SHOWN} more')
        remedies = dict.fromkeys(f.remedy for _, f in group)
        lines += [f'  -> {remedy}.' for remedy in remedies]
    for report in reports:
        lines += _class_lines(report)
    plural = '' if len(found) == 1 else 's'
    summary = f'{len(found) or "No"} finding{plural}'
    return '\n'.join([*lines, '', f'{summary}.'])


def _class_lines(report: SplitReport) -> list[str]:
    """Return a table of a split's classes, for ``train`` with weights."""
    if report.counts is None or not report.counts.counts.any():
        return []
    unit, rows = report.counts.unit, report.counts.rows()
    title = f'Classes of {report.name}'
    shown = rows
    if len(rows) > CLASSES_SHOWN:
        shown = sorted(rows, key=lambda row: row['share'])[:CLASSES_SHOWN]
        title += f', the {CLASSES_SHOWN} rarest of {len(rows)}'
    width = max(len(row['name']) for row in shown)
    lines = ['', f'{title}: share of {unit}, number of images']
    for row in shown:
        line = f'  {row["name"]:{width}}  {row["share"]:8.3%}  {row["shown_in"]:7}'
        if report.name == 'train':
            weight = row['weight']
            line += '  weight ' + ('-' if weight is None else f'{weight:.3f}')
        lines.append(line)
    if report.name == 'train':
        lines.append(
            '  Weights: median frequency balancing (Eigen and Fergus, 2015). Those of '
            'very rare classes may be too large for stable training.'
        )
        if len(rows) <= CLASSES_SHOWN:
            weights = ', '.join(f'{row["weight"] or 0:.3f}' for row in rows)
            lines.append(f'  class_weight = [{weights}]')
    return lines


def report_dict(config: str, reports: Sequence[SplitReport]) -> dict[str, object]:
    """Return the whole report, ready for JSON.

    Args:
        config: Path of the config.
        reports: Reports of its splits.
    """
    return {
        'config': config,
        'clean': not any(report.findings for report in reports),
        'splits': {
            report.name: {
                'samples': report.size,
                'note': report.note,
                'classes': report.counts.rows() if report.counts else [],
            }
            for report in reports
        },
        'findings': [
            {
                'split': report.name,
                'kind': finding.kind,
                'file': finding.file,
                'value': finding.value,
                'remedy': finding.remedy,
            }
            for report in reports
            for finding in report.findings
        ],
    }
