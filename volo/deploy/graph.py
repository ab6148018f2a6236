"""What is exported: one module from uint8 images to classes."""

import contextlib
from typing import Any

import torch
import torch.nn.functional as F
from mmpretrain.models import ImageClassifier
from mmseg.models import EncoderDecoder
from torch import nn

from volo.errors import ConfigError

from .rewrites import FloatSoftmax, rewrite

#: The names of the outputs of each task. ``logits`` is on request.
OUTPUTS = dict(
    segmentation=('classes', 'confidence', 'logits'),
    classification=('probabilities', 'logits'),
)


class Preprocessing(nn.Module):
    """Normalize and pad uint8 RGB images as a data preprocessor does in testing.

    Args:
        preprocessor: mmsegmentation's or mmpretrain's. It takes BGR images, as
            pipelines load them.

    Raises:
        ConfigError: It pads to a fixed size.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, preprocessor: Any) -> None:
        super().__init__()
        segmentation = getattr(preprocessor, 'test_cfg', None) or {}
        if segmentation.get('size') is not None:
            raise ConfigError(
                'data_preprocessor.test_cfg.size: padding to a fixed size cannot be '
                'exported; set size_divisor, or remove it'
            )
        self.divisor = segmentation.get('size_divisor') or 1
        self.pad_value = getattr(preprocessor, 'pad_val', 0)
        if hasattr(preprocessor, 'to_rgb'):  # mmpretrain's
            self.divisor = preprocessor.pad_size_divisor
            self.pad_value = preprocessor.pad_value
            self.takes_rgb = preprocessor.to_rgb
        else:
            self.takes_rgb = preprocessor._channel_conversion
        normalizes = preprocessor._enable_normalize
        for name, default in (('mean', 0.0), ('std', 1.0)):
            values = getattr(preprocessor, name) if normalizes else [default] * 3
            values = torch.as_tensor(values, dtype=torch.float32)
            self.register_buffer(name, values.detach().clone().view(3, 1, 1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Map uint8 RGB images (B, H, W, 3) to float32 inputs (B, 3, H', W')."""
        x = images.permute(0, 3, 1, 2).contiguous().float()
        if not self.takes_rgb:
            x = x[:, [2, 1, 0]]
        x = (x - self.mean) / self.std
        if self.divisor == 1:
            return x
        bottom, right = (
            (side + self.divisor - 1) // self.divisor * self.divisor - side
            for side in x.shape[2:]
        )
        return F.pad(x, (0, right, 0, bottom), value=float(self.pad_value))


class Graph(nn.Module):
    """From uint8 images to predictions.

    Args:
        model: The model, on the CPU.
        logits: Return the logits too.
        half: Compute in float16, but for normalizations, softmax and outputs.
    """

    task = ''

    def __init__(self, model: nn.Module, logits: bool, half: bool = False) -> None:
        super().__init__()
        self.preprocessing = Preprocessing(model.data_preprocessor)
        self.model: Any = rewrite(model, half)
        self.half_precision = half
        self.returns_logits = logits

    @property
    def output_names(self) -> tuple[str, ...]:
        """Names of the outputs, in their order."""
        names = OUTPUTS[self.task]
        return names if self.returns_logits else names[:-1]

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Map uint8 RGB images (B, H, W, 3) to the outputs."""
        x = self.preprocessing(images)
        with FloatSoftmax() if self.half_precision else contextlib.nullcontext():
            logits = self.compute_logits(x.half() if self.half_precision else x)
        return self.finish(logits.float(), images, x)

    def compute_logits(self, x: torch.Tensor) -> torch.Tensor:
        """Run the network on its inputs (B, 3, H, W)."""
        raise NotImplementedError

    def finish(
        self, logits: torch.Tensor, images: torch.Tensor, x: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        """Make the outputs of the network's logits."""
        raise NotImplementedError


class SegmentorGraph(Graph):
    """A segmentor: class (B, H, W) and confidence (B, H, W) of each pixel.

    Confidence is the probability of the class. Logits are (B, C, H, W).
    """

    task = 'segmentation'

    def compute_logits(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, 3, H, W) to the head's logits (B, C, h, w)."""
        return self.model.decode_head(self.model.extract_feat(x))

    def finish(
        self, logits: torch.Tensor, images: torch.Tensor, x: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        """Resize the logits to the images, and classify each pixel."""
        logits = F.interpolate(
            logits,
            size=x.shape[2:],
            mode='bilinear',
            align_corners=self.model.align_corners,
        )
        if self.preprocessing.divisor != 1:
            height, width = images.shape[1:3]
            logits = logits.narrow(2, 0, height).narrow(3, 0, width)
        if self.model.out_channels == 1:
            positive = logits[:, 0].sigmoid()
            is_positive = positive > self.model.decode_head.threshold
            confidence = torch.where(is_positive, positive, 1 - positive)
            outputs = is_positive.to(torch.uint8), confidence
        else:
            confidence = logits.softmax(dim=1).amax(dim=1)
            outputs = logits.argmax(dim=1).to(torch.uint8), confidence
        return (*outputs, logits) if self.returns_logits else outputs


class ClassifierGraph(Graph):
    """A classifier: the probability (B, C) of each class. Logits are (B, C)."""

    task = 'classification'

    def compute_logits(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, 3, H, W) to (B, C)."""
        return self.model.head(self.model.extract_feat(x))

    def finish(
        self, logits: torch.Tensor, images: torch.Tensor, x: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        """Compute the probabilities."""
        probabilities = logits.softmax(dim=1)
        return (probabilities, logits) if self.returns_logits else (probabilities,)


def build_graph(model: Any, logits: bool = False, half: bool = False) -> Graph:
    """Make what is exported of a model.

    Args:
        model: A segmentor of mmsegmentation with one decode head, or a classifier of
            mmpretrain.
        logits: Return the logits too.
        half: Compute in float16.

    Raises:
        ConfigError: The model is another one.
    """
    if type(model) is EncoderDecoder:
        if model.num_classes > 256:
            raise ConfigError(
                f'{model.num_classes} classes do not fit the uint8 class map, which '
                'holds 256'
            )
        return SegmentorGraph(model, logits, half).eval()
    if isinstance(model, ImageClassifier) and model.head is not None:
        return ClassifierGraph(model, logits, half).eval()
    raise ConfigError(
        f'{type(model).__name__} cannot be exported, only EncoderDecoder and '
        'ImageClassifier with a head'
    )
