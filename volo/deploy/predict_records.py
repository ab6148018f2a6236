"""The JSON lines of a folder of predictions: one line for a finished image or video.

Each process appends to a part of its own. The parts are merged into one file when a
run starts and when it ends, so that nothing is lost after a kill, and nothing twice.
"""

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from volo.errors import ConfigError
from volo.files import PARTIAL_SUFFIX, atomic_path, write_atomically

#: The file with all lines.
LINES_NAME = 'predictions.jsonl'

#: The file with what the predictions were made with.
SETTINGS_NAME = 'settings.json'

#: The files of single processes.
_PARTS = 'predictions.part*.jsonl'


class Part:
    """The lines of one process.

    Args:
        folder: Folder of the predictions.
        rank: Rank of the process.
    """

    def __init__(self, folder: Path, rank: int) -> None:
        self._path = folder / f'predictions.part{rank}.jsonl'
        self._file: BinaryIO | None = None

    def add(self, record: Mapping[str, Any]) -> None:
        """Append a line, after all files that it tells of were written.

        Raises:
            OSError: It cannot be written.
        """
        if self._file is None:
            self._file = self._path.open('ab', buffering=0)
        self._file.write(json.dumps(record).encode() + b'\n')

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()


def check_settings(folder: Path, settings: Mapping[str, Any]) -> None:
    """Record what predictions are made with, or compare it with an earlier run's.

    Args:
        folder: Folder of the predictions. It is created if missing.
        settings: What the predictions depend on.

    Raises:
        ConfigError: The folder has predictions that were made with other settings.
        OSError: The folder cannot be written.
    """
    path = folder / SETTINGS_NAME
    text = json.dumps(settings, indent=2)
    if not path.exists():
        write_atomically(path, text.encode())
        return
    try:
        earlier = json.loads(path.read_bytes())
    except ValueError:
        earlier = {}
    other = [key for key in settings if earlier.get(key) != settings[key]]
    if other:
        raise ConfigError(
            f'{folder} holds predictions of another {" and ".join(other)}. Choose '
            'another folder with --out, or delete this one'
        )


def remove_partial_files(folder: Path) -> None:
    """Remove what a run that was killed had not finished writing.

    Args:
        folder: Folder of the predictions. No other run may be writing into it.

    Raises:
        OSError: A file cannot be removed.
    """
    if any(folder.glob(_PARTS)):  # else the last run ended, and searching takes time
        for path in folder.rglob(f'.*{PARTIAL_SUFFIX}*'):
            path.unlink()


def merge_parts(
    folder: Path, outputs: Sequence[str], order: Sequence[str] = ()
) -> dict[str, str]:
    """Merge the lines of all processes into one file.

    Lines are dropped that a kill cut short, whose files are missing, or that tell of
    an error.

    Args:
        folder: Folder of the predictions.
        outputs: Keys of a line, each of which must name an existing file or folder.
        order: Sources in the order of their lines, which follow those of others.

    Returns:
        The finished sources, and the names of their outputs.

    Raises:
        OSError: The file cannot be written.
    """
    path = folder / LINES_NAME
    parts = sorted(folder.glob(_PARTS))
    names: dict[str, str] = {}
    places: dict[str, tuple[Path, int]] = {}
    dropped = False
    for file in (path, *parts):
        for start, record in _read(file):
            if _is_complete(record, folder, outputs):
                names[record['source']] = record['name']
                places[record['source']] = (file, start)
            else:
                dropped = True
    positions = {source: i for i, source in enumerate(order)}
    ordered = sorted(places, key=lambda source: positions.get(source, -1))
    if parts or dropped or ordered != list(places):
        with atomic_path(path) as partial, contextlib.ExitStack() as stack:
            merged = stack.enter_context(partial.open('wb'))
            opened = {
                file: stack.enter_context(file.open('rb'))
                for file in {file for file, _ in places.values()}
            }
            for source in ordered:
                file, start = places[source]
                opened[file].seek(start)
                merged.write(opened[file].readline())
    for part in parts:
        part.unlink()
    return names


def _is_complete(
    record: Mapping[str, Any], folder: Path, outputs: Sequence[str]
) -> bool:
    needed = {'source', 'name', *outputs}
    return (
        needed <= record.keys()
        and 'error' not in record
        and all((folder / record[key]).exists() for key in outputs)
    )


def _read(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the lines of a file and where they start, {} for broken ones."""
    if not path.exists():
        return
    start = 0
    with path.open('rb') as file:
        for line in file:
            try:
                record = json.loads(line) if line.endswith(b'\n') else {}
            except ValueError:
                record = {}
            yield start, record if isinstance(record, dict) else {}
            start += len(line)
