"""Weights of the authors, of timm and of this project, strictly into our models.

The authors and timm name parameters alike ("official" here); ours are those of an
mmpretrain classifier with ``backbone`` and ``head``. Nothing is loaded in part:
what does not fit is an error that says what the file holds. The two exceptions are
said aloud: another grid of the position embedding, and another number of classes.
"""

import os
import re
from collections.abc import Mapping
from typing import Any

import torch
from mmengine.logging import print_log
from mmengine.model import is_model_wrapper
from torch import nn

from .errors import CheckpointError
from .models.archs import ARCHS
from .models.position_embedding import resize_pos_embed
from .safe_loading import read_checkpoint, read_weights

__all__ = [
    'convert_state_dict',
    'detect_layout',
    'infer_arch',
    'load_state_dict',
    'load_weights',
    'read_checkpoint',
    'read_weights',
    'to_official_layout',
]

_COMMON = r'(?:norm[12]|attn\.proj|mlp\.fc[12])\.\w+'
_FIELDS = {
    'outlooker': rf'\d+\.{_COMMON}',
    'transformer': rf'\d+\.(?:{_COMMON}|attn\.qkv\.\w+)',
    'class_block': rf'\d+\.(?:{_COMMON}|attn\.(?:q|kv)\.\w+)',
    'conv': r'(?:conv\.\d+|proj)\.\w+',
    'leaf': r'\w+',
    'index': r'\d+',
}

#: Names in both layouts, theirs first; a field matches what _FIELDS says of it.
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

#: What only a VOLO has: the weights of an outlooker.
_SIGNATURES = {
    'official': re.compile(r'network\.0\.\d+\.attn\.(v|attn)\.'),
    'volo': re.compile(r'(backbone\.)?stages\.0\.\d+\.attn\.(value|logits)\.'),
}

_CLASSIFIERS = ('head.fc.', 'head.aux_fc.')


def detect_layout(state_dict: Mapping[str, Any]) -> str:
    """Tell by the names alone whose layout a state dict has.

    Args:
        state_dict: Names of a classifier, a segmentor or a bare backbone.

    Returns:
        ``'volo'`` for ours, ``'official'`` for the authors' and timm's.

    Raises:
        CheckpointError: Neither, or both.
    """
    layouts = [
        layout
        for layout, signature in _SIGNATURES.items()
        if any(signature.match(name) for name in state_dict)
    ]
    if len(layouts) != 1:
        what = 'weights of two layouts' if layouts else 'no weights of a VOLO'
        raise CheckpointError(
            f'the file holds {what}: it has names like {_examples(state_dict)}. Take '
            'a checkpoint of the authors, of timm or of this project'
        )
    return layouts[0]


def convert_state_dict(
    state_dict: Mapping[str, torch.Tensor], source: str | os.PathLike | None = None
) -> dict:
    """Rename weights of the authors or timm to our layout.

    Args:
        state_dict: Weights in either layout; ours, bare backbones too, are returned
            as they are.
        source: What to call the weights in an error.

    Returns:
        Our names and the same tensors.

    Raises:
        CheckpointError: Names that are not a VOLO's.
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
    """Rename our weights to the authors' and timm's layout: the way back.

    Args:
        state_dict: Weights in either layout, of a classifier or a bare backbone.

    Returns:
        The authors' names and the same tensors.

    Raises:
        CheckpointError: Names that layout has none for, such as a decode head's.
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
            f'classifier: {_examples(unknown)}. Take the file as its maker saved it'
        )
    return renamed


def infer_arch(state_dict: Mapping[str, torch.Tensor]) -> str:
    """Name the arch that weights belong to, by their shapes.

    Args:
        state_dict: Weights in either layout, of a whole model or a bare backbone.

    Returns:
        A name in :data:`volo.models.ARCHS`, or ``'unknown'``.
    """
    try:
        weights = convert_state_dict(state_dict)
        shapes = {k.removeprefix('backbone.'): v.shape for k, v in weights.items()}
        fine_dims = shapes['stages.0.0.norm1.weight'][0]
        found = (
            tuple(_count_blocks(shapes, stage) for stage in range(4)),
            (fine_dims, shapes['stages.1.0.norm1.weight'][0]),
            shapes['stages.0.0.mlp.fc1.weight'][0] / fine_dims,
            shapes['stem.conv.0.weight'][0],
        )
    except (CheckpointError, KeyError, IndexError):
        return 'unknown'
    for name, arch in ARCHS.items():
        if found == (arch.depths, arch.embed_dims, arch.mlp_ratio, arch.stem_channels):
            return name
    return 'unknown'


def _count_blocks(names: Mapping[str, Any], stage: int) -> int:
    matches = (re.match(rf'stages\.{stage}\.(\d+)\.', name) for name in names)
    return len({match[1] for match in matches if match})


def load_weights(
    module: nn.Module, path: str | os.PathLike, use_ema: bool = False
) -> None:
    """Load a file of the authors, of timm or of this project into a model.

    Args:
        module: A whole model of ours (classifier, segmentor) or a bare backbone.
        path: A local file or an address, see :func:`read_checkpoint`.
        use_ema: Take the averaged weights, see :func:`read_weights`.

    Raises:
        CheckpointError: The file cannot be opened, or does not fit the model.
    """
    weights = convert_state_dict(read_weights(path, use_ema), path)
    load_state_dict(module, weights, str(path))


