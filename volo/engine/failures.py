"""Errors of the libraries, turned into one clear error where the cause is known."""

import contextlib
import re
from collections.abc import Iterator

from mmengine.config import Config

from volo.errors import ConfigError, DataError

from .configs import walk


@contextlib.contextmanager
def readable_errors(cfg: Config) -> Iterator[None]:
    """Raise a clear error in place of those that a config or its data causes.

    The Runner builds its parts when it needs them, so this surrounds all of its work.
    Errors of unknown cause pass unchanged.

    Args:
        cfg: The config at work.

    Raises:
        ConfigError: An unknown type or option.
        DataError: A file or folder of a dataset is missing.
    """
    try:
        yield
    except TypeError as error:
        match = re.search(
            r"(\w+)\.__init__\(\) got an unexpected .*'(\w+)'", str(error)
        )
        if not match:
            raise
        name, key = match.groups()
        place = next(
            (p for p, node in walk(cfg) if node.get('type') == name and key in node),
            name,
        )
        raise ConfigError(
            f'{cfg.filename}: {place}: {name} has no option {key!r}'
        ) from error
    except KeyError as error:
        match = re.match(r'(\S+) is not in the (\S+) registry', str(error.args[0]))
        if not match:
            raise
        raise ConfigError(
            f'{cfg.filename}: unknown type {match[1]!r}, not in {match[2]}: check the '
            'name, and that custom_imports lists its module'
        ) from error
    except FileNotFoundError as error:
        raise DataError(f'{error.filename or error}: no such file or folder') from error
