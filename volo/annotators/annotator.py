"""Annotators: classifiers that give the scores of every cell of an image.

A classifier that pools a map of features and then classifies the pooled vector can
classify the vector of every location instead. That is done with the classifier's own
head, so that norms and hidden layers behind the pooling are applied.
"""

import dataclasses
import math
import os
from collections.abc import Callable, Mapping

import numpy as np
import torch
from PIL import Image
from torch import nn

from volo.errors import CheckpointError, ConfigError
from volo.models.weights import compare
from volo.token_label.maps import LabelMap

#: So many locations go through a head at once: 1000 classes take 64 MiB.
MAX_LOCATIONS = 2**14


@dataclasses.dataclass(frozen=True)
class Preprocess:
    """Make a classifier's input of a whole image: nothing is cropped or padded.

    Attributes:
        size: Side in pixels of the square that the image is resized to, whatever
            its aspect.
        mean: Of the values 0 to 255, in the classifier's order of channels.
        std: Likewise.
        resample: How to interpolate.
        bgr: The classifier expects blue first.
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
        pixels = (pixels - np.float32(self.mean)) / np.float32(self.std)
        return torch.from_numpy(pixels.transpose(2, 0, 1).copy())


class Annotator:
    """A classifier that scores every cell of an image.

    Args:
        model: The classifier, on the device where it will stay.
        name: What to call it in errors.
        preprocess: Makes its input.

    Attributes:
        num_classes: Number of classes.
        grid: Cells (h, w) of the map of an image.

    Raises:
        ConfigError: The classifier cannot classify locations.
    """

    #: Tokens in front of those of the image; None: one, if only that makes a square.
    num_prefix_tokens: int | None = None

    def __init__(self, model: nn.Module, name: str, preprocess: Preprocess) -> None:
        self.model = model.eval()
        self.name = name
        self.preprocess = preprocess
        self.num_classes, self.grid = self._probe()

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """Return the map before the pooling: NCHW, NHWC or tokens (B, N, C)."""
        raise NotImplementedError

    def classify(self, features: torch.Tensor) -> torch.Tensor:
        """Pool :meth:`features`, of any grid, to logits (B, num_classes)."""
        raise NotImplementedError

    def classify_cells(self, features: torch.Tensor) -> torch.Tensor:
        """Return the logits of every location, (B, h * w, num_classes), by rows."""
        if features.ndim == 3:
            prefix, _ = self._split_tokens(features.shape[1])
            # Whatever the head takes, class token or average, is the location's.
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
        """Where images are to be brought."""
        return next(self.model.parameters()).device

    @torch.inference_mode()
    def __call__(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Score a batch.

        Args:
            images: From :class:`Preprocess`, shape (B, 3, size, size).

        Returns:
            Scores of the cells (B, num_classes, h, w), and of the images as the
            classifier has them, (B, num_classes).
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
        """Return the number of prefix tokens and the side of the square of others."""
        prefix = self.num_prefix_tokens
        if prefix is None:
            prefix = int(math.isqrt(count) ** 2 != count)
        side = math.isqrt(count - prefix)
        if side**2 != count - prefix:
            raise ConfigError(f'{self.name}: its {count} tokens are not a square grid')
        return prefix, side

    @torch.inference_mode()
    def _probe(self) -> tuple[int, tuple[int, int]]:
        """Return the number of classes and the grid, by annotating noise."""
        for module in self.model.modules():
            # With one location there is nothing to attend to, only to classify what
            # the attention would have mixed: no scores that were ever trained.
            if 'AttentionPool' in type(module).__name__:
                raise ConfigError(
                    f'{self.name} pools by attention ({type(module).__name__}): its '
                    'classifier is not for single locations. Take one with average '
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
        except Exception as error:  # someone else's model: anything can go wrong in it
            reason = str(error).partition('\n')[0].rstrip('.')
            raise ConfigError(
                f'{self.name} cannot annotate images of {size} x {size} '
                f'({type(error).__name__}: {reason}). Give another --input-size, or '
                'take a classifier that is linear after its pooling'
            ) from error
        num_classes = getattr(self.model, 'num_classes', logits.shape[-1])
        grid = self._grid_of(features)
        if logits.shape != (1, num_classes) or scores.shape != (1, num_classes, *grid):
            raise ConfigError(
                f'{self.name} is no classifier of {num_classes} classes: its scores '
                f'have shape {tuple(logits.shape)} for an image and '
                f'{tuple(scores.shape)} for its cells'
            )
        if grid == (1, 1):
            raise ConfigError(
                f'{self.name}: its features have no grid, only one vector for a '
                f'image of {size} x {size}. Give a larger --input-size, or take '
                'another classifier'
            )
        if (flipped - logits).abs().max() > 1e-3 * logits.abs().max() + 1e-5:
            raise ConfigError(
                f'{self.name}: its classifier looks at the places of features, so that '
                'it cannot classify single locations. Take one with average pooling'
            )
        return num_classes, grid

    def _flip(self, features: torch.Tensor) -> torch.Tensor:
        if features.ndim == 4:
            return features.flip((1, 2) if _is_channels_last(features) else (2, 3))
        prefix, _ = self._split_tokens(features.shape[1])
        return torch.cat([features[:, :prefix], features[:, prefix:].flip(1)], 1)


def _is_channels_last(features: torch.Tensor) -> bool:
    # Images are square, and so are their maps.
    return features.shape[2] != features.shape[3]


def top_k(scores: torch.Tensor, k: int) -> list[LabelMap]:
    """Keep the best classes of every cell.

    Args:
        scores: Of an annotator, shape (B, num_classes, h, w).
        k: How many.

    Returns:
        B label maps with float32 scores (k, h, w), the best first.

    Raises:
        ConfigError: There are no k classes.
    """
    if not 1 <= k <= scores.shape[1]:
        raise ConfigError(f'--top-k {k} of {scores.shape[1]} classes: give 1 or more')
    best, classes = scores.float().topk(k, dim=1)
    best, classes = best.cpu().numpy(), classes.int().cpu().numpy()
    return [LabelMap(*pair) for pair in zip(best, classes, strict=True)]


def load_strictly(
    model: nn.Module,
    weights: Mapping[str, torch.Tensor],
    source: str | os.PathLike,
    num_classes: int,
    load: Callable[[nn.Module, Mapping[str, torch.Tensor], str], None] | None = None,
) -> None:
    """Load all weights, the classifier's too.

    Args:
        model: The classifier.
        weights: Names and tensors.
        source: What to call them in errors.
        num_classes: Of the model.
        load: What to load with; None: ``model.load_state_dict``.

    Raises:
        CheckpointError: They are not the model's.
    """
    own = model.state_dict()
    for name, value in weights.items():
        mine = own[name].shape if name in own else value.shape
        if mine != value.shape and mine == (num_classes, *value.shape[1:]):
            raise CheckpointError(
                f'{source} is of {len(value)} classes, the model of {num_classes}. '
                'Make the model for as many: --num-classes, or num_classes in the '
                "config's head"
            )
    if load:
        load(model, weights, str(source))
        return
    mismatch = compare(own, weights)
    if mismatch:
        raise CheckpointError(
            f'{source} does not fit the model: {mismatch}. Take weights that were '
            'saved from this model'
        )
    model.load_state_dict(weights)
