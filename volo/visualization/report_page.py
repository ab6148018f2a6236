"""The HTML page of a report: one file without external resources."""

import datetime
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup

from .curves import Curve
from .report_figures import draw_confusion, draw_curve, draw_reliability
from .report_template import TEMPLATE
from .runs import default_scalars

#: What the metrics of mmseg and mmpretrain are called.
METRIC_TITLES = {
    'mIoU': 'mean IoU (%)',
    'mAcc': 'mean class accuracy (%)',
    'aAcc': 'pixel accuracy (%)',
    'mDice': 'mean Dice (%)',
    'mFscore': 'mean F1 (%)',
    'mPrecision': 'mean precision (%)',
    'mRecall': 'mean recall (%)',
    'accuracy/top1': 'top-1 accuracy (%)',
    'accuracy/top5': 'top-5 accuracy (%)',
    'single-label/precision': 'mean precision (%)',
    'single-label/recall': 'mean recall (%)',
    'single-label/f1-score': 'mean F1 (%)',
}

#: Columns of the table of classes. The IoU is for segmentation only.
COLUMNS = (
    ('iou', 'IoU'),
    ('accuracy', 'Accuracy'),
    ('precision', 'Precision'),
    ('f1', 'F1'),
)

#: Pairs of classes in the table of confusions.
NUM_CONFUSIONS = 12


def render_page(
    report: dict[str, Any],
    curves: dict[str, Curve],
    colors: Sequence[str],
    drawings: dict[str, list[dict[str, str]]],
) -> str:
    """Render a report as HTML.

    Args:
        report: As in :func:`.report.write_report`.
        curves: Scalars of the training; may be empty.
        colors: Of the classes, ``#rrggbb``.
        drawings: For ``best`` and ``worst``, the data URIs of each sample, as from
            :func:`.report_images.draw_example`.
    """
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(percent=_percent, number=_number, short=_short)
    names = [row['name'] for row in report['classes']]
    confusion = np.array(report['confusion_matrix'])
    scalars = default_scalars([curves]) if curves else []
    groups = [
        (title, list(zip(report[key], drawings[key], strict=True)))
        for key, title in (('worst', 'Worst'), ('best', 'Best'))
    ]
    segmentation = report['task'] == 'segmentation'
    return environment.from_string(TEMPLATE).render(
        report=report,
        segmentation=segmentation,
        columns=COLUMNS if segmentation else COLUMNS[1:],
        title=Path(report['work_dir']).name,
        date=datetime.datetime.fromisoformat(report['time']).strftime('%d %B %Y'),
        cards=_cards(report),
        curves=[(name, Markup(draw_curve(name, curves[name]))) for name in scalars],
        rows=list(zip(report['classes'], colors, strict=True)),
        total=sum(row['count'] for row in report['classes']),
        undefined=any(None in row.values() for row in report['classes']),
        confusion=Markup(draw_confusion(confusion, names)),
        confusions=frequent_confusions(confusion, names),
        groups=groups,
        reliability=Markup(draw_reliability(report['calibration']['bins'])),
        names=names,
        colors=colors,
    )


def frequent_confusions(
    confusion: np.ndarray, classes: Sequence[str]
) -> list[dict[str, Any]]:
    """List the pairs of classes that are confused most, by share of the truth.

    Args:
        confusion: Counts by truth (rows) and prediction (columns), (C, C).
        classes: Their names.

    Returns:
        ``truth``, ``prediction``, ``count`` and ``share`` (0 to 1) of each pair.
    """
    wrong = confusion * (1 - np.eye(len(confusion), dtype=int))
    shares = wrong / np.maximum(confusion.sum(1, keepdims=True), 1)
    order = np.argsort(-shares, axis=None, kind='stable')[:NUM_CONFUSIONS]
    pairs = [divmod(int(place), len(confusion)) for place in order]
    return [
        dict(
            truth=classes[row],
            prediction=classes[column],
            count=int(wrong[row, column]),
            share=float(shares[row, column]),
        )
        for row, column in pairs
        if wrong[row, column]
    ]


def _cards(report: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the values and titles of the most important numbers."""
    cards = [
        (f'{value:.2f}', METRIC_TITLES.get(name, name))
        for name, value in report['metrics'].items()
        if isinstance(value, int | float)
    ]
    # The main metric first, as in a paper.
    cards.sort(key=lambda card: card[1] != METRIC_TITLES['mIoU'])
    model, speed = report['model'], report['speed']
    return [
        *cards,
        (f'{report["calibration"]["ece"]:.3f}', 'calibration error (ECE)'),
        (_number(speed['images_per_second']), f'images/s on {speed["device"]}'),
        (f'{model["parameters"] / 1e6:.1f} M', 'parameters'),
        (f'{model["gmac"]:.2f}', 'GMACs per image'),
    ]


def _percent(value: float | None) -> str:
    return '–' if value is None else f'{100 * value:.2f}'


def _number(value: float) -> str:
    """Return a number with at least three digits and separators of thousands."""
    digits = 0 if value >= 100 or value == int(value) else 1 if value >= 10 else 2
    return f'{value:,.{digits}f}'


def _short(path: str) -> str:
    """Return the folder and the name of a file."""
    return '/'.join(Path(path).parts[-2:])
