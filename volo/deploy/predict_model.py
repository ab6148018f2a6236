"""From a config and a checkpoint to a predictor."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import DATASETS, MODELS, init_default_scope
from mmengine.runner import CheckpointLoader
from mmpretrain.models import ImageClassifier
from mmseg.models import EncoderDecoder
from torch import nn

from volo.engine.launch import readable_errors
from volo.errors import CheckpointError, ConfigError
from volo.models.weights import compare

from .predict_pipeline import Pipeline, test_dataset
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
    window: int = 1024,
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
    with readable_errors(cfg):
        model = MODELS.build(cfg.model)
        pipeline = Pipeline(cfg, tta)
    meta = _load_checkpoint(model, checkpoint)
    settings = {
        'checkpoint': sha256(checkpoint),
        'config': repr([cfg.model, test_dataset(cfg).get('pipeline')]),
        'option (--amp, --tta)': f'amp={amp}, tta={tta}',
    }
    if isinstance(model, ImageClassifier):
        info = _class_info(cfg, meta, model.head.num_classes)
        return TorchClassifier(model, pipeline, info, settings, device, amp)
    if isinstance(model, EncoderDecoder):
        if tta and cfg.tta_model.type != 'SegTTAModel':
            raise ConfigError(
                f'--tta: {cfg.filename}: tta_model.type is {cfg.tta_model.type}, but '
                'only SegTTAModel is supported'
            )
        info = _class_info(cfg, meta, model.decode_head.num_classes)
        return TorchSegmentor(
            model, pipeline, info, settings, device, amp, memory=memory, window=window
        )
    raise ConfigError(
        f'{cfg.filename}: model.type {cfg.model.type} is neither a classifier of '
        'mmpretrain nor an EncoderDecoder of mmsegmentation'
    )


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file in hex digits."""
    digest = hashlib.sha256()
    with path.open('rb') as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _load_checkpoint(model: nn.Module, path: Path) -> Mapping[str, Any]:
    """Load a checkpoint that fits the model, and return what it says of itself."""
    if not path.is_file():
        raise CheckpointError(f'{path}: no such checkpoint')
    checkpoint = CheckpointLoader.load_checkpoint(str(path), 'cpu')
    weights = checkpoint.get('state_dict', checkpoint)
    weights = {name.removeprefix('module.'): weights[name] for name in weights}
    own = model.state_dict()
    # The backbone resizes position embeddings when it loads them.
    ignore = {name for name in own if name.endswith('pos_embed')}
    mismatch = compare(own, weights, ignore)
    if mismatch:
        raise CheckpointError(
            f'{path} does not belong to the model of the config: {mismatch}. Give the '
            'config that it was trained with'
        )
    model.load_state_dict(weights, strict=False)
    return checkpoint.get('meta') or {}


def _class_info(
    cfg: Config, meta: Mapping[str, Any], num_classes: int
) -> tuple[tuple[str, ...], np.ndarray]:
    """Return the names and colors of the classes.

    Those of the training are in the checkpoint; the config and the dataset's class are
    the next to ask. What none of them knows is numbered.
    """
    dataset = test_dataset(cfg)
    known = DATASETS.get(dataset.get('type', '')) if dataset else None
    names: tuple[str, ...] = ()
    colors = default_palette(num_classes)
    for info in (
        meta.get('dataset_meta'),
        dataset.get('metainfo'),
        getattr(known, 'METAINFO', None),
    ):
        info = info or {}
        if not names and len(info.get('classes') or ()) == num_classes:
            names = tuple(map(str, info['classes']))
            if len(info.get('palette') or ()) == num_classes:
                colors = np.array(info['palette'], np.uint8)
    return names or tuple(f'class {i}' for i in range(num_classes)), colors
