"""Annotators: classifiers that score every cell of an image.

A classifier that pools a feature map and classifies the pooled vector can also classify
the vector of every location. An annotator does so with the classifier's own head, so
norms and hidden layers after the pooling are applied.
"""

import dataclasses
import math
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

from volo.errors import CheckpointError, ConfigError
from volo.models.weights import load_state_dict
from volo.token_label.maps import LabelMap

#: Locations that go through a head at once: with 1000 classes they take 64 MiB.
MAX_LOCATIONS = 2**14


@dataclasses.dataclass(frozen=True)
class Preprocess:
    """Turn a whole image into a classifier's input, without cropping or padding.

    Attributes:
        size: Side in pixels of the square that the image is resized to, without keeping
            its aspect ratio.
        mean: Mean of the values 0 to 255, in the classifier's order of channels.
        std: Standard deviation of the same.
        resample: Interpolation.
        bgr: Whether the classifier expects blue first.
    """

    size: int
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)
    resample: Image.Resampling = Image.Resampling.BICUBIC
    bgr: bool = False

    def __call__(self, image: Image.Image) -> torch.Tensor:
        """Return the image, RGB, as a normalized tensor (3, size, size)."""
        pixels = np.array(image.resize((self.size, self.size), self.resample))
        if self.bgr:
            pixels = pixels[..., ::-1]
        mean, std = (np.array(v, np.float32) for v in (self.mean, self.std))
        return torch.from_numpy(((pixels - mean) / std).transpose(2, 0, 1).copy())


