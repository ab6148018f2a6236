"""Convert parameter names between the authors' (and timm's) layout and ours."""

import os
import re
from collections.abc import Mapping
from typing import Any

import torch

from volo.errors import CheckpointError, some

_COMMON = r'(?:norm[12]|attn\.proj|mlp\.fc[12])\.\w+'

#: Placeholder in _NAMES -> the names that it matches.
_FIELDS = {
    'outlooker': rf'\d+\.{_COMMON}',
    'transformer': rf'\d+\.(?:{_COMMON}|attn\.qkv\.\w+)',
    'class_block': rf'\d+\.(?:{_COMMON}|attn\.(?:q|kv)\.\w+)',
    'conv': r'(?:conv\.\d+|proj)\.\w+',
    'leaf': r'\w+',
    'index': r'\d+',
}

#: Names in both layouts, the authors' first.
_NAMES = [
    ('pos_embed', 'backbone.pos_embed'),
    ('patch_embed.{conv}', 'backbone.stem.{conv}'),
    ('network.0.{index}.attn.v.{leaf}', 'backbone.stages.0.{index}.attn.value.{leaf}'),
    (
        'network.0.{index}.attn.attn.{leaf}',
        'backbone.stages.0.{index}.attn.logits.{leaf}',
    ),
    ('network.0.{outlooker}', 'backbone.stages.0.{outlooker}'),
    ('network.1.proj.{leaf}', 'backbone.downsample.proj.{leaf}'),
    ('network.2.{transformer}', 'backbone.stages.1.{transformer}'),
    ('network.3.{transformer}', 'backbone.stages.2.{transformer}'),
    ('network.4.{transformer}', 'backbone.stages.3.{transformer}'),
    ('cls_token', 'head.cls_token'),
    ('post_network.{class_block}', 'head.blocks.{class_block}'),
    ('norm.{leaf}', 'head.norm.{leaf}'),
    ('head.{leaf}', 'head.fc.{leaf}'),
    ('aux_head.{leaf}', 'head.aux_fc.{leaf}'),
]

#: Layout -> names that only a VOLO has: the weights of an outlooker.
_SIGNATURES = {
    'official': re.compile(r'network\.0\.\d+\.attn\.(v|attn)\.'),
    'volo': re.compile(r'(backbone\.)?stages\.0\.\d+\.attn\.(value|logits)\.'),
}


def detect_layout(state_dict: Mapping[str, Any]) -> str:
    """Return the layout of a state dict, judged by its names.

    Args:
        state_dict: Weights of a classifier, a segmentor or a backbone alone.

    Returns:
        ``'volo'`` for ours, ``'official'`` for the authors' and timm's.

    Raises:
        CheckpointError: The names belong to neither layout, or to both.
    """
    layouts = [
        layout
        for layout, signature in _SIGNATURES.items()
        if any(signature.match(name) for name in state_dict)
    ]
    if len(layouts) != 1:
        what = 'weights of two layouts' if layouts else 'no weights of a VOLO'
        raise CheckpointError(
            f'the file holds {what}: it has names like {some(state_dict)}. Use a '
            'checkpoint of the authors, of timm or of this project'
        )
    return layouts[0]


def convert_state_dict(
    state_dict: Mapping[str, torch.Tensor], source: str | os.PathLike | None = None
) -> dict:
    """Rename weights of the authors or timm to our layout.

    Args:
        state_dict: Weights in either layout. Weights in ours, also those of a backbone
            alone, are returned unchanged.
        source: The name of the weights in error messages.

    Returns:
        The same tensors under our names.

    Raises:
        CheckpointError: The names are not those of a VOLO.
    """
    try:
        if detect_layout(state_dict) == 'volo':
            return dict(state_dict)
        return _rename(state_dict, _NAMES)
    except CheckpointError as error:
        if source is None:
            raise
        raise CheckpointError(f'{source}: {error}') from error


def to_official_layout(state_dict: Mapping[str, torch.Tensor]) -> dict:
    """Rename our weights to the authors' and timm's layout.

    Args:
        state_dict: Weights of a classifier or a backbone alone, in either layout.

    Returns:
        The same tensors under the authors' names.

    Raises:
        CheckpointError: That layout has no such weights, for example a decode head's.
    """
    if detect_layout(state_dict) == 'official':
        return dict(state_dict)
    if not any(name.startswith('backbone.') for name in state_dict):
        state_dict = {f'backbone.{name}': value for name, value in state_dict.items()}
    return _rename(state_dict, [(ours, theirs) for theirs, ours in _NAMES])


def _rename(
    state_dict: Mapping[str, torch.Tensor], pairs: list[tuple[str, str]]
) -> dict[str, torch.Tensor]:
    rules = []
    for source, target in pairs:
        pattern = re.sub(
            r'\\\{(\w+)\\\}',
            lambda m: f'(?P<{m[1]}>{_FIELDS[m[1]]})',
            re.escape(source),
        )
        rules.append((re.compile(pattern), target))
    renamed, unknown = {}, []
    for name, value in state_dict.items():
        for rule, target in rules:
            match = rule.fullmatch(name)
            if match:
                renamed[target.format(**match.groupdict())] = value
                break
        else:
            unknown.append(name)
    if unknown:
        raise CheckpointError(
            f'{len(unknown)} of {len(state_dict)} names are not those of a VOLO '
            f'classifier: {some(unknown)}. Use the file as its author saved it'
        )
    return renamed
