"""Read the results of the demo's trainings and check them."""

import dataclasses
import json
from pathlib import Path

from volo.errors import DataError, VoloError

MIN_TOP1 = 85.0
"""Top-1 accuracy in percent that a demo of full length must reach."""
MIN_MIOU = 60.0
"""mIoU in percent that it must reach with pretraining."""
MIN_GAIN = 5.0
"""Percentage points of mIoU by which pretraining must beat training from scratch."""


class DemoError(VoloError):
    """The demo ran to its end, but its results are worse than required."""


@dataclasses.dataclass(frozen=True)
class DemoResults:
    """Metrics on the validation images, in percent."""

    top1: float
    miou_pretrained: float
    miou_scratch: float

    def shortcomings(self) -> list[str]:
        """Return a phrase for each requirement that is missed."""
        missed = []
        if self.top1 < MIN_TOP1:
            missed.append(f'top-1 {self.top1:.1f} % is below {MIN_TOP1:.0f} %')
        if self.miou_pretrained < MIN_MIOU:
            missed.append(
                f'mIoU {self.miou_pretrained:.1f} % is below {MIN_MIOU:.0f} %, '
                'with pretraining'
            )
        gain = self.miou_pretrained - self.miou_scratch
        if gain < MIN_GAIN:
            missed.append(
                f'pretraining gains {gain:.1f} points of mIoU, less than {MIN_GAIN:.0f}'
            )
        return missed


def last_checkpoint(run_dir: Path) -> Path:
    """Return the last checkpoint of a training.

    Raises:
        DataError: There is none.
    """
    pointer = run_dir / 'last_checkpoint'
    if pointer.is_file():
        # The pointer holds an absolute path. The name alone survives a moved folder.
        checkpoint = run_dir / Path(pointer.read_text().strip()).name
        if checkpoint.is_file():
            return checkpoint
    raise DataError(f'{run_dir}: no checkpoint of a finished training in it')


def read_metric(path: Path, name: str) -> float:
    """Return one metric of the file that ``tools/test.py --out`` wrote."""
    return float(json.loads(path.read_text())[name])
