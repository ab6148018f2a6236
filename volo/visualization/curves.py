"""Read the scalars that a training logged."""

import dataclasses
import json
from pathlib import Path

from volo.errors import DataError


@dataclasses.dataclass
class Curve:
    """One quantity over a training.

    Attributes:
        steps: Where it was logged, counted from 1.
        values: The value at each step.
        unit: What the steps count: ``iteration`` or ``epoch``.
        validation: Whether it was measured in validation.
    """

    steps: list[int] = dataclasses.field(default_factory=list)
    values: list[float] = dataclasses.field(default_factory=list)
    unit: str = 'iteration'
    validation: bool = False

    def append(self, other: 'Curve') -> None:
        """Go on with a later part, which replaces whatever it overlaps."""
        kept = sum(step < other.steps[0] for step in self.steps)
        self.steps[kept:] = other.steps
        self.values[kept:] = other.values


def read_curves(run_dir: Path) -> dict[str, Curve]:
    """Read every scalar that mmengine's local backend wrote during a training.

    What validation logs under a name that training uses too, such as ``time``, is
    ``val/time`` here. A training that was resumed left several files: where it
    went back, the later one counts.

    Args:
        run_dir: The ``--work-dir`` of the training.

    Returns:
        Scalar names, such as ``loss`` and ``mIoU``, and their curves.

    Raises:
        DataError: There are no scalars, or a file is broken.
    """
    curves: dict[str, Curve] = {}
    for path in sorted(run_dir.glob('*/vis_data/scalars.json')):
        for name, part in _read_file(path).items():
            if name in curves:
                curves[name].append(part)
            else:
                curves[name] = part
    if not curves:
        raise DataError(f'{run_dir}: no */vis_data/scalars.json of a training in it')
    return curves


def _read_file(path: Path) -> dict[str, Curve]:
    curves: dict[str, Curve] = {}
    epoch = None
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        try:
            scalars = json.loads(line)
            step = scalars.pop('step')
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(
                f'{path}, line {number}: not a line of scalars: delete it'
            ) from error
        # Only training names its iteration; validation has the step alone, which
        # is the epoch that training was in or, by another setting, the iteration.
        validation = scalars.pop('iter', None) is None
        epoch = scalars.pop('epoch', epoch)
        unit = 'epoch' if validation and step == epoch else 'iteration'
        for name, value in scalars.items():
            if validation and name in curves and not curves[name].validation:
                name = f'val/{name}'
            curve = curves.setdefault(name, Curve(unit=unit, validation=validation))
            curve.steps.append(step)
            curve.values.append(value)
    return curves
