"""Read the values of mask files, and decide which label each value is."""

import functools
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from volo.errors import DataError, some
from volo.machine import usable_cpus

from .found import VOID
from .legend import Entry

#: More values or colors than this are no classes: a mask with smooth edges, or a photo.
MOST_CLASSES = 200


class Labeling(NamedTuple):
    """How values become labels.

    Attributes:
        classes: Names in label order.
        palette: Colors in label order; empty if unknown.
        labels: Labels by value, with :data:`VOID`. A color is 65536 R + 256 G + B.
        colors: Whether the values are colors.
        notes: Remarks for the report.
    """

    classes: tuple[str, ...]
    palette: list[list[int]]
    labels: dict[int, int]
    colors: bool
    notes: list[str]


def read_values(path: Path) -> tuple[np.ndarray, bool]:
    """Read a mask file.

    Returns:
        Its values, integers (H, W), and whether they are colors. A mask whose channels
        are equal has the values of one.

    Raises:
        DataError: It is no image.
    """
    try:
        with Image.open(path) as image:
            if image.mode in ('RGBA', 'LA', 'CMYK', 'PA'):
                image = image.convert('RGB')  # noqa: PLW2901
            array = np.asarray(image)
    except Exception as error:  # from any decoder
        raise DataError(f'{path}: broken mask ({error}). Make it again') from error
    if array.ndim == 2:
        return array.astype(np.int64), False
    array = array.astype(np.int64)
    if (array == array[..., :1]).all():
        return array[..., 0], False
    return array[..., 0] * 65536 + array[..., 1] * 256 + array[..., 2], True


def count_values(paths: Sequence[Path]) -> tuple[list[dict[int, int]], list[bool]]:
    """Count the pixels of each value in many masks.

    Returns:
        Pixels by value of each mask, and whether its values are colors.

    Raises:
        DataError: A mask is broken or has too many values.
    """
    with ThreadPoolExecutor(usable_cpus()) as pool:
        results = list(pool.map(_count, paths))
    return [counts for counts, _ in results], [colors for _, colors in results]


def _count(path: Path) -> tuple[dict[int, int], bool]:
    array, colors = read_values(path)
    values, counts = np.unique(array, return_counts=True)
    if len(values) > MOST_CLASSES:
        raise DataError(
            f'{path}: {len(values)} different values, too many for classes. Save masks '
            'as PNG without smoothing, or name the folder of masks with --masks'
        )
    return dict(zip(values.tolist(), counts.tolist(), strict=True)), colors


def choose_labels(
    counts: Iterable[Mapping[int, int]], colors: bool, legend: Sequence[Entry] = ()
) -> Labeling:
    """Decide which label each value is.

    In this order: what the legend says; 0 and one other value are background and
    object; 255 is void; values from 0 up are labels; values with gaps are numbered.

    Args:
        counts: Pixels by value of all masks.
        colors: Whether the values are colors.
        legend: Names of the values, if known.

    Raises:
        DataError: The masks have a single value, or values that the legend lacks.
    """
    total: Counter[int] = Counter()
    for one in counts:
        total.update(one)
    values = sorted(total)
    if colors:
        return _label_colors(total, legend)
    if len(values) == 2 and values[0] == 0 and len(legend) in (0, 2):
        classes = tuple(entry.name for entry in legend) or ('background', 'object')
        return Labeling(classes, _palette(legend, 2), {0: 0, values[1]: 1}, False, [])
    if legend and legend[0].color is not None and legend[0].value is None:
        # A palette file of indices, or gray colors: decide by what fits.
        packed = {_pack(entry.color): entry for entry in legend if entry.color}
        grays = {value * 65793 for value in values if value != VOID}
        if max(values) >= len(legend) and grays <= packed.keys():
            as_colors = {value * 65793: count for value, count in total.items()}
            return _label_colors(as_colors, legend)
    if legend and all(entry.value is not None for entry in legend):
        labels = {int(entry.value or 0): i for i, entry in enumerate(legend)}
        return _checked(values, labels, legend, [])
    if legend:
        return _checked(values, {i: i for i in range(len(legend))}, legend, [])
    inside = [value for value in values if value != VOID]
    if len(inside) < 2:
        raise DataError(
            f'the masks have the values {some(values)} only, so there is one class. '
            'Training needs two'
        )
    labels = {value: label for label, value in enumerate(inside)} | {VOID: VOID}
    classes = tuple('background' if v == 0 else f'class_{v}' for v in inside)
    notes = []
    if inside[-1] != len(inside) - 1:
        notes.append(f'the mask values {some(inside, 8)} are numbered from 0')
    notes.append('no file names the classes (legend.txt): rename them in the config')
    return Labeling(classes, [], labels, False, notes)


def _label_colors(total: Mapping[int, int], legend: Sequence[Entry]) -> Labeling:
    if not legend:
        colors = sorted(total)
        classes = tuple(f'color_{value:06x}' for value in colors)
        note = (
            f'no legend for the {len(colors)} colors of the masks. To name them, write '
            'legend.txt with lines such as "road 128 64 128" into the folder'
        )
        palette = [_unpack(value) for value in colors]
        labels = {value: label for label, value in enumerate(colors)}
        return Labeling(classes, palette, labels, True, [note])
    named = [entry for entry in legend if entry.color is not None]
    labels = {_pack(e.color): i for i, e in enumerate(named) if e.color}
    other = sum(count for value, count in total.items() if value not in labels)
    notes = []
    if other:
        share = other / sum(total.values())
        notes.append(f'{share:.2%} of the pixels have no color of the legend: void')
    if not labels.keys() & total.keys():
        raise DataError(
            f'no color of the legend is in the masks, which have '
            f'{some([_unpack(value) for value in total])}. Correct the legend'
        )
    classes = tuple(entry.name for entry in named)
    labels |= {value: VOID for value in total if value not in labels}
    return Labeling(classes, _palette(named, len(named)), labels, True, notes)


def _checked(
    values: Sequence[int],
    labels: dict[int, int],
    legend: Sequence[Entry],
    notes: list[str],
) -> Labeling:
    labels = {VOID: VOID} | labels
    unknown = [value for value in values if value not in labels]
    if unknown:
        raise DataError(
            f'the masks have the values {some(unknown)}, which the legend of '
            f'{len(legend)} classes lacks. Add them'
        )
    classes = tuple(entry.name for entry in legend)
    return Labeling(classes, _palette(legend, len(legend)), labels, False, notes)


def _palette(legend: Sequence[Entry], size: int) -> list[list[int]]:
    colors = [list(entry.color) for entry in legend if entry.color]
    return colors if len(colors) == size else []


def _pack(color: tuple[int, int, int] | None) -> int:
    red, green, blue = color or (0, 0, 0)
    return red * 65536 + green * 256 + blue


def _unpack(value: int) -> list[int]:
    return [value >> 16, value >> 8 & 255, value & 255]


def drawer(path: Path, labeling: Labeling) -> Callable[[], np.ndarray]:
    """Return a function that reads a mask file as labels, uint8 (H, W)."""
    return functools.partial(_relabel, path, labeling)


def _relabel(path: Path, labeling: Labeling) -> np.ndarray:
    array, colors = read_values(path)
    if labeling.colors and not colors:
        array = array * 65793  # gray, as a color
    values, inverse = np.unique(array, return_inverse=True)
    table = np.array([labeling.labels.get(v, VOID) for v in values.tolist()], np.uint8)
    return table[inverse].reshape(array.shape)
