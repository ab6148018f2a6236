"""Prediction with PyTorch: what both tasks share, and classification."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from volo.errors import ConfigError

from .predict_pipeline import Pipeline
from .predictions import Classification, Sample


class TorchPredictor:
    """What both tasks share.

    Args:
        model: With its weights.
        pipeline: Prepares the images.
        info: Names of the classes and their colors.
        settings: What the predictions depend on, by a name for the user.
        device: Where the model runs.
        amp: Mixed precision.
    """

    def __init__(
        self,
        model: nn.Module,
        pipeline: Pipeline,
        info: tuple[tuple[str, ...], np.ndarray],
        settings: dict[str, str],
        device: torch.device,
        amp: bool,
    ) -> None:
        self.model: Any = model.to(device).eval()
        self.classes, self.palette = info
        self.settings = settings
        self.pipeline = pipeline
        self.device = device
        self.amp = amp

    def load(self, path: Path) -> Sample:
        """Read and prepare an image file. Threads call this.

        Raises:
            DataError: The file cannot be read as an image.
        """
        return self.weigh(self.pipeline.load(path))

    def prepare(self, image: np.ndarray) -> Sample:
        """Prepare an image in memory, RGB, uint8 (H, W, 3)."""
        return self.weigh(self.pipeline.prepare(image))

    def weigh(self, sample: Sample) -> Sample:
        """Estimate the memory that a sample takes."""
        return sample

    @contextlib.contextmanager
    def inference(self) -> Iterator[None]:
        """Surround the work of the network.

        Raises:
            ConfigError: The device is out of memory.
        """
        dtype = torch.float16 if self.device.type == 'cuda' else torch.bfloat16
        try:
            with (
                torch.inference_mode(),
                torch.autocast(self.device.type, dtype, enabled=self.amp),
            ):
                yield
        except torch.OutOfMemoryError as error:
            raise ConfigError(
                f'{self.device} is out of memory: give a smaller --batch-size or '
                '--memory'
            ) from error


class TorchClassifier(TorchPredictor):
    """A classifier of mmpretrain. Takes what :func:`build_torch_predictor` gives."""

    task: Literal['classification'] = 'classification'

    def predict(self, samples: Sequence[Sample]) -> list[Classification]:
        """Predict a batch. With several inputs for an image, scores are averaged."""
        views = []
        with self.inference():
            for view in zip(*(sample.inputs for sample in samples), strict=True):
                inputs, data = (list(part) for part in zip(*view, strict=True))
                outputs = self.model.test_step({'inputs': inputs, 'data_samples': data})
                views.append(torch.stack([o.pred_score for o in outputs]))
            scores = torch.stack(views).mean(dim=0).float().cpu().numpy()
        return [Classification(row) for row in scores]
