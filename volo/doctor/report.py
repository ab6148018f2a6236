"""The doctor's report: a text for people and a dict for programs."""

from collections.abc import Sequence

from volo.datasets.findings import KINDS

from .check import SplitReport

#: So many files of a kind are named in the text; all of them are in the JSON report.
FILES_SHOWN = 3
#: Longer lists of classes are cut to the rarest in the text.
CLASSES_SHOWN = 40


def report_text(reports: Sequence[SplitReport]) -> str:
    """Return the findings by kind, then how often the classes occur."""
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
    """Return a table of a split's classes, with weights for the training split."""
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
            '  Weights by median frequency balancing (Eigen and Fergus, 2015); a rare '
            "class's may be too large to train with."
        )
        if len(rows) <= CLASSES_SHOWN:
            weights = ', '.join(f'{row["weight"] or 0:.3f}' for row in rows)
            lines.append(f'  class_weight = [{weights}]')
    return lines


def report_dict(config: str, reports: Sequence[SplitReport]) -> dict[str, object]:
    """Return all of it, ready for JSON.

    Args:
        config: Path of the config.
        reports: Of its splits.
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
