"""Choose arch, sizes, batch size, schedule and class weights."""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
import torch

from volo.checkpoints import read_weights
from volo.errors import CheckpointError, ConfigError
from volo.machine import usable_cpus
from volo.models import ARCHS
from volo.models.weights import infer_arch

from .image_survey import ImageSurvey

#: Classes get weights if the rarest has less than this part of an equal share.
RARE = 0.2

#: Weights are kept between these, so that a very rare class does not rule the loss.
_WEIGHT_RANGE = (0.5, 5.0)

#: GiB of GPU memory for an image in float32: twice the activations of
#: docs/performance.md, for d1 at 224 (classification) and 512 (segmentation).
_GIB_PER_IMAGE = dict(classification=0.13, segmentation=1.0)
#: The same for other archs, relative to d1.
_GIB_PER_ARCH = dict(tiny=0.3, d1=1.0, d2=1.7, d3=2.3, d4=3.0, d5=5.5)


@dataclasses.dataclass(frozen=True)
class Machine:
    """What trains.

    Attributes:
        gpu_gib: Memory of the first GPU in GiB; 0 for a CPU.
    """

    gpu_gib: float = 0.0

    @classmethod
    def here(cls) -> 'Machine':
        """Return this machine."""
        if not torch.cuda.is_available():
            return cls()
        return cls(torch.cuda.get_device_properties(0).total_memory / 2**30)

    def __str__(self) -> str:
        if self.gpu_gib:
            return f'a GPU with {self.gpu_gib:.0f} GiB'
        return f'{usable_cpus()} CPU cores'


@dataclasses.dataclass(frozen=True)
class Plan:
    """The choices for a training.

    Attributes:
        arch: Name in :data:`volo.models.ARCHS`.
        weights: Path of pretrained weights, or ''.
        size: Side of the training crop in pixels.
        scale: Long and short side that images are resized to fit into, in pixels.
        batch_size: Images per step.
        length: Epochs (classification) or iterations (segmentation).
        interval: Epochs or iterations between two validations.
        class_weight: Weight of each class in the loss, or None.
    """

    arch: str
    weights: str
    size: int
    scale: tuple[int, int]
    batch_size: int
    length: int
    interval: int
    class_weight: list[float] | None


def choose_arch(arch: str | None, weights: str, machine: Machine) -> str:
    """Return the arch: the one asked for, that of the weights, or the machine's.

    Raises:
        ConfigError: ``arch`` is unknown, or the weights belong to another one.
        CheckpointError: The weights cannot be read, or are no VOLO's.
    """
    if arch is not None and arch not in ARCHS:
        raise ConfigError(f'--arch {arch}: choose one of {", ".join(ARCHS)}')
    if weights:
        theirs = infer_arch(read_weights(weights))
        if theirs == 'unknown':
            raise CheckpointError(f'--weights {weights}: not the weights of a VOLO')
        if arch not in (None, theirs):
            raise ConfigError(
                f'--arch {arch}: {weights} belongs to {theirs}. Leave --arch out'
            )
        return theirs
    return arch or ('d1' if machine.gpu_gib else 'tiny')


def make_plan(
    task: str,
    survey: ImageSurvey,
    counts: np.ndarray,
    train_images: int,
    machine: Machine,
    arch: str,
    weights: str = '',
) -> Plan:
    """Choose the options of a training.

    Args:
        task: ``classification`` or ``segmentation``.
        survey: Of the images.
        counts: Training images or pixels of each class, (number of classes,).
        train_images: Number of training images.
        machine: What trains.
        arch: From :func:`choose_arch`.
        weights: Path of pretrained weights, or ''.
    """
    weight = choose_class_weight(counts)
    if task == 'classification':
        most = 224 if machine.gpu_gib or weights else 128
        size = _multiple(survey.short_side, 16, 64, most)
        scale = (size, round(size / 0.96))
        area = (size / 224) ** 2
        batch = _batch_size(task, arch, area, machine, on_cpu=16, most=64)
        batch = max(2, min(batch, train_images // 2))
        steps = math.ceil(train_images / batch)
        length = round((1000 if weights else 2000) / steps)
        length = min(max(length, 10), 30 if weights else 200)
        interval = math.ceil(length / 30)
        return Plan(arch, weights, size, scale, batch, length, interval, weight)
    most = 512 if machine.gpu_gib else 256
    size = _multiple(survey.short_side, 32, 64, most)
    short = max(min(survey.short_side, 2 * most), size)
    batch = _batch_size(task, arch, (size / 512) ** 2, machine, on_cpu=4, most=8)
    length = 6000 if machine.gpu_gib else 1000
    interval = length // 10
    return Plan(
        arch, weights, size, (4 * short, short), batch, length, interval, weight
    )


def choose_class_weight(counts: Sequence[int] | np.ndarray) -> list[float] | None:
    """Return a weight per class if a class is rare, see :data:`RARE`.

    The weight is the square root of median share / share, from 0.5 to 5: a smoother
    form of median frequency balancing. An absent class weighs 1.
    """
    counts = np.asarray(counts, float)
    present = counts > 0
    if present.sum() < 2:
        return None
    shares = counts / counts.sum()
    if shares[present].min() >= RARE / len(counts):
        return None
    ratio = np.median(shares[present]) / np.where(present, shares, 1.0)
    weights = np.where(present, np.clip(np.sqrt(ratio), *_WEIGHT_RANGE), 1.0)
    return [round(float(weight), 2) for weight in weights]


def _multiple(side: int, of: int, least: int, most: int) -> int:
    return min(max(side // of * of, least), most)


def _batch_size(
    task: str, arch: str, area: float, machine: Machine, on_cpu: int, most: int
) -> int:
    if not machine.gpu_gib:
        return on_cpu
    each = _GIB_PER_IMAGE[task] * _GIB_PER_ARCH[arch] * area
    fits = 0.8 * machine.gpu_gib / each
    return min(most, max(2, 2 ** int(math.log2(max(fits, 1)))))
