"""Paths of the configs and tools that come with the package."""

from pathlib import Path

from volo.errors import ConfigError, did_you_mean

_PACKAGE = Path(__file__).resolve().parent


def package_data_root() -> Path:
    """Return the folder that contains ``configs`` and ``tools``.

    A wheel has them in ``volo/.mim``, like OpenMMLab's wheels. An editable install has
    them at the root of the checkout.

    Raises:
        ConfigError: Neither folder has ``configs``.
    """
    candidates = (_PACKAGE / '.mim', _PACKAGE.parent)
    for folder in candidates:
        if (folder / 'configs').is_dir():
            return folder
    raise ConfigError(
        f'No configs folder in {candidates[0]} (wheel) or {candidates[1]} '
        '(checkout): reinstall volo from its wheel, or from a complete checkout '
        'with `pip install -e .`'
    )


def config_path(name: str) -> Path:
    """Return the path of a config that comes with the package.

    Args:
        name: File name of the config, with or without ``.py``.

    Raises:
        ConfigError: There is no such config. The message suggests a similar name.
    """
    folder = package_data_root() / 'configs'
    paths = {path.stem: path for path in sorted(folder.glob('*.py'))}
    stem = name.removesuffix('.py')
    if stem in paths:
        return paths[stem]
    raise ConfigError(
        f'No config named {name!r} comes with volo: they are in {folder}.'
        f'{did_you_mean(stem, paths)}'
    )
