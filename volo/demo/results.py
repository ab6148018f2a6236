"""Read what a training run left behind."""

import dataclasses
import json
from pathlib import Path

from volo.errors import DataError


@dataclasses.dataclass
class Curve:
    """One quantity over a training.

    Attributes:
        steps: Iterations, counted from 1, or epochs, as the run logged it.
        values: The value at each step.
    """

    steps: list[int] = dataclasses.field(default_factory=list)
    values: list[float] = dataclasses.field(default_factory=list)


def read_curves(run_dir: Path) -> dict[str, Curve]:
    """Read every scalar that mmengine's local backend wrote during a training.

    Args:
        run_dir: The ``--work-dir`` of the training.

    Returns:
        Scalar names, such as ``loss`` and ``mIoU``, and their curves.

    Raises:
        DataError: There are no scalars.
    """
    curves: dict[str, Curve] = {}
    for path in sorted(run_dir.glob('*/vis_data/scalars.json')):
        for line in path.read_text().splitlines():
            scalars = json.loads(line)
            step = scalars.pop('step')
            for name, value in scalars.items():
                curve = curves.setdefault(name, Curve())
                curve.steps.append(step)
                curve.values.append(value)
    if not curves:
        raise DataError(f'{run_dir}: no */vis_data/scalars.json of a training in it')
    return curves


def last_checkpoint(run_dir: Path) -> Path:
    """Return the checkpoint that a training wrote at its end.

    Raises:
        DataError: There is none.
    """
    pointer = run_dir / 'last_checkpoint'
    if pointer.is_file():
        # The pointer holds an absolute path: take the name, so that a folder that
        # was moved is read too.
        checkpoint = run_dir / Path(pointer.read_text().strip()).name
        if checkpoint.is_file():
            return checkpoint
    raise DataError(f'{run_dir}: no checkpoint of a finished training in it')


def read_metric(path: Path, name: str) -> float:
    """Read one metric from what ``tools/test.py --out`` wrote."""
    return float(json.loads(path.read_text())[name])
