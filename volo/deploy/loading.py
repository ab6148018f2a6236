"""A trained model and the names of its classes, from a config and a checkpoint."""

import copy
import os
from collections.abc import Mapping
from typing import Any

from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import DATASETS, MODELS, DefaultScope
from torch import nn

from volo.checkpoints import convert_state_dict, read_checkpoint
from volo.checkpoints.reading import select_weights
from volo.engine.launch import readable_errors
from volo.errors import CheckpointError
from volo.models.weights import compare, load_state_dict


def load_model(cfg: Config, path: str | os.PathLike) -> tuple[nn.Module, dict]:
    """Build the model of a config and load a checkpoint into it, strictly.

    Args:
        cfg: From :func:`volo.engine.launch.load_config`.
        path: Checkpoint file, or ``URL#sha256=<hash>``.

    Returns:
        The model in evaluation mode, on the CPU, and the ``dataset_meta`` that the
        checkpoint holds, which may be empty.

    Raises:
        CheckpointError: The file cannot be read, or belongs to another model.
        ConfigError: The config names something that does not exist.
    """
    checkpoint = read_checkpoint(path)
    weights = convert_state_dict(select_weights(checkpoint, str(path)), path)
    with DefaultScope.overwrite_default_scope(cfg.get('default_scope', 'mmengine')):
        with readable_errors(cfg):
            model = MODELS.build(copy.deepcopy(cfg.model))
    model = revert_sync_batchnorm(model)
    # Loading resamples position embeddings and allows other classes: not here.
    own = model.state_dict()
    embeddings = {name for name in own if name.endswith('pos_embed')}
    mismatch = compare(own, weights, ignore=embeddings)
    if mismatch:
        raise CheckpointError(
            f'{path} does not belong to the model of {cfg.filename}: {mismatch}. Use '
            'the config it was trained with'
        )
    load_state_dict(model, weights, str(path))
    meta = checkpoint.get('meta')
    dataset_meta = meta.get('dataset_meta') if isinstance(meta, Mapping) else None
    return model.eval(), dict(dataset_meta or {})


def class_names(
    cfg: Config, dataset_meta: Mapping[str, Any], num_classes: int
) -> tuple[list[str], list[list[int]] | None]:
    """Return the names of the classes and, where they have them, their colors.

    Args:
        cfg: From :func:`volo.engine.launch.load_config`.
        dataset_meta: From :func:`load_model`. Where it has no names, those of the
            validation set's config or class count, then numbers.
        num_classes: Number of classes of the model.
    """
    dataset = (cfg.get('val_dataloader') or {}).get('dataset') or {}
    registered = DATASETS.get(dataset['type']) if 'type' in dataset else None
    known: list[Any] = [dataset_meta, dataset.get('metainfo')]
    known.append(getattr(registered, 'METAINFO', None))
    for meta in filter(None, known):
        names = list(meta.get('classes') or ())
        if len(names) == num_classes:
            colors = [[int(c) for c in color] for color in meta.get('palette') or ()]
            return list(map(str, names)), colors or None
    return [str(number) for number in range(num_classes)], None
