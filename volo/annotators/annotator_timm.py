"""Annotators from timm."""

import os
from typing import Any

import timm
import torch
from timm.data import resolve_model_data_config
from timm.data.transforms import str_to_pil_interp

from volo.checkpoints.reading import read_weights
from volo.errors import ConfigError, did_you_mean

from .annotator import Annotator, Preprocess, load_strictly


class TimmAnnotator(Annotator):
    """A classifier of timm.

    Args:
        model: A classifier with ``forward_features`` and ``forward_head``.
        name: Its name in errors.
        input_size: Side of the images in pixels; None: the model's own.

    Raises:
        ConfigError: The classifier cannot classify locations, or not of that size.
    """

    def __init__(self, model: Any, name: str, input_size: int | None = None) -> None:
        cfg = resolve_model_data_config(model)
        if input_size and hasattr(model, 'set_input_size'):
            try:
                model.set_input_size(img_size=(input_size, input_size))
            except (AssertionError, RuntimeError, ValueError) as error:
                raise ConfigError(
                    f'{name}: --input-size {input_size}: {error}'
                ) from error
        preprocess = Preprocess(
            input_size or cfg['input_size'][-1],
            tuple(255 * value for value in cfg['mean']),
            tuple(255 * value for value in cfg['std']),
            str_to_pil_interp(cfg['interpolation']),
        )
        self.num_prefix_tokens = getattr(model, 'num_prefix_tokens', None)
        super().__init__(model, name, preprocess)

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """Compute the map before the pooling: NCHW, NHWC or tokens (B, N, C)."""
        return self.model.forward_features(images)

    def classify(self, features: torch.Tensor) -> torch.Tensor:
        """Pool and classify :meth:`features` of any grid: logits (B, num_classes)."""
        return self.model.forward_head(features)

    def classify_cells(self, features: torch.Tensor) -> torch.Tensor:
        """Compute the logits of every location, row by row: (B, h * w, num_classes)."""
        # VOLO has a classifier of its own for the tokens after the class token.
        if getattr(self.model, 'aux_head', None) is not None:
            return self.model.aux_head(features[:, 1:])
        return super().classify_cells(features)


def build_timm_annotator(
    name: str,
    checkpoint: str | os.PathLike | None = None,
    *,
    pretrained: bool = False,
    num_classes: int | None = None,
    input_size: int | None = None,
    device: str | torch.device = 'cpu',
) -> Annotator:
    """Build an annotator from a model of timm.

    timm downloads and opens the pretrained weights itself: from the Hugging Face hub by
    https, as ``.safetensors`` where such files exist and otherwise with
    ``weights_only=True`` (timm 1.0.31). It does not know their SHA-256 in advance.

    Args:
        name: Name of the model in timm.
        checkpoint: A local file, or a URL with its SHA-256, see
            :func:`volo.checkpoints.fetching.locate`; None: random weights, for trials,
            unless ``pretrained``.
        pretrained: Load timm's pretrained weights. Not with ``checkpoint``.
        num_classes: Number of classes of the checkpoint; None: timm's number.
        input_size: Side of the images in pixels; None: the model's own.
        device: Device of the annotator.

    Raises:
        ConfigError: timm has no such model or cannot load its weights, or the model
            cannot classify locations.
        CheckpointError: The checkpoint cannot be opened, or is not that of the model.
    """
    if ':' not in name and not timm.is_model(name):
        hint = did_you_mean(name, timm.list_models())
        raise ConfigError(f'--timm {name}: timm has no such model.{hint}')
    if pretrained and num_classes:
        raise ConfigError(
            '--num-classes needs --checkpoint: the number of classes of pretrained '
            'weights is fixed'
        )
    options: dict[str, Any] = dict(num_classes=num_classes) if num_classes else {}
    try:
        model: Any = timm.create_model(name, pretrained=pretrained, **options)
    except Exception as error:  # timm and the network can raise anything
        reason = str(error).partition('\n')[0].rstrip('.')
        advice = (
            'Download its weights on a machine with network access and give them with '
            '--checkpoint'
            if pretrained
            else 'Give another name'
        )
        raise ConfigError(
            f'--timm {name} cannot be built ({type(error).__name__}: {reason}). '
            f'{advice}'
        ) from error
    if checkpoint is not None:
        load_strictly(model, read_weights(checkpoint), checkpoint, model.num_classes)
    return TimmAnnotator(model.to(device), name, input_size)
