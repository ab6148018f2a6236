"""Load weights of the authors, of timm and of this project strictly into our models.

The authors and timm use the same parameter names ("official" here); ours are those of
an mmpretrain classifier with ``backbone`` and ``head``. Weights are loaded completely
or not at all: a mismatch is an error. There are three exceptions, all logged: another
grid of the position embedding, another number of classes, and images that are not RGB.
"""

import dataclasses
import os
import re
from collections.abc import Container, Mapping, MutableMapping
from typing import Any

import torch
from mmengine.logging import print_log
from torch import nn

from volo.checkpoints import convert_state_dict, read_weights
from volo.errors import CheckpointError, some

from .archs import ARCHS
from .position_embedding import resize_pos_embed
from .wrappers import unwrap

_CLASSIFIERS = ('head.fc.', 'head.aux_fc.')

#: The convolution that sees the image, in a backbone.
STEM_WEIGHT = 'stem.conv.0.weight'


@dataclasses.dataclass(frozen=True)
class Mismatch:
    """The differences between weights and a model; false if there are none.

    Attributes:
        missing: Names that only the model has.
        left_over: Names that only the weights have.
        misshapen: Names that both have, with the shape in the weights and the shape in
            the model.
    """

    missing: list[str]
    left_over: list[str]
    misshapen: dict[str, tuple[tuple[int, ...], tuple[int, ...]]]

    def __bool__(self) -> bool:
        return bool(self.missing or self.left_over or self.misshapen)

    def __str__(self) -> str:
        shapes = [
            f'{name} {theirs} for {own}'
            for name, (theirs, own) in self.misshapen.items()
        ]
        return '; '.join(
            f'{len(names)} {what} ({some(names)})'
            for names, what in (
                (self.missing, 'missing'),
                (self.left_over, 'left over'),
                (shapes, 'of another shape'),
            )
            if names
        )


def compare(
    own: Mapping[str, torch.Tensor],
    theirs: Mapping[str, torch.Tensor],
    ignore: Container[str] = (),
) -> Mismatch:
    """Compare the names and shapes of weights with those of a model.

    Args:
        own: The state dict of the model.
        theirs: The weights to load.
        ignore: Names that may differ.

    Returns:
        The differences.
    """
    return Mismatch(
        sorted(n for n in own if n not in theirs and n not in ignore),
        sorted(n for n in theirs if n not in own and n not in ignore),
        {
            name: (tuple(theirs[name].shape), tuple(own[name].shape))
            for name in sorted(own.keys() & theirs.keys())
            if own[name].shape != theirs[name].shape and name not in ignore
        },
    )


def infer_arch(state_dict: Mapping[str, torch.Tensor]) -> str:
    """Return the arch that weights belong to, judged by their shapes.

    Args:
        state_dict: Weights of a whole model or a backbone alone, in either layout.

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
        module: A classifier, a segmentor or a backbone alone.
        path: A local file or a URL, as in
            :func:`volo.checkpoints.reading.read_checkpoint`.
        use_ema: Load the averaged weights (EMA), as in
            :func:`volo.checkpoints.reading.read_weights`.

    Raises:
        CheckpointError: The file cannot be read or does not fit the model.
    """
    weights = convert_state_dict(read_weights(path, use_ema), path)
    load_state_dict(module, weights, str(path))


def load_state_dict(
    module: nn.Module, state_dict: Mapping[str, torch.Tensor], source: str
) -> None:
    """Load weights in our layout: all weights of the model, or none.

    A position embedding (1, H, W, C) of another grid is resampled. Class heads
    (num_classes, C) for another number of classes are skipped. A stem for RGB is
    adapted to other channels. All three are logged. A backbone alone also accepts the
    weights of a whole model.

    Args:
        module: A classifier, a segmentor or a backbone alone.
        state_dict: Weights in our layout.
        source: The name of the weights in messages.

    Raises:
        CheckpointError: Weights are missing, left over or of another shape. The model
            is unchanged.
    """
    module = unwrap(module)
    own = module.state_dict()
    weights = dict(state_dict)
    if not _has_backbone(own) and _has_backbone(weights):
        weights = _take_backbone(weights, source)
    _fit_pos_embed(weights, own, source)
    fit_stem(weights, own, 'backbone.' if _has_backbone(own) else '', source)
    kept = _drop_other_classes(weights, own, source)

    mismatch = compare(own, weights, ignore=kept)
    if mismatch:
        raise CheckpointError(
            f'{source} does not fit the model, of {len(own)} weights: {mismatch}. '
            f'{_advise(state_dict, own)}'
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
            f'skipped ({some(others)})',
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
    # Another number of channels means another model: the caller reports it.
    if theirs.ndim != 4 or theirs.shape[-1] != ours.shape[-1]:
        return
    if theirs.shape[1:3] != ours.shape[1:3]:
        size = (ours.shape[1], ours.shape[2])
        print_log(
            f'{source}: position embedding resized from {tuple(theirs.shape[1:3])} '
            f'tokens to {size}',
            logger='current',
        )
        weights[name] = resize_pos_embed(theirs, size)


def stem_fits(theirs: torch.Tensor, own: torch.Tensor) -> bool:
    """Return whether :func:`fit_stem` adapts one weight of a stem to another.

    Args:
        theirs: The weight to load, (C, 3, K, K) for RGB.
        own: The weight of the model, (C, in_channels, K, K).
    """
    return (
        theirs.ndim == own.ndim == 4
        and theirs.shape[1] == 3 != own.shape[1]
        and theirs[:, :1].shape == own[:, :1].shape
    )


def fit_stem(
    weights: MutableMapping[str, torch.Tensor],
    own: Mapping[str, torch.Tensor],
    prefix: str,
    source: str,
) -> None:
    """Adapt a stem for RGB to images with another number of channels, as timm does.

    For one channel the kernels of the three are added: a gray image gives what it gave
    as RGB with equal channels. For others they are repeated, and scaled by 3 /
    in_channels to keep the size of the sum.

    Args:
        weights: The weights to load, changed in place.
        own: The state dict of the model.
        prefix: Prefix of the backbone's names in both.
        source: The name of the weights in messages.
    """
    name = prefix + STEM_WEIGHT
    if (
        name not in weights
        or name not in own
        or not stem_fits(weights[name], own[name])
    ):
        return
    theirs, channels = weights[name], own[name].shape[1]
    if channels == 1:
        weights[name] = theirs.sum(dim=1, keepdim=True)
    else:
        repeated = theirs.repeat(1, -(-channels // 3), 1, 1)[:, :channels]
        weights[name] = repeated * (3 / channels)
    print_log(
        f'{source}: the stem is adapted from 3 channels to {channels}', logger='current'
    )


def _drop_other_classes(
    weights: dict[str, torch.Tensor], own: Mapping[str, torch.Tensor], source: str
) -> set[str]:
    """Drop the class heads if they are for another number of classes.

    The names of the model's weights that keep their values are returned.
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
        f'{own[changed[0]].shape[0]}: both class heads keep their initial weights',
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
        return f'The file holds volo {theirs}, the model is {model}: use the same arch'
    if _has_backbone(own) and not _has_backbone(state_dict):
        return 'The file holds a bare backbone: load it into model.backbone'
    if _has_backbone(own):
        return 'To use its backbone only, load it into model.backbone'
    return 'Use weights that were saved from this model'
