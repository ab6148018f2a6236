"""Files that name the values or the colors of masks."""

import csv
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from volo.errors import DataError

_NAMES = (
    'legend',
    'classes',
    'class_dict',
    'class_names',
    'labels',
    'labelmap',
    'label_colors',
    'colors',
    'palette',
    'names',
)
_HEX = re.compile(r'#([0-9a-fA-F]{6})\b')


class Entry(NamedTuple):
    """One class of a legend.

    Attributes:
        name: Its name.
        color: Its color (RGB), if the legend has colors.
        value: Its value in the masks, if the legend numbers its classes.
    """

    name: str
    color: tuple[int, int, int] | None = None
    value: int | None = None


def find_legend(folders: Sequence[Path]) -> tuple[Path, list[Entry]] | None:
    """Find and read a legend: ``legend.txt``, ``labelmap.txt``, ``classes.json``, ...

    A line of text holds a name with a color (three numbers, or ``#rrggbb``), with a
    value (one number) or alone. JSON holds the same as a dict or a list.

    Args:
        folders: Where to look, in this order.

    Raises:
        DataError: A legend cannot be read.
    """
    for folder in folders:
        for name in _NAMES:
            for suffix in ('.txt', '.csv', '.json'):
                path = folder / f'{name}{suffix}'
                if path.is_file():
                    return path, read_legend(path)
    return None


def read_legend(path: Path) -> list[Entry]:
    """Read a legend, see :func:`find_legend`.

    Raises:
        DataError: It is broken, or holds no names.
    """
    try:
        text = path.read_text(encoding='utf-8-sig')
        if path.suffix == '.json':
            entries = _from_json(json.loads(text))
        else:
            entries = [e for line in text.splitlines() if (e := _from_line(line))]
    except (OSError, ValueError, TypeError, LookupError, AttributeError) as error:
        raise DataError(
            f'{path}: not a legend ({error}). Write one line per class: name, then '
            'red, green and blue from 0 to 255'
        ) from error
    if len(entries) > 1 and _has_numbers(entries[1]) and not _has_numbers(entries[0]):
        entries = entries[1:]  # the head of a table
    if not entries:
        raise DataError(f'{path}: no names. Write one line per class')
    return entries


def _has_numbers(entry: Entry) -> bool:
    return entry.color is not None or entry.value is not None


def _from_line(line: str) -> Entry | None:
    """Read ``name,0,128,255``, ``0 128 255 name``, ``name:0,128,255::`` and so on."""
    line = line.strip()
    if not line or line.startswith(('//', '# ')):
        return None
    if match := _HEX.search(line):
        name = (line[: match.start()] + line[match.end() :]).strip(' \t,;:')
        return Entry(name, _from_hex(match[1]))
    (words,) = csv.reader([re.sub(r'[;:\t]', ',', line)])
    words = [word.strip() for word in words if word.strip()]
    if len(words) == 1:
        words = line.split()
    numbers = [int(word) for word in words if word.isdigit()]
    name = ' '.join(word for word in words if not word.isdigit())
    if not numbers:
        return Entry(' '.join(words))
    if not name or max(numbers) > 255:
        raise ValueError(f'line {line!r}')
    if len(numbers) >= 3:
        red, green, blue = numbers[-3:]
        return Entry(name, (red, green, blue))
    return Entry(name, value=numbers[0])


def _from_json(content: Any) -> list[Entry]:
    if isinstance(content, dict) and len(content) == 1:
        (inner,) = content.values()  # {"classes": [...]}
        numbers = isinstance(inner, list) and isinstance(inner[0], int)
        if isinstance(inner, list | dict) and not numbers:
            content = inner
    if isinstance(content, list):
        return [_from_item(item) for item in content]
    return [_from_pair(key, value) for key, value in content.items()]


def _from_item(item: Any) -> Entry:
    if isinstance(item, str):
        return Entry(item)
    color = item.get('color')
    value = item.get('value', item.get('id', item.get('index')))
    return Entry(str(item['name']), None if color is None else _color(color), value)


def _from_pair(key: str, value: Any) -> Entry:
    if key.isdigit():
        return Entry(str(value), value=int(key))
    if isinstance(value, int):
        return Entry(key, value=value)
    return Entry(key, _color(value))


def _color(value: Any) -> tuple[int, int, int]:
    if isinstance(value, str):
        return _from_hex(value.removeprefix('#'))
    red, green, blue = (int(number) for number in value[:3])
    return red, green, blue


def _from_hex(digits: str) -> tuple[int, int, int]:
    red, green, blue = bytes.fromhex(digits)
    return red, green, blue
