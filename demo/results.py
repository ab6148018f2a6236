"""Read what a training run left behind."""

import json
from pathlib import Path

from volo.errors import DataError


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
