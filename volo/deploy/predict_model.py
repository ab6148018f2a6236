"""From a config and a checkpoint to a predictor."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmpretrain.models import ImageClassifier
from mmseg.models import EncoderDecoder

from volo.engine.launch import readable_errors
from volo.errors import ConfigError

from .loading import class_names, load_model
from .metadata import hash_weights
from .predict_pipeline import Pipeline, dataset_config
from .predict_segmentor import TorchSegmentor
from .predict_torch import TorchClassifier
from .predictions import default_palette


def build_torch_predictor(
    cfg: Config,
    checkpoint: Path,
    device: torch.device,
    *,
    amp: bool = False,
    tta: bool = False,
    memory: float = 2e9,
    window: int | None = None,
) -> TorchClassifier | TorchSegmentor:
    """Build the model of a config and load a checkpoint into it.

    Args:
        cfg: From :func:`volo.engine.load_config`.
        checkpoint: The checkpoint, which must fit the model.
        device: Where the model runs.
        amp: Mixed precision: float16 on a GPU, bfloat16 on a CPU.
        tta: Test-time augmentation, as ``tta_model`` and ``tta_pipeline`` say.
        memory: As in :class:`TorchSegmentor`.
        window: As in :class:`TorchSegmentor`.

    Raises:
        ConfigError: The model is neither a classifier nor a segmentor, or the config
            lacks something.
        CheckpointError: The checkpoint cannot be read or belongs to another model.
    """
    init_default_scope(cfg.get('default_scope', 'mmengine'))
    model, meta = load_model(cfg, checkpoint)
    with readable_errors(cfg):
        pipeline = Pipeline(cfg, tta)
    settings = {
        'checkpoint': hash_weights(model.state_dict()),
        'config': repr([cfg.model, dataset_config(cfg).get('pipeline')]),
        'choice of --amp or --tta': f'{amp}, {tta}',
    }
    if isinstance(model, ImageClassifier):
        info = _class_info(cfg, meta, model.head.num_classes)
        return TorchClassifier(model, pipeline, info, settings, device, amp)
    if isinstance(model, EncoderDecoder) and model.num_classes <= 256:
        if tta and cfg.tta_model.type != 'SegTTAModel':
            raise ConfigError(
                f'--tta: {cfg.filename}: tta_model.type is {cfg.tta_model.type}, but '
                'only SegTTAModel is supported'
            )
        info = _class_info(cfg, meta, model.num_classes)
        return TorchSegmentor(
            model, pipeline, info, settings, device, amp, memory=memory, window=window
        )
    raise ConfigError(
        f'{cfg.filename}: model.type {cfg.model.type} is neither a classifier of '
        'mmpretrain nor an EncoderDecoder of mmsegmentation with up to 256 classes'
    )


def _class_info(
    cfg: Config, meta: Mapping[str, Any], num_classes: int
) -> tuple[tuple[str, ...], np.ndarray]:
    """Return the names of the classes and their colors, uint8 (classes, 3)."""
    names, colors = class_names(cfg, meta, num_classes)
    if colors is None or len(colors) != num_classes:
        return tuple(names), default_palette(num_classes)
    return tuple(names), np.array(colors, np.uint8)
