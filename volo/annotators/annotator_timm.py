"""Annotators from timm."""

import os

import timm
import torch
from timm.data import resolve_model_data_config
from timm.data.transforms import str_to_pil_interp
from torch import nn

from volo.checkpoints.reading import read_weights
from volo.errors import ConfigError, did_you_mean

from .annotator import Annotator, Preprocess, load_strictly


class TimmAnnotator(Annotator):
    """A classifier of timm.

    Args:
        model: With ``forward_features`` and ``forward_head``.
        name: What to call it in errors.
        input_size: Side of the images in pixels; None: the model's own.
    """

    def __init__(
        self, model: nn.Module, name: str, input_size: int | None = None
    ) -> None:
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
        """Return the map before the pooling: NCHW, NHWC or tokens (B, N, C)."""
        return self.model.forward_features(images)

    def classify(self, features: torch.Tensor) -> torch.Tensor:
        """Pool :meth:`features`, of any grid, to logits (B, num_classes)."""
        return self.model.forward_head(features)

    def classify_cells(self, features: torch.Tensor) -> torch.Tensor:
        """Return the logits of every location, (B, h * w, num_classes), by rows."""
        # VOLO has a classifier for its tokens, after the class token.
        if getattr(self.model, 'aux_head', None) is not None:
            return self.model.aux_head(features[:, 1:])
        return super().classify_cells(features)


def build_timm_annotator(
    name: str,
    checkpoint: str | os.PathLike | None = None,
    *,
    num_classes: int | None = None,
    input_size: int | None = None,
    random_weights: bool = False,
    device: str | torch.device = 'cpu',
) -> Annotator:
    """Build a classifier of timm with its pretrained weights, or with one's own.

    The pretrained ones are fetched and opened by timm: from the Hugging Face hub by
    https, as ``.safetensors`` where there are such files and else with
    ``weights_only=True`` (timm 1.0.31). It knows no SHA-256 of them beforehand.

    Args:
        name: Of the model in timm.
        checkpoint: A local file, or an address with its SHA-256, see
            :func:`volo.checkpoints.fetching.locate`; None: timm's pretrained weights.
        num_classes: Of the checkpoint; None: timm's number.
        input_size: Side of the images in pixels; None: the model's own.
        random_weights: Load none, to try things out.
        device: Where to put it.

    Raises:
        ConfigError: There is no such model, no weights can be had, or it cannot
            classify locations.
        CheckpointError: The checkpoint cannot be opened, or is not the model's.
    """
    if ':' not in name and not timm.is_model(name):
        hint = did_you_mean(name, timm.list_models())
        raise ConfigError(f'--timm {name}: timm has no such model.{hint}')
    pretrained = checkpoint is None and not random_weights
    if pretrained and num_classes:
        raise ConfigError(
            '--num-classes goes with --checkpoint: pretrained weights have their own '
            'number of classes'
        )
    options = dict(num_classes=num_classes) if num_classes else {}
    try:
        model = timm.create_model(name, pretrained=pretrained, **options)
    except Exception as error:  # timm and the network raise whatever they like
        reason = str(error).partition('\n')[0].rstrip('.')
        way_out = (
            'Fetch its weights where there is a network and give them with --checkpoint'
            if pretrained
            else 'Take another name'
        )
        raise ConfigError(
            f'--timm {name} cannot be made ({type(error).__name__}: {reason}). '
            f'{way_out}'
        ) from error
    if checkpoint is not None:
        load_strictly(model, read_weights(checkpoint), checkpoint, model.num_classes)
    return TimmAnnotator(model.to(device), name, input_size)
