"""Reading the scalars that a training logged."""

import dataclasses
import json
from pathlib import Path
from typing import Any

from volo.errors import DataError


@dataclasses.dataclass
class Curve:
    """One scalar over a training.

    Attributes:
        steps: Steps at which it was logged, counted from 1.
        values: The value at each step.
        unit: Unit of the steps: ``iteration`` or ``epoch``.
        validation: Whether validation logged it.
    """

    steps: list[int] = dataclasses.field(default_factory=list)
    values: list[float] = dataclasses.field(default_factory=list)
    unit: str = 'iteration'
    validation: bool = False

    def append(self, other: 'Curve') -> None:
        """Append a later part, which replaces what it overlaps."""
        kept = sum(step < other.steps[0] for step in self.steps)
        self.steps[kept:] = other.steps
        self.values[kept:] = other.values


def read_curves(run_dir: Path) -> dict[str, Curve]:
    """Read every scalar that mmengine's local backend wrote during a training.

    A scalar of validation whose name training uses too, such as ``time``, is named
    ``val/time``. A resumed training has several files; where steps repeat, the later
    file counts.

    Args:
        run_dir: The ``--work-dir`` of the training.

    Returns:
        Names of scalars, such as ``loss`` and ``mIoU``, and their curves.

    Raises:
        DataError: There are no scalars, or a file is broken.
    """
    files = [
        _read_records(path) for path in sorted(run_dir.glob('*/vis_data/scalars.json'))
    ]
    trained = {name for records in files for r in records if 'iter' in r for name in r}
    curves: dict[str, Curve] = {}
    for records in files:
        for name, part in _to_curves(records, trained).items():
            if name in curves:
                curves[name].append(part)
            else:
                curves[name] = part
    if not curves:
        raise DataError(
            f'{run_dir}: no */vis_data/scalars.json. Name the work dir of a training'
        )
    return curves


def _read_records(path: Path) -> list[dict[str, Any]]:
    """Read the lines of a file. Only those of training have ``iter``."""
    records = []
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        try:
            record = json.loads(line)
            record['step']  # raises if there is none
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(
                f'{path}, line {number}: not a line of scalars: delete it'
            ) from error
        records.append(record)
    return records


def _to_curves(records: list[dict[str, Any]], trained: set[str]) -> dict[str, Curve]:
    """Return the curves of a file; training uses the names in ``trained``."""
    curves: dict[str, Curve] = {}
    epoch = None
    for i, record in enumerate(records):
        step, validation = record['step'], 'iter' not in record
        # The step of validation is the current epoch or, with by_epoch=False, the
        # iteration. A resumed training may validate before it logs an iteration.
        epoch = record.get('epoch', epoch)
        if epoch is None:
            coming = (r['epoch'] - 1 for r in records[i:] if 'epoch' in r)
            epoch = next(coming, None)
        unit = 'epoch' if validation and step == epoch else 'iteration'
        for name, value in record.items():
            if name in ('step', 'iter', 'epoch'):
                continue
            if validation and name in trained:
                name = f'val/{name}'
            curve = curves.setdefault(name, Curve(unit=unit, validation=validation))
            curve.steps.append(step)
            curve.values.append(value)
    return curves
