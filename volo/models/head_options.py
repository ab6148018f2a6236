"""Options of a model's heads that follow from the arch of its VOLO backbone."""

from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any

from volo.errors import ConfigError

from .archs import check_out_indices, resolve_arch


def head_options(model: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that follow from the backbone, by their keys in ``model``.

    These are ``arch`` of ``VOLOHead``, and ``in_channels`` of the heads that have
    ``in_index``, as mmsegmentation's have. Nothing follows if there is a neck, which
    may change the channels, or another backbone.

    Args:
        model: Config of a classifier or a segmentor.

    Raises:
        ConfigError: The backbone or an ``in_index`` is impossible.
    """
    backbone = model.get('backbone') or {}
    if _class_name(backbone) != 'VOLO' or model.get('neck'):
        return {}
    arch = backbone.get('arch', 'd1')
    channels = resolve_arch(arch).channels(
        check_out_indices(backbone.get('out_indices', (3,)))
    )
    options: dict[str, Any] = {}
    for key, head in _heads(model):
        if _class_name(head) == 'VOLOHead':
            options[f'{key}.arch'] = arch
        elif 'in_index' in head:
            index = head['in_index']
            try:
                options[f'{key}.in_channels'] = (
                    channels[index]
                    if isinstance(index, int)
                    else [channels[i] for i in index]
                )
            except IndexError:
                raise ConfigError(
                    f'model.{key}.in_index is {index}, but the backbone has '
                    f'{len(channels)} outputs: change it or model.backbone.out_indices'
                ) from None
    return options


def settle_head_options(
    model: MutableMapping[str, Any], before: Mapping[str, Any]
) -> None:
    """Fill in the options of the heads that follow from the backbone.

    An option that is absent, or that followed from the backbone before the config was
    changed, is set. Any other value that does not fit the backbone is an error.

    Args:
        model: Config of a classifier or a segmentor. It is changed in place.
        before: What :func:`head_options` returned before the config was changed.

    Raises:
        ConfigError: A head does not fit the backbone.
    """
    heads = dict(_heads(model))
    for key, value in head_options(model).items():
        name, _, option = key.rpartition('.')
        own = heads[name].get(option)
        if _same(own, value):
            continue
        if own is None or (key in before and _same(own, before[key])):
            heads[name][option] = value
        else:
            raise ConfigError(
                f'model.{key} is {own}, but model.backbone.arch is '
                f'{model["backbone"].get("arch", "d1")}, which needs {value}: make '
                'them agree'
            )


def _heads(model: Mapping[str, Any]) -> Iterator[tuple[str, MutableMapping[str, Any]]]:
    for key in ('head', 'decode_head', 'auxiliary_head'):
        value = model.get(key)
        if isinstance(value, list | tuple):
            yield from ((f'{key}.{i}', head) for i, head in enumerate(value))
        elif value:
            yield key, value


def _class_name(cfg: Mapping[str, Any]) -> str:
    kind = cfg.get('type', '')
    return getattr(kind, '__name__', str(kind)).rpartition('.')[2]


def _same(one: Any, other: Any) -> bool:
    """Compare two archs or two numbers of channels."""
    if isinstance(one, str | Mapping) and isinstance(other, str | Mapping):
        return resolve_arch(one) == resolve_arch(other)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return list(one) == list(other)
    return one == other
