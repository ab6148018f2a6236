"""The images, videos and cameras that a prediction is asked for, with output names."""

import glob
import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from volo.datasets.checks import IMAGE_SUFFIXES
from volo.errors import DataError, did_you_mean

#: Suffixes of video files, in lower case.
VIDEO_SUFFIXES = (
    '.mp4',
    '.m4v',
    '.avi',
    '.mov',
    '.mkv',
    '.webm',
    '.wmv',
    '.mpg',
    '.mpeg',
)

#: Suffixes of text files that list paths, in lower case.
LIST_SUFFIXES = ('.txt', '.lst')

#: File systems allow 255 bytes; a suffix and the name of a partial file need 60.
_LONGEST_NAME = 190


class Item(NamedTuple):
    """One image, video or camera.

    Attributes:
        kind: What it is.
        path: Absolute path of the file, or the number of the camera.
        name: Path of its outputs, without their folder and suffix.
    """

    kind: Literal['image', 'video', 'camera']
    path: str
    name: str

    @property
    def source(self) -> str:
        """What the user is told: the path, or for a camera the name."""
        return self.name if self.kind == 'camera' else self.path


def find_items(sources: Sequence[str], skip: Path | None = None) -> list[Item]:
    """List everything that sources stand for, each file once.

    A source is a file, a folder with all its sub-folders, a glob pattern (``**`` for
    any depth), a text file with one path per line, relative to the text file, or the
    number of a camera. Names keep the sub-folders and may be equal:
    :func:`name_outputs` makes them distinct.

    Args:
        sources: As the user gave them.
        skip: A folder to leave out, with everything in it: that of the outputs.

    Raises:
        DataError: A source does not exist or is empty.
    """
    items: dict[str, Item] = {}
    skipped = os.path.join(os.path.abspath(skip), '') if skip else None
    for source in sources:
        found = False
        for item in _expand(source, skip):
            if not (skipped and item.path.startswith(skipped)):
                items.setdefault(item.path, item)
                found = True
        if not found:
            suffixes = ', '.join((*IMAGE_SUFFIXES, *VIDEO_SUFFIXES))
            raise DataError(f'{source}: no images or videos found ({suffixes})')
    return list(items.values())


def name_outputs(items: Sequence[Item], taken: Mapping[str, str]) -> list[Item]:
    """Give every item a name of its own.

    The name is the path without the suffix. Where that is taken, the suffix is kept,
    and where that is taken too, a number is added.

    Args:
        items: From :func:`find_items`.
        taken: Names that are in use, and the paths of the items that use them.
    """
    # Some file systems ignore case.
    owners = {name.casefold(): path for name, path in taken.items()}
    named = []
    for item in items:
        for name in _candidates(item):
            if owners.setdefault(name.casefold(), item.path) == item.path:
                named.append(item._replace(name=name))
                break
    return named


def is_video(path: str | Path) -> bool:
    """Return whether a path has the suffix of a video."""
    return str(path).lower().endswith(VIDEO_SUFFIXES)


def _candidates(item: Item) -> Iterator[str]:
    folder, file = os.path.split(item.name)
    stem = os.path.splitext(file)[0]
    # Masks of a video are a folder, which has the video's full name, so that it does
    # not mix with a folder of images of the same name.
    stems = [file] if item.kind == 'video' else [stem, file]
    for candidate in stems:
        yield os.path.join(folder, _shorten(candidate))
    for number in range(2, 1 << 31):
        yield os.path.join(folder, _shorten(f'{stems[-1]}-{number}'))


def _shorten(name: str) -> str:
    data = os.fsencode(name)
    if len(data) <= _LONGEST_NAME:
        return name
    digest = hashlib.sha256(data).hexdigest()[:16]
    start = data[: _LONGEST_NAME - 20].decode('utf-8', 'ignore')
    return f'{start}-{digest}'


def _expand(source: str, skip: Path | None) -> Iterator[Item]:
    path = Path(source).expanduser()
    if path.is_dir():
        yield from _walk(path, path, skip)
    elif path.exists():
        if path.suffix.lower() in LIST_SUFFIXES:
            yield from _read_list(path)
        else:
            yield _item(path, path.parent)
    elif source.isdecimal():
        yield Item('camera', source, f'camera{source}')
    elif glob.has_magic(source):
        yield from _match(str(path), skip)
    else:
        near = did_you_mean(str(path), map(str, path.parent.glob('*')))
        raise DataError(
            f'{source}: no such file, folder, pattern or camera number.{near}'
        )


def _item(path: Path, root: Path) -> Item:
    name = os.path.relpath(path, root)
    return Item('video' if is_video(path) else 'image', os.path.abspath(path), name)


def _walk(folder: Path, root: Path, skip: Path | None) -> Iterator[Item]:
    seen = set()
    for parent, folders, files in os.walk(folder, onerror=_refuse, followlinks=True):
        folders.sort()
        status = os.stat(parent)
        # A link to a folder above would never end.
        twice = (status.st_dev, status.st_ino) in seen
        seen.add((status.st_dev, status.st_ino))
        if twice or (skip and skip.exists() and os.path.samefile(parent, skip)):
            folders.clear()
            continue
        for file in sorted(files):
            suffixes = (*IMAGE_SUFFIXES, *VIDEO_SUFFIXES)
            if file.lower().endswith(suffixes) and not file.startswith('.'):
                yield _item(Path(parent, file), root)


def _refuse(error: OSError) -> None:
    raise DataError(f'{error.filename}: cannot be listed ({error.strerror})')


def _match(pattern: str, skip: Path | None) -> Iterator[Item]:
    plain = []
    for part in Path(pattern).parts:
        if glob.has_magic(part):
            break
        plain.append(part)
    root = Path(*plain)
    for match in sorted(glob.glob(pattern, recursive=True)):
        path = Path(match)
        if path.is_dir():
            yield from _walk(path, root, skip)
        elif path.name.lower().endswith((*IMAGE_SUFFIXES, *VIDEO_SUFFIXES)):
            yield _item(path, root)


def _read_list(path: Path) -> Iterator[Item]:
    try:
        text = path.read_text('utf-8', 'surrogateescape')
    except OSError as error:
        raise DataError(f'{path}: cannot be read ({error.strerror})') from error
    lines = [line.strip() for line in text.splitlines()]
    files = [
        os.path.normpath(os.path.join(path.absolute().parent, line))
        for line in lines
        if line
    ]
    if files:
        root = Path(os.path.commonpath([os.path.dirname(file) for file in files]))
        for file in files:
            yield _item(Path(file), root)