class Annotator:
    """A classifier that scores every cell of an image.

    Args:
        model: The classifier, on the device where it stays.
        name: Its name in errors.
        preprocess: Turns an image into its input.

    Attributes:
        num_classes: Number of classes.
        grid: Cells (h, w) of an image.

    Raises:
        ConfigError: The classifier cannot classify locations.
    """

    #: Tokens before those of the image; None: 1 if the rest is a square, else 0.
    num_prefix_tokens: int | None = None

    def __init__(self, model: nn.Module, name: str, preprocess: Preprocess) -> None:
        self.model: Any = model.eval()
        self.name = name
        self.preprocess = preprocess
        self.num_classes, self.grid = self._probe()

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """Compute the map before the pooling: NCHW, NHWC or tokens (B, N, C)."""
        raise NotImplementedError

    def classify(self, features: torch.Tensor) -> torch.Tensor:
        """Pool and classify :meth:`features` of any grid: logits (B, num_classes)."""
        raise NotImplementedError

    def classify_cells(self, features: torch.Tensor) -> torch.Tensor:
        """Compute the logits of every location, row by row: (B, h * w, num_classes)."""
        if features.ndim == 3:
            prefix, _ = self._split_tokens(features.shape[1])
            # Every token is the location's: the head may take any of them, or a mean.
            cells = features[:, prefix:].flatten(0, 1)[:, None]
            cells = cells.expand(-1, prefix + 1, -1)
        elif _is_channels_last(features):
            cells = features.flatten(0, 2)[:, None, None]
        else:
            cells = features.flatten(2).transpose(1, 2).flatten(0, 1)[..., None, None]
        logits = torch.cat([self.classify(part) for part in cells.split(MAX_LOCATIONS)])
        return logits.unflatten(0, (features.shape[0], -1))

    @property
    def device(self) -> torch.device:
        """The device of the classifier."""
        return next(self.model.parameters()).device

    @torch.inference_mode()
    def __call__(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Score a batch.

        Args:
            images: From :class:`Preprocess`, shape (B, 3, size, size).

        Returns:
            Scores of the cells, shape (B, num_classes, h, w), and the classifier's own
            scores of the images, shape (B, num_classes).
        """
        features = self.features(images)
        cells = self.classify_cells(features).transpose(1, 2)
        return cells.unflatten(2, self._grid_of(features)), self.classify(features)

    def _grid_of(self, features: torch.Tensor) -> tuple[int, int]:
        if features.ndim == 3:
            return (self._split_tokens(features.shape[1])[1],) * 2
        h, w = (
            features.shape[1:3] if _is_channels_last(features) else features.shape[2:]
        )
        return h, w

    def _split_tokens(self, count: int) -> tuple[int, int]:
        """Return the number of prefix tokens and the side of the square of the rest."""
        prefix = self.num_prefix_tokens
        if prefix is None:
            prefix = int(math.isqrt(count) ** 2 != count)
        side = math.isqrt(count - prefix)
        if side**2 != count - prefix:
            raise ConfigError(f'{self.name}: its {count} tokens are not a square grid')
        return prefix, side

    @torch.inference_mode()
    def _probe(self) -> tuple[int, tuple[int, int]]:
        """Annotate noise to determine the number of classes and the grid."""
        for module in self.model.modules():
            # A single location leaves nothing to attend to, and the classifier was only
            # trained on what attention mixes.
            if 'AttentionPool' in type(module).__name__:
                raise ConfigError(
                    f'{self.name} pools by attention ({type(module).__name__}), so its '
                    'classifier cannot score single locations. Use one with average '
                    'pooling'
                )
        size = self.preprocess.size
        noise = torch.randn(
            1, 3, size, size, generator=torch.Generator().manual_seed(0)
        )
        noise = noise.to(self.device)
        try:
            features = self.features(noise)
            if not isinstance(features, torch.Tensor) or features.ndim not in (3, 4):
                raise ConfigError(f'{self.name}: its features are not one map')
            scores, logits = self(noise)
            flipped = self.classify(self._flip(features))
        except ConfigError:
            raise
        except Exception as error:  # a foreign model can raise anything
            reason = str(error).partition('\n')[0].rstrip('.')
            raise ConfigError(
                f'{self.name} cannot annotate images of {size} x {size} '
                f'({type(error).__name__}: {reason}). Give another --input-size, or '
                'use a classifier that is linear after its pooling'
            ) from error
        num_classes = getattr(self.model, 'num_classes', logits.shape[-1])
        grid = self._grid_of(features)
        if logits.shape != (1, num_classes) or scores.shape != (1, num_classes, *grid):
            raise ConfigError(
                f'{self.name} is no classifier of {num_classes} classes: its scores '
                f'have shape {tuple(logits.shape)} for an image and '
                f'{tuple(scores.shape)} for its cells. Use another classifier'
            )
        if grid == (1, 1):
            raise ConfigError(
                f'{self.name}: its features have no grid, only one vector for an '
                f'image of {size} x {size}. Give a larger --input-size, or use '
                'another classifier'
            )
        if (flipped - logits).abs().max() > 1e-3 * logits.abs().max() + 1e-5:
            raise ConfigError(
                f'{self.name}: its classifier depends on the positions of features, so '
                'it cannot score single locations. Use one with average pooling'
            )
        return num_classes, grid

    def _flip(self, features: torch.Tensor) -> torch.Tensor:
        if features.ndim == 4:
            return features.flip((1, 2) if _is_channels_last(features) else (2, 3))
        prefix, _ = self._split_tokens(features.shape[1])
        return torch.cat([features[:, :prefix], features[:, prefix:].flip(1)], 1)


def _is_channels_last(features: torch.Tensor) -> bool:
    # Inputs are square, so the two equal dimensions are height and width.
    return features.shape[2] != features.shape[3]


def top_k(scores: torch.Tensor, k: int) -> list[LabelMap]:
    """Return label maps with the best classes of every cell.

    Args:
        scores: Scores of an annotator, shape (B, num_classes, h, w).
        k: Number of classes to keep.

    Returns:
        B label maps with float32 scores (k, h, w), the best first.

    Raises:
        ConfigError: There are fewer than k classes.
    """
    if not 1 <= k <= scores.shape[1]:
        raise ConfigError(f'--top-k {k} of {scores.shape[1]} classes: give 1 or more')
    best, classes = scores.float().topk(k, dim=1)
    pairs = zip(best.cpu().numpy(), classes.int().cpu().numpy(), strict=True)
    return [LabelMap(*pair) for pair in pairs]


def load_strictly(
    model: nn.Module,
    weights: Mapping[str, torch.Tensor],
    source: str | os.PathLike,
    num_classes: int,
) -> None:
    """Load all weights, including those of the classifier.

    Args:
        model: The classifier.
        weights: Names and tensors.
        source: Name of the weights in errors.
        num_classes: Number of classes of the model.

    Raises:
        CheckpointError: The weights are not those of the model.
    """
    own = model.state_dict()
    for name, value in weights.items():
        shape = own[name].shape if name in own else value.shape
        if shape != value.shape and shape == (num_classes, *value.shape[1:]):
            raise CheckpointError(
                f'{source} has {len(value)} classes, the model {num_classes}. Set the '
                'number of classes with --num-classes, or with num_classes in the '
                "config's head"
            )
    load_state_dict(model, weights, str(source))