def load_state_dict(
    module: nn.Module, state_dict: Mapping[str, torch.Tensor], source: str
) -> None:
    """Load weights in our layout: all that the model has, or none.

    A position embedding (1, H, W, C) of another grid is resampled, and class heads
    (num_classes, C) for another number of classes are left as the model has them;
    the log says both. A bare backbone takes the backbone of a whole model.

    Args:
        module: A whole model of ours (classifier, segmentor) or a bare backbone.
        state_dict: Names and tensors in our layout.
        source: What to call the weights in messages.

    Raises:
        CheckpointError: Weights are missing, left over or misshapen. The model is
            then unchanged.
    """
    if is_model_wrapper(module):
        module = module.module
    own = module.state_dict()
    weights = dict(state_dict)
    if not _has_backbone(own) and _has_backbone(weights):
        weights = _take_backbone(weights, source)
    _fit_pos_embed(weights, own, source)
    kept = _drop_other_classes(weights, own, source)

    missing = own.keys() - weights.keys() - kept
    unexpected = weights.keys() - own.keys()
    misshapen = {
        name: f'{name} {tuple(weights[name].shape)} for {tuple(own[name].shape)}'
        for name in weights.keys() & own.keys()
        if weights[name].shape != own[name].shape
    }
    if missing or unexpected or misshapen:
        faults = [
            f'{len(names)} {what} ({_examples(names)})'
            for names, what in (
                (sorted(missing), 'missing'),
                (sorted(unexpected), 'left over'),
                ([misshapen[name] for name in sorted(misshapen)], 'of another shape'),
            )
            if names
        ]
        raise CheckpointError(
            f'{source} does not fit the model, of {len(own)} weights: '
            f'{"; ".join(faults)}. {_advise(state_dict, own)}'
        )
    module.load_state_dict(weights, strict=False)


def _has_backbone(names: Mapping[str, Any]) -> bool:
    return any(name.startswith('backbone.') for name in names)


def _take_backbone(
    weights: Mapping[str, torch.Tensor], source: str
) -> dict[str, torch.Tensor]:
    backbone = {
        name.removeprefix('backbone.'): value
        for name, value in weights.items()
        if name.startswith('backbone.')
    }
    others = sorted(name for name in weights if not name.startswith('backbone.'))
    if others:
        print_log(
            f'{source}: the model is a backbone, so {len(others)} other weights are '
            f'not used ({_examples(others)})',
            logger='current',
        )
    return backbone


def _fit_pos_embed(
    weights: dict[str, torch.Tensor], own: Mapping[str, torch.Tensor], source: str
) -> None:
    name = 'backbone.pos_embed' if _has_backbone(own) else 'pos_embed'
    if name not in weights or name not in own:
        return
    theirs, ours = weights[name], own[name]
    # Another number of channels is another model: left to the caller's check.
    if theirs.ndim != 4 or theirs.shape[-1] != ours.shape[-1]:
        return
    if theirs.shape[1:3] != ours.shape[1:3]:
        size = tuple(ours.shape[1:3])
        print_log(
            f'{source}: position embedding resized from {tuple(theirs.shape[1:3])} '
            f'tokens to {size}',
            logger='current',
        )
        weights[name] = resize_pos_embed(theirs, size)


def _drop_other_classes(
    weights: dict[str, torch.Tensor], own: Mapping[str, torch.Tensor], source: str
) -> set[str]:
    """Drop the class heads if they are for other classes; say what stays the model's.

    The model's names that the weights need not bring are returned.
    """
    changed = [
        name
        for name in own
        if name.startswith(_CLASSIFIERS)
        and name in weights
        and weights[name].shape[1:] == own[name].shape[1:]
        and weights[name].shape[:1] != own[name].shape[:1]
    ]
    if not changed:
        return set()
    print_log(
        f'{source}: trained for {weights[changed[0]].shape[0]} classes, the model has '
        f'{own[changed[0]].shape[0]}: both its class heads keep their initial weights',
        logger='current',
    )
    for name in [name for name in weights if name.startswith(_CLASSIFIERS)]:
        del weights[name]
    return {name for name in own if name.startswith(_CLASSIFIERS)}


def _advise(
    state_dict: Mapping[str, torch.Tensor], own: Mapping[str, torch.Tensor]
) -> str:
    theirs, ours = infer_arch(state_dict), infer_arch(own)
    if theirs != ours and theirs != 'unknown':
        model = 'another VOLO' if ours == 'unknown' else ours
        return f'The file holds volo {theirs}, the model is {model}: take the same arch'
    if _has_backbone(own) and not _has_backbone(state_dict):
        return 'The file holds a bare backbone: load it into model.backbone'
    if _has_backbone(own):
        return 'If only the backbone is wanted, load it into model.backbone'
    return 'Take weights that were saved from this model'


def _examples(names: Any) -> str:
    names = list(names)
    more = f' and {len(names) - 4} more' if len(names) > 4 else ''
    return (', '.join(names[:4]) + more) or 'none'
