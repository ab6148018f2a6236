"""Read a config file and apply what the command line overrides."""

import contextlib
import inspect
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.runner import Runner

from volo.errors import ConfigError, did_you_mean
from volo.models.head_options import head_options, settle_head_options
from volo.paths import config_path, package_data_root


def load_config(
    path: str | Path,
    cfg_options: dict | None = None,
    work_dir: str | None = None,
) -> Config:
    """Read a config file and merge the options of the command line into it.

    ``data_root`` among the options replaces the data root of every dataset that
    used the config's own ``data_root``. Another ``model.backbone.arch`` changes the
    options of the heads that follow from it.

    Args:
        path: The config file, or the name of one that comes with the package.
        cfg_options: Dotted keys and their values.
        work_dir: Folder of the results. Default: the config's own ``work_dir``, else
            ``work_dirs/<name of the config>``.

    Raises:
        ConfigError: The file is missing or broken, an option's first key is
            neither in the config nor an argument of the Runner, or a head does not
            fit the backbone.
    """
    path = _find_config(path)
    try:
        cfg = Config.fromfile(path)
    except FileNotFoundError as error:
        raise _missing_base(path, error) from error
    except Exception as error:  # a config is Python: anything can go wrong in it
        raise ConfigError(f'{path}: {type(error).__name__}: {error}') from error
    options = dict(cfg_options or {})
    known = set(cfg) | set(inspect.signature(Runner.__init__).parameters)
    known |= {'auto_scale_lr', 'compile', 'runner_type', 'strategy'}
    for key in options:
        name = key.split('.')[0]
        if name not in known:
            raise ConfigError(
                f'--cfg-options {key}: {path} has no key {name}.'
                f'{did_you_mean(name, known)}'
            )
        _refuse_typing_error(cfg, key, options)
    if 'data_root' in options:
        shared_root = cfg.get('data_root')
        given = tuple(f'{key}.' for key in options)
        for place, node in walk(cfg):
            key = f'{place}.data_root'
            # Another option may replace this key, or a dict that holds it.
            if f'{key}.'.startswith(given):
                continue
            if place and node.get('data_root', '') == shared_root:
                options[key] = options['data_root']
    model = cfg.get('model') or {}
    follows = {
        key: value
        for key, value in head_options(model).items()
        if f'model.{key}' not in options
    }
    cfg.merge_from_dict(options)
    settle_head_options(cfg.get('model') or {}, follows)
    cfg.work_dir = work_dir or cfg.get('work_dir') or f'work_dirs/{path.stem}'
    return cfg


def _find_config(path: str | Path) -> Path:
    """Return the file of a path or of the name of a config of the package."""
    path = Path(path)
    if path.is_file():
        return path
    if path.parent == Path() and path.suffix in ('', '.py'):
        with contextlib.suppress(ConfigError):
            return config_path(path.name)
    hint = did_you_mean(str(path), map(str, path.parent.glob('*.py')))
    if not hint:
        shipped = (package_data_root() / 'configs').glob('*.py')
        hint = did_you_mean(path.stem, (config.stem for config in shipped))
    raise ConfigError(f'{path}: no such config file.{hint}')


def _missing_base(path: Path, error: FileNotFoundError) -> ConfigError:
    """Return the error about a config whose ``_base_`` does not exist."""
    configs = package_data_root() / 'configs'
    return ConfigError(
        f'{path}: {error.filename or error} does not exist. A relative path in _base_ '
        f'starts at the folder of the config. Write the absolute path, such as '
        f"_base_ = '{configs}/NAME.py', or move the config into {configs}"
    )


def _refuse_typing_error(cfg: Config, key: str, options: Iterable[str]) -> None:
    """Refuse a new key that is nearly one beside it.

    A new key may be right, such as an option of a class. But if it is almost the name
    of a key beside it, in a dict without ``type``, nothing would complain later.

    Raises:
        ConfigError: The key is nearly another one.
    """
    node: Any = cfg.to_dict()
    names = key.split('.')
    for i, name in enumerate(names):
        if not isinstance(node, dict):
            return
        if name not in node:
            place = '.'.join(names[: i + 1])
            builds = 'type' in node if place == key else f'{place}.type' in options
            hint = did_you_mean(name, node, cutoff=0.8)
            if hint and not builds:
                raise ConfigError(
                    f'--cfg-options {key}: the config has no key {place}.{hint}'
                )
            return
        node = node[name]


def walk(cfg: Config) -> Iterator[tuple[str, dict]]:
    """Yield every dict of a config with its dotted key, '' for the config itself."""
    return _walk(cfg.to_dict(), '')


def _walk(node: object, key: str) -> Iterator[tuple[str, dict]]:
    children: Iterable[tuple[object, object]] = ()
    if isinstance(node, dict):
        yield key, node
        children = node.items()
    elif isinstance(node, list | tuple):
        children = enumerate(node)
    for name, child in children:
        yield from _walk(child, f'{key}.{name}' if key else str(name))


def add_hook(cfg: Config, **hook: object) -> None:
    """Append a hook to the config's ``custom_hooks``.

    It replaces one of its type, which a config that an earlier run saved may have.
    """
    others = [
        other
        for other in cfg.get('custom_hooks') or []
        if not (isinstance(other, dict) and other.get('type') == hook['type'])
    ]
    cfg.custom_hooks = [*others, hook]
