"""Exported models as models of mmengine, for evaluation with the data of a config."""

import time
from collections.abc import Mapping, Sequence
from numbers import Real
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from mmengine.config import Config, ConfigDict
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.registry import MODELS
from mmengine.runner import Runner
from mmengine.structures import PixelData
from mmpretrain.structures import DataSample
from mmseg.models import EncoderDecoder
from mmseg.models.segmentors import BaseSegmentor
from torch import nn

from volo.errors import ConfigError

from .runtimes import RUNTIMES, open_exported


def is_exported(path: str) -> bool:
    """Return whether a path has the suffix of an exported model."""
    return path.endswith(tuple(RUNTIMES))


def use_exported(cfg: Config, path: str) -> None:
    """Replace the model of a config by an exported one.

    Args:
        cfg: From :func:`volo.engine.launch.load_config`.
        path: A file of ``tools/export.py``.
    """
    test_cfg = cfg.model.get('test_cfg')
    segments = cfg.get('default_scope') == 'mmseg'
    cfg.model = dict(
        type='ExportedSegmentor' if segments else 'ExportedClassifier', path=path
    )
    if segments:
        cfg.model.test_cfg = test_cfg
    cfg.load_from = None
    cfg.resume = False


@MODELS.register_module()
class ExportedSegmentor(EncoderDecoder):
    """A segmentor in another runtime.

    It predicts whole images or slides windows as ``EncoderDecoder`` does.

    Args:
        path: A file of ``tools/export.py``.
        test_cfg: As of ``EncoderDecoder``.

    Raises:
        ConfigError: ``test_cfg`` asks for slide inference, for which the file would
            have to return logits.
        CheckpointError: As :func:`volo.deploy.runtimes.open_exported`.
    """

    def __init__(self, path: str, test_cfg: dict | None = None) -> None:
        preprocessor = dict(type='mmseg.SegDataPreProcessor', bgr_to_rgb=True)
        BaseSegmentor.__init__(self, data_preprocessor=preprocessor)
        self.runtime = open_exported(path, 'segmentation')
        metadata = self.runtime.metadata
        self.test_cfg = ConfigDict(test_cfg or dict(mode='whole'))
        self.num_classes = len(metadata['classes'])
        self.align_corners = metadata['align_corners']
        # Two classes may come from one logit and a threshold.
        threshold = metadata['threshold']
        self.out_channels = self.num_classes if threshold is None else 1
        self.decode_head = SimpleNamespace(threshold=threshold)
        # Distributed wrappers want one.
        self.unused = nn.Parameter(torch.zeros(1))
        if self.test_cfg.mode == 'slide' and not self.has_logits:
            raise ConfigError(self._ask_for_logits('slide inference averages logits'))

    @property
    def has_logits(self) -> bool:
        """Whether the file returns logits."""
        return 'logits' in self.runtime.metadata['outputs']

    def predict(self, inputs: torch.Tensor, data_samples: list | None = None) -> list:
        """Predict as ``EncoderDecoder`` does.

        Raises:
            ConfigError: The pipeline resizes or flips images, and the file returns no
                logits, which would be resized and flipped back.
        """
        if self.has_logits:
            return super().predict(inputs, data_samples)
        samples = list(data_samples or ())
        maps = self._run(inputs)['classes']
        for sample, classes in zip(samples, maps, strict=True):
            if tuple(sample.ori_shape[:2]) != classes.shape or sample.get('flip'):
                raise ConfigError(self._ask_for_logits('the pipeline resizes or flips'))
            sample.pred_sem_seg = PixelData(data=torch.from_numpy(classes)[None])
        return samples

    def encode_decode(
        self, inputs: torch.Tensor, batch_img_metas: list[dict]
    ) -> torch.Tensor:
        """Compute the logits (B, C, H, W) of RGB images (B, 3, H, W)."""
        return torch.from_numpy(self._run(inputs)['logits']).to(inputs.device)

    def _run(self, inputs: torch.Tensor) -> dict[str, np.ndarray]:
        return self.runtime.run(to_images(inputs))

    def _ask_for_logits(self, reason: str) -> str:
        return (
            f'{self.runtime.path} returns no logits, but {reason}: export it with '
            '--logits'
        )


@MODELS.register_module()
class ExportedClassifier(BaseModel):
    """A classifier in another runtime.

    Args:
        path: A file of ``tools/export.py``.

    Raises:
        CheckpointError: As :func:`volo.deploy.runtimes.open_exported`.
    """

    def __init__(self, path: str) -> None:
        preprocessor = dict(type='mmpretrain.ClsDataPreprocessor', to_rgb=True)
        super().__init__(data_preprocessor=preprocessor)
        self.runtime = open_exported(path, 'classification')
        # Distributed wrappers want a parameter.
        self.unused = nn.Parameter(torch.zeros(1))

    def forward(
        self,
        inputs: torch.Tensor,
        data_samples: list[DataSample] | None = None,
        mode: str = 'predict',
    ) -> list[DataSample]:
        """Predict RGB images (B, 3, H, W); there is no other mode."""
        scores = torch.from_numpy(self.runtime.run(to_images(inputs))['probabilities'])
        samples = data_samples or [DataSample() for _ in scores]
        for sample, score in zip(samples, scores, strict=True):
            sample.set_pred_score(score).set_pred_label(score.argmax())
        return samples


def to_images(inputs: torch.Tensor) -> np.ndarray:
    """Convert pixels (B, 3, H, W) in 0 to 255 to uint8 images (B, H, W, 3)."""
    pixels = inputs.permute(0, 2, 3, 1).round().clamp(0, 255)
    return pixels.to('cpu', torch.uint8).contiguous().numpy()


class ThroughputHook(Hook):
    """Add the images per second to the metrics, without loading and the first batch."""

    #: The name of the metric.
    METRIC = 'images/s'

    priority = 'VERY_HIGH'

    def before_test_epoch(self, runner: Runner) -> None:
        """Start to count."""
        self._seconds: list[float] = []
        self._images: list[int] = []

    def before_test_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None
    ) -> None:
        """Start the clock."""
        self._start = self._now()

    def after_test_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Sequence | None = None,
    ) -> None:
        """Stop the clock."""
        self._seconds.append(self._now() - self._start)
        self._images.append(len(outputs or ()))

    def after_test_epoch(
        self, runner: Runner, metrics: dict[str, float] | None = None
    ) -> None:
        """Add the metric."""
        if metrics is not None and self._seconds:
            first = 1 if len(self._seconds) > 1 else 0
            seconds = sum(self._seconds[first:])
            metrics[self.METRIC] = sum(self._images[first:]) / seconds

    @staticmethod
    def _now() -> float:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return time.perf_counter()


def compare_metrics(
    exported: Mapping[str, Any], pytorch: Mapping[str, Any], name: str
) -> str:
    """Write the numbers of two evaluations side by side.

    Args:
        exported: Metrics of an exported model.
        pytorch: Metrics of the model it was made of.
        name: What to call the exported model.
    """
    name = f'{name:>12}'
    lines = [f'{"metric":<24}{name}{"PyTorch":>12}{"difference":>12}']
    for metric, value in exported.items():
        other = pytorch.get(metric)
        if isinstance(value, Real) and isinstance(other, Real):
            ours, theirs = float(value), float(other)
            lines.append(
                f'{metric:<24}{ours:>{len(name)}.2f}{theirs:>12.2f}'
                f'{ours - theirs:>+12.2f}'
            )
    return '\n'.join(lines)
